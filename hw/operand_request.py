"""From a sequencer's steps to its operand reads: registered stages with the way back for stalls."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out, Signature

from hw.axi import RegisterSlice
from hw.layouts import range_width, table_layout
from hw.ports import operand_signature
from hw.scratchpad import VectorAddress
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC
from hw.window import X_WIDTH, byte_range, pixel_bounds

__all__ = [
    "POINTER_WIDTH",
    "WEIGHT_POINTER_WIDTH",
    "OperandRequest",
    "PortSignature",
    "issue_layout",
    "request_stages",
    "step_layout",
]

POINTER_WIDTH = 28
"""Bits of a signed byte pointer: addresses of 24 bits, plus what padding subtracts and overhang adds."""

WEIGHT_POINTER_WIDTH = 24
"""Bits of a weight word pointer."""


def issue_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return what is left of a step when its read is granted.

    ``capture`` (ST-OS: the windows take this line), ``weight`` word and ``lane``, ``last`` of the tile, ``rows`` in
    use.
    """
    return data.StructLayout(
        {
            "capture": 1,
            "weight": WEIGHT_POINTER_WIDTH,
            "lane": range(config.rows),
            "last": 1,
            "rows": range(config.rows + 1),
        }
    )


def step_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return what a sequencer decides per operand read.

    ``addr`` of byte 0, pixel ``x`` of the first byte in use, ``line_valid`` if the line exists, and the members of
    :func:`issue_layout`.
    """
    position = {"addr": signed(POINTER_WIDTH), "x": signed(X_WIDTH), "line_valid": 1}
    return data.StructLayout({**position, **issue_layout(config).members})


def request_stages(config: AcceleratorConfig) -> int:
    """Return the cycles from a sequencer's counters to the operand port."""
    return 2 + 2 * config.pipeline_mac


class PortSignature(Signature):
    """The step at the operand port, seen from :class:`OperandRequest`.

    Members
    -------
    waiting : Out
        A step stands at the port.
    step : Out(issue_layout)
        That step.
    issued : Out
        Its read is granted in this cycle.
    busy : Out
        A step is in one of the stages.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__({"waiting": Out(1), "step": Out(issue_layout(config)), "issued": Out(1), "busy": Out(1)})


class OperandRequest(Component):
    """The stages behind the sequencers: one takes their steps, one finds the bytes inside the line, the next one asks.

    The last one has two places, so that the grant does not reach the counters in the same cycle; those before move when
    it has room, all at once: steps come in every cycle, so there are no gaps to close.  With ``pipeline_mac`` the bytes
    take two cycles, and a third one finds their banks.

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    in_w, in_zp : in
        Of the instruction; like `strided` and `window` constant while steps are under way.
    steps : stream of step_layout, in
    strided : in
        Every second pixel is read, one per column, the first of them is byte 0.
    window : in
        Otherwise: all lanes are in use, not only the columns'.
    admit : in
        The step at the port may be issued.
    port : PortSignature, out
    range_error : out
        The step at the port reads beyond the scratchpad.
    operand : operand_signature, out
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        instruction = table_layout(EXEC).members
        super().__init__(
            {
                "in_w": In(instruction["in_w"]),
                "in_zp": In(instruction["in_zp"]),
                "steps": In(stream.Signature(step_layout(config))),
                "strided": In(1),
                "window": In(1),
                "admit": In(1),
                "port": Out(PortSignature(config)),
                "range_error": Out(1),
                "operand": Out(operand_signature(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the stages."""
        m = Module()
        config, request, strided = self.config, self.operand.req, self.strided
        bound = range_width(self.operand.signature.span)
        known = self.operand.signature.banks
        members = {"addr": signed(POINTER_WIDTH), "issue": issue_layout(config), "lo": bound, "hi": bound}
        m.submodules.port = port = RegisterSlice(data.StructLayout({**members, **({"banks": known} if known else {})}))
        asking, waiting = port.o.p, port.o.valid

        located, located_valid = Signal(step_layout(config), name="step", reset_less=True), Signal(name="step_valid")
        m.d.comb += self.steps.ready.eq(port.i.ready)
        with m.If(port.i.ready):
            m.d.sync += [located_valid.eq(self.steps.valid), located.eq(self.steps.p)]
        before, inside = pixel_bounds(m, located.x, self.in_w, strided)
        busy = [waiting, located_valid]
        if config.pipeline_mac:
            ranged = Signal(data.StructLayout(members))
            ranged_valid = Signal()
            step, step_valid = located, located_valid
            located, located_valid = Signal(step_layout(config)), Signal()
            busy += [located_valid, ranged_valid]
            bounds = Signal.like(before, name="located_before"), Signal.like(inside, name="located_inside")
            with m.If(port.i.ready):
                m.d.sync += [located_valid.eq(step_valid), located.eq(step)]
                m.d.sync += [bounds[0].eq(before), bounds[1].eq(inside)]
            before, inside = bounds
        first, count = Mux(self.window, 0, config.halo), Mux(self.window, config.read_lanes, config.cols)
        lo, hi = byte_range(
            m,
            before,
            inside,
            located.line_valid,
            strided,
            first=first,
            count=count,
            columns=config.cols,
            span=self.operand.signature.span,
        )
        issue = Cat(located[name] for name in issue_layout(config).members)
        found = {"addr": located.addr, "issue": issue, "lo": lo, "hi": hi}
        if config.pipeline_mac:
            with m.If(port.i.ready):
                m.d.sync += [ranged_valid.eq(located_valid), *(ranged[name].eq(value) for name, value in found.items())]
            m.submodules.banks = needed = VectorAddress(config, self.operand.signature.span)
            m.d.comb += [
                needed.addr.eq(ranged.addr),
                needed.lo.eq(ranged.lo),
                needed.hi.eq(ranged.hi),
                port.i.valid.eq(ranged_valid),
                *(port.i.p[name].eq(ranged[name]) for name in members),
                port.i.p.banks.eq(needed.banks),
                request.payload.banks.eq(asking.banks),
            ]
        else:
            m.d.comb += [port.i.valid.eq(located_valid), *(port.i.p[name].eq(value) for name, value in found.items())]
        m.d.comb += [
            port.o.ready.eq(self.port.issued),
            self.port.waiting.eq(waiting),
            self.port.step.eq(asking.issue),
            self.port.issued.eq(request.valid & request.ready),
            self.port.busy.eq(Cat(busy).any()),
            self.range_error.eq(waiting & (asking.hi != 0) & (asking.addr + asking.hi > config.act_bytes)),
            request.valid.eq(waiting & self.admit),
            request.payload.addr.eq(asking.addr),
            request.payload.lo.eq(asking.lo),
            request.payload.hi.eq(asking.hi),
            request.payload.fill.eq(self.in_zp),
            request.payload.strided.eq(strided),
        ]
        return m
