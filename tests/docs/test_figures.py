"""Figures that README.md and docs/compiler.md state, computed again.

A failure shows the row as it should be; what a page says of it in words is to be read again, too.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from hw.spec.config import preset
from sim import demo
from sw.compiler import compile_graph, driver
from sw.compiler.ir import Graph
from sw.model.timeline import timeline
from sw.network_graph import untrained_network_graph

ROOT = Path(__file__).parents[2]
PRESETS = ("edge16", "edge32", "edge64")
NAMES = {
    "MobileNetV2, FuSe-Half": "mobilenet_v2:fuse_half",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3-Large, FuSe-Half": "mobilenet_v3_large:fuse_half",
    "MobileNetV3-Small, FuSe-Half": "mobilenet_v3_small:fuse_half",
}


@cache
def graph(name: str) -> Graph:
    return untrained_network_graph(name)


def predicted(title: str, size: str, *, packing: bool = True) -> float:
    """Return thousand cycles."""
    return timeline(compile_graph(graph(NAMES[title]), preset(size), packing=packing)).cycles / 1000


@pytest.mark.parametrize("title", list(NAMES)[:3])
def test_gain_of_packing(title: str) -> None:
    cells = [f"{predicted(title, size, packing=False):,.0f} / {predicted(title, size):,.0f}" for size in PRESETS]
    assert f"| {title} | {' | '.join(cells)} |" in (ROOT / "docs" / "compiler.md").read_text()


@pytest.mark.parametrize("title", list(NAMES)[2:])
def test_gain_of_pooling_beside_a_map(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = [predicted(title, size) for size in PRESETS]
    monkeypatch.setattr(driver, "pool_beside", lambda kernels, whole: kernels)
    cells = [f"{predicted(title, size):,.0f} / {found:,.0f}" for size, found in zip(PRESETS, with_it, strict=True)]
    assert f"| {title} | {' | '.join(cells)} |" in (ROOT / "docs" / "compiler.md").read_text()


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--rtl", "2", "--out", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    baselines = report["baselines"]
    rows = {
        "FuSe-Half on the ST-OS array": (report["cycles"], report["utilisation"]),
        "depthwise, natively, on the ST-OS array": tuple(baselines["native_depthwise"].values()),
        "depthwise, as im2col products, on the plain array": tuple(baselines["im2col"].values()),
    }
    text = (ROOT / "README.md").read_text()
    for title, (cycles, utilisation) in rows.items():
        assert f"| {title} | {cycles:,} | {100 * utilisation:.1f} % |" in text
    accuracy = {kind: f"{report['accuracy'][kind]:.1f}" for kind in ("fp32", "int8", "iss")}
    assert len(set(accuracy.values())) == 1 and report["rtl_equals_iss"]
    assert f"Test accuracy of the FuSe-Half network: {accuracy['iss']} % in fp32" in text
