"""docs/integrate.md: its Verilog lints around the generated accelerator, its C driver runs a network on it."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hw.generate import generate
from hw.spec.config import PRESETS
from hw.spec.csr import MAGIC, REGISTERS, ErrorCause
from hw.spec.program import Program
from sim.iss import IssBackend
from sim.verilator.backend import generate_library
from sim.verilator.build import BuildOptions
from sim.verilator.model import Model
from sim.verilator.toolchain import find_toolchain
from sw.compiler import compile_graph
from sw.frontends.networks import quantised_network
from sw.frontends.torch_export import import_program
from sw.regions import build_regions, read_outputs

PAGE = (Path(__file__).parents[2] / "docs" / "integrate.md").read_text()
CONFIG = PRESETS["tiny"]


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture(scope="module")
def verilog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verilog")
    generate(CONFIG, folder)
    return folder / "rowcast.v"


def test_wrapper_lints(verilog: Path, tmp_path: Path) -> None:
    (tmp_path / "npu.v").write_text(block("verilog"))
    toolchain = find_toolchain()
    # the accelerator's own warnings are tests/hw/test_lint.py's business
    rules = f'`verilator_config\nlint_off -file "{verilog}"\n'
    (tmp_path / "only.vlt").write_text(rules + "lint_off -rule DECLFILENAME\nlint_off -rule UNUSEDSIGNAL\n")
    files = [str(tmp_path / "only.vlt"), str(verilog), str(tmp_path / "npu.v")]
    command = [toolchain.verilator, "--lint-only", "-Wall", "-Wno-PINCONNECTEMPTY", "--top-module", "npu", *files]
    done = subprocess.run(command, env=dict(toolchain.env), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_port_is_connected(verilog: Path) -> None:
    (header,) = re.findall(r"^module rowcast\((.*?)\);", verilog.read_text(), re.MULTILINE | re.DOTALL)
    ports = {name.strip() for name in header.split(",")}
    assert set(re.findall(r"\.(\w+)\(", block("verilog"))) == ports


def test_addresses_and_bits_are_the_specifications() -> None:
    (addresses, values) = re.findall(r"^enum \{(.*?)\};", block("c"), re.MULTILINE | re.DOTALL)
    for name, value in re.findall(r"(\w+) = (\w+)", addresses):
        assert REGISTERS[name].addr == int(value, 16), name
    shown = {name: int(value) for name, value in re.findall(r"(\w+) = (\d+)", values)}
    table = {**REGISTERS["CTRL"].fields.offsets, **REGISTERS["STATUS"].fields.offsets}
    assert shown == {name: 1 << table[name.lower()] for name in shown}
    assert f"0x{MAGIC:X}" in block("c")


class Port(ctypes.Structure):
    """The driver's `struct rowcast_port`."""

    _fields_ = [
        ("read", ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32)),
        ("write", ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32)),
    ]


class Region(ctypes.Structure):
    """The driver's `struct rowcast_region`."""

    _fields_ = [("base", ctypes.c_uint64), ("size", ctypes.c_uint32)]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(block("c"))
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "driver.c", "-o", "driver.so"], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "driver.so"))
    library.rowcast_open.argtypes = [ctypes.POINTER(Port), ctypes.c_uint64]
    library.rowcast_load.argtypes = [ctypes.POINTER(Port), Region * 4, ctypes.c_uint32]
    library.rowcast_run.restype, library.rowcast_run.argtypes = ctypes.c_uint32, [ctypes.POINTER(Port)]
    return library


def test_driver_runs_a_network_on_the_verilog(driver: ctypes.CDLL) -> None:
    program = digits_program()
    picture = np.random.default_rng(0).integers(-128, 128, (1, 32, 32), dtype=np.int8)
    inputs = {program.inputs[0].name: picture}
    regions = build_regions(program, inputs)
    with Model(generate_library(CONFIG, BuildOptions())) as model:
        model.configure()
        views, placed = [], (Region * 4)()
        for index, region in enumerate(regions):
            base = (index + 1) << 24
            views.append(model.map(base, -(-max(region.size, 1) // 128) * 128)[: region.size])
            views[-1][:] = region
            placed[index] = Region(base, region.size)
        model.power_on()

        def read(address: int) -> int:
            model.step(100)  # the CPU is slower than the accelerator
            return model.read_csr(address)

        types = dict(Port._fields_)
        port = Port(types["read"](read), types["write"](model.write_csr))
        assert driver.rowcast_open(port, CONFIG.hash + 1) == -2
        assert driver.rowcast_open(port, CONFIG.hash) == 0
        driver.rowcast_load(port, placed, program.instruction_count)
        assert driver.rowcast_run(port) == 0
        images = [view.tobytes() for view in views]
        assert not model.failures
        placed[3].size = 1  # an output region that is too small
        driver.rowcast_load(port, placed, program.instruction_count)
        assert driver.rowcast_run(port) == ErrorCause.DRAM_RANGE
        driver.rowcast_load(port, placed, 0)
        assert driver.rowcast_run(port) == ErrorCause.TRUNCATED
    wanted = IssBackend(CONFIG).run(program, inputs)
    found = read_outputs(program, images)
    assert all(np.array_equal(found[name], wanted.outputs[name]) for name in wanted.outputs)


def digits_program() -> Program:
    network = quantised_network("digits:fuse_half")
    return compile_graph(import_program(network.exported, name=network.name, meta=network.meta), CONFIG)
