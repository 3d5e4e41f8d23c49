"""python -m sw.compile: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hw.spec.config import PRESETS
from hw.spec.isa import Region
from hw.spec.program import Program
from sw import compile as tool
from sw.compiler import compile_graph
from sw.nn.fuse import FuSeConv2d
from sw.quant import export_program, quantise, save

ROOT = Path(__file__).parents[2]


def written(model: nn.Module, path: Path) -> Path:
    """Quantise a network of two input channels and write it."""
    data = torch.randn(8, 2, 10, 9)
    exported = export_program(quantise(model.eval(), (data[:1],), [data], observer="minmax"), (data[:1],))
    save(exported, path, meta={"meta.json": json.dumps({"classes": ["a", "b", "c"]})})
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU6(), FuSeConv2d(6, 3), nn.Conv2d(6, 3, 1))
    return written(model, tmp_path_factory.mktemp("net") / "small.pt2")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    config = PRESETS["tiny"].twin(rows=3)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"config": config.to_dict(), "config_hash": config.hash_hex}))
    return path


def test_a_file_becomes_a_program(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "prog"
    assert tool.main([str(network), "--preset", "tiny", "--out", str(out)]) == 0
    program = Program.load(out)
    assert program.config == PRESETS["tiny"]
    assert program.meta["network"] == "small" and program.meta["classes"] == ["a", "b", "c"]
    text = capsys.readouterr().out
    assert all(layer.name in text and layer.kind in text for layer in program.layers)
    assert f"{program.macs:,} MACs" in text and program.config.hash_hex in text and "STOS_CH" in text
    assert sorted(path.name for path in out.iterdir()) == ["program.bin", "program.json"]


def test_json_report_for_a_manifest(
    network: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "prog"
    arguments = [str(network), "--config", str(manifest), "--out", str(out), "--json", "--dump-tensors"]
    assert tool.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    program = Program.load(out)
    assert program.config.rows == 3
    assert report["macs"] == program.macs == sum(layer["macs"] for layer in report["layers"])
    assert report["instructions"] == program.instruction_count
    counted = sum(layer[kind] for layer in report["layers"] for kind in ("load", "exec", "store"))
    assert counted == program.instruction_count - 2
    assert [layer["kind"] for layer in report["layers"]] == ["conv", "fuse_row", "fuse_col", "pointwise"]
    assert len(program.tensors) > 4
    assert "layout" not in report
    # every layer stores its tensor, and the totals are sums
    assert [layer["stored_bytes"] for layer in report["layers"]] == [540, 270, 270, 270]
    assert [layer["result"] for layer in report["layers"]] == ["stored"] * 3 + ["network output"]
    assert report["traffic"]["stored"] == 1350
    for name, key in (
        ("activations", "activation_bytes"),
        ("weights", "weight_bytes"),
        ("parameters", "parameter_bytes"),
    ):
        assert report["traffic"][name] == sum(layer[key] for layer in report["layers"]) > 0
    assert report["traffic"]["loaded"] == sum(
        report["traffic"][key] for key in ("activations", "weights", "parameters")
    )


def test_layout_names_every_byte_once(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "prog"
    arguments = [str(network), "--preset", "tiny", "--out", str(out), "--dump-tensors", "--layout"]
    assert tool.main([*arguments, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["layout"]
    program = Program.load(out)
    assert {entry["name"] for entry in entries} >= {tensor.name for tensor in program.tensors}
    for region in Region:
        mine = [entry for entry in entries if entry["region"] == region.name and "within" not in entry]
        ends = [0, *(entry["offset"] + entry["bytes"] for entry in mine)]
        assert all(end <= entry["offset"] < end + 64 for end, entry in zip(ends, mine, strict=False)), region
        assert 0 <= program.region_sizes[region] - ends[-1] < 64
    parts = {entry["name"]: entry["within"] for entry in entries if "within" in entry}
    assert len(parts) == 4 and set(parts.values()) == {"0", "2.cat"}
    assert tool.main(arguments) == 0
    text = capsys.readouterr().out
    assert all(tensor.name in text for tensor in program.tensors) and "plane stride" in text


@pytest.mark.parametrize("arguments", [[], ["--no-packing"]])
def test_packing_can_be_switched_off(
    arguments: list[str], network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def compiled(*positional: object, packing: bool, **options: object) -> Program:
        asked.append(packing)
        return compile_graph(*positional, packing=packing, **options)

    monkeypatch.setattr(tool, "compile_graph", compiled)
    assert tool.main([str(network), "--preset", "tiny", "--out", str(tmp_path / "prog"), *arguments]) == 0
    assert asked == [not arguments]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mobilenet_v9"], "no network 'mobilenet_v9'; there are digits, digits:fuse_half"),
        (["nowhere.pt2"], "no such file"),
        (["digits:fuse_full"], "no trained weights"),
        (["digits", "--config", "nowhere.json"], "no such manifest"),
        (["digits", "--weights", "nowhere.npz"], "no such weights file"),
    ],
)
def test_wrong_input_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "prog"
    assert tool.main([*arguments, "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and message in captured.err and not captured.out
    assert not out.exists()


def test_a_file_that_is_no_network_and_an_unwritable_place_are_refused(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.pt2"
    broken.write_bytes(network.read_bytes()[:1000])
    assert tool.main([str(broken), "--out", str(tmp_path / "prog")]) == 2
    assert "broken.pt2" in capsys.readouterr().err
    assert tool.main([str(network), "--out", str(broken)]) == 2
    assert "is no directory" in capsys.readouterr().err
    assert tool.main([str(network), "--weights", "w.npz"]) == 2
    assert "holds its own weights" in capsys.readouterr().err


def test_a_layer_that_does_not_fit_is_named(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = PRESETS["tiny"].twin(max_kernel=2)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"config": config.to_dict(), "config_hash": config.hash_hex}))
    assert tool.main([str(network), "--config", str(path), "--out", str(tmp_path / "prog")]) == 2
    error = capsys.readouterr().err
    assert error == "error: layer 0: kernel 3x3 is larger than max_kernel=2; generate a larger one\n"


def test_help_is_quick_and_a_bad_option_exits_2() -> None:
    shown = subprocess.run([sys.executable, "-m", "sw.compile", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0 and "--preset" in shown.stdout and "manifest.json" in shown.stdout
    bad = subprocess.run(
        [sys.executable, "-m", "sw.compile", "digits", "--preset", "huge"], cwd=ROOT, capture_output=True, text=True
    )
    assert bad.returncode == 2 and "invalid choice" in bad.stderr and "Traceback" not in bad.stderr


def test_a_network_too_large_for_the_accelerator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    path = written(nn.Sequential(nn.Conv2d(2, 150, 1), nn.Conv2d(150, 3, 3)), tmp_path / "large.pt2")
    out = tmp_path / "prog"
    assert tool.main([str(path), "--preset", "tiny", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: layer 1: the weights of one block of channels take 5400 bytes")
    assert "scratchpad has 4096: raise weight_kib" in error and not out.exists()
    config = PRESETS["tiny"].twin(act_kib=1, weight_kib=8)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"config": config.to_dict(), "config_hash": config.hash_hex}))
    assert tool.main([str(path), "--config", str(manifest), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: layer 1: needs 4064 bytes of activation scratchpad") and "raise act_kib" in error
