"""Reports: synthesis of small designs, method of the price, cache, libraries, command line."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from hw.emit import emit
from hw.errors import RequestError, ToolError
from hw.report import __main__ as command
from hw.report import measure as measuring
from hw.report.cache import Store
from hw.report.hierarchy import Hierarchy, family
from hw.report.liberty import Liberty
from hw.report.synthesis import Mapped, netlist_text, synthesise
from hw.report.tables import markdown, overview, stos_by_module
from hw.report.timing import find_sta, parse_path
from hw.report.yosys_run import MULTIPLIER, PE
from hw.row import Row
from hw.spec.config import preset

INVERTER, NAND, FLIPFLOP = 1.0, 1.5, 7.0


def gate(name: str, area: float, inputs: str, function: str, delay: float) -> str:
    """Return a gate of the library, with one delay for everything."""
    pins = "".join(f"pin ({pin}) {{ direction : input; capacitance : 1; }}\n" for pin in inputs)
    times = {"cell_rise": delay, "cell_fall": delay, "rise_transition": 0.01, "fall_transition": 0.01}
    arcs = "".join(
        f'timing () {{ related_pin : "{pin}"; timing_sense : negative_unate;\n'
        + "".join(f'{what} (scalar) {{ values ("{time}"); }}\n' for what, time in times.items())
        + "}\n"
        for pin in inputs
    )
    output = f'pin (Y) {{ direction : output; function : "{function}";\n{arcs}}}\n'
    return f"cell ({name}) {{ area : {area};\n{pins}{output}}}\n"


LIBRARY = f"""
library (small) {{ /* a few cells {{ */
  time_unit : "1ns"; capacitive_load_unit (1, ff);
  {gate("INV", INVERTER, "A", "!A", 0.01)}
  {gate("BUF", INVERTER, "A", "A", 0.02)}
  {gate("NAND", NAND, "AB", "!(A & B)", 0.02)}
  {gate("NOR", NAND, "AB", "!(A | B)", 0.02)}
  {gate("AOI", 2.0, "ABC", "!((A & B) | C)", 0.03)}
  {gate("OAI", 2.0, "ABC", "!((A | B) & C)", 0.03)}
  cell (DFF) {{ area : {FLIPFLOP}; ff (IQ, IQN) {{ next_state : "D"; clocked_on : "C"; }}
    pin (C) {{ direction : input; clock : true; capacitance : 1; }}
    pin (D) {{ direction : input; capacitance : 1; }}
    pin (Q) {{ direction : output; function : "IQ"; }} }}
}}
"""
TOP = "rowcast"


def quiet(text: str) -> None:
    """Take progress."""


def small() -> Liberty:
    return Liberty.parse(LIBRARY, "small.lib", "here")


def row(cols: int, *, stos: bool) -> str:
    return emit(Row(cols, 2 if stos else 0, stos=stos, pipeline_mac=False), TOP)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, dict[str, Mapped]]:
    """Return rows of three PEs, with ST-OS and without, in cells of the small library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROWCAST_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {stos: synthesise(row(3, stos=stos), small(), progress=quiet) for stos in (True, False)}


# --- libraries


def test_library_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.lib").write_text(LIBRARY)
    (tmp_path / "a.lib.gz").write_bytes(gzip.compress(LIBRARY.encode()))
    plain, packed = Liberty.read(tmp_path / "a.lib"), Liberty.read(tmp_path / "a.lib.gz")
    expected = {"INV": INVERTER, "BUF": INVERTER, "NAND": NAND, "NOR": NAND, "AOI": 2.0, "OAI": 2.0, "DFF": FLIPFLOP}
    assert plain.areas == expected
    assert (plain.name, plain.sha256) == ("small", packed.sha256)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"module x; endmodule", "no Liberty file"),
        (b"\xff\xfe\x00", "not text"),
        (LIBRARY[: len(LIBRARY) // 2].encode(), "cut off or damaged"),
        (re.sub(r"ff \(IQ, IQN\) \{.*?\}", "", LIBRARY).encode(), "no cell is a flip-flop"),
        (b"library (x) { }", "no cell has an area"),
        (LIBRARY.replace(f"area : {NAND}", "area : -+", 1).encode(), "cell NAND: area '-\\+' is no number"),
        (gzip.compress(LIBRARY.encode())[:-20], "not a whole gzip file"),
    ],
)
def test_unusable_libraries_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.lib"
    path.write_bytes(data)
    with pytest.raises(RequestError, match=message):
        Liberty.read(path)


# --- synthesis


def test_each_module_is_mapped_once_and_counted(mapped: dict[bool, dict[str, Mapped]]) -> None:
    for stos, modules in mapped.items():
        assert set(modules) == {TOP, PE, MULTIPLIER}
        assert modules[TOP].cells[PE] == 3 and modules[PE].cells[MULTIPLIER] == 1
        tree = Hierarchy(modules, TOP, small())
        assert {name: module.count for name, module in tree.modules.items()} == {TOP: 1, PE: 3, MULTIPLIER: 3}
        own = {name: module.own for name, module in tree.modules.items()}
        assert tree.modules[PE].total == own[PE] + own[MULTIPLIER]
        assert tree.top.total == pytest.approx(own[TOP] + 3 * tree.modules[PE].total)
        assert modules[PE].cells["DFF"] == 8 + 8 + 32 + 32 + 1
        assert ("DFF" in modules[TOP].cells) == stos  # the halo


def test_price_of_a_pe_is_free_of_noise(mapped: dict[bool, dict[str, Mapped]]) -> None:
    """The multiplier is the same in both, so the difference is what ST-OS adds and nothing else."""
    assert mapped[True][MULTIPLIER].cells == mapped[False][MULTIPLIER].cells
    with_stos, plain = (Hierarchy(mapped[stos], TOP, small()).modules[PE] for stos in (True, False))
    assert 0 < with_stos.total - plain.total < 24 * 3 * NAND + 10 * INVERTER  # 24 multiplexers at most


def test_netlist_holds_every_module(mapped: dict[bool, dict[str, Mapped]]) -> None:
    text = netlist_text(mapped[True])
    assert re.findall(r"^module (\w+)", text, re.MULTILINE) == sorted([TOP, PE, MULTIPLIER])
    assert " signed " not in text


def test_modules_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wider row needs the row itself mapped, not its PE; another library needs both."""
    monkeypatch.setenv("ROWCAST_CACHE", str(tmp_path))
    told: list[str] = []
    first = synthesise(row(2, stos=False), None, progress=told.append)
    assert any(PE in text for text in told)
    told.clear()
    assert synthesise(row(2, stos=False), None, progress=told.append) == first and told == []
    wide = synthesise(row(4, stos=False), None, progress=told.append)
    assert any(text.endswith(f": {TOP}") for text in told) and not any(PE in text for text in told)
    assert wide[PE] == first[PE] and wide[TOP].cells[PE] == 4
    transistors = Hierarchy(wide, TOP, None)
    assert transistors.top.total == 4 * transistors.modules[PE].total > 4 * 1000


def test_a_damaged_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWCAST_CACHE", str(tmp_path))
    store = Store("modules")
    key = store.key("a", 1)
    store.put(key, {"x": 1})
    assert store.get(key) == {"x": 1} and store.get(store.key("b")) is None
    (path,) = store.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert store.get(key) is None
    store.prune(0)
    assert list(store.folder.iterdir()) == []
    assert Store("modules", active=False).get(key) is None


def test_yosys_that_dies_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWCAST_CACHE", str(tmp_path))
    with pytest.raises(ToolError, match="Yosys ended with status 1: .*syntax error"):
        synthesise("module rowcast(input a);\n  assign = ;\nendmodule\n", None, progress=quiet)
    assert not list((tmp_path / "report").rglob("*.gz"))


def test_memories_are_listed_apart() -> None:
    modules = {
        "top": Mapped({"bank": 2, "rowcast_ram_8x4_w4_r": 1, "INV": 3}, ""),
        "bank": Mapped({"rowcast_ram_16x32_w8_r": 4, "NAND": 2}, ""),
        "unused": Mapped({"DFF": 1}, ""),
    }
    tree = Hierarchy(modules, "top", small())
    assert [(one.count, one.depth, one.width, one.bits) for one in tree.memories] == [(8, 16, 32, 4096), (1, 8, 4, 32)]
    assert tree.memory_bits == 4128
    assert list(tree.modules) == ["top", "bank"] and tree.top.total == 3 * INVERTER + 4 * NAND
    with pytest.raises(ToolError, match="module top has 1 cells XOR, of which library small.lib has none"):
        Hierarchy({"top": Mapped({"XOR": 1}, "")}, "top", small())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rowcast_rows4", "rowcast_rows"),
        ("rowcast_skews_8x32", "rowcast_skews"),
        ("rowcast_rotate_right_32x8_15", "rowcast_rotate_right"),
        ("rowcast__exec__stos_167", "rowcast__exec__stos"),
        ("rowcast_pe", "rowcast_pe"),
    ],
)
def test_kinds_of_modules(name: str, kind: str) -> None:
    assert family(name) == kind


# --- timing

PATH = """PATH
Startpoint: h_DFF_X1_Q (rising edge-triggered flip-flop clocked by clk)
Endpoint: acc_DFF_X1_Q (rising edge-triggered flip-flop clocked by clk)
    0.000     0.000 ^ h_DFF_X1_Q/CK (DFF_X1)
18980.000 18980.000 ^ h_DFF_X1_Q/Q (DFF_X1)
18980.000 18980.000 v _1_/ZN (NAND2_X1)
   20.000   120.000 ^ _2_/ZN (INV_X1)
    0.000   120.000 ^ acc_DFF_X1_Q/D (DFF_X1)
          1000000.000 ^ acc_DFF_X1_Q/CK (DFF_X1)
          999840.000   slack (MET)
END
"""


def test_path_of_opensta() -> None:
    path = parse_path(PATH, PATH)
    assert (path.period_ps, path.start, path.end, path.gates) == (160.0, "h_DFF_X1_Q", "acc_DFF_X1_Q", 2)
    assert path.fmax_mhz == 6250.0


def test_failure_of_opensta() -> None:
    with pytest.raises(ToolError, match="OpenSTA: run.tcl, 4 no such module"):
        parse_path("", "Warning: a\nError: run.tcl, 4 no such module\n")
    with pytest.raises(ToolError, match="no path that ends in a register"):
        parse_path("PATH\nNo paths found.\n", "No paths found.")


def test_missing_opensta_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RequestError, match="no program 'sta' in PATH: install it"):
        find_sta()


# --- whole reports


@pytest.fixture
def rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an accelerator be one row of its PEs: everything but the size of the design is as it is."""
    monkeypatch.setenv("ROWCAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measuring, "accelerator_verilog", lambda config: row(config.cols, stos=config.stos))


def test_sweep_with_every_output(rows_only: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.lib.gz").write_bytes(gzip.compress(LIBRARY.encode()))
    outputs = ["--csv", str(tmp_path / "a.csv"), "--plot", str(tmp_path / "a.svg"), "--liberty"]
    sweep = ["--preset", "tiny", "--cols", "4", "6", *outputs, str(tmp_path / "a.lib.gz")]
    assert command.main([*sweep, "--json"]) == 0
    shown = capsys.readouterr()
    small, large = json.loads(shown.out)
    assert (small["name"], large["name"]) == ("tiny", "tiny 4x6")
    assert small["config_hash"] == preset("tiny").hash_hex and large["config"]["cols"] == 6
    assert small["pe_um2"] == large["pe_um2"] > small["pe_plain_um2"]
    assert small["stos_price_pe"] == small["pe_um2"] / small["pe_plain_um2"] - 1
    assert small["stos_price_logic"] == small["logic_um2"] / small["logic_plain_um2"] - 1 > 0
    assert small["memory_bits"] == 0 and small["fmax_mhz"] is None and small["pe_transistors"] is None
    assert small["longest_path"]["gates"] > 10 and small["longest_path"]["delay_ps"] > 100
    added = {entry["module"]: entry["added"] for entry in small["stos_by_module"]}
    assert sum(added.values()) == pytest.approx(small["logic_um2"] - small["logic_plain_um2"])
    assert "mapping" in shown.err
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert len(lines) == 3 and lines[0].startswith("name,rows,cols,") and lines[2].startswith("tiny 4x6,4,6,")
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
    assert command.main(sweep) == 0  # all from the cache
    shown = capsys.readouterr()
    assert "mapping" not in shown.err and "found in the cache" in shown.err
    assert re.search(r"^tiny 4x6 +[\d.,]+ +[\d.,]+ +\+\d", shown.out, re.MULTILINE)
    assert "what ST-OS adds" in shown.out and f"\n{PE} " in shown.out


def test_generic_gates_have_transistors(rows_only: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--preset", "tiny", "--no-stos", "--json", "--quiet"]) == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert shown.err == ""
    assert report["pe_um2"] is report["logic_um2"] is report["stos_price_pe"] is report["stos_by_module"] is None
    assert report["pe_transistors"] == report["pe_plain_transistors"] > 1000
    assert report["longest_path"]["delay_ps"] is None


def test_page_shows_the_measured_figures() -> None:
    """The tables of docs/hardware.md are those of the report in docs/data."""
    docs = Path(__file__).parents[2] / "docs"
    reports = json.loads((docs / "data" / "synth.json").read_text())
    page = (docs / "hardware.md").read_text()
    assert markdown(overview(reports, [report["name"] for report in reports])) in page
    (edge16,) = (report for report in reports if report["name"] == "edge16")
    assert markdown(stos_by_module(edge16, at_least=0.0004)) in page
    for price in ("stos_price_pe", "stos_price_logic"):
        assert f"costs {100 * edge16[price]:.1f} %" in page
    for period in ("pe_period_ps", "pe_plain_period_ps", "period_ps", "period_plain_ps"):
        assert f"{edge16[period]:,.0f} ps" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "edge9"], "no preset 'edge9'"),
        (["--rows", "0"], "rows=0 is out of range"),
        (["--config", "none.json"], "no such manifest"),
        (["--config", "a.json", "--preset", "tiny"], "only one of them"),
        (["--liberty", "none.lib"], "--liberty none.lib: no such file"),
        (["--sta"], "--sta needs the cells' delays"),
        (["--csv", "none/a.csv"], "--csv none/a.csv: not a file in an existing folder"),
        (["--plot", "a.xyz"], "--plot a.xyz: a picture ends in .png, .svg, .pdf"),
    ],
)
def test_wrong_requests(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.out == "" and list(tmp_path.iterdir()) == []


def test_tools_that_fail_give_status_1(
    rows_only: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "module rowcast(input a);\n  nonsense\nendmodule\n"
    monkeypatch.setattr(measuring, "accelerator_verilog", lambda config: wrong)
    assert command.main(["--preset", "tiny"]) == 1
    assert "hw.report: Yosys ended with status 1" in capsys.readouterr().err
