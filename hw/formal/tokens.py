"""Dependency tokens: counters, queues, and both together as the control unit has them."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.formal.harness import Block, free, implies, past, reach, require, suppose, suppose_constant
from hw.formal.queues import track
from hw.spec.isa import HALT, TOKEN_MAX, Queue
from hw.token_queue import IN_FLIGHT_DEPTH, QUEUE_DEPTH, TokenCounters, TokenQueue

__all__ = ["BLOCKS"]

_MASK = len(Queue)
_WAIT, _SIGNAL = HALT.offsets["wait"], HALT.offsets["signal"]


class CountersHarness(wiring.Component):
    """``TokenCounters`` beside a ledger of one free pair of queues: given, taken, and thrown away with a report."""

    def __init__(self) -> None:
        super().__init__(
            free(clear=1, giver=range(_MASK), taker=range(_MASK), **{f"give{q}": _MASK for q in range(_MASK)},
                 **{f"take{q}": _MASK for q in range(_MASK)})
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = TokenCounters()
        m.d.comb += dut.clear.eq(self.clear)
        for queue in range(_MASK):
            take = getattr(self, f"take{queue}")
            m.d.comb += [dut.give[queue].eq(getattr(self, f"give{queue}")), dut.take[queue].eq(take)]
            suppose(m, f"queue{queue}_takes_what_is_there", (take & ~dut.available[queue]) == 0)
            suppose(m, f"queue{queue}_gives_itself_nothing", ~getattr(self, f"give{queue}")[queue])
        giver = suppose_constant(m, "giver_is_constant", self.giver)
        taker = suppose_constant(m, "taker_is_constant", self.taker)
        suppose(m, "two_queues", (giver != taker) & (giver < _MASK) & (taker < _MASK))
        pick = [Array(port[queue] for queue in range(_MASK)) for port in (dut.give, dut.overflow)]
        give, over = (Array(word)[giver].bit_select(taker, 1) for word in pick)
        take, there = (Array(port[queue] for queue in range(_MASK))[taker].bit_select(giver, 1)
                       for port in (dut.take, dut.available))  # fmt: skip
        balance = Signal(range(TOKEN_MAX + 3))  # tokens given and neither taken nor reported
        with m.If(self.clear):
            m.d.sync += balance.eq(0)
        with m.Else():
            m.d.sync += balance.eq(balance + give - take - over)
        require(m, "no_token_lost_or_made", there == (balance != 0))
        require(m, "never_over_the_maximum", balance <= TOKEN_MAX)
        require(m, "overflow_is_reported", over == (give & ~take & (balance == TOKEN_MAX)))
        require(m, "never_below_zero", implies(take, balance != 0))
        reach(m, "given_and_taken_at_once", give & take)
        reach(m, "two_tokens_wait", balance == 2)
        return m


class QueueHarness(wiring.Component):
    """``TokenQueue``: one free instruction is followed from its entry until it is done."""

    def __init__(self) -> None:
        super().__init__(
            {
                **free(enq_valid=1, wait=_MASK, signal=_MASK, pc=2, available=_MASK, hold=1, ready=1, done=1, clear=1,
                       chosen=1),
                "issue_valid": Out(1),
                "enq_ready": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = TokenQueue()
        word = dut.enq.payload.word
        m.d.comb += [
            dut.clear.eq(self.clear),
            dut.enq.valid.eq(self.enq_valid),
            word[_WAIT : _WAIT + _MASK].eq(self.wait),
            word[_SIGNAL : _SIGNAL + _MASK].eq(self.signal),
            dut.enq.payload.pc.eq(self.pc),
            dut.available.eq(self.available),
            dut.hold.eq(self.hold),
            dut.issue.ready.eq(self.ready),
            dut.done.eq(self.done),
            self.issue_valid.eq(dut.issue.valid),
            self.enq_ready.eq(dut.enq.ready),
        ]
        push, issue = dut.enq.valid & dut.enq.ready, dut.issue.valid & dut.issue.ready
        head_wait = dut.issue.payload.word[_WAIT : _WAIT + _MASK]
        head_signal = dut.issue.payload.word[_SIGNAL : _SIGNAL + _MASK]
        level, flight = Signal(range(QUEUE_DEPTH + 2)), Signal(range(IN_FLIGHT_DEPTH + 2))
        with m.If(self.clear):
            m.d.sync += [level.eq(0), flight.eq(0)]
        with m.Else():
            m.d.sync += [level.eq(level + push - issue), flight.eq(flight + issue - self.done)]
        suppose(m, "done_only_what_was_issued", implies(self.done, flight != 0))
        suppose(m, "no_clear_while_followed", ~self.clear)
        # Followed: an instruction's masks and index, through the queue and then in flight.
        inside, ahead = track(m, push=push, pop=issue, chosen=self.chosen, level=level, width=4)
        leaves = inside & issue & (ahead == 0)
        wait, signal, pc = Signal(_MASK), Signal(_MASK), Signal(2)
        met = Signal()
        with m.If(push & self.chosen & ~met):
            m.d.sync += [met.eq(1), wait.eq(self.wait), signal.eq(self.signal), pc.eq(self.pc)]
        issued, before = Signal(), Signal(5)
        ends = issued & self.done & (before == 0)
        with m.If(leaves):
            m.d.sync += [issued.eq(1), before.eq(flight - self.done)]
        with m.Elif(issued & self.done):
            m.d.sync += before.eq(before - 1)
            with m.If(before == 0):
                m.d.sync += issued.eq(0)

        require(m, "waits_for_its_tokens", implies(dut.issue.valid, (head_wait & ~self.available) == 0))
        require(m, "takes_its_tokens_once", dut.take == (head_wait & issue.replicate(_MASK)))
        require(m, "takes_only_what_is_there", (dut.take & ~self.available) == 0)
        require(m, "issued_as_it_came", implies(
            leaves, (head_wait == wait) & (head_signal == signal) & (dut.issue.payload.pc == pc)))  # fmt: skip
        require(m, "gives_its_tokens_when_done", implies(ends, dut.give == signal))
        require(m, "gives_only_when_done", implies(dut.give.any(), self.done))
        require(m, "no_more_than_its_places", (level <= QUEUE_DEPTH) & (flight <= IN_FLIGHT_DEPTH))
        require(m, "lemma_instruction_is_counted", implies(inside, ahead < level) & implies(issued, before < flight))
        require(m, "busy_is_told", dut.busy == (flight != 0))
        require(m, "empty_is_told", dut.empty == (level == 0))
        require(m, "holds", implies(self.hold, ~dut.issue.valid))
        tokens_stay = implies(past(m, dut.issue.valid), (past(m, self.available) & ~self.available) == 0)
        kept = Signal()
        m.d.comb += kept.eq(tokens_stay & ~self.hold)
        waited = past(m, dut.issue.valid & ~self.ready)
        payload = dut.issue.payload.as_value()
        require(m, "offer_stays", implies(waited & kept, dut.issue.valid & (payload == past(m, payload))))
        stuck = past(m, (level != 0) & ~issue)
        may = ~self.hold & self.available.all() & (flight != IN_FLIGHT_DEPTH)
        require(m, "offered_once_it_may", implies(stuck & may & (past(m, past(m, level)) != 0), dut.issue.valid))
        reach(m, "in_flight_full", flight == IN_FLIGHT_DEPTH)
        reach(m, "followed_to_its_end", ends & signal.any() & wait.any())
        reach(m, "waits_for_a_token", dut.missing.any())
        return m


class SystemHarness(wiring.Component):
    """All queues and the counters between them, as :class:`hw.control.Control` joins them; any units.

    Discharges what ``token_counters`` assumes of the queues.
    """

    def __init__(self) -> None:
        super().__init__(
            free(**{f"{name}{q}": width for q in range(_MASK) for name, width in
                    (("enq", 1), ("wait", _MASK), ("signal", _MASK), ("ready", 1), ("done", 1))})
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.counters = counters = TokenCounters()
        taken, issues = Signal(_MASK), []
        for q in range(_MASK):
            m.submodules[f"queue{q}"] = queue = TokenQueue()
            word = queue.enq.payload.word
            wait, signal = getattr(self, f"wait{q}"), getattr(self, f"signal{q}")
            m.d.comb += [
                queue.enq.valid.eq(getattr(self, f"enq{q}")),
                word[_WAIT : _WAIT + _MASK].eq(wait),
                word[_SIGNAL : _SIGNAL + _MASK].eq(signal),
                queue.issue.ready.eq(getattr(self, f"ready{q}")),
                queue.done.eq(getattr(self, f"done{q}") & queue.busy),
                queue.available.eq(counters.available[q]),
                counters.take[q].eq(queue.take),
                counters.give[q].eq(queue.give),
                taken[q].eq((queue.take & ~counters.available[q]).any()),
            ]
            suppose(m, f"queue{q}_not_its_own", ~wait[q] & ~signal[q])
            issues.append(queue.issue.valid & queue.issue.ready & queue.take.any())
        require(m, "no_token_taken_twice", ~taken.any())
        reach(m, "token_taken", issues[1])
        return m


BLOCKS = (
    Block("token_counters", CountersHarness, depth=12, induction=1, pdr_seconds=20,
          assumes="a queue takes only tokens that are there (proved of token_system) and gives itself none"),
    Block("token_queue", QueueHarness, depth=14, induction=2, pdr_seconds=60,
          assumes="the unit reports no more instructions done than it was given"),
    Block("token_system", SystemHarness, depth=12, induction=1, pdr_seconds=20,
          assumes="units report only issued instructions done; no instruction names its own queue (fetch checks that)"),
)  # fmt: skip
