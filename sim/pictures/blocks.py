"""The accelerator's blocks and the buses between them, from its netlist."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from hw.accelerator import Accelerator
from hw.spec.config import AcceleratorConfig
from sim.pictures.netlist import Module, modules

__all__ = ["BUS_BITS", "OUTSIDE", "BlockFacts", "Bus", "block_facts"]

BUS_BITS = 8
"""Fewer bits between two blocks are control, and not drawn."""

OUTSIDE = {"s_axil": "s_axil", "m_axi_a": "m_axi read", "m_axi_r": "m_axi read", "m_axi_aw": "m_axi write"}
OUTSIDE |= {"m_axi_w": "m_axi write", "m_axi_b": "m_axi write"}
"""Buses of the top module by the beginning of their ports' names; the longest counts.  Others are not drawn."""

_OPENED = "exec"
"""The unit whose blocks are drawn one by one."""


@dataclass(frozen=True, order=True)
class Bus:
    """Bits from a block to another, by port of the source, widest first; registers and multiplexers may lie between."""

    source: str
    target: str
    widths: tuple[int, ...]


@dataclass(frozen=True)
class BlockFacts:
    """What the netlist holds.

    Parameters
    ----------
    config
        What was elaborated.
    blocks
        Instance to the instances inside it: of the top module, and of the execute unit.
    inside
        Those of the execute unit.
    buses
        Between blocks, and between blocks and the top module's buses.  Control talks to units as a whole.
    """

    config: AcceleratorConfig
    blocks: dict[str, tuple[str, ...]]
    inside: tuple[str, ...]
    buses: tuple[Bus, ...]


@dataclass(frozen=True)
class _Wire:
    """Bits from a port of an instance (None: of the module itself) to another."""

    source: str | None
    source_port: str
    target: str | None
    target_port: str


def _wires(module: Module) -> Counter[_Wire]:
    """Return the bits between each two ports of a module."""
    found: Counter[_Wire] = Counter()
    readers = [(cell, port, module.bits(cell, port)) for cell in module.instances for port in module.inputs(cell)]
    readers += [(None, port, bits) for port, (direction, bits) in module.ports.items() if direction == "output"]
    for cell, port, bits in readers:
        for bit in bits:
            found.update({_Wire(source.cell, source.port, cell, port) for source in module.sources(bit)})
    return found


def _outside(port: str) -> str | None:
    known = [prefix for prefix in OUTSIDE if port.startswith(prefix)]
    return OUTSIDE[max(known, key=len)] if known else None


def block_facts(config: AcceleratorConfig) -> BlockFacts:
    """Elaborate an accelerator and read its blocks and buses from the netlist."""
    found = modules(Accelerator(config), "rowcast")
    top = found["rowcast"]
    opened = found[top.instances[_OPENED]]
    outer = {wire: bits for wire, bits in _wires(top).items() if bits >= BUS_BITS}
    inner = {wire: bits for wire, bits in _wires(opened).items() if bits >= BUS_BITS}
    widths: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)

    def add(source: str | None, target: str | None, name: str, bits: int) -> None:
        if source is not None and target is not None:
            ports = widths[source, target]
            ports[name] = max(bits, ports.get(name, 0))

    for wire, bits in outer.items():
        source = _outside(wire.source_port) if wire.source is None else wire.source
        target = _outside(wire.target_port) if wire.target is None else wire.target
        if _OPENED not in (source, target) or "control" in (source, target):
            add(source, target, wire.source_port, bits)
    for wire, bits in inner.items():
        if wire.source is not None and wire.target is not None:
            add(wire.source, wire.target, wire.source_port, bits)
        elif wire.target is not None:
            for other in outer:
                joins = (other.target, other.target_port) == (_OPENED, wire.source_port)
                if joins and other.source != "control":
                    add(other.source, wire.target, wire.source_port, bits)
        elif wire.source is not None:
            for other in outer:
                joins = (other.source, other.source_port) == (_OPENED, wire.target_port)
                if joins and other.target != "control":
                    add(wire.source, other.target, wire.target_port, bits)
    blocks = {name: tuple(found[kind].instances) for module in (top, opened) for name, kind in module.instances.items()}
    buses = [Bus(*ends, tuple(sorted(ports.values(), reverse=True))) for ends, ports in widths.items()]
    return BlockFacts(config, blocks, tuple(opened.instances), tuple(sorted(buses)))
