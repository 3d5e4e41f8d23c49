"""Measuring whole networks on RTL: what is reported, kept and noticed, on a network of a second."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.spec.isa import Region
from sim import whole_networks as tool
from sim.iss import IssBackend
from sim.whole_cases import CASES, OCR, Case, parse_case
from sw.nn.dev_pictures import VARIABLE
from sw.nn.pictures import Pictures

CASE = "digits:fuse_half@tiny"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def quantised_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Quantise the network for all tests; unknown networks still go the whole way."""
    real = tool.subject
    kept = real("digits:fuse_half", Path(), tmp_path_factory.mktemp("subject"), progress=print)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool, "subject", lambda name, *rest, **more: kept if name in CASE else real(name, *rest, **more))
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run."""
    path = tmp_path_factory.mktemp("rtl")
    assert tool.main([CASE, "--out", str(path)]) == 0
    return path


def test_the_report(out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run prints the same figures without simulating."""
    monkeypatch.setattr(tool, "_measure", None)
    kept = (out / "results.json").read_bytes()
    assert tool.main([CASE, "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    (row,) = report["rows"]
    assert row == json.loads(kept)["rows"][CASE] and (out / "results.json").read_bytes() == kept
    assert row["equal"] and row["differences"] == [] and report["errors"] == {}
    assert row["prediction"] == row["label"]
    assert row["tensors"] == 31 and row["bytes"] > 140_000
    assert row["cycles"] == row["counters"]["CYCLES"] < row["all_stored"]["cycles"]
    assert row["utilisation"] == pytest.approx(row["macs"] / (row["cycles"] * 16))
    assert row["dram_read"] == row["counters"]["LOAD_BYTES"] > 0
    assert row["all_stored"]["counters"]["STORE_BYTES"] > row["dram_written"] == row["counters"]["STORE_BYTES"]
    assert f"{row['cycles']:,} cycles" in captured.err and "RTL = ISS in 31 tensors" in captured.err
    assert tool.main([CASE, "--out", str(out)]) == 0
    assert f"{row['cycles']:,}" in capsys.readouterr().out
    assert tool.main([CASE, "--out", str(out), "--markdown"]) == 0
    head, _, line = capsys.readouterr().out.splitlines()
    cells = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    assert cells["| network"] == "| `digits:fuse_half`" and cells["cycles"] == f"{row['cycles']:,}"
    assert cells["ISS s"] == f"{row['iss_seconds']:.1f}" and row["iss_seconds"] > 0
    assert cells["answer |"] == f"{row['label']} (is {row['label']}) |"


def test_a_wrong_byte_is_noticed_and_named(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(IssBackend):
        def run(self, program, inputs):
            result = super().run(program, inputs)
            changed = np.frombuffer(result.regions[Region.WORK], np.uint8).copy()
            changed[5] ^= 1
            regions = list(result.regions)
            regions[Region.WORK] = changed.tobytes()
            return replace(result, regions=regions)

    monkeypatch.setattr(tool, "IssBackend", Wrong)
    assert tool.main([CASE, "--out", str(tmp_path), "--json"]) == 1
    captured = capsys.readouterr()
    (row,) = json.loads(captured.out)["rows"]
    assert not row["equal"] and len(row["differences"]) == 2
    assert "with all tensors stored, stem.0: 1 of 16384 bytes differ, first at (0, 0, 5): " in row["differences"][0]
    assert "RTL DIFFERS from the ISS: with all tensors stored, stem.0" in captured.err


def test_what_has_changed_is_measured_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = out / "results.json"
    kept = results.read_bytes()
    rows = json.loads(kept)["rows"]
    rows[CASE] |= {"identity": "of another program", "cycles": 1}
    results.write_text(json.dumps({"rows": rows}))
    assert tool.main([CASE, "--out", str(out)]) == 0
    again = json.loads(results.read_text())["rows"][CASE]
    first = json.loads(kept)["rows"][CASE]
    assert again["cycles"] == first["cycles"] and again["identity"] == first["identity"]


def test_problems_are_told(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["digits@huge", "--out", str(tmp_path)]) == 2
    assert "error: no preset 'huge'; there are tiny" in capsys.readouterr().err
    # what cannot be run does not keep the rest from running
    assert tool.main(["mobilenet_v9@tiny", CASE, "--out", str(out), "--json"]) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert [row["network"] for row in report["rows"]] == ["digits:fuse_half"]
    assert list(report["errors"]) == ["mobilenet_v9@tiny"] and "error: mobilenet_v9@tiny: no network" in captured.err
    assert tool.main([CASE, "--out", str(out), "--max-seconds", "0.0001"]) == 1
    assert "more than 0.0001 s" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        tool.main(["--max-seconds", "none"])


def test_the_default_cases() -> None:
    assert {case.network for case in CASES} >= {"mobilenet_v2", "mobilenet_v3_large:fuse_half", OCR}
    assert {(case.config.rows, case.config.cols) for case in CASES} == {(16, 16), (32, 32)}
    assert parse_case("digits") == Case("digits", "edge16") and str(CASES[0]) == "mobilenet_v2@edge16"


def test_without_imagenet_two_photographs_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.tar"))
    monkeypatch.setattr(tool, "subject", lambda name, pictures, *rest, **more: seen.append(pictures) or {}["stop"])
    with pytest.raises(KeyError, match="stop"):
        tool.main([CASE, "--out", str(tmp_path)])
    assert [entry.name for entry in Pictures(seen[0]).entries] == ["china.jpg", "flower.jpg"]
    error = capsys.readouterr().err
    assert "none.tar" in error and "scikit-learn's two photographs stand in" in error
