"""Every formal property fails on a block that is broken in one place; ROWCAST_FORMAL_MUTANTS=all tries all mutants."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from hw.formal.blocks import BLOCKS
from hw.formal.netlist import netlist
from hw.formal.solver import Failure, bounded
from hw.formal.system import read_btor

QUICK = ("fifo4", "register_slice", "token_counters", "read_arbiter")
"""Blocks whose mutants the default suite tries."""


@dataclass(frozen=True)
class Mutant:
    """A block in whose source `old`, which occurs once, stands as `new`; the properties that must then fail."""

    block: str
    module: str
    component: str
    old: str
    new: str
    fails: tuple[str, ...]
    depth: int = 10

    def __str__(self) -> str:
        return f"{self.block}: {self.new}"


FIFO = ("fifo4", "amaranth.lib.fifo", "SyncFIFOBuffered")
SLICE = ("register_slice", "hw.axi", "RegisterSlice")
COUNTERS = ("token_counters", "hw.token_queue", "TokenCounters")
QUEUE = ("token_queue", "hw.token_queue", "TokenQueue")
ARBITER = ("read_arbiter", "hw.read_arbiter", "ReadArbiter")
LOAD = ("load_unit", "hw.load_unit", "LoadUnit")
STORE = ("store_unit", "hw.store_unit", "StoreUnit")
CSR = ("csr_block", "hw.csr_block", "CSRBlock")

MUTANTS = (
    Mutant(*FIFO, "self.w_rdy.eq(inner_level != inner_depth)", "self.w_rdy.eq(1)", ("level_in_depth", "room_is_told")),
    Mutant(*FIFO, "self.r_data.eq(r_port.data)", "self.r_data.eq(self.w_data)", ("order_kept", "output_waits")),
    Mutant(*FIFO, "inner_r_rdy.eq(inner_level != 0)", "inner_r_rdy.eq(1)", ("no_item_from_nowhere",)),
    Mutant(*FIFO, "inner_r_rdy.eq(inner_level != 0)", "inner_r_rdy.eq(inner_level > 1)", ("item_shows_in_2_cycles",)),
    Mutant(*FIFO, "self.level.eq(inner_level + self.r_rdy)", "self.level.eq(inner_level)", ("level_is_told",)),
    Mutant(*SLICE, "payload.eq(spare)", "payload.eq(self.i.payload)", ("order_kept",)),
    Mutant(*SLICE, "valid.eq(full | self.i.valid)", "valid.eq(self.i.valid)", ("item_shows_at_once",)),
    Mutant(*SLICE, "self.i.ready.eq(~full)", "self.i.ready.eq(1)", ("level_in_depth", "room_is_told")),
    Mutant(*SLICE, "self.o.valid.eq(valid)", "self.o.valid.eq(valid | full | ~self.i.valid)",
           ("no_item_from_nowhere", "output_waits")),
    Mutant(*COUNTERS, "(count == TOKEN_MAX)", "(count == 3)", ("overflow_is_reported",)),
    Mutant(*COUNTERS, "over.append(full)", "over.append(take)", ("never_over_the_maximum",)),
    Mutant(*COUNTERS, "count.eq(count + give - take)", "count.eq(count + give)",
           ("no_token_lost_or_made", "never_below_zero")),
    Mutant(*QUEUE, "self.missing.eq(wait & ~self.available", "self.missing.eq(wait & ~wait",
           ("waits_for_its_tokens", "takes_only_what_is_there")),
    Mutant(*QUEUE, "self.take.eq(wait & issued.replicate(len(Queue)))", "self.take.eq(wait & fifo.r_rdy.replicate(3))",
           ("takes_its_tokens_once",)),
    Mutant(*QUEUE, "(level != IN_FLIGHT_DEPTH)", "(level != 7)", ("offered_once_it_may",), 12),
    Mutant(*QUEUE, "(level != IN_FLIGHT_DEPTH)", "Const(1, 1)", ("no_more_than_its_places",), 14),
    Mutant(*QUEUE, "& ~self.hold),", "),", ("holds",)),
    Mutant(*QUEUE, "enter.data.signal.eq(signal)", "enter.data.signal.eq(wait)", ("gives_its_tokens_when_done",)),
    Mutant(*QUEUE, "leave.data.signal & self.done.replicate(len(Queue))", "leave.data.signal",
           ("gives_only_when_done",)),
    Mutant(*QUEUE, "fifo.r_en.eq(issued)", "fifo.r_en.eq(self.issue.valid)",
           ("empty_is_told", "offer_stays")),
    Mutant(*QUEUE, "level.eq(level + issued - self.done)", "level.eq(level + issued)", ("busy_is_told",)),
    Mutant(*QUEUE, "self.issue.payload.eq(head)", "self.issue.payload.eq(self.enq.payload)", ("issued_as_it_came",)),
    Mutant(*ARBITER, "waiting[1].ready.eq(free & choice)", "waiting[1].ready.eq(free)",
           ("ar_is_offered", "ar1_no_more_than_places")),
    Mutant(*ARBITER, "waiting[0].ready.eq(free & ~choice)", "waiting[0].ready.eq(free)",
           ("ar_is_offered", "ar0_no_more_than_places")),
    Mutant(*ARBITER, "~axi.arid, waiting[1].valid)", "1, waiting[1].valid)", ("ar0_gets_its_turn",)),
    Mutant(*ARBITER, "~axi.arid, waiting[1].valid)", "0, waiting[1].valid)", ("ar1_gets_its_turn",)),
    Mutant(*ARBITER, "chosen.eq(Mux(choice, waiting[1].payload, waiting[0].payload))",
           "chosen.eq(Mux(choice, waiting[0].payload, waiting[1].payload))", ("ar0_in_order", "ar1_in_order")),
    Mutant(*ARBITER, "axi.arid.eq(choice)", "axi.arid.eq(~choice)", ("ar0_none_from_nowhere", "ar1_none_from_nowhere")),
    Mutant(*ARBITER, "free.eq(~axi.arvalid | axi.arready)", "free.eq(1)", ("ar_waits",)),
    Mutant(*ARBITER, "(beat.id == index)", "(beat.id != index)", ("r_to_its_manager",)),
    Mutant(*ARBITER, "beats.o.valid & (beat.id == index)", "beats.o.valid", ("r_to_one_only",)),
    Mutant(*ARBITER, "self.managers[1].rready, self.managers[0].rready", "self.managers[0].rready, 1",
           ("r0_waits", "r1_waits", "r_is_offered")),
    Mutant(*ARBITER, "axi.rready.eq(beats.i.ready)", "axi.rready.eq(1)", ("r_no_more_than_places",)),
    Mutant(*ARBITER, "manager.rvalid.eq(beats.o.valid & ", "manager.rvalid.eq(", ("r_none_from_nowhere",)),
    Mutant(*CSR, "with m.If(axil.bready):", "with m.If(1):", ("b_waits",)),
    Mutant(*CSR, "with m.If(axil.rready):", "with m.If(1):", ("r_waits",)),
    Mutant(*CSR, "with m.If(have_addr & have_data & ~axil.bvalid):", "with m.If(have_addr & ~axil.bvalid):",
           ("b_answers_address_and_data", "commands_need_a_write", "registers_change_by_writes")),
    Mutant(*CSR, "with m.If(have_addr & ~axil.rvalid):", "with m.If(~axil.rvalid):", ("r_answers_an_address",)),
    Mutant(*CSR, "with m.If(have_addr & have_data & ~axil.bvalid):",
           "with m.If(have_addr & have_data & ~axil.bvalid & self.locked):", ("b_comes_within_2_cycles",)),
    Mutant(*CSR, "with m.If(have_addr & ~axil.rvalid):", "with m.If(have_addr & ~axil.rvalid & self.locked):",
           ("r_comes_within_2_cycles",)),
    Mutant(*CSR, "axil.bresp.eq(Resp.SLVERR)]", "axil.bresp.eq(Resp.DECERR)]", ("b_is_okay_or_slverr",)),
    Mutant(*CSR, "axil.rresp.eq(Resp.SLVERR),", "axil.rresp.eq(Resp.DECERR),", ("r_is_okay_or_slverr",)),
    Mutant(*CSR, "with m.If(~self.locked):", "with m.If(1):", ("registers_are_locked",)),
    Mutant(*CSR, "axil.wready.eq(~have_data)", "axil.wready.eq(1)", ("at_most_two_open",)),
    Mutant(*LOAD, "opened.w_rdy & (~axi.arvalid | axi.arready)", "opened.w_rdy", ("ar_waits",)),
    Mutant(*LOAD, "axi.arlen.eq(burst.p.len)", "axi.arlen.eq(burst.p.len + 64)", ("ar_inside_4k",)),
    Mutant(*LOAD, "axi.araddr.eq(burst.p.addr)", "axi.araddr.eq(burst.p.addr + burst.p.lo)", ("ar_whole_beats",)),
    Mutant(*LOAD, "burst.ready.eq(~halted & opened.w_rdy & ", "burst.ready.eq(~halted & ",
           ("at_most_so_many_open",), 12),
    Mutant(*LOAD, "writes.o.ready.eq(~to_act | self.act.req.ready)", "writes.o.ready.eq(1)", ("act_write_waits",), 12),
    Mutant(*LOAD, "Mux(beat.last, head.hi, config.axi_bytes)", "Mux(beat.last, head.hi, 0)", ("lanes_in_a_beat",), 12),
    Mutant(*LOAD, "quiet.eq((pcs.level == 0) & ", "quiet.eq(", ("idle_means_nothing_open",)),
    Mutant(*LOAD, "writes.i.valid.eq(take & ~halted", "writes.i.valid.eq(opened.r_rdy & ~halted",
           ("no_write_without_a_beat",)),
    Mutant(*LOAD, "writes.i.valid.eq(take & ~halted", "writes.i.valid.eq(take & beat.last & ~halted",
           ("no_beat_lost",), 14),
    Mutant(*LOAD, "Cat(writes.o.valid & write.last & writes.o.ready,", "Cat(writes.o.valid & writes.o.ready,",
           ("done_for_accepted_only",), 14),
    Mutant(*LOAD, "take.eq(beats.o.valid & opened.r_rdy & free)", "take.eq(~beats.i.ready & opened.r_rdy & free)",
           ("goes_on_unless_it_waits",), 18),
    Mutant(*STORE, "opened.w_rdy & (~axi.awvalid | axi.awready)", "opened.w_rdy", ("aw_waits",)),
    Mutant(*STORE, "axi.awlen.eq(burst.p.len)", "axi.awlen.eq(burst.p.len + 64)", ("aw_inside_4k",)),
    Mutant(*STORE, "axi.awaddr.eq(burst.p.addr)", "axi.awaddr.eq(burst.p.addr + burst.p.lo)", ("aw_whole_beats",)),
    Mutant(*STORE, "beats.r_en.eq(axi.wready)", "beats.r_en.eq(1)", ("w_waits",), 12),
    Mutant(*STORE, "tags[0].valid.eq(req.valid & req.ready)", "tags[0].valid.eq(req.valid)",
           ("no_beat_without_a_burst", "no_beat_without_a_read", "no_more_reads_than_room"), 14),
    Mutant(*STORE, "tags[0].last.eq(asked.o.p.last)", "tags[0].last.eq(1)", ("wlast_in_its_place",), 12),
    Mutant(*STORE, "may_begin.eq(~halted & opened.w_rdy & ", "may_begin.eq(~halted & ", ("at_most_so_many_open",), 14),
    Mutant(*STORE, "axi.bready.eq(opened.r_rdy)", "axi.bready.eq(opened.r_rdy & ~axi.wvalid)", ("b_is_taken",), 14),
    Mutant(*STORE, "asked.o.ready.eq(req.ready)", "asked.o.ready.eq(1)", ("act_read_waits",)),
    Mutant(*STORE, "Cat((req.p.lo <= lane) & ", "Cat((req.p.lo < lane) & ", ("every_beat_has_bytes",), 12),
    Mutant(*STORE, "quiet.eq((pcs.level == 0) & ", "quiet.eq(", ("idle_means_nothing_open",)),
    Mutant(*STORE, "m.d.sync += unit.done.eq(finish)", "m.d.comb += unit.done.eq(finish)",
           ("done_follows_a_response",), 14),
    Mutant(*STORE, "finish.eq(answer & oldest.last & ", "finish.eq(answer & ", ("done_for_accepted_only",), 16),
    Mutant(*STORE, "beats.w_en.eq(tags[-1].valid)", "beats.w_en.eq(tags[-1].valid & ~tags[-1].last)",
           ("goes_on_unless_it_waits",), 20),
)  # fmt: skip


def broken(mutant: Mutant) -> type:
    """Return the mutant's component class, out of the changed source of its module."""
    module = importlib.import_module(mutant.module)
    source = Path(str(module.__file__)).read_text()
    begin = source.index(f"class {mutant.component}(")
    end = source.find("\nclass ", begin)
    text = source[begin : end if end > 0 else None]
    assert text.count(mutant.old) == 1, f"{mutant.old!r} must occur once in {mutant.component}: adapt the mutant"
    changed = ModuleType(mutant.module)
    exec(compile(source.replace(text, text.replace(mutant.old, mutant.new)), mutant.module, "exec"), changed.__dict__)
    return getattr(changed, mutant.component)


def chosen(mutant: Mutant) -> bool:
    return mutant.block in QUICK or os.environ.get("ROWCAST_FORMAL_MUTANTS") == "all"


@pytest.mark.parametrize("name", sorted({item.block for item in MUTANTS}))
def test_every_property_can_fail(name: str) -> None:
    properties = {item for item in read_btor(netlist(BLOCKS[name].harness()).btor).bad if not item.startswith("lemma_")}
    assert properties - {item for mutant in MUTANTS if mutant.block == name for item in mutant.fails} == set()


@pytest.mark.parametrize("mutant", [item for item in MUTANTS if chosen(item)], ids=str)
def test_broken_block_fails(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    block = BLOCKS[mutant.block]
    monkeypatch.setattr(f"{block.harness.__module__}.{mutant.component}", broken(mutant))
    system = read_btor(netlist(block.harness()).btor)
    for name in mutant.fails:
        assert isinstance(bounded(system, mutant.depth, names=[name]), Failure), name
