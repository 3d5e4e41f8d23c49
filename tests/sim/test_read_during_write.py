"""Memories marked for any data on a read during a write (``hw/ram.py``): nobody uses the bytes that are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hw.accelerator import Accelerator
from hw.emit import emit
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Region
from sim.iss import IssBackend
from sim.random_programs import random_inputs, random_program
from sim.random_runs import random_run
from sim.verilator.backend import VerilatorBackend
from sim.verilator.build import BuildOptions, build_library
from tests.sim.rtl_configs import CONFIGS

PROGRAMS = 40
INVERTED = "a byte was inverted"
SAY = f'$display("{INVERTED}"); $fflush;'
MODULE = re.compile(r"^module (rowcast_ram_\w*no_rw_check_1)\(.*?^endmodule\n", re.DOTALL | re.MULTILINE)
WRITE = re.compile(r"if \((w0_en(?:\[\d+\])?)\) words\[w0_addr\](\[\d+:\d+\])? <=")
READ = re.compile(r"( *)r0_data <= words\[r0_addr\];\n")


def corrupted(verilog: str) -> tuple[str, int]:
    """Return the Verilog with bytes inverted that are read while they are written, and the number of such modules."""

    def module(match: re.Match[str]) -> str:
        text = match[0]
        lanes = [
            f"if ({enable} && w0_addr == r0_addr) begin r0_data{bits} <= ~w0_data{bits}; {SAY} end\n"
            for enable, bits in WRITE.findall(text)
        ]
        assert lanes and READ.search(text), match[1]
        return READ.sub(lambda read: read[0] + "".join(read[1] + lane for lane in lanes), text)

    return MODULE.subn(module, verilog)


@pytest.fixture(scope="module")
def config() -> AcceleratorConfig:
    return CONFIGS["tiny"]


@pytest.fixture(scope="module")
def backend(config: AcceleratorConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerilatorBackend]:
    verilog, count = corrupted(emit(Accelerator(config), reset_low=config.reset_low))
    assert count >= 3  # scratchpad, weights, parameters
    source = Path(tmp_path_factory.mktemp("corrupted")) / "rowcast.v"
    source.write_text(verilog)
    with VerilatorBackend(config, library=build_library([source], BuildOptions(), quiet=True)) as instance:
        yield instance


@pytest.mark.slow
def test_bytes_read_while_they_are_written_are_not_used(
    backend: VerilatorBackend, capfd: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2 * PROGRAMS):
        backend.set_memory(latency=(64, 5, 200)[seed % 3], stall_probability=(0.0, 0.3, 0.1)[seed % 3], seed=seed)
        program = (random_run if seed % 2 else random_program)(backend.config, seed // 2)
        inputs = {} if seed % 2 else random_inputs(program, seed // 2)
        got, expected = backend.run(program, inputs), IssBackend(backend.config).run(program, inputs)
        for region in Region:
            assert np.array_equal(
                np.frombuffer(got.regions[region], np.uint8), np.frombuffer(expected.regions[region], np.uint8)
            ), f"program {seed}, region {region.name}"
    assert capfd.readouterr().out.count(INVERTED), "no byte was read while it was written: more programs are needed"
