"""SCALE-Sim's input files and its results; SCALE-Sim itself is not needed."""

from __future__ import annotations

import configparser
import json
import stat
from pathlib import Path

import pytest

from bench.peers import choose, compare, main, table
from bench.scalesim_files import Measured, PeerError, Work, configuration, layout, parse, simulate, topology, work
from sw.model.shapes import LayerShape

STEM = LayerShape("stem", 3, 224, 224, 32, 112, 112, (3, 3), (2, 2))
DEPTHWISE = LayerShape("dw", 96, 112, 112, 96, 56, 56, (3, 3), (2, 2), groups=96)
ROW = LayerShape("row", 48, 112, 112, 48, 56, 56, (1, 3), (2, 2), groups=48)
POINTWISE = LayerShape("pw", 32, 112, 112, 16, 112, 112)
LINEAR = LayerShape("fc", 1280, 1, 1, 1000, 1, 1, linear=True)
SHAPES = (STEM, DEPTHWISE, ROW, POINTWISE, LINEAR)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_work_has_the_layers_outputs_and_products(shape: LayerShape) -> None:
    """By SCALE-Sim's own rule for the size of the output."""
    item = work(shape)
    out = [
        (size - kernel + item.stride) / item.stride
        for size, kernel in zip((item.height, item.width), item.kernel, strict=True)
    ]
    assert out == [shape.out_height, shape.out_width]
    products = out[0] * out[1] * item.filters * item.channels * item.kernel[0] * item.kernel[1]
    assert products * item.times == shape.macs


def test_a_depthwise_layer_is_one_filter_per_channel() -> None:
    assert work(DEPTHWISE) == Work(113, 113, (3, 3), 1, 1, 2, times=96)
    assert work(ROW) == Work(111, 113, (1, 3), 1, 1, 2, times=48)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (LayerShape("x", 8, 9, 9, 8, 9, 5, (3, 3), (1, 2)), "strides"),
        (LayerShape("x", 8, 9, 9, 8, 9, 9, (3, 3), groups=4), "4 groups"),
        (LayerShape("x", 8, 9, 9, 16, 9, 9, (3, 3), groups=8), "8 groups"),
    ],
)
def test_what_the_topology_cannot_say(shape: LayerShape, message: str) -> None:
    with pytest.raises(PeerError, match=f"layer x: {message}"):
        work(shape)


def test_topology_and_layout() -> None:
    items = [work(shape) for shape in SHAPES]
    head, *rows = topology(items).splitlines()
    assert head.count(",") == 8 and len(rows) == len(items)
    assert rows[0] == "L0, 225, 225, 3, 3, 3, 32, 2,"
    assert rows[4] == "L4, 1, 1, 1, 1, 1280, 1000, 1,"
    assert not any("DP" in row for row in rows)
    lines = layout(items).splitlines()
    assert len(lines) == 1 + len(items) and {line.count(",") for line in lines} == {21}


def test_configuration() -> None:
    parser = configparser.ConfigParser()
    parser.read_string(configuration(16, 32))
    array = parser["architecture_presets"]
    assert (array["arrayheight"], array["arraywidth"], array["dataflow"]) == ("16", "32", "os")
    assert parser["run_presets"]["interfacebandwidth"] == "CALC"


def test_choice_of_layers() -> None:
    items = [Work(1, 1, (1, 1), channels, 1, 1, 1) for channels in (1, 2, 2, 3, 4, 5, 1, 6, 7)]
    distinct = [items[0], items[1], *items[3:6], *items[7:]]
    assert choose(items, None) == choose(items, 99) == distinct
    assert [item.channels for item in choose(items, 3)] == [1, 4, 7]
    assert choose(items, 1) == distinct[:1]


def test_results_are_read() -> None:
    assert parse('{"index": 1, "cycles": 70, "with_prefetch": 90, "cpu_seconds": 0.5}', 2) == (1, Measured(70, 0.5))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "WARNING",
        "[]",
        '{"index": 2, "cycles": 70, "cpu_seconds": 1}',
        '{"index": 0, "cycles": 0, "cpu_seconds": 1}',
    ],
)
def test_what_is_no_result(line: str) -> None:
    with pytest.raises(PeerError, match="SCALE-Sim's runner printed"):
        parse(line, 2)


def fake(path: Path, *lines: str, status: int = 0, complaint: str = "") -> Path:
    """Write an interpreter that prints lines instead of running anything."""
    echoes = "".join(f"echo '{line}'\n" for line in lines)
    path.write_text(f"#!/bin/sh\n{echoes}echo '{complaint}' >&2\nexit {status}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


HEAD = json.dumps({"version": "3.0.0", "import_seconds": 1})


def results(*cycles: int) -> list[str]:
    return [json.dumps({"index": i, "cycles": value, "cpu_seconds": 2.0}) for i, value in enumerate(cycles)]


def test_simulation(tmp_path: Path) -> None:
    python, done = fake(tmp_path / "python", HEAD, *results(10, 20)), []
    version, found = simulate(python, [work(STEM), work(DEPTHWISE)], 16, 16, done.append)
    assert (version, found, done) == ("3.0.0", [Measured(10, 2.0), Measured(20, 2.0)], [1, 2])


def test_failures_name_the_cause(tmp_path: Path) -> None:
    items = [work(STEM), work(DEPTHWISE)]
    with pytest.raises(PeerError, match="no such interpreter; nox -s bench-peers makes"):
        simulate(tmp_path / "none", items, 16, 16)
    python = fake(tmp_path / "python", status=1, complaint="ModuleNotFoundError: No module named scalesim")
    with pytest.raises(PeerError, match="No module named scalesim"):
        simulate(python, items, 16, 16)
    with pytest.raises(PeerError, match="1 of 2 layers came back"):
        simulate(fake(python, HEAD, *results(10)), items, 16, 16)
    with pytest.raises(PeerError, match="printed 'nonsense'"):
        simulate(fake(python, HEAD, "nonsense"), items, 16, 16)


def test_comparison() -> None:
    measured = {work(STEM): Measured(100, 1.0), work(DEPTHWISE): Measured(10, 0.1)}
    cycles = {shape.name: 50 for shape in SHAPES}
    rows = compare("net", SHAPES, measured, cycles, dict.fromkeys(cycles, 480))
    assert [(row["layer"], row["scalesim"], row["model"], row["im2col"]) for row in rows] == [
        ("stem", 100, 50, 480),
        ("dw", 960, 50, 480),
    ]
    result = {"network": "net", "rows": 16, "cols": 16, "layers": rows, "of_layers": 5, "scalesim_version": "3.0.0"}
    result |= {"scalesim": 1060, "model": 100, "ratio": 10.6, "scalesim_seconds": 1.1, "simulated": 2}
    text = table(result | {"model_seconds": 0.5, "seconds_ratio": 2.2})
    assert "2 of 5 layers: SCALE-Sim 3.0.0 1,060 cycles, model 100: ratio 10.60" in text
    assert [line.split()[-4:] for line in text.splitlines()[2:4]] == [
        ["50", "2.00", "480", "0.21"],
        ["50", "19.20", "480", "2.00"],
    ]
    with pytest.raises(PeerError, match="net: layer stem"):
        compare("net", SHAPES, measured, {}, None)


def test_a_missing_environment_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scalesim", str(tmp_path / "python"), "--out", str(tmp_path / "x.json")]) == 2
    assert "pip install scalesim==3.0.0" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


def test_a_file_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.peers.check", lambda python: None)
    monkeypatch.setattr("bench.peers.run", lambda *arguments: pytest.fail("was started"))
    assert main(["--out", str(tmp_path)]) == 2
    assert f"--out {tmp_path}: is a directory" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file" / "x.json")]) == 2


def test_an_interrupt_loses_no_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: object, network: str, *others: object) -> dict[str, str]:
        if network == "second":
            raise KeyboardInterrupt
        return {"network": network}

    monkeypatch.setattr("bench.peers.check", lambda python: None)
    monkeypatch.setattr("bench.peers.run", run)
    with pytest.raises(KeyboardInterrupt):
        main(["first", "second", "--out", str(tmp_path / "x.json"), "--json"])
    assert json.loads((tmp_path / "x.json").read_text())["runs"] == [{"network": "first"}]
