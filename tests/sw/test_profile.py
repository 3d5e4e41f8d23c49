"""Profiles: layers, limits, sizes of a sweep, and the command line."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from hw.spec.config import PRESETS, ConfigError, preset
from hw.spec.isa import Instruction, Opcode, Queue
from sw.compiler import compile_graph
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


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profile digits:fuse_half once; return the folder with what was written."""
    folder = tmp_path_factory.mktemp("profile")
    arguments = ["--json", "--html", str(folder / "report.html"), "--trace", str(folder / "trace.json")]
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
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
