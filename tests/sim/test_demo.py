"""The demonstration, small: 4x4 PEs, a few pictures, everything real."""

from __future__ import annotations

import json

import pytest

from sim import demo
from sim.demo_report import operator_of


@pytest.mark.slow
def test_demo_on_a_small_array(tmp_path, capsys) -> None:
    out = tmp_path / "demo"
    assert demo.main(["--preset", "tiny", "--pictures", "20", "--rtl", "2", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rtl_equals_iss"] is True
    assert set(report["accuracy"]) == {"fp32", "int8", "iss", "rtl"}
    assert min(report["accuracy"].values()) >= 95
    assert report["cycles"] == sum(layer["cycles"] for layer in report["layers"])
    assert report["utilisation"] == pytest.approx(report["macs"] / (report["cycles"] * 16))
    speedup = report["speedup"]
    assert speedup["im2col"] > speedup["native_depthwise"] > 1
    assert (out / "layers.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "report.json").read_text()) == report
    for folder in ("stos", "plain"):
        assert (out / folder / "manifest.json").is_file()


def test_unusable_output_folder_is_a_clear_error(tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert demo.main(["--out", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err


def test_twin_layers_correspond() -> None:
    assert operator_of("blocks.2.spatial.row.conv") == operator_of("blocks.2.spatial.0") == "blocks.2.spatial"
    assert operator_of("blocks.2.project.0") == "blocks.2.project.0"
