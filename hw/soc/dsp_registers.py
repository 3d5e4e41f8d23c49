"""Registers into ECP5 multiplier blocks: what ``synth_ecp5`` leaves among the slices.

A ``MULT18X18D`` has registers before its operands and behind its product, which Yosys does not infer: between
flip-flops in slices the 3.9 ns of the multiplier come on top of the way there and back.  :func:`absorb_registers` turns
such flip-flops into the block's own, so that the multiplier has a cycle to itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Absorbed", "absorb_registers"]

_OPERAND, _PRODUCT = re.compile(r"[AB]\d+"), re.compile(r"P\d+")
_PLAIN = {"CLKMUX": "CLK", "CEMUX": "1", "REGSET": "RESET", "LSRMUX": "LSR"}
"""Parameters of a flip-flop that takes its input on every rising edge and starts with 0; those left out may be any."""


@dataclass
class Absorbed:
    """Multiplier blocks that got product registers and operand registers, all blocks, and flip-flops that went."""

    products: int = 0
    operands: int = 0
    blocks: int = 0
    flip_flops: int = 0


def absorb_registers(netlist: dict[str, Any]) -> Absorbed:
    """Move product and operand registers into their multiplier blocks, in place.

    A block gets its product register if every product bit in use goes to one flip-flop and nowhere else, and its
    operand registers if every bit of both operands is constant 0 or comes from a flip-flop whose output goes nowhere
    else.  All of a block's flip-flops must have one clock and neither an enable nor a reset.

    Parameters
    ----------
    netlist
        What Yosys' ``write_json`` writes of a flat design mapped to ECP5 (``modules``, ``cells``, ``connections``).
    """
    found = Absorbed()
    for module in netlist["modules"].values():
        _Module(module, found).absorb()
    return found


class _Module:
    """A module of the netlist: who drives and who reads each net."""

    def __init__(self, module: dict[str, Any], found: Absorbed) -> None:
        self.cells, self.found = module["cells"], found
        self.readers: dict[int, list[tuple[str, str]]] = defaultdict(list)
        self.driver: dict[int, str] = {}
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                for bit in bits:
                    if cell["port_directions"][port] == "output":
                        self.driver[bit] = name
                    else:
                        self.readers[bit].append((name, port))
        for port in module["ports"].values():
            for bit in port["bits"]:
                self.readers[bit].append(("", ""))

    def absorb(self) -> None:
        for name, cell in list(self.cells.items()):
            if cell["type"] == "MULT18X18D":
                self.found.blocks += 1
                if not any(value == "CLK0" for value in cell["parameters"].values()):
                    self.found.products += self._product(cell)
                    self.found.operands += self._operands(name, cell)

    def _product(self, block: dict[str, Any]) -> bool:
        connections = block["connections"]
        used = [port for port, bits in connections.items() if _PRODUCT.fullmatch(port) and self.readers.get(bits[0])]
        taken = {}
        for port in used:
            (register, pin), *others = self.readers[connections[port][0]]
            if others or pin != "DI":
                return False
            taken[port] = register
        if not self._clocked(block, taken.values(), "OUTPUT"):
            return False
        for port, register in taken.items():
            connections[port] = self._remove(register)["Q"]
        return True

    def _operands(self, name: str, block: dict[str, Any]) -> bool:
        connections = block["connections"]
        taken = {}
        for port in filter(_OPERAND.fullmatch, connections):
            bit = connections[port][0]
            if bit == "0":
                continue
            if any(reader != name or not _OPERAND.fullmatch(pin) for reader, pin in self.readers[bit]):
                return False
            taken[port] = self.driver.get(bit, "")
        if not self._clocked(block, taken.values(), "INPUTA", "INPUTB"):
            return False
        inputs = {register: self._remove(register)["DI"] for register in set(taken.values())}
        for port, register in taken.items():
            connections[port] = inputs[register]
        return True

    def _clocked(self, block: dict[str, Any], registers: Iterable[str], *stages: str) -> bool:
        """Give a block the clock of flip-flops for some of its registers, if that can be."""
        clocks = {self._clock(register) for register in registers}
        if len(clocks) != 1 or None in clocks or block["connections"].get("CLK0", list(clocks)) != list(clocks):
            return False
        block["connections"] |= {"CLK0": list(clocks), "CE0": ["1"], "RST0": ["0"]}
        block["port_directions"] |= dict.fromkeys(("CLK0", "CE0", "RST0"), "input")
        block["parameters"]["RESETMODE"] = "SYNC"
        for stage in stages:
            block["parameters"] |= {f"REG_{stage}_{signal}": f"{signal}0" for signal in ("CLK", "CE", "RST")}
        return True

    def _clock(self, name: str) -> int | None:
        """Return the clock of a plain flip-flop, None of another cell or kind of flip-flop."""
        cell = self.cells.get(name, {"type": "", "parameters": {}})
        parameters = {parameter: str(value).strip() for parameter, value in cell["parameters"].items()}
        if cell["type"] != "TRELLIS_FF":
            return None
        if any(parameters.get(parameter, value) != value for parameter, value in _PLAIN.items()):
            return None
        if cell["connections"].get("LSR", ["0"]) != ["0"]:
            return None
        clock = cell["connections"]["CLK"][0]
        return clock if isinstance(clock, int) else None

    def _remove(self, register: str) -> dict[str, list[Any]]:
        """Take a flip-flop out; return its connections."""
        self.found.flip_flops += 1
        return dict(self.cells.pop(register)["connections"])
