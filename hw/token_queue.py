"""In-order instruction queue whose head waits for dependency tokens, and the token counters between queues."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.layouts import PC_WIDTH, Lanes, unit_payload
from hw.spec.isa import HALT, TOKEN_MAX, Queue

__all__ = ["IN_FLIGHT_DEPTH", "QUEUE_DEPTH", "TokenCounters", "TokenQueue"]

QUEUE_DEPTH = 4
"""Instructions a queue holds in front of its unit."""

IN_FLIGHT_DEPTH = 8
"""Instructions a unit may have accepted and not finished."""

_ENTRY = data.StructLayout({"signal": len(Queue), "pc": PC_WIDTH})


class TokenQueue(wiring.Component):
    """FIFO in front of one unit.

    The head instruction is offered to the unit once every queue in its ``wait`` mask has a token for this one; the
    tokens are taken when the unit accepts it.  Its ``signal`` mask is remembered until the unit reports it done.
    An instruction put into an empty queue reaches the unit two cycles later at the earliest.

    Parameters
    ----------
    pipeline : bool
        Whether the head may be issued is a register: it reaches the unit one cycle later, two after the one before.

    Members
    -------
    clear : In(1)
        Reset: forget everything.
    enq : In(stream)
        Instructions in program order.
    issue : Out(stream)
        To the unit.  ``valid`` falls without a transfer only when `hold` rises.
    done : In(1)
        The oldest issued instruction is finished; at the earliest one cycle after it was issued.
    hold : In(1)
        Issue nothing.
    available : In(3)
        Bit q: queue q has given this queue a token.
    take : Out(3)
        Tokens taken in this cycle, by giving queue.
    give : Out(3)
        Tokens given in this cycle, by receiving queue (with `done`).
    missing : Out(3)
        Tokens that the head instruction waits for; 0 if there is none.
    empty : Out(1)
        No instruction waits here (in flight ones do not count).
    busy : Out(1)
        Some instruction is in flight.
    oldest_pc : Out(32)
        Index of the oldest instruction in flight, or else of the head.

    Everything is empty after reset.
    """

    def __init__(self, *, pipeline: bool = False) -> None:
        self.pipeline = pipeline
        mask = len(Queue)
        super().__init__(
            {
                "clear": In(1),
                "enq": In(stream.Signature(unit_payload())),
                "issue": Out(stream.Signature(unit_payload())),
                "done": In(1),
                "hold": In(1),
                "available": In(mask),
                "take": Out(mask),
                "give": Out(mask),
                "missing": Out(mask),
                "empty": Out(1),
                "busy": Out(1),
                "oldest_pc": Out(PC_WIDTH),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        payload = unit_payload()
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=payload.size, depth=QUEUE_DEPTH)
        head = data.View(payload, fifo.r_data)
        # Every queue's instructions begin with the same fields, which are also all that HALT has.
        wait = head.word[HALT.offsets["wait"] :][: len(Queue)]
        signal = head.word[HALT.offsets["signal"] :][: len(Queue)]

        m.submodules.in_flight = in_flight = Memory(shape=_ENTRY, depth=IN_FLIGHT_DEPTH, init=[])
        enter, leave = in_flight.write_port(), in_flight.read_port(domain="comb")
        newest, oldest = Signal(range(IN_FLIGHT_DEPTH)), Signal(range(IN_FLIGHT_DEPTH))
        level = Signal(range(IN_FLIGHT_DEPTH + 1))
        issued = Signal()
        may_issue = Signal()  # does not fall before the head is issued: tokens are not taken by others
        free = fifo.r_rdy & ~self.missing.any() & (level != IN_FLIGHT_DEPTH)
        if self.pipeline:
            m.d.sync += may_issue.eq(free & ~issued)
        else:
            m.d.comb += may_issue.eq(free)
        m.d.comb += [
            fifo.w_data.eq(self.enq.payload.as_value()),
            fifo.w_en.eq(self.enq.valid),
            self.enq.ready.eq(fifo.w_rdy),
            self.empty.eq(fifo.level == 0),
            self.missing.eq(wait & ~self.available & fifo.r_rdy.replicate(len(Queue))),
            self.issue.valid.eq(may_issue & ~self.hold),
            self.issue.payload.eq(head),
            issued.eq(self.issue.valid & self.issue.ready),
            fifo.r_en.eq(issued),
            self.take.eq(wait & issued.replicate(len(Queue))),
            self.give.eq(leave.data.signal & self.done.replicate(len(Queue))),
            self.busy.eq(level != 0),
            enter.en.eq(issued),
            enter.addr.eq(newest),
            enter.data.signal.eq(signal),
            enter.data.pc.eq(head.pc),
            leave.addr.eq(oldest),
        ]
        with m.If(self.busy):
            m.d.comb += self.oldest_pc.eq(leave.data.pc)
        with m.Else():
            m.d.comb += self.oldest_pc.eq(head.pc)

        m.d.sync += level.eq(level + issued - self.done)
        with m.If(issued):
            m.d.sync += newest.eq(newest + 1)
        with m.If(self.done):
            m.d.sync += oldest.eq(oldest + 1)
        return ResetInserter(self.clear)(m)


class TokenCounters(wiring.Component):
    """One counter for each ordered pair of different queues.

    Members
    -------
    clear : In(1)
        Set all counters to 0.
    give : In(ArrayLayout)
        ``give[q]``: queues to which queue q gives a token in this cycle.
    take : In(ArrayLayout)
        ``take[q]``: queues from which queue q takes a token in this cycle; only what is `available`.
    available : Out(ArrayLayout)
        ``available[q]``: queues from which queue q can take a token.
    overflow : Out(ArrayLayout)
        ``overflow[q]``: queues to which queue q gave a token too many in this cycle (the counter keeps its value).

    A token given in cycle t can be taken in cycle t + 1.  All counters are 0 after reset.
    """

    def __init__(self) -> None:
        masks = Lanes(len(Queue), len(Queue))
        super().__init__(
            {
                "clear": In(1),
                "give": In(masks),
                "take": In(masks),
                "available": Out(masks),
                "overflow": Out(masks),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for giver in Queue:
            over = []
            for taker in Queue:
                if giver == taker:
                    over.append(Const(0, 1))
                    continue
                count = Signal(range(TOKEN_MAX + 1), name=f"{giver.name}_{taker.name}".lower())
                give, take = self.give[giver][taker], self.take[taker][giver]
                full = Signal(name=f"{giver.name}_{taker.name}_over".lower())
                m.d.comb += [
                    full.eq(give & ~take & (count == TOKEN_MAX)),
                    self.available[taker][giver].eq(count != 0),
                ]
                over.append(full)
                with m.If(self.clear):
                    m.d.sync += count.eq(0)
                with m.Elif(~full):
                    m.d.sync += count.eq(count + give - take)
            m.d.comb += self.overflow[giver].eq(Cat(over))
        return m
