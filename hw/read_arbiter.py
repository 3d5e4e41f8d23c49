"""Read arbiter: instruction fetch and load unit share one AXI4 read port."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hw.axi import AXI4ReadSignature, RegisterSlice
from hw.spec.config import AcceleratorConfig

__all__ = ["ReadArbiter"]

_ADDRESS = ("addr", "len", "size", "burst", "lock", "cache", "prot", "qos", "region")


class ReadArbiter(Component):
    """Merges two AXI4 read managers; ARID tells them apart and RID routes the data back.

    When both ask, they take turns burst by burst.  An address passes in 2 cycles, data in 1; one address and one
    beat per cycle are sustained.  Every VALID, READY and payload on either side comes from registers (RVALID towards
    a manager: from a register and the buffered RID).  Reset empties everything, so it must wait for both managers to
    be idle.

    Data of both managers passes one buffer, so a manager that leaves RREADY low also holds up the other.  Therefore
    manager 0 (fetch) must only ask for what it has room for, and may never make RREADY wait for manager 1's progress.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    managers : In(AXI4ReadSignature) x 2
        0: instruction fetch, 1: load unit.  Their ARID is ignored; RID is 0.
    axi : Out(AXI4ReadSignature)
        ARID is the manager's index.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        signature = AXI4ReadSignature(config.axi_addr_width, config.axi_data_width)
        self.config = config
        super().__init__({"managers": In(signature).array(2), "axi": Out(signature)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        address_layout = data.StructLayout({name: getattr(axi, f"ar{name}").shape() for name in _ADDRESS})
        waiting = []
        for index, manager in enumerate(self.managers):
            m.submodules[f"address{index}"] = address = RegisterSlice(address_layout)
            waiting.append(address.o)
            m.d.comb += [
                address.i.valid.eq(manager.arvalid),
                [address.i.p[name].eq(getattr(manager, f"ar{name}")) for name in _ADDRESS],
                manager.arready.eq(address.i.ready),
            ]

        # AR register; `axi.arid` is also whose turn it last was.
        choice = Signal()
        free = Signal()
        chosen = Signal(address_layout)
        m.d.comb += [
            choice.eq(Mux(waiting[0].valid & waiting[1].valid, ~axi.arid, waiting[1].valid)),
            free.eq(~axi.arvalid | axi.arready),
            chosen.eq(Mux(choice, waiting[1].payload, waiting[0].payload)),
            waiting[0].ready.eq(free & ~choice),
            waiting[1].ready.eq(free & choice),
        ]
        with m.If(free):
            m.d.sync += axi.arvalid.eq(waiting[0].valid | waiting[1].valid)
            with m.If(waiting[0].valid | waiting[1].valid):
                m.d.sync += [axi.arid.eq(choice), [getattr(axi, f"ar{name}").eq(chosen[name]) for name in _ADDRESS]]

        m.submodules.beats = beats = RegisterSlice(
            data.StructLayout({"id": 1, "data": self.config.axi_data_width, "resp": 2, "last": 1})
        )
        beat = beats.o.p
        m.d.comb += [
            beats.i.valid.eq(axi.rvalid),
            beats.i.p.id.eq(axi.rid),
            beats.i.p.data.eq(axi.rdata),
            beats.i.p.resp.eq(axi.rresp),
            beats.i.p.last.eq(axi.rlast),
            axi.rready.eq(beats.i.ready),
            beats.o.ready.eq(Mux(beat.id, self.managers[1].rready, self.managers[0].rready)),
        ]
        for index, manager in enumerate(self.managers):
            m.d.comb += [
                manager.rvalid.eq(beats.o.valid & (beat.id == index)),
                manager.rdata.eq(beat.data),
                manager.rresp.eq(beat.resp),
                manager.rlast.eq(beat.last),
            ]
        return m
