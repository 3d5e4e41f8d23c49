"""What comparisons leave behind, and that they do not begin where they could not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sw.benchmark import check_results, run_python, save_results


def test_files_that_could_not_be_written_are_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_results(None, None)
    check_results(tmp_path / "a.json", tmp_path / "a.svg", tmp_path / "a.npz", None)
    for number in range(3):
        files = [tmp_path / "a"] * 3
        files[number] = tmp_path / "none" / "b"
        with pytest.raises(ValueError, match="b: there is no folder .*none; make it first"):
            check_results(*files)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_results(tmp_path / "a.json", None)
    with pytest.raises(ValueError, match=r"a\.svg needs matplotlib: pip install 'rowcast\[plot\]'"):
        check_results(None, tmp_path / "a.svg")


def test_figures_and_picture(tmp_path: Path) -> None:
    save_results({"a": 1}, tmp_path / "a.json", lambda: b"<svg/>", tmp_path / "a.svg")
    assert (tmp_path / "a.json").read_text() == '{\n "a": 1\n}\n'
    assert (tmp_path / "a.svg").read_bytes() == b"<svg/>"
    save_results({}, None, lambda: pytest.fail("drawn for nothing"), None)


def test_a_program_says_what_it_prints_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_python(["-c", "import os; print(os.getcwd())"], tmp_path)
    out, err = capfd.readouterr()
    assert out == "" and err.splitlines() == ["python -c 'import os; print(os.getcwd())'", str(tmp_path.resolve())]
    with pytest.raises(subprocess.CalledProcessError):
        run_python(["-c", "raise SystemExit(3)"], tmp_path)
