"""AXI4-Lite port of the register block."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.axi import AXI4LiteSignature, Resp
from hw.csr_block import DATA_WIDTH, CSRBlock
from hw.formal.harness import Block, free, implies, past, reach, require, require_held, suppose_held
from hw.spec.config import preset
from hw.spec.csr import CSR_ADDR_WIDTH

__all__ = ["BLOCKS"]

READ_CYCLES = 2
WRITE_CYCLES = 2


class LiteHarness(wiring.Component):
    """``CSRBlock`` under any manager that keeps to AXI4-Lite."""

    def __init__(self) -> None:
        super().__init__({"axil": In(AXI4LiteSignature(CSR_ADDR_WIDTH, DATA_WIDTH)), **free(locked=1), "irq": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = CSRBlock(preset("tiny"))
        connect(m, flipped(self.axil), dut.axil)
        m.d.comb += [dut.locked.eq(self.locked), self.irq.eq(dut.irq)]
        bus = self.axil
        suppose_held(m, "aw_waits", bus.awvalid, bus.awready, bus.awaddr)
        suppose_held(m, "w_waits", bus.wvalid, bus.wready, bus.wdata, bus.wstrb)
        suppose_held(m, "ar_waits", bus.arvalid, bus.arready, bus.araddr)

        addresses, words, reads = Signal(3), Signal(3), Signal(3)  # taken and not yet answered
        aw, w, b = bus.awvalid & bus.awready, bus.wvalid & bus.wready, bus.bvalid & bus.bready
        ar, r = bus.arvalid & bus.arready, bus.rvalid & bus.rready
        m.d.sync += [addresses.eq(addresses + aw - b), words.eq(words + w - b), reads.eq(reads + ar - r)]
        require(m, "b_answers_address_and_data", implies(bus.bvalid, (addresses != 0) & (words != 0)))
        require(m, "r_answers_an_address", implies(bus.rvalid, reads != 0))
        require(m, "at_most_two_open", (addresses <= 2) & (words <= 2) & (reads <= 2))
        require_held(m, "b_waits", bus.bvalid, bus.bready, bus.bresp)
        require_held(m, "r_waits", bus.rvalid, bus.rready, bus.rdata, bus.rresp)
        for name, resp, valid in (("b", bus.bresp, bus.bvalid), ("r", bus.rresp, bus.rvalid)):
            require(m, f"{name}_is_okay_or_slverr", implies(valid, (resp == Resp.OKAY) | (resp == Resp.SLVERR)))
        for name, open_, cycles, valid in (
            ("b", (addresses != 0) & (words != 0), WRITE_CYCLES, bus.bvalid), ("r", reads != 0, READ_CYCLES, bus.rvalid)
        ):  # fmt: skip
            waits = Signal(3, name=f"{name}_waits")
            with m.If(open_ & ~valid):
                m.d.sync += waits.eq(waits + 1)
            with m.Else():
                m.d.sync += waits.eq(0)
            require(m, f"{name}_comes_within_{cycles}_cycles", waits < cycles)
        write = past(m, (addresses != 0) & (words != 0))
        require(m, "commands_need_a_write", implies(dut.start | dut.soft_reset, (addresses != 0) & (words != 0)))
        changed = dut.values.as_value() != past(m, dut.values.as_value(), init=dut.values.as_value().init)
        require(m, "registers_change_by_writes", implies(changed, write))
        require(m, "registers_are_locked", implies(changed, ~past(m, self.locked)))
        answered = Signal()
        with m.If(b):
            m.d.sync += answered.eq(1)
        reach(m, "answered_again", b & answered)
        reach(m, "data_before_address", (words != 0) & (addresses == 0))
        reach(m, "read_of_a_register", r & (bus.rresp == Resp.OKAY) & bus.rdata.any())
        reach(m, "error_answer", b & (bus.bresp == Resp.SLVERR))
        reach(m, "register_changes", changed)
        return m


_OUT = ("axil_awready", "axil_wready", "axil_bvalid", "axil_bresp", "axil_arready", "axil_rvalid", "axil_rdata",
        "axil_rresp", "irq")  # fmt: skip
_IN = ("axil_awvalid", "axil_awaddr", "axil_wvalid", "axil_wdata", "axil_wstrb", "axil_bready", "axil_arvalid",
       "axil_araddr", "axil_rready")  # fmt: skip

BLOCKS = (
    Block("csr_block", LiteHarness, depth=12, induction=2, pdr_seconds=30, independent=((_OUT, _IN),),
          assumes="the manager keeps VALID and payload until READY"),
)  # fmt: skip
