"""The host link's bus: single words of memory, of the accelerator's registers and of the identity."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Const, Module, Signal
from amaranth.lib import data, enum, stream
from amaranth.lib.wiring import Component, In, Out

from hw.axi import AXI4LiteSignature, Resp
from hw.soc.axi_memory import HOST_BITS, HostPortSignature
from hw.spec.csr import CSR_ADDR_WIDTH

__all__ = ["Area", "LinkBus"]


class Area(enum.Enum, shape=2):
    """What a request goes to."""

    MEMORY = 0
    CSR = 1
    IDENTITY = 2


class LinkBus(Component):
    """Carries out word transfers, one at a time.

    Memory and identity answer 5 cycles after a request, the registers when their bus does.

    Parameters
    ----------
    memory_words : int
        Words of 4 bytes in the memory.
    identity : sequence of int
        Values of the identity words.

    Members
    -------
    request : In(stream)
        ``area``, ``write``, ``word`` (index within the area, in range), ``data``.
    answer : Out(stream)
        ``data`` of a read, ``error``; always ready.
    memory : Out(HostPortSignature)
    csr : Out(AXI4LiteSignature)

    Reset drops the transfer under way, so memory and registers must be reset with it.
    """

    def __init__(self, memory_words: int, identity: Sequence[int]) -> None:
        self.identity = tuple(identity)
        self.layout = data.StructLayout(
            {"area": Area, "write": 1, "word": range(max(memory_words, 1 << CSR_ADDR_WIDTH - 2)), "data": HOST_BITS}
        )
        super().__init__(
            {
                "request": In(stream.Signature(self.layout)),
                "answer": Out(
                    stream.Signature(data.StructLayout({"data": HOST_BITS, "error": 1}), always_ready=True)
                ),
                "memory": Out(HostPortSignature(memory_words)),
                "csr": Out(AXI4LiteSignature(CSR_ADDR_WIDTH, HOST_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        memory, csr, answer = self.memory, self.csr, self.answer
        held = Signal(self.layout)
        wait = Signal(range(HostPortSignature.READ_LATENCY + 1))
        words = Array(Const(value, HOST_BITS) for value in self.identity)
        m.d.comb += [
            memory.we.eq(held.write),
            memory.addr.eq(held.word),
            memory.wdata.eq(held.data),
            csr.awaddr.eq(held.word << 2),
            csr.araddr.eq(held.word << 2),
            csr.wdata.eq(held.data),
            csr.wstrb.eq(-1),
            csr.bready.eq(1),
            csr.rready.eq(1),
        ]
        m.d.sync += [memory.en.eq(0), answer.valid.eq(0)]
        with m.FSM(name="bus"):
            with m.State("IDLE"):
                m.d.comb += self.request.ready.eq(1)
                m.d.sync += [held.eq(self.request.p), wait.eq(HostPortSignature.READ_LATENCY)]
                with m.If(self.request.valid):
                    is_csr = self.request.p.area == Area.CSR
                    m.d.sync += [
                        memory.en.eq(self.request.p.area == Area.MEMORY),
                        csr.awvalid.eq(is_csr & self.request.p.write),
                        csr.wvalid.eq(is_csr & self.request.p.write),
                        csr.arvalid.eq(is_csr & ~self.request.p.write),
                    ]
                    with m.If(is_csr):
                        m.next = "CSR"
                    with m.Else():
                        m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += [wait.eq(wait - 1), answer.p.error.eq(0)]
                with m.If(held.area == Area.IDENTITY):
                    m.d.sync += answer.p.data.eq(words[held.word])
                with m.Else():
                    m.d.sync += answer.p.data.eq(memory.rdata)
                with m.If(wait == 0):
                    m.d.sync += answer.valid.eq(1)
                    m.next = "IDLE"
            with m.State("CSR"):
                for channel in ("aw", "w", "ar"):
                    with m.If(getattr(csr, f"{channel}ready")):
                        m.d.sync += getattr(csr, f"{channel}valid").eq(0)
                with m.If(csr.bvalid):
                    m.d.sync += answer.p.error.eq(csr.bresp != Resp.OKAY)
                with m.Else():
                    m.d.sync += [answer.p.data.eq(csr.rdata), answer.p.error.eq(csr.rresp != Resp.OKAY)]
                with m.If(csr.bvalid | csr.rvalid):
                    m.d.sync += answer.valid.eq(1)
                    m.next = "IDLE"
        return m
