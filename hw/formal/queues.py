"""Queues: the library's FIFO as used here, and the register slice of the AXI channels."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Out

from hw.axi import RegisterSlice
from hw.formal.harness import Block, free, implies, past, reach, require, require_held, suppose_constant, suppose_held

__all__ = ["BLOCKS", "track"]


def track(m: Module, *, push: Value, pop: Value, chosen: Value, level: Value, width: int) -> tuple[Signal, Signal]:
    """Follow one item through a queue.

    Parameters
    ----------
    push, pop
        An item enters, leaves.
    chosen
        Free: the entering item is the one to follow (the first time).
    level
        Items in the queue before this cycle's push and pop.
    width
        Bits to count items in.

    Returns
    -------
    inside, ahead : Signal
        The item is in the queue; so many items leave before it.
    """
    inside, ahead, met = Signal(), Signal(width), Signal()
    with m.If(push & chosen & ~met):
        m.d.sync += [inside.eq(1), met.eq(1), ahead.eq(level - pop)]
    with m.Elif(inside & pop):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += inside.eq(0)
    return inside, ahead


def queue_rules(
    m: Module, *, depth: int, push: Value, pop: Value, value_in: Value, value_out: Value, chosen: Value, item: Value
) -> Signal:
    """Assert order, no duplication and no more than `depth` items of a queue; return its level.

    Nothing is lost if, besides, the output offers an item whenever the level is not 0.  The lemma is about the ledger
    alone and helps proofs.
    """
    width = (depth + 1).bit_length() + 1
    level = Signal(width)
    m.d.sync += level.eq(level + push - pop)
    inside, ahead = track(m, push=push, pop=pop, chosen=chosen & (value_in == item), level=level, width=width)
    require(m, "level_in_depth", level <= depth)
    require(m, "no_item_from_nowhere", implies(pop, level != 0))
    require(m, "lemma_item_is_counted", implies(inside, ahead < level))
    require(m, "order_kept", implies(inside & pop & (ahead == 0), value_out == item))
    return level


class FifoHarness(wiring.Component):
    """``SyncFIFOBuffered`` of `depth` places with any pushes and pops.

    The data is never looked at, so what holds for one bit holds for any width.  Liveness: an item shows at the output
    within 2 cycles; a place that was left can be taken in the cycle after.
    """

    def __init__(self, depth: int, width: int = 1) -> None:
        self.depth, self.width = depth, width
        super().__init__(free(w_en=1, w_data=width, r_en=1, chosen=1, item=width))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = SyncFIFOBuffered(width=self.width, depth=self.depth)
        m.d.comb += [dut.w_en.eq(self.w_en), dut.w_data.eq(self.w_data), dut.r_en.eq(self.r_en)]
        item = suppose_constant(m, "item_is_constant", self.item)
        push, pop = dut.w_en & dut.w_rdy, dut.r_en & dut.r_rdy
        level = queue_rules(
            m, depth=self.depth, push=push, pop=pop, value_in=dut.w_data, value_out=dut.r_data,
            chosen=self.chosen, item=item,
        )  # fmt: skip
        require(m, "level_is_told", dut.level == level)
        require(m, "room_is_told", dut.w_rdy == (level != self.depth))
        waits = past(m, (level != 0) & ~dut.r_rdy)
        require(m, "item_shows_in_2_cycles", implies(waits & (level != 0), dut.r_rdy))
        require_held(m, "output_waits", dut.r_rdy, self.r_en, dut.r_data)
        reach(m, "full", level == self.depth)
        reach(m, "both_at_once", push & pop & (level == self.depth - 1))
        reach(m, "emptied_again", past(m, level == 1) & (level == 0))
        return m


class SliceHarness(wiring.Component):
    """``RegisterSlice``: sender and receiver keep to a stream's rules."""

    def __init__(self, width: int = 4) -> None:
        self.width = width
        super().__init__(
            {
                **free(i_valid=1, i_payload=width, o_ready=1, chosen=1, item=width),
                "i_ready": Out(1),
                "o_valid": Out(1),
                "o_payload": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = RegisterSlice(self.width)
        m.d.comb += [
            dut.i.valid.eq(self.i_valid),
            dut.i.payload.eq(self.i_payload),
            self.i_ready.eq(dut.i.ready),
            dut.o.ready.eq(self.o_ready),
            self.o_valid.eq(dut.o.valid),
            self.o_payload.eq(dut.o.payload),
        ]
        suppose_held(m, "input_waits", self.i_valid, self.i_ready, self.i_payload)
        item = suppose_constant(m, "item_is_constant", self.item)
        level = queue_rules(
            m, depth=2, push=self.i_valid & self.i_ready, pop=self.o_valid & self.o_ready, value_in=self.i_payload,
            value_out=self.o_payload, chosen=self.chosen, item=item,
        )  # fmt: skip
        require_held(m, "output_waits", self.o_valid, self.o_ready, self.o_payload)
        require(m, "item_shows_at_once", self.o_valid == (level != 0))
        require(m, "room_is_told", self.i_ready == (level != 2))
        reach(m, "full", level == 2)
        reach(m, "one_per_cycle", past(m, self.i_valid & self.i_ready & (level == 1)) & self.o_valid & (level == 1))
        return m


_SLICE_PATHS = (
    (("o_valid", "o_payload", "i_ready"), ("i_valid", "i_payload", "o_ready")),
)

BLOCKS = (
    *(
        Block(f"fifo{depth}", lambda depth=depth: FifoHarness(depth), depth=2 * depth + 5, pdr_seconds=30)
        for depth in (4, 8, 16)
    ),
    Block(
        "register_slice", SliceHarness, depth=10, pdr_seconds=20, independent=_SLICE_PATHS,
        assumes="the sender keeps VALID and payload until READY",
    ),
)  # fmt: skip
