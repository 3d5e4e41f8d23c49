"""The generator's command line: files, manifest, refusals."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hw import generate as gen
from hw.docs_gen import registers_markdown
from hw.spec.config import AcceleratorConfig, preset
from hw.spec.csr import REGISTERS
from hw.spec.isa import ISA_VERSION, Target

TINY = ["--preset", "tiny"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Generate the tiny preset in a process of its own."""
    out = tmp_path_factory.mktemp("generate") / "new" / "build"
    root = Path(gen.__file__).parents[1]
    command = [sys.executable, "-m", "hw.generate", *TINY, "--out", str(out)]
    return out, subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)


def test_files_and_table(built: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = built
    names = {"rowcast.v", "rowcast.sdc", "rowcast.f", "registers.md", "manifest.json"}
    assert {path.name for path in out.iterdir()} == names
    assert done.stdout.startswith("ARTIFACTS\n") and preset("tiny").hash_hex in done.stdout
    for name in names:
        assert f"{(out / name).stat().st_size:,}" in done.stdout
    assert "emitting 4 x 4 ST-OS array" in done.stderr
    assert (out / "rowcast.f").read_text() == "rowcast.v\n"
    assert (out / "registers.md").read_text() == registers_markdown(preset("tiny"))


def test_manifest(built: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = built
    manifest = json.loads((out / "manifest.json").read_text())
    config = preset("tiny")
    assert AcceleratorConfig.from_manifest(out / "manifest.json") == config
    assert manifest["config_hash"] == config.hash_hex and manifest["isa_version"] == ISA_VERSION
    verilog = (out / "rowcast.v").read_bytes()
    assert manifest["files"]["rowcast.v"] == {"sha256": hashlib.sha256(verilog).hexdigest(), "bytes": len(verilog)}
    assert {name: item["address"] for name, item in manifest["register_map"].items()} == {
        register.name: register.addr for register in REGISTERS.values()
    }
    assert manifest["memory_map"]["weight"]["target"] == Target.WEIGHT
    assert manifest["memory_map"]["act"]["bytes"] == config.act_kib * 1024
    assert set(manifest["tools"]) == {"amaranth", "pyosys"}


def test_top_ports(built: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    verilog = (built[0] / "rowcast.v").read_text()
    start = verilog.index("module rowcast(")
    ports = verilog[start : verilog.index(");", start)].partition("(")[2].split(", ")
    assert ports[:2] == ["clk", "rst"] and "irq" in ports
    for channel in ("aw", "w", "b", "ar", "r"):
        for bus in ("s_axil", "m_axi"):
            assert {f"{bus}_{channel}valid", f"{bus}_{channel}ready"} <= set(ports)
    assert all(port in ("clk", "rst", "irq") or port.startswith(("s_axil_", "m_axi_", "trace_")) for port in ports)


def test_bytes_are_the_same_again(built: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    gen.generate(preset("tiny"), tmp_path)
    for name in ("rowcast.v", "manifest.json", "registers.md", "rowcast.f"):
        assert (tmp_path / name).read_bytes() == (built[0] / name).read_bytes(), name


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gen.main([*TINY, "--no-stos", "--reset-low", "--json", "--quiet", "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert captured.err == ""
    assert summary["config_hash"] == preset("tiny").twin(stos=False, reset_low=True).hash_hex
    assert {item["file"] for item in summary["artifacts"]} == {path.name for path in tmp_path.iterdir()}
    assert "module rowcast(clk, aresetn, " in (tmp_path / "rowcast.v").read_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--rows", "300"], "rows=300 is out of range: it must be from 1 to 256"),
        (["--rows", "2"], "max_kernel=7 with cols=2"),
        (["--preset", "huge"], "no preset 'huge'; there are tiny, edge8"),
        ([*TINY, "--axi-data-width", "512"], "lower axi_data_width or raise cols"),
        (["--act-kib", "100"], "it must be a power of two"),
    ],
)
def test_refusals(options: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert gen.main([*options, "--out", str(out)]) == 2
    assert reason in capsys.readouterr().err
    assert not out.exists()


def test_unwritable_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert gen.main([*TINY, "--quiet", "--out", str(tmp_path / "file" / "build")]) == 2
    assert "cannot read or write" in capsys.readouterr().err


def test_every_field_has_an_option_with_help() -> None:
    helps = AcceleratorConfig.field_help()
    for field in dataclasses.fields(AcceleratorConfig):
        assert len(helps[field.name]) > 10
        option = f"--{field.name.replace('_', '-')}"
        value = [] if isinstance(field.default, bool) else ["1"]
        assert getattr(gen._parser().parse_args([option, *value]), field.name) == 1


def test_columns_follow_rows() -> None:
    def config(*options: str) -> AcceleratorConfig:
        return gen.config_from_args(gen._parser().parse_args(options))

    assert (config("--rows", "32").rows, config("--rows", "32").cols) == (32, 32)
    assert config("--rows", "12", "--cols", "20").cols == 20
    assert config("--preset", "edge8", "--max-kernel", "5") == preset("edge8").twin(max_kernel=5)
