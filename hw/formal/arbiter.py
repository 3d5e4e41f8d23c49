"""Read arbiter: both managers' bursts and data, in order and to whom they belong."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.axi import AXI4ReadSignature
from hw.formal.harness import Block, free, implies, past, reach, require, require_held, suppose_constant, suppose_held
from hw.formal.queues import track
from hw.read_arbiter import ReadArbiter
from hw.spec.config import preset

__all__ = ["BLOCKS"]

_AR = ("addr", "len", "size", "burst", "lock", "cache", "prot", "qos", "region")
PLACES = 3
"""Addresses of one manager inside: two in its slice, one in the AR register."""


class ArbiterHarness(wiring.Component):
    """``ReadArbiter`` between any two managers and any memory, both keeping their offers."""

    def __init__(self) -> None:
        self.config = preset("tiny")
        bus = AXI4ReadSignature(self.config.axi_addr_width, self.config.axi_data_width)
        super().__init__(
            {
                "managers": In(bus).array(2),
                "axi": Out(bus),
                **free(chosen=1, item=6, chosen_beat=1, beat_item=6),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = ReadArbiter(self.config)
        axi = self.axi
        for outer, inner in zip(self.managers, dut.managers, strict=True):
            connect(m, flipped(outer), inner)
        connect(m, dut.axi, flipped(axi))
        item, beat_item = (suppose_constant(m, f"{n}_is_constant", getattr(self, n)) for n in ("item", "beat_item"))
        suppose_held(m, "r_waits", axi.rvalid, axi.rready, axi.rid, axi.rdata, axi.rresp, axi.rlast)
        require_held(m, "ar_waits", axi.arvalid, axi.arready, axi.arid, *(getattr(axi, f"ar{n}") for n in _AR))
        data_level = Signal(3)
        beat_in = axi.rvalid & axi.rready
        beats_out, levels = [], []
        for index, manager in enumerate(self.managers):
            fields = [getattr(manager, f"ar{name}") for name in _AR]
            suppose_held(m, f"ar{index}_waits", manager.arvalid, manager.arready, *fields)
            push = manager.arvalid & manager.arready
            pop = axi.arvalid & axi.arready & (axi.arid == index)
            level = Signal(4, name=f"level{index}")
            m.d.sync += level.eq(level + push - pop)
            inside, ahead = track(
                m, push=push, pop=pop, chosen=self.chosen & (manager.araddr[:6] == item), level=level, width=4
            )
            require(m, f"ar{index}_none_from_nowhere", implies(pop, level != 0))
            require(m, f"ar{index}_no_more_than_places", level <= PLACES)
            require(m, f"lemma_ar{index}_is_counted", implies(inside, ahead < level))
            require(m, f"ar{index}_in_order", implies(inside & pop & (ahead == 0), axi.araddr[:6] == item))
            beat = manager.rvalid & manager.rready
            beats_out.append(beat)
            levels.append(level)
            require_held(m, f"r{index}_waits", manager.rvalid, manager.rready, manager.rdata, manager.rresp,
                         manager.rlast)  # fmt: skip
            # Turns: while an address waits here, the other manager's go ahead at most PLACES times.
            other = Signal(3, name=f"others_while_{index}_waits")
            with m.If(level == 0):
                m.d.sync += other.eq(0)
            with m.Elif(axi.arvalid & axi.arready):
                m.d.sync += other.eq(Mux(axi.arid == index, 0, other + 1))
            require(m, f"ar{index}_gets_its_turn", other <= 2)
            reach(m, f"ar{index}_passes", pop & inside & (ahead == 0))
            reach(m, f"r{index}_passes", beat)
        # Nothing inside is lost: it is offered, an address after the cycle in which it passes to the AR register.
        inside = (levels[0] + levels[1]) != 0
        waits = past(m, inside) & inside & ~past(m, axi.arvalid & axi.arready)
        require(m, "ar_is_offered", implies(waits, axi.arvalid))
        beat_out = beats_out[0] | beats_out[1]
        offered = self.managers[0].rvalid | self.managers[1].rvalid
        require(m, "r_is_offered", implies(data_level != 0, offered))
        m.d.sync += data_level.eq(data_level + beat_in - beat_out)
        chosen = self.chosen_beat & (axi.rdata[:5] == beat_item[:5]) & (axi.rid == beat_item[5])
        inside, ahead = track(m, push=beat_in, pop=beat_out, chosen=chosen, level=data_level, width=3)
        goes = inside & beat_out & (ahead == 0)
        right = Mux(beat_item[5], beats_out[1], beats_out[0])
        data = Mux(beat_item[5], self.managers[1].rdata[:5], self.managers[0].rdata[:5])
        require(m, "r_to_its_manager", implies(goes, right & (data == beat_item[:5])))
        require(m, "r_to_one_only", ~(self.managers[0].rvalid & self.managers[1].rvalid))
        require(m, "r_none_from_nowhere", implies(beat_out, data_level != 0))
        require(m, "lemma_r_is_counted", implies(inside, ahead < data_level))
        require(m, "r_no_more_than_places", data_level <= 2)
        reach(m, "followed_beat_passes", goes)
        return m


_OUT = ("axi_arvalid", "axi_araddr", "axi_arlen", "axi_arid", "axi_rready",
        *(f"managers_{i}_{n}" for i in range(2) for n in ("arready", "rvalid", "rdata", "rresp", "rlast")))  # fmt: skip
_IN = ("axi_arready", "axi_rvalid", "axi_rdata", "axi_rlast", "axi_rid",
       *(f"managers_{i}_{n}" for i in range(2) for n in ("arvalid", "araddr", "arlen", "rready")))  # fmt: skip

BLOCKS = (
    Block("read_arbiter", ArbiterHarness, depth=12, induction=2, pdr_seconds=40, independent=((_OUT, _IN),),
          assumes="both managers keep ARVALID and payload, the memory keeps RVALID and payload, until READY"),
)  # fmt: skip
