"""From a sequencer's counters to its operand read: registered stages with the way back for stalls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal, Value, ValueLike, signed
from amaranth.lib import data
from amaranth.lib.wiring import PureInterface

from hw.axi import RegisterSlice
from hw.layouts import range_width
from hw.scratchpad import VectorAddress
from hw.spec.config import AcceleratorConfig
from hw.window import X_WIDTH, byte_range, pixel_bounds

__all__ = [
    "POINTER_WIDTH",
    "WEIGHT_POINTER_WIDTH",
    "RequestPipeline",
    "request_pipeline",
    "request_stages",
    "step_layout",
]

POINTER_WIDTH = 28
"""Bits of a signed byte pointer: addresses of 24 bits, plus what padding subtracts and overhang adds."""

WEIGHT_POINTER_WIDTH = 24
"""Bits of a weight word pointer."""


def step_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return what a sequencer decides per operand read.

    ``addr`` of byte 0, pixel ``x`` of the first byte in use, ``line_valid`` if the line exists, ``capture`` (ST-OS: the
    windows take this line), ``weight`` word and ``lane``, ``last`` of the tile, ``rows`` in use.
    """
    return data.StructLayout(
        {
            "addr": signed(POINTER_WIDTH),
            "x": signed(X_WIDTH),
            "line_valid": 1,
            "capture": 1,
            "weight": WEIGHT_POINTER_WIDTH,
            "lane": range(config.rows),
            "last": 1,
            "rows": range(config.rows + 1),
        }
    )


def request_stages(config: AcceleratorConfig) -> int:
    """Return the cycles from a sequencer's counters to the operand port."""
    return 2 + 2 * config.pipeline_mac


@dataclass(frozen=True)
class RequestPipeline:
    """Signals of a pipeline made by :func:`request_pipeline`.

    Attributes
    ----------
    advance
        The counters' step has been taken; they move on.
    waiting
        A step stands at the read port.
    step
        That step.
    issued
        It is granted in this cycle.
    busy
        A step is in one of the stages.
    range_error
        The step at the port reads beyond the scratchpad.
    """

    advance: Signal
    waiting: Signal
    step: data.View
    issued: Signal
    busy: Signal
    range_error: Signal


def request_pipeline(
    m: Module,
    config: AcceleratorConfig,
    cfg: data.View,
    operand: PureInterface,
    *,
    run: Signal,
    step: Mapping[str, ValueLike],
    admit: ValueLike,
    strided: Value,
    first: int,
    count: int,
) -> RequestPipeline:
    """Build the stages: one finds the bytes inside the line, the next one asks.

    The last one has two places, so that the grant does not reach the counters in the same cycle.  With ``pipeline_mac``
    the bytes take two cycles, and a third one finds their banks.

    Parameters
    ----------
    m
        The sequencer's module.
    config, cfg
        Configuration and the EXEC instruction.
    operand
        Port to drive, of :func:`~hw.ports.operand_signature`.
    run
        The counters describe a step.
    step
        It: the members of :func:`step_layout` (not named: 0).
    admit
        The step at the port may be issued; driven by the caller, from what it does with earlier steps.
    strided
        Every second pixel is read, one per column, the first of them is byte 0; constant while steps are under way.
    first, count
        Otherwise: bytes in use, each its lane's pixel.
    """
    layout = step_layout(config)
    request = operand.req
    bound = range_width(operand.signature.span)
    known = operand.signature.banks
    asked = data.StructLayout({"step": layout, "lo": bound, "hi": bound, **({"banks": known} if known else {})})
    m.submodules.port = port = RegisterSlice(asked)
    asking = port.o.p
    waiting = port.o.valid
    at_port = Signal(layout)
    pipeline = RequestPipeline(Signal(), waiting, at_port, Signal(), Signal(), Signal())

    found, found_valid, found_ready = Signal(layout), Signal(), Signal()
    with m.If(found_ready):
        m.d.sync += [found_valid.eq(run), *(found[name].eq(value) for name, value in step.items())]
    before, inside = pixel_bounds(m, found.x, cfg.in_w, strided)
    located, located_valid, located_ready = found, found_valid, port.i.ready
    busy: list[Value] = [found_valid, waiting]
    if config.pipeline_mac:
        ranged = Signal(data.StructLayout({"step": layout, "lo": bound, "hi": bound}))
        ranged_valid, ranged_ready = Signal(), Signal()
        located, located_valid, located_ready = Signal(layout), Signal(), Signal()
        busy += [located_valid, ranged_valid]
        bounds = Signal.like(before, name="located_before"), Signal.like(inside, name="located_inside")
        m.d.comb += [
            ranged_ready.eq(~ranged_valid | port.i.ready),
            located_ready.eq(~located_valid | ranged_ready),
        ]
        with m.If(located_ready):
            m.d.sync += [located_valid.eq(found_valid), located.eq(found), bounds[0].eq(before), bounds[1].eq(inside)]
        before, inside = bounds
    lo, hi = byte_range(
        m, before, inside, located.line_valid, strided, first=first, count=count, columns=config.cols
    )
    if config.pipeline_mac:
        with m.If(ranged_ready):
            m.d.sync += [ranged_valid.eq(located_valid), ranged.step.eq(located), ranged.lo.eq(lo), ranged.hi.eq(hi)]
        m.submodules.banks = needed = VectorAddress(config, operand.signature.span)
        m.d.comb += [
            needed.addr.eq(ranged.step.addr),
            needed.lo.eq(ranged.lo),
            needed.hi.eq(ranged.hi),
            port.i.valid.eq(ranged_valid),
            *(port.i.p[name].eq(ranged[name]) for name in ("step", "lo", "hi")),
            port.i.p.banks.eq(needed.banks),
            request.payload.banks.eq(asking.banks),
        ]
    else:
        m.d.comb += [port.i.valid.eq(found_valid), port.i.p.step.eq(found), port.i.p.lo.eq(lo), port.i.p.hi.eq(hi)]
    m.d.comb += [
        found_ready.eq(~found_valid | located_ready),
        port.o.ready.eq(pipeline.issued),
        at_port.eq(asking.step),
        pipeline.advance.eq(run & found_ready),
        pipeline.busy.eq(Cat(busy).any()),
        pipeline.range_error.eq(waiting & (asking.hi != 0) & (at_port.addr + asking.hi > config.act_bytes)),
    ]
    m.d.comb += [
        request.valid.eq(waiting & admit),
        request.payload.addr.eq(at_port.addr),
        request.payload.lo.eq(asking.lo),
        request.payload.hi.eq(asking.hi),
        request.payload.fill.eq(cfg.in_zp),
        request.payload.strided.eq(strided),
        pipeline.issued.eq(request.valid & request.ready),
    ]
    return pipeline
