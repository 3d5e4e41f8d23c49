"""Control and status registers behind an AXI4-Lite subordinate, built from the tables of :mod:`hw.spec.csr`."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, ValueLike, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.axi import AXI4LiteSignature, Resp
from hw.layouts import REGIONS_LAYOUT, Lanes, table_layout
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import (
    COUNTER_WIDTH,
    COUNTERS,
    CSR_ADDR_WIDTH,
    MAGIC,
    REGION_COUNT,
    REGISTERS,
    WATCHDOG_DEFAULT,
    Access,
    Counter,
    Register,
)
from hw.spec.isa import ISA_VERSION

__all__ = ["STATE_REGISTERS", "CSRBlock", "identity_values"]

DATA_WIDTH = 32

STATE_REGISTERS = ("STATUS", "ERR_CAUSE", "ERR_PC", "ERR_INFO")
"""Read-only registers whose value the accelerator provides while it runs."""

_STROBES = DATA_WIDTH // 8
_LATCH_WIDTH = COUNTER_WIDTH - DATA_WIDTH


def _width(register: Register) -> int:
    return register.fields.used if register.fields is not None else DATA_WIDTH


def identity_values(config: AcceleratorConfig) -> dict[str, int]:
    """Return the values of the registers that identify the accelerator and its configuration, by name."""

    def packed(name: str, **values: int) -> int:
        table = REGISTERS[name].fields
        assert table is not None
        return table.encode(values)

    return {
        "MAGIC": MAGIC,
        "ISA_VERSION": ISA_VERSION,
        "HASH_LO": config.hash & 0xFFFF_FFFF,
        "HASH_HI": config.hash >> 32,
        "SHAPE": packed("SHAPE", rows=config.rows, cols=config.cols),
        "FEATURES": packed(
            "FEATURES", stos=config.stos, pipeline_mac=config.pipeline_mac, max_kernel=config.max_kernel
        ),
    }


class CSRBlock(wiring.Component):
    """Register file on AXI4-Lite.

    Write address and write data may come in either order and are taken independently.  A write takes effect one cycle
    after both are there and is answered in the cycle after that; a read is answered two cycles after its address.
    One transfer per direction is in work at a time.  Address bits 1:0 are ignored.  Byte strobes hold for every
    register: a byte without strobe keeps its value (RW) or counts as 0 (W1C, WO).

    The answer is SLVERR, and nothing is changed, for an address that has no register, a write to an RO register,
    and a write to an RW register while `locked`.

    Reading a counter's LO half latches its upper bits; every HI half shows what the last LO read latched.

    Parameters
    ----------
    config
        Gives the identity registers.

    Members
    -------
    axil : In(AXI4LiteSignature)
    locked : In(1)
        RW registers are in use.
    state : In(struct)
        Values of :data:`STATE_REGISTERS`.
    irq_set : In(struct)
        Fields of IRQ_STATUS to set; wins over a clear in the same cycle.
    counters : In(ArrayLayout)
        Counter values, by :class:`~hw.spec.csr.Counter`.
    start, soft_reset : Out(1)
        One cycle each when CTRL asks for it.
    values : Out(struct)
        Every RW register under its own name.
    regions : Out(REGIONS_LAYOUT)
        The REGION registers, gathered.
    irq : Out(1)
        Some enabled interrupt is pending (registered).

    All RW registers reset to 0 except WATCHDOG (:data:`~hw.spec.csr.WATCHDOG_DEFAULT`); none is touched by a soft
    reset, nor is IRQ_STATUS.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self._writable = [r for r in REGISTERS.values() if r.access is Access.RW]
        self._pending = REGISTERS["IRQ_STATUS"].fields
        assert self._pending is not None
        super().__init__(
            {
                "axil": In(AXI4LiteSignature(CSR_ADDR_WIDTH, DATA_WIDTH)),
                "locked": In(1),
                "state": In(data.StructLayout({name: unsigned(_width(REGISTERS[name])) for name in STATE_REGISTERS})),
                "irq_set": In(table_layout(self._pending)),
                "counters": In(Lanes(COUNTER_WIDTH, len(COUNTERS))),
                "start": Out(1),
                "soft_reset": Out(1),
                "values": Out(
                    data.StructLayout({r.name: unsigned(_width(r)) for r in self._writable}),
                    init={"WATCHDOG": WATCHDOG_DEFAULT},
                ),
                "regions": Out(REGIONS_LAYOUT),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        irq_status = Signal(table_layout(self._pending))
        self._write_channel(m, irq_status)
        self._read_channel(m, irq_status)
        for index in range(REGION_COUNT):
            low, high = self.values[f"REGION{index}_BASE_LO"], self.values[f"REGION{index}_BASE_HI"]
            m.d.comb += [
                self.regions[index].base.eq(Cat(low, high)),
                self.regions[index].size.eq(self.values[f"REGION{index}_SIZE"]),
            ]
        m.d.sync += self.irq.eq((irq_status.as_value() & self.values["IRQ_ENABLE"]).any())
        return m

    def _write_channel(self, m: Module, irq_status: Signal) -> None:
        axil = self.axil
        addr, word = Signal(CSR_ADDR_WIDTH - 2), Signal(DATA_WIDTH)
        mask = Signal(DATA_WIDTH)
        have_addr, have_data = Signal(), Signal()
        m.d.comb += [axil.awready.eq(~have_addr), axil.wready.eq(~have_data)]
        with m.If(axil.awvalid & axil.awready):
            m.d.sync += [addr.eq(axil.awaddr[2:]), have_addr.eq(1)]
        with m.If(axil.wvalid & axil.wready):
            m.d.sync += [
                word.eq(axil.wdata),
                mask.eq(Cat(axil.wstrb[byte].replicate(8) for byte in range(_STROBES))),
                have_data.eq(1),
            ]
        with m.If(axil.bready):
            m.d.sync += axil.bvalid.eq(0)

        irq_clear = Signal.like(irq_status.as_value())
        m.d.sync += irq_status.eq((irq_status.as_value() & ~irq_clear) | self.irq_set.as_value())
        with m.If(have_addr & have_data & ~axil.bvalid):
            m.d.sync += [have_addr.eq(0), have_data.eq(0), axil.bvalid.eq(1), axil.bresp.eq(Resp.SLVERR)]
            with m.Switch(addr):
                for register in REGISTERS.values():
                    if register.access is Access.RO:
                        continue
                    with m.Case(register.addr >> 2):
                        if register.access is Access.RW:
                            value = self.values[register.name]
                            with m.If(~self.locked):
                                m.d.sync += [
                                    value.eq((value & ~mask) | (word & mask)),
                                    axil.bresp.eq(Resp.OKAY),
                                ]
                        else:
                            m.d.sync += axil.bresp.eq(Resp.OKAY)
                        if register.name == "CTRL":
                            assert register.fields is not None
                            command = data.View(table_layout(register.fields), (word & mask)[: register.fields.used])
                            m.d.comb += [self.start.eq(command.start), self.soft_reset.eq(command.soft_reset)]
                        elif register.name == "IRQ_STATUS":
                            m.d.comb += irq_clear.eq(word & mask)

    def _read_channel(self, m: Module, irq_status: Signal) -> None:
        axil = self.axil
        addr, have_addr = Signal(CSR_ADDR_WIDTH - 2), Signal()
        latched = Signal(_LATCH_WIDTH)
        sources: dict[str, ValueLike] = {name: Const(value, 32) for name, value in identity_values(self.config).items()}
        sources |= {name: self.state[name] for name in STATE_REGISTERS}
        sources |= {register.name: self.values[register.name] for register in self._writable}
        sources |= {"IRQ_STATUS": irq_status.as_value(), "CTRL": Const(0, 32)}
        for counter in Counter:
            sources[f"{counter.name}_LO"] = self.counters[counter][:DATA_WIDTH]
            sources[f"{counter.name}_HI"] = latched

        m.d.comb += axil.arready.eq(~have_addr)
        with m.If(axil.arvalid & axil.arready):
            m.d.sync += [addr.eq(axil.araddr[2:]), have_addr.eq(1)]
        with m.If(axil.rready):
            m.d.sync += axil.rvalid.eq(0)
        with m.If(have_addr & ~axil.rvalid):
            m.d.sync += [
                have_addr.eq(0),
                axil.rvalid.eq(1),
                axil.rdata.eq(0),
                axil.rresp.eq(Resp.SLVERR),
            ]
            with m.Switch(addr):
                for register in REGISTERS.values():
                    with m.Case(register.addr >> 2):
                        m.d.sync += [axil.rdata.eq(sources[register.name]), axil.rresp.eq(Resp.OKAY)]
            with m.Switch(addr):
                for counter in Counter:
                    with m.Case(REGISTERS[f"{counter.name}_LO"].addr >> 2):
                        m.d.sync += latched.eq(self.counters[counter][DATA_WIDTH:])
