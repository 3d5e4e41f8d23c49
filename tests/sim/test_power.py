"""Energy from counted changes: SAIF files are read, and a small netlist's energy is what one computes by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.report.cell_energy import CellEnergy, Library
from sim import power
from sim.activity import Activity, Scope, read_saif
from sim.power import GROUPS, _instance, _Netlist

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
    assert scope.bits == {"a[1]": Activity(3, 0.2), "b": Activity(0, 0.0)}
    assert scope.children["leaf"].bits == {"q": Activity(1, 1.0)}
    assert set(scope.children) == {"leaf", "empty"}
    with pytest.raises(ValueError, match="no instance other"):
        read_saif(path, "other")


def test_energy_of_a_small_netlist() -> None:
    netlist = _Netlist(NETLIST, LIBRARY)
    counts = Scope({"a[1]": Activity(3, 0.5), "n[0]": Activity(5, 0.5)}, {"leaf": Scope({"d": Activity(4, 0.5)})})
    found = {
        path: _instance(netlist, module, scope, 100, 2.0) for path, module, scope in netlist.walk("rowcast", counts)
    }
    top, leaf = found[""], found["leaf"]
    # the inverter drives no pin of a cell of this module; its five changes cost 1 fJ each
    assert (top.internal, top.switching, top.clock) == (5.0, 0.0, 0.0)
    assert top.leakage == pytest.approx(10.0 * 2.0 * 100 * 1e-3)  # nW ns = 1e-3 fJ
    assert (top.nets, top.counted) == (1, 1)
    # q is not counted: it takes the mean of what is, 4 changes of 5 fJ; d's four changes 0.5 fJ each
    assert leaf.internal == pytest.approx(4 * 5.0 + 4 * 0.5)
    assert (leaf.nets, leaf.counted) == (1, 0)
    assert leaf.clock == pytest.approx(200 * (3.0 + 1.0 * 4.0 / 2))


def test_load_of_a_net_decides() -> None:
    cell = LIBRARY.cells["INV"]
    assert [cell.per_change("Y", load) for load in (0.0, 2.0, 4.0)] == [1.0, 2.0, 3.0]


def test_every_instance_has_a_part() -> None:
    paths = {
        "exec.array.rows0.row1.pe3": "PEs",
        "exec.array.rows0.row1.pe3.rowcast_multiplier": "PEs",
        "exec.array.skew": "rest of the array",
        "exec.writer.output.lane0": "output stage",
        "scratchpad": "scratchpad logic",
        "exec.gemm": "sequencers",
        "control.csr": "control and DMA",
        "": "control and DMA",
    }
    for path, part in paths.items():
        assert next(name for name, pattern in GROUPS.items() if power.re.match(pattern, path)) == part


def test_wrong_requests(capsys: pytest.CaptureFixture[str]) -> None:
    assert power.main(["--liberty", "missing.lib"]) == 2
    assert "missing.lib: no such file" in capsys.readouterr().err
    assert power.main(["--liberty", "missing.lib", "--mhz", "0"]) == 2
    assert "--mhz 0.0" in capsys.readouterr().err
