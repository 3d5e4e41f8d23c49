"""Verilog of memories, written by hand: readable, inferable by synthesis tools, and replaceable by SRAM macros.

Under :class:`hw.shared.Emitter` every zero-initialised ``lib.memory.Memory`` becomes an instance of a module named
after its geometry, e.g. ``rowcast_ram_256x32_w8_r``, one per distinct geometry.  A physical design replaces these
modules and nothing else.  Simulators start them with zeros, synthesis (macro ``SYNTHESIS``) with anything, as SRAM
does; nothing may be read that was not written.  (Amaranth writes initial contents bit by bit: 13 s of CPU time and
2.5 MB of Verilog per MiB of zeros.)
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import ClockSignal, Const, Instance, Shape, ShapeCastable
from amaranth.lib import memory

__all__ = ["ANY_READ_DURING_WRITE", "Ram"]

ANY_READ_DURING_WRITE = {"no_rw_check": 1}
"""Attributes of a memory whose users never read bytes in the cycle in which they are written.

Amaranth's memories give the old data then.  Block RAMs with two ports do not, and without this Yosys adds registers,
comparators and multiplexers that do.
"""


@dataclass(frozen=True)
class Ram:
    """Geometry of a memory.

    Parameters
    ----------
    width, depth
        Bits per word and words.
    writes
        Granularity in bits of each write port.
    reads
        Per read port None if asynchronous, else the write ports it is transparent for: a read at an address that is
        written in the same cycle gives the new data for those, and the old data for others.
    attrs
        Synthesis attributes of the array.
    """

    width: int
    depth: int
    writes: tuple[int, ...]
    reads: tuple[tuple[int, ...] | None, ...]
    attrs: tuple[tuple[str, str | int], ...] = ()

    @classmethod
    def of(cls, mem: memory.Memory) -> Ram | None:
        """Return a memory's geometry, or None if it starts with other contents than zeros or is not in domain sync."""
        ports = [*mem.write_ports, *mem.read_ports]
        width = Shape.cast(mem.shape).width
        if not width or mem.depth < 2 or any(port.domain not in ("sync", "comb") for port in ports):
            return None
        if isinstance(mem.shape, ShapeCastable):
            zero = not Const.cast(mem.shape.const(None)).value and all(row is None for row in mem.init)
        else:
            zero = not any(mem.init)
        if not zero:
            return None
        writes = {port: index for index, port in enumerate(mem.write_ports)}
        return cls(
            width,
            mem.depth,
            tuple(width // max(len(port.en), 1) for port in mem.write_ports),
            tuple(
                None if port.domain == "comb" else tuple(sorted(writes[write] for write in port.transparent_for))
                for port in mem.read_ports
            ),
            tuple(sorted(mem.attrs.items())),
        )

    @property
    def addr_width(self) -> int:
        """Bits of an address."""
        return (self.depth - 1).bit_length()

    @property
    def name(self) -> str:
        """Module name: depth x width, then ``w<granularity>`` per write port and ``r`` per read port.

        A read port adds ``a`` if asynchronous and ``t<ports>`` if transparent.
        """
        parts = [f"rowcast_ram_{self.depth}x{self.width}"]
        parts += [f"w{grain}" for grain in self.writes]
        parts += ["ra" if t is None else "r" + ("t" + "".join(map(str, t)) if t else "") for t in self.reads]
        return "_".join([*parts, *(f"{name}_{value}" for name, value in self.attrs)])

    def instance(self, mem: memory.Memory) -> Instance:
        """Return an instance of the module, connected to the memory's ports."""
        ports: list[tuple[str, str, object]] = []
        if self.writes or any(t is not None for t in self.reads):
            ports.append(("i", "clk", ClockSignal("sync")))
        for index, write in enumerate(mem.write_ports):
            ports += [("i", f"w{index}_{part}", getattr(write, part)) for part in ("addr", "data", "en")]
        for index, read in enumerate(mem.read_ports):
            ports.append(("i", f"r{index}_addr", read.addr))
            if self.reads[index] is not None:
                ports.append(("i", f"r{index}_en", read.en))
            ports.append(("o", f"r{index}_data", read.data))
        return Instance(self.name, *ports)

    def _lanes(self, write: int) -> list[tuple[str, str]]:
        """Return (enable, bit range) of each lane of a write port."""
        grain = self.writes[write]
        count = self.width // grain
        return [
            (f"w{write}_en[{lane}]" if count > 1 else f"w{write}_en", f"[{(lane + 1) * grain - 1}:{lane * grain}]")
            for lane in range(count)
        ]

    def verilog(self) -> str:
        """Return the module's Verilog-2005 text."""
        addr, word = f"[{self.addr_width - 1}:0]", f"[{self.width - 1}:0]"
        ports = ["input clk"] if self.writes or any(t is not None for t in self.reads) else []
        body = [
            "".join(f"(* {name} = {_attribute(value)} *) " for name, value in self.attrs)
            + f"reg {word} words [0:{self.depth - 1}];",
            "`ifndef SYNTHESIS",
            "integer i;",
            f"initial for (i = 0; i < {self.depth}; i = i + 1) words[i] = {{{self.width}{{1'b0}}}};",
            "`endif",
        ]
        for index, grain in enumerate(self.writes):
            count = self.width // grain
            lanes = f"[{count - 1}:0] " if count > 1 else ""
            ports += [f"input {addr} w{index}_addr", f"input {word} w{index}_data", f"input {lanes}w{index}_en"]
            body.append("always @(posedge clk) begin")
            for enable, bits in self._lanes(index):
                part = bits if count > 1 else ""
                body.append(f"  if ({enable}) words[w{index}_addr]{part} <= w{index}_data{part};")
            body.append("end")
        for index, transparent in enumerate(self.reads):
            ports.append(f"input {addr} r{index}_addr")
            if transparent is None:
                ports.append(f"output {word} r{index}_data")
                body.append(f"assign r{index}_data = words[r{index}_addr];")
                continue
            ports += [f"input r{index}_en", f"output reg {word} r{index}_data"]
            body += [f"always @(posedge clk) if (r{index}_en) begin", f"  r{index}_data <= words[r{index}_addr];"]
            for write in transparent:
                for enable, bits in self._lanes(write):
                    hit = f"{enable} && w{write}_addr == r{index}_addr"
                    body.append(f"  if ({hit}) r{index}_data{bits} <= w{write}_data{bits};")
            body.append("end")
        head = ",\n".join(f"  {port}" for port in ports)
        return f"module {self.name}(\n{head}\n);\n" + "".join(f"  {line}\n" for line in body) + "endmodule\n"


def _attribute(value: str | int) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
