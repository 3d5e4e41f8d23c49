"""Formal verification: the engines on small systems whose answers are known, the command line, and one quick proof."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ToolError
from hw.formal import __main__ as command
from hw.formal.blocks import BLOCKS
from hw.formal.harness import Block, reach, require, suppose
from hw.formal.netlist import netlist
from hw.formal.solver import Failure, bounded, covered, inductive
from hw.formal.system import read_btor
from hw.formal.trace import write_vcd
from hw.formal.verify import NO_PATH, verify


class Count(wiring.Component):
    """Counts to `limit` and begins again; steps only when told."""

    def __init__(self, limit: int, claim: int) -> None:
        self.limit, self.claim = limit, claim
        super().__init__({"step": In(1), "never": In(1), "count": Out(4), "echo": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shadow = Signal(4)
        for value in (self.count, shadow):
            with m.If(self.step):
                m.d.sync += value.eq(value + 1)
                with m.If(value == self.limit):
                    m.d.sync += value.eq(0)
        m.d.comb += self.echo.eq(self.step)
        suppose(m, "never_is_low", ~self.never)
        require(m, "in_range", self.count <= self.claim)
        require(m, "shadow", self.count == shadow)
        require(m, "not_never", ~self.never)
        reach(m, "top", self.count == self.limit)
        reach(m, "beyond", self.count == self.limit + 1)
        return m


def test_violation_is_the_shortest_and_its_trace_shows_it(tmp_path: Path) -> None:
    failure = bounded(read_btor(netlist(Count(5, 3)).btor), 10)
    assert isinstance(failure, Failure)
    assert failure.names == ["in_range"] and failure.cycle == 4
    assert [values["count"] for values in failure.trace.values] == [0, 1, 2, 3, 4]
    write_vcd(failure.trace, tmp_path / "sub" / "trace.vcd")
    text = (tmp_path / "sub" / "trace.vcd").read_text()
    assert "$var wire 4" in text and "b100 " in text and "#40" in text


def test_bounded_search_ends_at_its_depth() -> None:
    system = read_btor(netlist(Count(5, 3)).btor)
    assert bounded(system, 4) == 4
    assert bounded(system, 9, names=["shadow", "not_never"]) == 9
    assert bounded(system, 9, seconds=-1) == 0


def test_induction_proves_what_is_inductive_only() -> None:
    """From 4..14 a count to 5 of 4 bits runs on, so `in_range` <= 5 is inductive and <= 6 is not."""
    assert set(inductive(read_btor(netlist(Count(5, 5)).btor), 1)) == {"in_range", "shadow", "not_never"}
    assert set(inductive(read_btor(netlist(Count(5, 6)).btor), 1)) == {"shadow", "not_never"}


def test_covers() -> None:
    found = covered(read_btor(netlist(Count(5, 5)).cover), 8)
    assert found["beyond"] is None
    assert found["top"] is not None and len(found["top"].values) == 6


def test_verdicts() -> None:
    """PDR proves what induction leaves open; without it that is bounded; an echo is a combinational path."""
    block = Block("count", lambda: Count(5, 6), depth=8, induction=1, pdr_seconds=10,
                  independent=((("count",), ("step",)),))  # fmt: skip
    results = {item.name: (item.result, item.how) for item in verify(block).findings}
    assert results["in_range"] == ("proved", "PDR") and results["shadow"] == ("proved", "1-induction")
    assert results[NO_PATH][0] == "proved"
    assert results["top"][0] == "reached" and results["beyond"][0] == "unreached"
    results = {item.name: item.how for item in verify(block, pdr=False).findings}
    assert results["in_range"] == "first 8 cycles"
    wrong = Block("count", lambda: Count(5, 5), depth=8, independent=((("echo",), ("step",)),))
    path = next(item for item in verify(wrong).findings if item.name == NO_PATH)
    assert path.result == "violated" and "step to echo" in path.how


def test_pdr_refuses_what_is_wrong() -> None:
    block = Block("count", lambda: Count(5, 3), depth=8, induction=1, pdr_seconds=10)
    results = {item.name: item.result for item in verify(block).findings}
    assert results["in_range"] == "violated" and results["shadow"] == "proved"


@pytest.mark.parametrize("name", ["register_slice", "token_counters"])
def test_proof(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([name, "--json"]) == 0
    (block,) = json.loads(capsys.readouterr().out)["blocks"]
    assert {item["result"] for item in block["properties"]} == {"proved", "reached"}


def test_a_counterexample_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BLOCKS, "count", Block("count", lambda: Count(5, 3), depth=8))
    assert command.main(["count", "--quiet", "--out", str(tmp_path)]) == 1
    assert "VIOLATED" in capsys.readouterr().out
    assert (tmp_path / "count-in_range.vcd").exists()


def test_wrong_requests(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert command.main(["fifo99"]) == 2
    assert "no block 'fifo99'; there are fifo4" in capsys.readouterr().err
    assert command.main(["fifo4", "--depth", "0"]) == 2
    assert "at least 1 cycle" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "bitwuzla", None)
    assert command.main(["fifo4", "--quiet"]) == 2
    assert "pip install 'rowcast[formal]'" in capsys.readouterr().err


def test_an_unreadable_harness_is_an_error() -> None:
    with pytest.raises(ToolError, match="array|only bit vectors"):
        read_btor("1 sort bitvec 4\n2 sort array 1 1\n")


def test_every_block_says_what_it_assumes() -> None:
    assert all(block.assumes != "nothing" or name.startswith("fifo") for name, block in BLOCKS.items())
