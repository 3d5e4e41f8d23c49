"""The accelerator: control, units and memories behind AXI4-Lite, AXI4 and an interrupt."""

from __future__ import annotations

from collections.abc import Iterator

from amaranth.hdl import Module, ResetInserter, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect

from hw.axi import AXI4LiteSignature, AXI4ReadSignature, AXI4WriteSignature
from hw.control import UNITS, Control
from hw.csr_block import DATA_WIDTH
from hw.exec_unit import ExecUnit
from hw.layouts import PARAM_LAYOUT, PC_WIDTH
from hw.line_memory import LineMemory
from hw.load_unit import LoadUnit
from hw.read_arbiter import ReadArbiter
from hw.scratchpad import Scratchpad
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import CSR_ADDR_WIDTH
from hw.store_unit import StoreUnit

__all__ = ["Accelerator"]


def _flat(prefix: str, signature: wiring.Signature, *, manager: bool) -> Iterator[tuple[str, wiring.Member]]:
    """Return a bus's members as single ports ``prefix_name``, in the direction of a manager or a subordinate."""
    for name, member in signature.members.items():
        yield f"{prefix}_{name}", member if manager else member.flip()


class Accelerator(wiring.Component):
    """The top module.

    Parameters
    ----------
    config
        What to build.

    Members
    -------
    s_axil_* : AXI4-Lite subordinate
        The registers of :mod:`hw.spec.csr`.
    m_axi_* : AXI4 manager
        ID 0 for instruction fetch and stores, 1 for loads.  INCR bursts of whole beats that stay inside 4 KiB; with a
        1024-bit bus, instruction fetch reads single beats of 64 bytes.
    irq : Out(1)
        High while an enabled interrupt is pending.
    trace_load_start, trace_load_pc, trace_load_done (and ``exec``, ``store``) : Out
        An instruction was handed to its unit, its index, the unit's oldest instruction was finished.  One cycle late.

    There is no combinational path from an input to an output.  After a hard reset the array is flushed
    (STATUS.resetting) for :func:`hw.control.flush_cycles` cycles; the on-chip memories keep what they hold through
    every reset.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        widths = config.axi_addr_width, config.axi_data_width
        members: dict[str, wiring.Member] = {
            **dict(_flat("s_axil", AXI4LiteSignature(CSR_ADDR_WIDTH, DATA_WIDTH), manager=False)),
            **dict(_flat("m_axi", AXI4WriteSignature(*widths), manager=True)),
            **dict(_flat("m_axi", AXI4ReadSignature(*widths), manager=True)),
            "irq": Out(1),
        }
        for name in UNITS.values():
            members |= {
                f"trace_{name}_start": Out(1),
                f"trace_{name}_pc": Out(PC_WIDTH),
                f"trace_{name}_done": Out(1),
            }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        control, arbiter = Control(config), ReadArbiter(config)
        load, execute, store = LoadUnit(config), ExecUnit(config), StoreUnit(config)
        soft = ResetInserter(control.unit_reset)
        m.submodules.control = control
        m.submodules.read_arbiter = arbiter
        # Shared modules inside a unit do not see this reset: the array is emptied by `flush` instead.
        m.submodules.load = soft(load)
        m.submodules.exec = soft(execute)
        m.submodules.store = soft(store)

        connect(m, control.load, load.unit)
        connect(m, control.exec, execute.unit)
        connect(m, control.store, store.unit)
        m.d.comb += [
            control.load_events.eq(load.events),
            control.exec_events.eq(execute.events),
            control.store_events.eq(store.events),
            load.regions.eq(control.regions),
            store.regions.eq(control.regions),
            self.irq.eq(control.irq),
        ]
        m.d.sync += execute.flush.eq(control.unit_reset)  # a cycle late: it goes to every PE
        for name in UNITS.values():
            for what in ("start", "pc", "done"):
                port = f"trace_{name}_{what}"
                m.d.comb += getattr(self, port).eq(getattr(control, port))

        connect(m, control.axi, arbiter.managers[0])
        connect(m, load.axi, arbiter.managers[1])
        self._join(m, "s_axil", control.axil)
        self._join(m, "m_axi", arbiter.axi)
        self._join(m, "m_axi", store.axi)
        self._memories(m, load, execute, store)
        return m

    def _join(self, m: Module, prefix: str, bus: wiring.PureInterface) -> None:
        """Connect the flat ports of a bus with the interface of the block inside that drives or serves it."""
        for name, member in bus.signature.members.items():
            inside, port = getattr(bus, name), getattr(self, f"{prefix}_{name}")
            m.d.comb += port.eq(inside) if member.flow is Out else inside.eq(port)

    def _memories(self, m: Module, load: LoadUnit, execute: ExecUnit, store: StoreUnit) -> None:
        config = self.config
        m.submodules.scratchpad = scratchpad = Scratchpad(config)
        connect(m, execute.residual, scratchpad.read_residual)
        connect(m, execute.operand, scratchpad.read_operand)
        connect(m, store.act, scratchpad.read_store)
        connect(m, execute.result, scratchpad.write_result)
        connect(m, load.act, scratchpad.write_load)

        m.submodules.weights = weights = LineMemory(config.weight_bytes, config.weight_word_bytes, config.axi_bytes)
        m.submodules.params = params = LineMemory(config.param_bytes, PARAM_LAYOUT.size // 8, config.axi_bytes)
        for name, memory in (("weight", weights), ("param", params)):
            data: ValueLike = getattr(execute, f"{name}_data")
            m.d.comb += [
                memory.wr_en.eq(getattr(load, f"{name}_en")),
                memory.wr_addr.eq(getattr(load, f"{name}_addr")),
                memory.wr_data.eq(getattr(load, f"{name}_data")),
                memory.rd_en.eq(getattr(execute, f"{name}_en")),
                memory.rd_addr.eq(getattr(execute, f"{name}_addr")),
                # A weight word is as wide as the memory's, or narrower: rows need not be a power of two.
                data.eq(memory.rd_data),
            ]
