"""The table of targets: measured on RTL, kept, compared; on a network of a second."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hw.spec.config import preset
from sim import bench_targets as tool
from sim.iss import IssBackend
from sim.targets import TARGETS, Targets
from sim.whole_cases import Case
from sw.compiler import compile_graph
from sw.model.authors import network_cycles
from sw.model.bound import port_bound
from sw.network_graph import untrained_network_graph
from sw.rtl_identity import hardware_key, schedule_key

NETWORK = "digits:fuse_half"
CELL = f"{NETWORK}@tiny"
SOME = {"source": "a test", "remarks": {NETWORK: "target of another network"}}


@pytest.fixture(scope="module", autouse=True)
def quantised_once() -> Iterator[None]:
    kept = {name: untrained_network_graph(name) for name in (NETWORK, "digits")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool, "untrained_network_graph", kept.__getitem__)
        yield


def targets(folder: Path, target: float = 1.0, natives: dict[str, object] | None = None) -> str:
    """Write a file of targets; return its name."""
    cells = {NETWORK: {"tiny": {"authors": 1, "target": target, "bound": 1}}}
    if natives is not None:
        path = folder / "natives.json"
        path.write_text(json.dumps({**SOME, "networks": cells, "natives": natives}))
        return str(path)
    path = folder / f"targets{target}.json"
    path.write_text(json.dumps({**SOME, "networks": cells, "natives": {}}))
    return str(path)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run."""
    path = tmp_path_factory.mktemp("bench")
    assert tool.main(["--targets", targets(path), "--out", str(path)]) == 0
    return path


def test_the_row(out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "_measure", None)  # what has been measured is not measured again
    assert tool.main(["--targets", targets(out), "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    (row,) = report["rows"]
    graph = tool.untrained_network_graph(NETWORK)
    assert row["cycles"] == row["counters"]["CYCLES"] > 0 and row["differences"] == []
    assert row["bound"] == pytest.approx(port_bound(graph, 4, 4)) and row["target"] == 1000.0
    assert row["authors"] == network_cycles(graph, 4, 4)
    assert sum(row["causes"].values()) == pytest.approx(row["cycles"] - row["bound"])
    assert row["causes"]["fuse_col: other steps"] > 0 < row["causes"]["last results"]
    assert (row["target_bound"], row["remark"]) == (1000.0, "target of another network")
    program = compile_graph(graph, preset("tiny"))
    assert (row["schedule"], row["hardware"]) == (schedule_key(program), hardware_key())
    assert row["config_hash"] == preset("tiny").hash_hex
    assert row["program_sha256"] == hashlib.sha256(program.image).hexdigest()
    assert report["errors"] == {} and report["source"] == row["source"] == "rtl"
    assert f"{row['cycles']:,} cycles, {row['cycles'] / 1000:.2f} of the target" in captured.err


def test_a_missed_target_is_explained(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "cycles.md"
    assert tool.main(["--targets", targets(out), "--out", str(out), "--markdown", str(page)]) == 0
    text = capsys.readouterr().out
    assert f"{NETWORK} on 4x4" in text and "over the target" in text and "fuse_col: other steps" in text
    assert "0 of 1 cells reach their target" in page.read_text() and "over the target" in page.read_text()
    assert f"| `{NETWORK}` | 4x4 |" in page.read_text()
    assert tool.main(["--targets", targets(out, 10_000), "--out", str(out), "--markdown", str(page)]) == 0
    assert "over the target" not in capsys.readouterr().out
    assert "1 of 1 cells reach their target.\n" in page.read_text()


def test_what_has_changed_is_measured_again(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = out / "results.json"
    kept = json.loads(results.read_text())
    for change in ({"identity": "of another program"}, None):
        rows = {CELL: kept["rows"][CELL] | {"cycles": 1} | (change or {})}
        results.write_text(json.dumps({"rows": rows}))
        assert tool.main(["--targets", targets(out), "--out", str(out), *([] if change else ["--fresh"])]) == 0
        assert json.loads(results.read_text())["rows"][CELL]["cycles"] == kept["rows"][CELL]["cycles"]
    assert "running on RTL" in capsys.readouterr().err


def test_a_wrong_byte_is_told(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    class Wrong(IssBackend):
        def run(self, program, inputs):
            result = super().run(program, inputs)
            result.regions[3] = bytes([result.regions[3][0] ^ 1]) + result.regions[3][1:]
            return result

    monkeypatch.setattr(tool, "IssBackend", Wrong)
    assert tool.main(["--targets", targets(out), "--out", str(tmp_path)]) == 1
    assert "RTL DIFFERS from the ISS" in capsys.readouterr().err
    page = tmp_path / "page.md"
    command = ["--targets", targets(out, 10_000), "--out", str(tmp_path), "--markdown", str(page)]
    assert tool.main(command) == 2 and not page.exists()
    assert f"{CELL}: RTL differs from the ISS (--incomplete" in capsys.readouterr().err
    assert tool.main([*command, "--incomplete"]) == 1
    assert "0 of 1 cells reach their target." in page.read_text()
    assert f"Not counted, because RTL and ISS differ: {CELL}." in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "resnet9"], f"network 'resnet9' has no targets; those are of {NETWORK}"),
        (["--presets", "edge128"], "preset 'edge128' has no targets; those are of tiny"),
        (["--markdown", "nowhere/page.md"], "nowhere/page.md: its directory does not exist"),
        (["--targets", "nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tool.main(["--targets", targets(tmp_path), "--out", str(tmp_path), *arguments]) == 2
    assert "error: " in (text := capsys.readouterr().err) and message in text


@pytest.mark.parametrize("text", ["[]", "{", '{"source": "", "remark": "", "networks": {"a": {"b": {"target": 1}}}}'])
def test_broken_files_of_targets(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="broken.json: no file of targets"):
        Targets.read(path)


def test_what_cannot_be_run_does_not_keep_the_rest_from_running(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self, case: Case, place: str) -> dict[str, object]:
        raise ValueError("it does not fit")

    monkeypatch.setattr(tool.Bench, "run", fail)
    assert tool.main(["--targets", targets(out), "--out", str(out), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["errors"] == {CELL: "it does not fit"}


def test_the_table_has_all_cells() -> None:
    found = Targets.read(TARGETS)
    cases = found.cases()
    natives = [case for case in cases if found.native(case)]
    assert natives == [Case("mobilenet_v2", "edge16"), Case("mobilenet_v2", "edge32")]
    assert {found.native(case).limit for case in natives} == {1.15}
    assert all(found.native(case).over == Case("mobilenet_v2:fuse_half", case.preset) for case in natives)
    assert len(cases) == 15 + 2 and len({case.network for case in cases}) == 5 + 1
    assert {(case.config.rows, case.config.axi_data_width) for case in cases} == {(16, 128), (32, 256), (64, 512)}
    assert found.cases(["mnasnet_b1:fuse_half"], ["edge32"]) == [Case("mnasnet_b1:fuse_half", "edge32")]
    assert all(case.config == preset(case.preset) for case in cases)


NATIVES = {"digits": {"over": NETWORK, "limit": 1.15, "presets": ["tiny"]}}


def test_depthwise_networks_are_measured_beside_their_fuse_networks(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    command = ["--targets", targets(tmp_path, 10_000, NATIVES), "--out", str(out)]
    assert tool.main([*command, "--markdown", str(page), "--json"]) == 0
    fuse, native = json.loads(capsys.readouterr().out)["rows"]
    assert native["network"] == "digits" and native["cycles"] == native["counters"]["CYCLES"] != fuse["cycles"]
    assert native["over"] == {"network": NETWORK, "cycles": fuse["cycles"], "limit": 1.15}
    assert native["target"] == 1.15 * fuse["cycles"]
    ratio = native["cycles"] / fuse["cycles"]
    text = page.read_text()
    assert f"| {ratio:.2f} | 1.15 |" in text
    assert f"{int(ratio <= 1.15)} of 1 depthwise networks are within their limit." in text
    assert tool.main([*command, "--networks", "digits"]) == 0  # measures what it needs too
    assert f"{ratio:.2f}" in capsys.readouterr().out


def test_a_page_of_a_part_is_refused(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    command = ["--targets", targets(tmp_path, 1, NATIVES), "--out", str(out), "--networks", NETWORK]
    command += ["--markdown", str(page)]
    assert tool.main(command) == 2 and not page.exists()
    assert "leave out --networks and --presets, or give --incomplete" in capsys.readouterr().err
    assert tool.main([*command, "--incomplete"]) == 0
    assert "Not measured: digits@tiny (not asked for)." in page.read_text()
    assert "| `digits` | 4x4 | not measured |" in page.read_text()


def test_a_cell_that_failed_is_listed_and_counted(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self, case: Case, place: str) -> dict[str, object]:
        raise ValueError("it does not fit")

    monkeypatch.setattr(tool.Bench, "run", fail)
    page = tmp_path / "page.md"
    command = ["--targets", targets(tmp_path), "--out", str(out), "--markdown", str(page)]
    assert tool.main(command) == 2 and not page.exists()
    captured = capsys.readouterr()
    assert f"{page} not written: {CELL}: it does not fit" in captured.err
    assert "not measured" in captured.out and "0 of 1 cells reach their target." in captured.out
    assert tool.main([*command, "--incomplete"]) == 1
    assert f"Not measured: {CELL} (it does not fit)." in page.read_text()
