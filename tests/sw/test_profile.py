"""Profiles: layers, limits, sizes of a sweep, and the command line."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hw.spec.config import PRESETS, ConfigError, preset
from hw.spec.isa import Instruction, Opcode, Queue
from sw.compiler import compile_graph
from sw.model.energy import EnergyTable
from sw.model.profile import _useful, profile
from sw.model.sizes import square
from sw.profile import main
from tests.sw.ir_graphs import Builder, block_net


def test_layers_add_up() -> None:
    program = compile_graph(block_net(0)[1], PRESETS["tiny"])
    found = profile(program)
    assert sum(layer.cycles for layer in found.layers) + found.rest == found.timeline.cycles
    assert sum(layer.macs for layer in found.layers) == program.macs
    assert 0 < found.utilisation < 1
    assert found.limit < found.timeline.cycles
    for layer in found.layers:
        assert max(value for name, value in layer.limits.items() if name != "DRAM") <= layer.busy
        assert layer.bound in layer.limits


def test_limits_of_a_pointwise_layer() -> None:
    """16 to 32 channels on 14x14 pixels: MACs, input, output and weights, each over what the array takes in a cycle."""
    build = Builder(0)
    build.conv(build.input((16, 14, 14)), 32, (1, 1))
    (layer,) = profile(compile_graph(build.graph(), preset("edge16"))).layers
    assert layer.macs == 16 * 32 * 196
    assert layer.limits["compute"] == 16 * 32 * 196 // 256 == 392
    assert layer.limits["input"] == 196
    assert layer.limits["output"] == 392
    assert layer.limits["weight port"] == 32
    assert layer.written == 32 * 196


def test_a_linear_layer_is_bound_by_the_weight_port() -> None:
    build = Builder(0)
    build.linear(build.input((256, 1, 1)), 128)
    (layer,) = profile(compile_graph(build.graph(), preset("edge16"))).layers
    assert layer.limits["weight port"] == 128 * 256 // 16
    assert layer.limits["compute"] == 128 * 256 // 256
    assert layer.bound in ("weight port", "DRAM")
    assert layer.cycles > layer.limits[layer.bound]


def test_limits_of_a_strided_layer_count_pixels_that_it_needs() -> None:
    """A column convolution at stride 2: all lines, every second pixel of each."""
    build = Builder(0)
    build.conv(build.input((16, 28, 28)), 16, (3, 1), (2, 2), (1, 0, 1, 0), groups=16)
    (layer,) = profile(compile_graph(build.graph(), preset("edge16"))).layers
    assert layer.limits["input"] == 16 * 28 * 14 // 16
    assert layer.limits["output"] == 14 * 14


def test_gaps_of_packed_lines_are_no_useful_pixels() -> None:
    """2 lines of 4 segments of 7 pixels and a gap hold a map of 7 x 7; the last segment has one line."""
    fields = {"seg": 8, "seg_gap": 1, "seg_missing": 1}
    packed = Instruction(Opcode.EXEC, fields)
    assert _useful(packed, 2, 32) == _useful(Instruction(Opcode.EXEC), 7, 7) == 49


def test_sizes_of_a_sweep_are_the_presets_or_in_proportion() -> None:
    for size in (8, 16, 32, 64):
        assert square(size) == preset(f"edge{size}")
    large = square(128)
    assert (large.rows, large.act_kib, large.weight_kib, large.axi_data_width) == (128, 2048, 1024, 1024)
    assert square(12).act_kib == 256
    assert all(square(size).cols == size for size in (2, 3, 4, 5, 24, 48, 100, 256))
    with pytest.raises(ConfigError, match="rows=257"):
        square(257)


def use(graph: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tool find this graph, whatever network it is asked for."""
    monkeypatch.setattr("sw.profile.network_graph", lambda arguments, options: graph)


LAYER_TYPES = {
    **dict.fromkeys(("name", "kind", "mode", "bound"), str),
    **dict.fromkeys(("macs", "cycles", "busy", "dram_loaded", "dram_stored", "chip_read", "chip_written"), int),
    "utilisation": float,
    "limits": dict,
    "energy_pj": dict,
}
RUN_TYPES = {
    **dict.fromkeys(("network", "source", "config_hash"), str),
    **dict.fromkeys(("rows", "cols", "cycles", "macs", "limit", "store"), int),
    **dict.fromkeys(("utilisation", "compile_seconds", "model_seconds"), float),
    **dict.fromkeys(("counters", "rtl_seconds"), type(None)),
    **dict.fromkeys(("baselines", "energy_pj", "energy_figures"), dict),
    "stos": bool,
    "layers": list,
}


def test_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    use(block_net(0)[1], monkeypatch)
    assert main(["digits", "--rows", "8", "16", "--json", "--html", str(tmp_path / "r.html")]) == 0
    runs = json.loads(capsys.readouterr().out)
    assert [(run["rows"], run["cols"]) for run in runs] == [(8, 8), (16, 16)]
    assert runs[0]["cycles"] > runs[1]["cycles"]
    for run in runs:
        assert {key: type(value) for key, value in run.items()} == RUN_TYPES
        assert {key: type(value) for key, value in run["baselines"].items()} == dict.fromkeys(
            ("im2col", "native_depthwise", "authors"), int
        )
        for layer in run["layers"]:
            assert {key: type(value) for key, value in layer.items()} == LAYER_TYPES
            assert set(map(type, layer["limits"].values())) == {int}
    page = (tmp_path / "r.html").read_text()
    assert page.count("<img ") == 1 + 2 * 3 and "8x8" in page and "16x16" in page
    assert main(["digits", "--rows", "8", "16"]) == 0
    assert f"{runs[0]['baselines']['im2col']:,}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "known"),
    [(["digits", "--no-baselines"], set()), (["net.onnx"], {"authors"}), (["mobilenet_v2"], {"im2col", "authors"})],
)
def test_baselines_that_are_not_known_are_null(
    arguments: list[str],
    known: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(block_net(0)[1], monkeypatch)
    assert main([*arguments, "--rows", "8", "--json", "--html", str(tmp_path / "r.html")]) == 0
    found = json.loads(capsys.readouterr().out)["baselines"]
    assert list(found) == ["im2col", "native_depthwise", "authors"]
    known = known | {"native_depthwise"} if "im2col" in known else known
    assert {name for name, cycles in found.items() if cycles is not None} == known
    for rows in (["8"], ["8", "16"]):
        assert main([*arguments, "--rows", *rows]) == 0
        text = capsys.readouterr().out
        assert {name for name in found if name in text} == known


def test_energies_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(block_net(0)[1], monkeypatch)
    (tmp_path / "e.json").write_text(json.dumps({"dram_read_64": 0, "dram_write_64": 0, "static_cycle": 7}))
    assert main(["digits", "--no-baselines", "--json", "--energy", str(tmp_path / "e.json")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["energy_pj"]["DRAM"] == 0
    assert facts["energy_pj"]["static"] == pytest.approx(7 * facts["cycles"])
    assert facts["energy_figures"] == {
        **EnergyTable().to_dict(),
        "dram_read_64": 0,
        "dram_write_64": 0,
        "static_cycle": 7,
    }


def test_how_to_quantise_reaches_the_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the calibration, but also the observer and whether biases are corrected."""
    given: dict[str, Any] = {}

    def stop(**arguments: Any) -> None:
        given.update(arguments)
        raise ValueError("seen enough")

    monkeypatch.setattr("sw.frontends.networks.quantised_network", stop)
    assert main(["digits", "--observer", "minmax", "--no-bias-correction", "--calib-pictures", "3"]) == 2
    assert (given["observer"], given["bias_correction"], given["pictures"]) == ("minmax", False, 3)


def test_a_reader_that_stops_is_no_error() -> None:
    """More than a pipe holds, into a program that has ended."""
    code = "from sw.printing import show; show('x' * 1_000_000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("other", [["--preset", "tiny"], ["--config", "m.json"]])
def test_sizes_exclude_other_targets(other: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["digits", "--rows", "8", *other])
    assert stopped.value.code == 2 and "not allowed with argument" in capsys.readouterr().err


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profile digits:fuse_half once; return the folder with what was written."""
    folder = tmp_path_factory.mktemp("profile")
    arguments = ["--json", "--html", str(folder / "report.html"), "--trace", str(folder / "trace.json")]
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("sw.profile.show", printed.append)
        assert main(["digits:fuse_half", *arguments]) == 0
    (folder / "facts.json").write_text(printed[0])
    return folder


@pytest.mark.slow
def test_json(digits: Path) -> None:
    facts = json.loads((digits / "facts.json").read_text())
    assert (facts["network"], facts["rows"], facts["cols"], facts["stos"]) == ("digits:fuse_half", 16, 16, True)
    assert facts["source"] == "model"
    assert facts["utilisation"] == pytest.approx(facts["macs"] / facts["cycles"] / 256)
    assert sum(layer["cycles"] for layer in facts["layers"]) + facts["store"] == facts["cycles"]
    baselines = facts["baselines"]
    assert set(baselines) == {"im2col", "native_depthwise", "authors"}
    assert facts["counters"] is facts["rtl_seconds"] is None
    assert baselines["im2col"] > baselines["native_depthwise"] > facts["cycles"]
    assert facts["model_seconds"] < 1
    layers = [layer["energy_pj"]["total"] for layer in facts["layers"]]
    assert sum(layers) <= facts["energy_pj"]["total"] <= 1.01 * sum(layers)


@pytest.mark.slow
def test_trace(digits: Path) -> None:
    document = json.loads((digits / "trace.json").read_text())
    slices = [event for event in document["traceEvents"] if event["ph"] == "X" and event["cat"] != "wait"]
    assert {event["cat"] for event in slices} == {queue.name for queue in Queue}
    facts = json.loads((digits / "facts.json").read_text())
    assert max(event["ts"] + event["dur"] for event in slices) == facts["cycles"] - 1
    assert document["otherData"]["source"] == "model"


@pytest.mark.slow
def test_html_holds_its_pictures(digits: Path) -> None:
    page = (digits / "report.html").read_text()
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(pictures) == 3
    assert all(b"</svg>" in base64.b64decode(picture) for picture in pictures)
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_network"], "no_such_network"),
        (["digits", "--rows", "8", "16", "--trace", "t.json"], "not of a sweep"),
        (["digits", "--rows", "300"], "rows=300"),
        (["digits", "--html", "no/such/folder/r.html"], "does not exist"),
        (["digits", "--config", "no_manifest.json"], "no_manifest.json"),
        (["digits", "--energy", "no_energies.json"], "no_energies.json"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_pictures_without_matplotlib_are_refused_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["mobilenet_v2_cifar", "--preset", "edge8", "--html", str(tmp_path / "a.html")]) == 2
    assert "--html needs matplotlib: pip install 'rowcast[plot]'" in capsys.readouterr().err
