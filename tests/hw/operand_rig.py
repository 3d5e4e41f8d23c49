"""A sequencer with the loops around it and the stages behind it, which the execute unit has for all sequencers."""

from __future__ import annotations

from amaranth.hdl import Module

from hw.gemm_sequencer import GemmSequencer
from hw.operand_request import OperandRequest
from hw.stos_sequencer import StosSequencer
from hw.tile_walk import TileWalk


def with_requests(sequencer: GemmSequencer | StosSequencer) -> tuple[Module, OperandRequest]:
    """Return all in a module, and the stages."""
    m = Module()
    requests = OperandRequest(sequencer.config)
    m.submodules.walk = walk = TileWalk(sequencer.config)
    m.submodules += [sequencer, requests]
    m.d.comb += [
        walk.cfg.eq(sequencer.cfg),
        walk.walk.eq(sequencer.walk),
        sequencer.place.eq(walk.place),
        sequencer.answer.eq(walk.answer),
        requests.in_w.eq(sequencer.cfg.in_w),
        requests.in_zp.eq(sequencer.cfg.in_zp),
        requests.steps.valid.eq(sequencer.steps.valid),
        requests.steps.payload.eq(sequencer.steps.payload),
        sequencer.steps.ready.eq(requests.steps.ready),
        requests.strided.eq(sequencer.strided),
        requests.window.eq(isinstance(sequencer, StosSequencer)),
        requests.admit.eq(sequencer.admit),
        *(getattr(sequencer.port, name).eq(getattr(requests.port, name)) for name in sequencer.port.signature.members),
    ]
    return m, requests
