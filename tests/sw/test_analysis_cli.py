"""``python -m sw.analysis``: text, JSON, pictures and errors, and the lines that docs/analysis.md shows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from sw.analysis.__main__ import main

PAGE = Path(__file__).parents[2] / "docs" / "analysis.md"
CONSOLE = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
RUNS = [run for block in CONSOLE for run in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]


def test_the_page_shows_runs() -> None:
    assert len(RUNS) >= 6 and all(len(run.splitlines()) > 1 for run in RUNS)


@pytest.mark.parametrize("run", RUNS, ids=range(len(RUNS)))
def test_lines_of_the_page_are_printed_in_this_order(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, *shown = run.splitlines()
    python, option, module, *arguments = shlex.split(command)
    assert (python, option, module) == ("python", "-m", "sw.analysis")
    assert main(arguments) == 0
    printed = iter(capsys.readouterr().out.splitlines())
    for line in shown:
        assert line in printed, line  # an iterator: found behind the one before


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["depthwise", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["regular"] is False and result["systems"][0]["mappings"] == {}
    pixels = next(one for one in result["systems"][0]["arrays"] if one["array"] == "X")
    assert pixels["constant"] is False and pixels["witness"]["subscripts"] == ["y + k // 3", "x + k % 3"]
    assert result["im2col"]["rows"] == 1 and result["unflattened"]["mapping"]["schedule"] == [1, -1, 3, 1]


@pytest.mark.parametrize("name", ["conv1d", "fuse-half", "depthwise"])
def test_pictures_are_drawn(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "picture.svg"
    assert main([name, "--plot", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<?xml") and text.rstrip().endswith("</svg>") and len(text) > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["conv1d", "--size", "Z=3"], "size 'Z' is none of W, K"),
        (["matmul", "--size", "M=64", "N=64"], "at most 4096"),
        (["conv1d", "--plot", "picture.txt"], "a picture ends in .png, .svg, .pdf"),
    ],
)
def test_user_errors_have_status_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["conv3d"], ["conv1d", "--size", "W"], ["conv1d", "--size", "W=0"]])
def test_wrong_usage_has_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and "error:" in capsys.readouterr().err
