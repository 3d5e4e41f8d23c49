"""Store unit: STORE instructions, activation scratchpad to DRAM, as an AXI4 write manager."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Shape, Signal
from amaranth.lib import data
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Out

from hw.axi import AXI4WriteSignature, Burst, Cache, RegisterSlice, Resp
from hw.burst import BurstGenerator
from hw.layouts import DMA_EVENTS_LAYOUT, PC_WIDTH, REGIONS_LAYOUT
from hw.open_bursts import OpenBursts
from hw.ports import UnitSignature, read_signature
from hw.scratchpad import VectorAddress
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import STORE

__all__ = ["StoreUnit"]

DATA_BEATS = 16
"""Beats between scratchpad request and bus: the round trip of a credit is 7 or 8 cycles, the rest bridges stalls."""


class StoreUnit(Component):
    """Executes STORE instructions.

    A burst's address is put on AW together with its first scratchpad read, and up to `outstanding` bursts wait for
    their response, so one beat per cycle is sustained over rows and instructions.  AWVALID rises 5 cycles after an
    instruction was accepted and its first WVALID 4 cycles later (with ``pipeline_mac`` 5); ``done`` comes the cycle
    after the last response was accepted.  All AXI outputs come from registers; scratchpad reads are only asked for when
    the data buffer has room.

    The first fault is reported and stops the unit, as ``unit.abort`` does: no burst is begun, the one in progress is
    completed (the scratchpad port must go on answering), then ``idle`` rises when all responses have come.  Reset
    empties everything, so it must wait for ``idle``.

    Parameters
    ----------
    config : AcceleratorConfig
    outstanding : int
        Bursts that may wait for their response at once, at least 2.
    instructions : int
        Instructions that may be unfinished at once, at least 2.

    Members
    -------
    unit : Out(UnitSignature)
        Faults are those of :class:`hw.burst.BurstGenerator` and AXI_WRITE (info: address of the burst, low 32 bits).
    axi : Out(AXI4WriteSignature)
        AWID is 0; INCR bursts of whole beats, WSTRB selects the row's bytes, the other bytes are 0.
    act : Out(ReadSignature)
        Lane 0 at the beat's own alignment.
    regions : In(REGIONS_LAYOUT)
    events : Out(DMA_EVENTS_LAYOUT)
        ``busy``: an instruction is unfinished; ``dram``: write data waits for the bus; ``port``: a read waits for the
        scratchpad; ``bytes``: read in this cycle, which will be strobed bytes.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    def __init__(self, config: AcceleratorConfig, *, outstanding: int = 64, instructions: int = 16) -> None:
        for name, value in (("outstanding", outstanding), ("instructions", instructions)):
            if value < 2:
                raise ValueError(f"{name}={value} must be at least 2")
        self.config, self.outstanding, self.instructions = config, outstanding, instructions
        super().__init__(
            {
                "unit": Out(UnitSignature()),
                "axi": Out(AXI4WriteSignature(config.axi_addr_width, config.axi_data_width)),
                "act": Out(read_signature(config, config.axi_bytes)),
                "regions": In(REGIONS_LAYOUT),
                "events": Out(DMA_EVENTS_LAYOUT),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        axi, unit = self.axi, self.unit
        lanes = config.axi_bytes

        m.submodules.bursts = bursts = BurstGenerator(config, STORE)
        m.submodules.pcs = pcs = SyncFIFOBuffered(width=PC_WIDTH, depth=self.instructions)
        open_layout = data.StructLayout({"addr": 32, "last": 1})
        m.submodules.opened = opened = OpenBursts(open_layout, self.outstanding)
        beat_layout = data.StructLayout({"data": config.axi_data_width, "strb": lanes, "last": 1})
        m.submodules.beats = beats = SyncFIFOBuffered(width=Shape.cast(beat_layout).width, depth=DATA_BEATS)

        error_valid = Signal()
        halted = Signal()
        m.d.comb += [
            halted.eq(error_valid | unit.abort),
            bursts.regions.eq(self.regions),
            bursts.halt.eq(halted),
        ]

        # Instructions in.
        accept = Signal()
        m.d.comb += [
            unit.instr.ready.eq(bursts.instr.ready & pcs.w_rdy),
            bursts.instr.valid.eq(unit.instr.valid & pcs.w_rdy),
            bursts.instr.payload.eq(unit.instr.payload),
            accept.eq(unit.instr.valid & unit.instr.ready),
            pcs.w_en.eq(accept),
            pcs.w_data.eq(unit.instr.payload.pc),
        ]

        # Walk a burst's beats; the first opens it: AW register and list of open bursts.
        burst, req = bursts.burst, self.act.req
        begun = Signal()
        left = Signal(8)
        next_left = Signal(8)
        next_mem = Signal.like(burst.p.mem)
        mem = Signal.like(burst.p.mem)
        credits = Signal(range(DATA_BEATS + 1), init=DATA_BEATS)
        may_begin = Signal()
        ask = Signal()
        begin = Signal()
        final = Signal()
        # Two places, so that the way from the scratchpad's answer ends here.
        names = [name for name in ("addr", "lo", "hi", "banks") if name in req.p.shape().members]
        asked_layout = data.StructLayout({**{name: req.p[name].shape() for name in names}, "last": 1})
        m.submodules.asked = asked = RegisterSlice(asked_layout)
        m.d.comb += [
            may_begin.eq(~halted & opened.w_rdy & (~axi.awvalid | axi.awready)),
            ask.eq(burst.valid & (credits != 0) & asked.i.ready & (begun | may_begin)),
            begin.eq(ask & ~begun),
            left.eq(Mux(begun, next_left, burst.p.len)),
            mem.eq(Mux(begun, next_mem, burst.p.mem)),
            final.eq(left == 0),
            burst.ready.eq(ask & final),
            opened.w_en.eq(begin),
            opened.w_data.addr.eq(burst.p.addr),
            opened.w_data.last.eq(burst.p.last),
            axi.awsize.eq((lanes - 1).bit_length()),
            axi.awburst.eq(Burst.INCR),
            axi.awcache.eq(Cache.NORMAL_BUFFERABLE),
        ]
        with m.If(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        with m.If(begin):
            m.d.sync += [axi.awvalid.eq(1), axi.awaddr.eq(burst.p.addr), axi.awlen.eq(burst.p.len)]
        m.d.comb += [
            asked.i.valid.eq(ask),
            asked.i.p.addr.eq(mem),
            asked.i.p.lo.eq(Mux(begun, 0, burst.p.lo)),
            asked.i.p.hi.eq(Mux(final, burst.p.hi, lanes)),
            asked.i.p.last.eq(final),
            req.valid.eq(asked.o.valid),
            *(req.p[name].eq(asked.o.p[name]) for name in names),
            asked.o.ready.eq(req.ready),
        ]
        if "banks" in names:
            m.submodules.banks = needed = VectorAddress(config, lanes)
            m.d.comb += [getattr(needed, name).eq(asked.i.p[name]) for name in ("addr", "lo", "hi")]
            m.d.comb += asked.i.p.banks.eq(needed.banks)
        with m.If(ask):
            m.d.sync += [
                begun.eq(~final),
                next_left.eq(left - 1),
                next_mem.eq(mem + lanes),
            ]

        # Read data follows its accepted request by READ_LATENCY cycles.
        tag_layout = data.StructLayout({"valid": 1, "strb": lanes, "last": 1})
        tags = [Signal(tag_layout, name=f"tag{age}") for age in range(1, self.act.signature.READ_LATENCY + 1)]
        m.d.sync += [
            tags[0].valid.eq(req.valid & req.ready),
            tags[0].strb.eq(Cat((req.p.lo <= lane) & (lane < req.p.hi) for lane in range(lanes))),
            tags[0].last.eq(asked.o.p.last),
            [later.eq(sooner) for sooner, later in pairwise(tags)],
        ]
        m.d.comb += [
            beats.w_en.eq(tags[-1].valid),
            beats.w_data.eq(Cat(self.act.data, tags[-1].strb, tags[-1].last)),
        ]

        # Write data; a credit is a place in `beats`.
        beat = data.View(beat_layout, beats.r_data)
        sent = Signal()
        m.d.comb += [
            axi.wvalid.eq(beats.r_rdy),
            axi.wdata.eq(beat.data),
            axi.wstrb.eq(beat.strb),
            axi.wlast.eq(beat.last),
            beats.r_en.eq(axi.wready),
            sent.eq(axi.wvalid & axi.wready),
        ]
        m.d.sync += credits.eq(credits - ask + sent)

        # Responses.
        oldest = opened.r_data
        answer = Signal()
        broken = Signal()
        finish = Signal()
        m.d.comb += [
            axi.bready.eq(opened.r_rdy),
            answer.eq(axi.bvalid & axi.bready),
            opened.r_en.eq(answer),
            broken.eq(axi.bresp != Resp.OKAY),
            finish.eq(answer & oldest.last & ~broken & ~halted),
            pcs.r_en.eq(finish),
        ]
        m.d.sync += unit.done.eq(finish)
        quiet = Signal()
        m.d.comb += [
            quiet.eq((pcs.level == 0) & ~unit.done),
            unit.idle.eq(Mux(halted, opened.empty, quiet)),
            unit.progress.eq(
                accept | (req.valid & req.ready) | sent | answer | unit.done | (axi.awvalid & axi.awready)
            ),
        ]

        # First fault; a bus error belongs to an older instruction than a fault found before the bus.
        m.d.comb += unit.error.valid.eq(error_valid)
        with m.If(~halted):
            with m.If(answer & broken):
                m.d.sync += [
                    error_valid.eq(1),
                    unit.error.cause.eq(ErrorCause.AXI_WRITE),
                    unit.error.pc.eq(pcs.r_data),
                    unit.error.info.eq(oldest.addr),
                ]
            with m.Elif(bursts.fault.valid):
                m.d.sync += [
                    error_valid.eq(1),
                    unit.error.cause.eq(bursts.fault.cause),
                    unit.error.pc.eq(bursts.fault.pc),
                    unit.error.info.eq(bursts.fault.info),
                ]

        m.d.comb += [
            self.events.busy.eq(~unit.idle),
            self.events.dram.eq(axi.wvalid & ~axi.wready),
            self.events.port.eq(req.valid & ~req.ready),
            self.events.bytes.eq(Mux(req.valid & req.ready, req.p.hi - req.p.lo, 0)),
        ]
        return m
