"""The units that are AXI managers: instruction fetch, load unit, store unit, and the burst generator of both."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from hw.axi import AXI4ReadSignature, AXI4WriteSignature
from hw.fetch import PREFETCH, Fetcher
from hw.formal.axi_rules import ReadRules, WriteRules, inside_regions
from hw.formal.harness import (
    Block,
    free,
    implies,
    past,
    reach,
    require,
    require_held,
    require_progress,
    suppose,
    suppose_constant,
    suppose_held,
)
from hw.layouts import REGIONS_LAYOUT
from hw.load_unit import LoadUnit
from hw.spec.config import preset
from hw.spec.isa import INSTRUCTION_BYTES, Queue
from hw.store_unit import StoreUnit

__all__ = ["BLOCKS"]

CONFIG = preset("tiny").twin(axi_addr_width=32)
OPEN = 2
"""Bursts that units under verification may have open."""
IDLE_CYCLES = 6
"""Between an instruction and its first burst, the longest way inside a unit."""


class FetchHarness(wiring.Component):
    """``Fetcher`` with any program, any memory, and queues that make room when they like."""

    def __init__(self, data_width: int) -> None:
        base = preset("tiny" if data_width == 64 else "edge64")
        self.config = base.twin(axi_addr_width=32, axi_data_width=data_width)
        super().__init__(
            {
                **free(start=1, abort=1, regions=REGIONS_LAYOUT, offset=32, count=32, room=len(Queue)),
                "axi": Out(AXI4ReadSignature(self.config.axi_addr_width, self.config.axi_data_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = Fetcher(self.config)
        connect(m, dut.axi, flipped(self.axi))
        for name in ("regions", "offset", "count"):
            m.d.comb += getattr(dut, name).eq(suppose_constant(m, f"{name}_constant", getattr(self, name)))
        m.d.comb += [dut.start.eq(self.start), dut.abort.eq(self.abort)]
        started = Signal()
        with m.If(self.start):
            m.d.sync += started.eq(1)
        suppose(m, "started_once_or_when_halted", implies(self.start, ~started | dut.halted))
        suppose(m, "abort_stays", implies(past(m, self.abort), self.abort))
        beats = INSTRUCTION_BYTES // dut.beat_bytes
        rules = ReadRules(m, self.axi, beat_bytes=dut.beat_bytes, open_max=PREFETCH)
        require(m, "one_instruction_a_burst", implies(self.axi.arvalid, self.axi.arlen == beats - 1))
        require(m, "always_room_for_data", self.axi.rready)
        require(m, "idle_means_nothing_open", implies(dut.idle, (rules.open == 0) & ~self.axi.arvalid))
        moved = []
        for queue in Queue:
            port = getattr(dut, queue.name.lower())
            m.d.comb += port.ready.eq(self.room[queue])
            waited = past(m, port.valid & ~port.ready) & ~self.abort
            same = port.payload.as_value() == past(m, port.payload.as_value())
            require(m, f"{queue.name.lower()}_waits", implies(waited, port.valid & same))
            moved.append(port.valid)
        require(m, "to_one_queue", sum(moved) <= 1)
        return m


class LoadHarness(wiring.Component):
    """``LoadUnit`` with any instructions and regions, any memory, and a scratchpad that accepts when it likes."""

    def __init__(self) -> None:
        super().__init__(
            {
                **free(instr_valid=1, instr_word=512, abort=1, regions=REGIONS_LAYOUT, act_ready=1),
                "axi": Out(AXI4ReadSignature(CONFIG.axi_addr_width, CONFIG.axi_data_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = LoadUnit(CONFIG, outstanding=OPEN, instructions=2)
        connect(m, dut.axi, flipped(self.axi))
        accepted = unit_environment(m, self, dut)
        m.d.comb += dut.act.req.ready.eq(self.act_ready)
        # A burst waits in the AR register and is open at once: one less fits beside it.
        rules = ReadRules(m, self.axi, beat_bytes=CONFIG.axi_bytes, open_max=OPEN)
        unit, req = dut.unit, dut.act.req
        require_held(m, "act_write_waits", req.valid, req.ready, req.payload.as_value())
        require(m, "lanes_in_a_beat", implies(req.valid, (req.p.lo < req.p.hi) & (req.p.hi <= CONFIG.axi_bytes)))
        require(m, "idle_means_nothing_open", implies(dut.unit.idle, (rules.open == 0) & ~req.valid))
        # Every beat taken without a fault is written once: on its way are at most those of two slices of two places.
        writes = (req.valid & req.ready) | dut.weight_en | dut.param_en
        under_way = Signal(4)
        fault = Signal()
        with m.If((rules.beat & self.axi.rresp.any()) | self.abort | dut.unit.error.valid):
            m.d.sync += fault.eq(1)
        m.d.sync += under_way.eq(under_way + rules.beat - writes)
        wrong = fault | self.abort | dut.unit.error.valid
        require(m, "no_write_without_a_beat", implies(writes & ~wrong, under_way != 0))
        require(m, "no_beat_lost", wrong | (under_way <= 4))
        require(m, "done_for_accepted_only", implies(dut.unit.done, accepted != 0))
        moves = writes | rules.beat | (self.axi.arvalid & self.axi.arready) | (unit.instr.valid & unit.instr.ready)
        waits = (self.axi.arvalid & ~self.axi.arready) | ((rules.open != 0) & ~self.axi.rvalid)
        waits |= req.valid & ~req.ready
        require_progress(
            m, "goes_on_unless_it_waits", within=IDLE_CYCLES, unless=moves | waits | (accepted == 0) | wrong
        )
        reach(m, "done", dut.unit.done)
        reach(m, "done_again", dut.unit.done & past(m, accepted == 2))
        reach(m, "error", dut.unit.error.valid)
        return m


class StoreHarness(wiring.Component):
    """``StoreUnit`` with any instructions and regions, any memory, and a scratchpad that answers when it likes."""

    def __init__(self) -> None:
        super().__init__(
            {
                **free(instr_valid=1, instr_word=512, abort=1, regions=REGIONS_LAYOUT, act_ready=1,
                       act_data=CONFIG.axi_data_width),
                "axi": Out(AXI4WriteSignature(CONFIG.axi_addr_width, CONFIG.axi_data_width)),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = StoreUnit(CONFIG, outstanding=OPEN, instructions=2)
        connect(m, dut.axi, flipped(self.axi))
        accepted = unit_environment(m, self, dut)
        m.d.comb += [dut.act.req.ready.eq(self.act_ready), dut.act.data.as_value().eq(self.act_data)]
        rules = WriteRules(m, self.axi, beat_bytes=CONFIG.axi_bytes, open_max=OPEN)
        unit, req = dut.unit, dut.act.req
        require_held(m, "act_read_waits", req.valid, req.ready, req.payload.as_value())
        require(m, "every_beat_has_bytes", implies(self.axi.wvalid, self.axi.wstrb.any()))
        require(m, "idle_means_nothing_open", implies(dut.unit.idle, (rules.open == 0) & ~self.axi.wvalid))
        # Every accepted read becomes one beat, after READ_LATENCY cycles and as long as the buffer is not drained.
        asked, sent = req.valid & req.ready, self.axi.wvalid & self.axi.wready
        under_way = Signal(6)
        m.d.sync += under_way.eq(under_way + asked - sent)
        require(m, "no_beat_without_a_read", implies(sent, under_way != 0))
        require(m, "no_more_reads_than_room", under_way <= 16)
        answered = self.axi.bvalid & self.axi.bready
        require(m, "done_follows_a_response", implies(dut.unit.done, past(m, answered)))
        require(m, "done_for_accepted_only", implies(dut.unit.done, accepted != 0))
        stopped = Signal()
        wrong = stopped | self.abort | dut.unit.error.valid
        m.d.sync += stopped.eq(wrong)
        moves = asked | sent | answered | (self.axi.awvalid & self.axi.awready) | (unit.instr.valid & unit.instr.ready)
        waits = (self.axi.awvalid & ~self.axi.awready) | (self.axi.wvalid & ~self.axi.wready)
        waits |= (req.valid & ~req.ready) | (rules.owed & ~self.axi.bvalid)
        require_progress(
            m, "goes_on_unless_it_waits", within=IDLE_CYCLES, unless=moves | waits | (accepted == 0) | wrong
        )
        reach(m, "done", dut.unit.done)
        reach(m, "error", dut.unit.error.valid)
        return m


def unit_environment(m: Module, harness: wiring.Component, dut: LoadUnit | StoreUnit) -> Signal:
    """Drive a unit's control port; return the number of instructions it has accepted and not finished."""
    unit = dut.unit
    m.d.comb += [
        unit.instr.valid.eq(harness.instr_valid),
        unit.instr.payload.word.eq(harness.instr_word),
        unit.abort.eq(harness.abort),
        dut.regions.eq(suppose_constant(m, "regions_constant", harness.regions)),
    ]
    suppose_held(m, "instruction_waits", harness.instr_valid & ~harness.abort, unit.instr.ready, harness.instr_word)
    suppose(m, "abort_stays", implies(past(m, harness.abort), harness.abort))
    suppose(m, "regions_checked", inside_regions(dut.regions, CONFIG.axi_addr_width))
    accepted = Signal(4)
    m.d.sync += accepted.eq(accepted + (unit.instr.valid & unit.instr.ready) - unit.done)
    return accepted


_AR_OUT = ("axi_arvalid", "axi_araddr", "axi_arlen", "axi_rready")
_AR_IN = ("axi_arready", "axi_rvalid", "axi_rdata", "axi_rresp", "axi_rlast")
_AW_OUT = ("axi_awvalid", "axi_awaddr", "axi_awlen", "axi_wvalid", "axi_wdata", "axi_wstrb", "axi_wlast", "axi_bready")
_AW_IN = ("axi_awready", "axi_wready", "axi_bvalid", "axi_bresp")
_MEMORY = "the memory answers in order, only what was asked, and keeps VALID and payload until READY"

BLOCKS = (
    Block("fetch64", lambda: FetchHarness(64), depth=16, induction=1, independent=((_AR_OUT, _AR_IN),),
          assumes=f"registers are constant; {_MEMORY}"),
    Block("fetch512", lambda: FetchHarness(512), depth=20, induction=1, independent=((_AR_OUT, _AR_IN),),
          assumes=f"registers are constant; {_MEMORY}"),
    Block("load_unit", LoadHarness, depth=14, induction=1, independent=((_AR_OUT, _AR_IN),),
          assumes=f"regions are constant, 4 KiB aligned, inside the address space; {_MEMORY}"),
    Block("store_unit", StoreHarness, depth=16, induction=1, independent=((_AW_OUT, _AW_IN),),
          assumes=f"regions are constant, 4 KiB aligned, inside the address space; {_MEMORY}"),
)  # fmt: skip
