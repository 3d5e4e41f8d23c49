"""From a sequencer's counters to its operand read: two registered stages with the way back for stalls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from amaranth.hdl import Module, Signal, Value, ValueLike, signed
from amaranth.lib import data
from amaranth.lib.wiring import PureInterface

from hw.spec.config import AcceleratorConfig
from hw.window import X_WIDTH, byte_range

__all__ = ["POINTER_WIDTH", "WEIGHT_POINTER_WIDTH", "RequestPipeline", "request_pipeline", "step_layout"]

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
    found, found_valid = Signal(layout), Signal()
    at_port, waiting = Signal(layout), Signal()
    request = operand.req
    port_lo, port_hi, beyond = Signal.like(request.payload.lo), Signal.like(request.payload.hi), Signal()
    pipeline = RequestPipeline(Signal(), waiting, at_port, Signal(), Signal(), Signal())

    found_ready, port_ready = Signal(), Signal()
    m.d.comb += [
        port_ready.eq(~waiting | pipeline.issued),
        found_ready.eq(~found_valid | port_ready),
        pipeline.advance.eq(run & found_ready),
        pipeline.busy.eq(found_valid | waiting),
        pipeline.range_error.eq(waiting & beyond),
    ]
    with m.If(found_ready):
        m.d.sync += [found_valid.eq(run), *(found[name].eq(value) for name, value in step.items())]
    lo, hi = byte_range(
        m, found.x, cfg.in_w, found.line_valid, strided, first=first, count=count, columns=config.cols
    )
    with m.If(port_ready):
        m.d.sync += [
            waiting.eq(found_valid),
            at_port.eq(found),
            port_lo.eq(lo),
            port_hi.eq(hi),
            beyond.eq((hi != 0) & (found.addr + hi > config.act_bytes)),
        ]
    m.d.comb += [
        request.valid.eq(waiting & admit),
        request.payload.addr.eq(at_port.addr),
        request.payload.lo.eq(port_lo),
        request.payload.hi.eq(port_hi),
        request.payload.fill.eq(cfg.in_zp),
        request.payload.strided.eq(strided),
        pipeline.issued.eq(request.valid & request.ready),
    ]
    return pipeline
