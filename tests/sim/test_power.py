"""Energy from counted changes: SAIF files are read, and a small netlist's energy is what one computes by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hw.report.cell_energy import CellEnergy, Library
from hw.report.tables import markdown
from hw.spec.isa import Instruction, Opcode
from sim import power, power_report
from sim.activity import Scope, read_saif
from sim.netlist_energy import Energy, Netlist
from sim.power import LayerPower, Window, chosen_windows, part_of

SAIF = r"""
// Generated
(SAIFILE (SAIFVERSION "2.0") (DIVIDER / ) (DURATION 10)
 (INSTANCE TOP
  (NET (clk (T0 5) (T1 5) (TZ 0) (TX 0) (TB 0) (TC 10)))
  (INSTANCE rowcast
   (NET
    (a\[1\] (T0 8) (T1 2) (TZ 0) (TX 0) (TB 0) (TC 3))
    (b (T0 10) (T1 0) (TZ 0) (TX 0) (TB 0) (TC 0))
   )
   (INSTANCE leaf (NET (q (T0 0) (T1 10) (TZ 0) (TX 0) (TB 0) (TC 1))))
   (INSTANCE empty)
  )
 )
)
"""
NETLIST = {
    "rowcast": "module rowcast(clk, a);\n  INV _1_ (\n    .A(a[1]),\n    .Y(\\n [0])\n  );\n"
    "  rowcast_leaf leaf (\n    .clk(clk),\n    .d(\\n [0])\n  );\nendmodule",
    "rowcast_leaf": "module rowcast_leaf(clk, d);\n  DFF _1_ (\n    .C(clk),\n    .D(d),\n    .Q(q)\n  );\nendmodule",
}
LIBRARY = Library(
    {
        "INV": CellEnergy(10.0, {"A": 2.0}, {"A": 0.0}, {"Y": ((0.0, 4.0), (1.0, 3.0))}),
        "DFF": CellEnergy(50.0, {"C": 1.0, "D": 4.0}, {"C": 3.0, "D": 0.5}, {"Q": ((0.0, 4.0), (5.0, 5.0))}),
    },
    volts=2.0,
)


def test_saif(tmp_path: Path) -> None:
    path = tmp_path / "a.saif"
    path.write_text(SAIF)
    scope = read_saif(path, "rowcast")
    assert scope.bits == {"a[1]": 3, "b": 0}
    assert scope.children["leaf"].bits == {"q": 1}
    assert set(scope.children) == {"leaf", "empty"}
    with pytest.raises(ValueError, match="no instance other"):
        read_saif(path, "other")


def test_energy_of_a_small_netlist() -> None:
    netlist = Netlist(NETLIST, LIBRARY)
    counts = Scope(
        {"clk": 200, "a[1]": 3, "n[0]": 5},
        {"leaf": Scope({"d": 4})},
    )
    found = dict(netlist.energies("rowcast", counts, 100, 2.0))
    top, leaf = found[""], found["leaf"]
    # the inverter's output drives no pin of a cell of this module: each of its five changes costs 1 fJ inside it;
    # the three of its input charge 2 fF
    assert (top.internal, top.clock) == (5.0, 0.0)
    assert top.switching == pytest.approx(3 * 2.0 * 2.0**2 / 2)
    assert top.leakage == pytest.approx(10.0 * 2.0 * 100 * 1e-3)  # nW ns = 1e-3 fJ
    assert (top.nets, top.counted) == (1, 1)
    # q is not counted: it takes the mean of what is, 4 changes of 5 fJ; d's four changes 0.5 fJ each, and 4 fF
    assert leaf.internal == pytest.approx(4 * 5.0 + 4 * 0.5)
    assert leaf.switching == pytest.approx(4 * 4.0 * 2.0**2 / 2)
    assert (leaf.nets, leaf.counted) == (1, 0)
    assert leaf.clock == pytest.approx(200 * (3.0 + 1.0 * 4.0 / 2))
    assert (top + leaf).total == pytest.approx(top.total + leaf.total)


def test_an_instance_without_counts_changes_as_the_one_around_it() -> None:
    netlist = Netlist(NETLIST, LIBRARY)
    found = dict(netlist.energies("rowcast", Scope({"a[1]": 2, "b": 6}), 10, 2.0))
    assert found["leaf"].internal == pytest.approx(4 * 5.0 + 4 * 0.5)


def test_an_unused_complement_changes_with_its_register() -> None:
    flop = CellEnergy(0.0, {"C": 1.0}, {"C": 3.0}, {"Q": ((0.0,), (5.0,)), "QN": ((0.0,), (7.0,))})
    text = "module rowcast(clk);\n  DFF _1_ (\n    .C(clk),\n    .Q(q),\n    .QN(_2_)\n  );\nendmodule"
    netlist = Netlist({"rowcast": text}, Library({"DFF": flop}, volts=2.0))
    ((_, found),) = netlist.energies("rowcast", Scope({"q": 3, "other": 100}), 10, 2.0)
    assert (found.internal, found.nets, found.counted) == (3 * 5.0 + 3 * 7.0, 2, 2)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("exec.array.rows0.pe3", "PEs"),
        ("exec.array.row1.pe3.rowcast_multiplier", "PEs"),
        ("exec.array.skew", "rest of the array"),
        ("exec.writer.output.lane0", "output stage"),
        ("scratchpad", "scratchpad logic"),
        ("exec.gemm", "sequencers"),
        ("control.csr", "control and DMA"),
        ("", "control and DMA"),
    ],
)
def test_every_instance_has_a_part(path: str, part: str) -> None:
    assert part_of(path) == part


def window(layer: str, kind: str, start: int, **values: int) -> Window:
    given = {"cout": 4, "out_h": 1, "out_w": 8, "kh": 1, "kw": 1, **values}
    return Window(layer, kind, Instruction(Opcode.EXEC, given), start, start + 9)


def test_largest_exec_that_both_arrays_have() -> None:
    found = [
        window("a", "pointwise", 0, cin=8, cout=8),
        window("b", "pointwise", 10, cin=8),
        window("b", "pointwise", 20, cin=8),
        window("c", "fuse_row", 30, mode=1, kw=3),
    ]
    assert [one.macs for one in found] == [512, 256, 256, 96]
    kinds = ("pointwise", "fuse_row")
    assert [one.start for one in chosen_windows(found, kinds, None)] == [0, 30]
    # the plain array computes c channel by channel, which is the same work, and splits a otherwise
    plain = {one.work for one in (found[1], window("c", "fuse_row", 5, depthwise=1, kw=3))}
    assert [one.start for one in chosen_windows(found, kinds, plain)] == [10, 30]
    with pytest.raises(ValueError, match="no EXEC of a fuse_row layer that both arrays have"):
        chosen_windows(found, kinds, {found[1].work})


def test_figures_of_a_layer() -> None:
    parts = {"PEs": Energy(clock=600.0, leakage=400.0), "output stage": Energy(switching=1000.0)}
    model = dict.fromkeys(power.MODEL, 2.0)
    plain = LayerPower("b", "pointwise", False, cycles=10, macs=4, parts=parts, model=model)
    stos = replace(plain, stos=True, parts={**parts, "PEs": Energy(internal=1100.0)})
    layers = [one.to_dict(mhz=500.0) for one in (stos, plain)]
    assert layers[1]["parts"]["PEs"]["pj_per_mac"] == pytest.approx(0.25)
    assert layers[1]["parts"]["PEs"]["mw"] == pytest.approx(1e-12 / 20e-9 * 1e3)  # 1 pJ in 10 cycles of 2 ns
    assert layers[1]["parts"]["all logic"]["total"] == pytest.approx(2.0)
    report = {"rows": 2, "cols": 2, "layers": layers}
    assert power_report.by_layer(report)[1][-1] == "+5.0 %"
    assert power_report.beside_model(report)[1][1:4] == ["0.275", "+10.0 %", "1.000"]


def test_page_shows_the_measured_figures() -> None:
    """The tables of docs/hardware.md are those of the report in docs/data."""
    docs = Path(__file__).parents[2] / "docs"
    report = json.loads((docs / "data" / "power.json").read_text())
    page = (docs / "hardware.md").read_text()
    layers = {(one["kind"], one["stos"]): one["parts"]["all logic"]["total"] for one in report["layers"]}
    for kind, sign in (("pointwise", 1), ("fuse_row", -1), ("fuse_col", -1)):
        change = 100 * sign * (layers[kind, True] / layers[kind, False] - 1)
        assert (f"{change:+.1f} % in all logic" if sign > 0 else f"{change:.0f} % less") in page
    for rows in (power_report.by_layer, power_report.by_part, power_report.energy_shares, power_report.beside_model):
        assert markdown(rows(report)) in page


def test_wrong_requests(capsys: pytest.CaptureFixture[str]) -> None:
    assert power.main(["--liberty", "missing.lib"]) == 2
    assert "missing.lib: no such file" in capsys.readouterr().err
    assert power.main(["--liberty", "missing.lib", "--mhz", "0"]) == 2
    assert "--mhz 0.0" in capsys.readouterr().err
