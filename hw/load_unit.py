"""Load unit: LOAD instructions, DRAM to on-chip memory, as an AXI4 read manager."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Out

from hw.axi import AXI4ReadSignature, Burst, Cache, RegisterSlice, Resp
from hw.burst import BurstGenerator, beat_addr_width, burst_layout
from hw.layouts import DMA_EVENTS_LAYOUT, PC_WIDTH, REGIONS_LAYOUT
from hw.open_bursts import OpenBursts
from hw.ports import UnitSignature, WriteSignature, write_signature
from hw.scratchpad import VectorAddress
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import LOAD, Target

__all__ = ["LoadUnit"]


class LoadUnit(Component):
    """Executes LOAD instructions.

    Bursts are requested ahead, across rows and instructions, until `outstanding` of them are open; so one beat per
    cycle is written as long as the bursts in `outstanding` cover the memory's latency.  ARVALID rises 5 cycles after
    an instruction was accepted; a beat is written 2 cycles after RVALID & RREADY; ``done`` comes 2 cycles after the
    last write was accepted.  All AXI outputs come from registers (RREADY: of a 2-beat buffer that waits only for the
    on-chip write port).

    The first fault is reported and stops the unit, as ``unit.abort`` does: no burst is begun, a raised ARVALID stays
    until accepted, data still to come is thrown away, then ``idle`` rises.  Reset empties everything, so it must wait
    for ``idle``.

    Parameters
    ----------
    config : AcceleratorConfig
    outstanding : int
        Bursts that may be open at once, at least 2.
    instructions : int
        Instructions that may be unfinished at once, at least 2.

    Members
    -------
    unit : Out(UnitSignature)
        Faults are those of :class:`hw.burst.BurstGenerator` and AXI_READ (info: address of the burst, low 32 bits).
    axi : Out(AXI4ReadSignature)
        ARID is 0; INCR bursts of whole beats.
    act : Out(WriteSignature)
        Writes with target ACT, lane 0 at the beat's own alignment.
    weight_en, weight_addr, weight_data : Out
        Writes of whole beats with target WEIGHT, always accepted; the address counts beats.
    param_en, param_addr, param_data : Out
        The same for target PARAM.
    regions : In(REGIONS_LAYOUT)
    events : Out(DMA_EVENTS_LAYOUT)
        ``busy``: an instruction is unfinished; ``dram``: one is, a beat could be written and none is there; ``port``:
        a beat waits for the scratchpad; ``bytes``: of whole beats taken from DRAM in this cycle.

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
                "axi": Out(AXI4ReadSignature(config.axi_addr_width, config.axi_data_width)),
                "act": Out(write_signature(config, config.axi_bytes)),
                "weight_en": Out(1),
                "weight_addr": Out(beat_addr_width(config, config.weight_bytes)),
                "weight_data": Out(config.axi_data_width),
                "param_en": Out(1),
                "param_addr": Out(beat_addr_width(config, config.param_bytes)),
                "param_data": Out(config.axi_data_width),
                "regions": In(REGIONS_LAYOUT),
                "events": Out(DMA_EVENTS_LAYOUT),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        axi, unit = self.axi, self.unit
        beat_bits = (config.axi_bytes - 1).bit_length()

        m.submodules.bursts = bursts = BurstGenerator(config, LOAD)
        m.submodules.pcs = pcs = SyncFIFOBuffered(width=PC_WIDTH, depth=self.instructions)
        open_layout = data.StructLayout(
            {**{name: burst_layout(config).members[name] for name in ("mem", "lo", "hi", "target", "last")}, "addr": 32}
        )
        m.submodules.opened = opened = OpenBursts(open_layout, self.outstanding)
        beat_layout = data.StructLayout({"data": config.axi_data_width, "resp": 2, "last": 1})
        m.submodules.beats = beats = RegisterSlice(beat_layout)

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

        # Bursts out: into the AR register and the list of open bursts at once.
        burst = bursts.burst
        m.d.comb += [
            axi.arsize.eq(beat_bits),
            axi.arburst.eq(Burst.INCR),
            axi.arcache.eq(Cache.NORMAL_BUFFERABLE),
            burst.ready.eq(~halted & opened.w_rdy & (~axi.arvalid | axi.arready)),
            opened.w_en.eq(burst.valid & burst.ready),
            *(opened.w_data[name].eq(burst.p[name]) for name in open_layout.members),
        ]
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.If(opened.w_en):
            m.d.sync += [axi.arvalid.eq(1), axi.araddr.eq(burst.p.addr), axi.arlen.eq(burst.p.len)]

        # Beats in.
        beat = beats.o.p
        m.d.comb += [
            beats.i.valid.eq(axi.rvalid),
            beats.i.p.data.eq(axi.rdata),
            beats.i.p.resp.eq(axi.rresp),
            beats.i.p.last.eq(axi.rlast),
            axi.rready.eq(beats.i.ready),
        ]

        # Take a beat into the write register, or throw it away.
        head = opened.r_data
        write_layout = data.StructLayout(
            {
                **{name: open_layout[name].shape for name in ("mem", "lo", "hi", "target")},
                "data": config.axi_data_width,
                "last": 1,
                "banks": self.act.signature.banks,
            }
        )
        # Two places, so that the way from the scratchpad's answer ends here.
        m.submodules.writes = writes = RegisterSlice(write_layout)
        write = writes.o.p
        to_act = Signal()
        free = writes.i.ready
        take = Signal()
        broken = Signal()
        begun = Signal()
        next_mem = Signal.like(write.mem)
        mem = Signal.like(write.mem)
        m.d.comb += [
            to_act.eq(write.target == Target.ACT),
            writes.o.ready.eq(~to_act | self.act.req.ready),
            take.eq(beats.o.valid & opened.r_rdy & free),
            beats.o.ready.eq(take),
            broken.eq(beat.resp != Resp.OKAY),
            opened.r_en.eq(take & beat.last),
            pcs.r_en.eq(opened.r_en & head.last & ~halted & ~broken),
            mem.eq(Mux(begun, next_mem, head.mem)),
        ]
        m.d.comb += [
            writes.i.valid.eq(take & ~halted & ~broken),
            writes.i.p.mem.eq(mem),
            writes.i.p.lo.eq(Mux(begun, 0, head.lo)),
            writes.i.p.hi.eq(Mux(beat.last, head.hi, config.axi_bytes)),
            writes.i.p.target.eq(head.target),
            writes.i.p.last.eq(beat.last & head.last),
            writes.i.p.data.eq(beat.data),
        ]
        if self.act.signature.banks:
            m.submodules.banks = needed = VectorAddress(config, config.axi_bytes)
            m.d.comb += [needed.addr.eq(mem), needed.lo.eq(writes.i.p.lo), needed.hi.eq(writes.i.p.hi)]
            m.d.comb += [writes.i.p.banks.eq(needed.banks), self.act.req.p.banks.eq(write.banks)]
        with m.If(take):
            m.d.sync += [begun.eq(~beat.last), next_mem.eq(mem + config.axi_bytes)]

        # Write.
        m.d.comb += [
            self.act.req.valid.eq(writes.o.valid & to_act),
            self.act.req.p.addr.eq(write.mem),
            self.act.req.p.lo.eq(write.lo),
            self.act.req.p.hi.eq(write.hi),
            self.act.req.p.data.eq(write.data),
            self.weight_en.eq(writes.o.valid & (write.target == Target.WEIGHT)),
            self.weight_addr.eq(write.mem >> beat_bits),
            self.weight_data.eq(write.data),
            self.param_en.eq(writes.o.valid & (write.target == Target.PARAM)),
            self.param_addr.eq(write.mem >> beat_bits),
            self.param_data.eq(write.data),
        ]

        # Done once the write is visible: a write accepted in cycle t is seen from cycle t + 1 + WRITE_LATENCY on.
        settling = Signal(1 + WriteSignature.WRITE_LATENCY)
        m.d.sync += settling.eq(Cat(writes.o.valid & write.last & writes.o.ready, settling))
        quiet = Signal()
        m.d.comb += [
            unit.done.eq(settling[-1]),
            quiet.eq((pcs.level == 0) & ~writes.o.valid & ~settling.any()),
            unit.idle.eq(Mux(halted, (opened.empty) & ~writes.o.valid, quiet)),
            unit.progress.eq(accept | take | unit.done | (axi.arvalid & axi.arready)),
        ]

        # First fault; a bus error belongs to an older instruction than a fault found before the bus.
        m.d.comb += unit.error.valid.eq(error_valid)
        with m.If(~halted):
            with m.If(take & broken):
                m.d.sync += [
                    error_valid.eq(1),
                    unit.error.cause.eq(ErrorCause.AXI_READ),
                    unit.error.pc.eq(pcs.r_data),
                    unit.error.info.eq(head.addr),
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
            self.events.dram.eq(~unit.idle & free & ~beats.o.valid),
            self.events.port.eq(self.act.req.valid & ~self.act.req.ready),
            self.events.bytes.eq(Mux(take, config.axi_bytes, 0)),
        ]
        return m
