"""Activation scratchpad: independent banks behind unaligned vector ports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.delay import delayed
from hw.layouts import Lanes, act_addr_width, range_width
from hw.ports import operand_signature, read_signature, write_signature
from hw.ram import ANY_READ_DURING_WRITE
from hw.rotator import RotateLeft, RotateRight
from hw.select import lanes_below, select
from hw.shared import shared
from hw.spec.config import SUB_BANKS, AcceleratorConfig

__all__ = ["READ_PORTS", "WRITE_PORTS", "Scratchpad", "VectorAddress"]

READ_PORTS = ("read_residual", "read_operand", "read_store")
"""Read ports, highest priority first."""

WRITE_PORTS = ("write_result", "write_load")
"""Write ports, highest priority first."""


class VectorAddress(wiring.Component):
    """Which memory words a vector access touches.  Combinational.

    Parameters
    ----------
    config
        Sizes of the scratchpad.
    span
        Bytes that an access of the port may name.

    Members
    -------
    addr : In
        Address of byte 0.
    lo, hi : In
        Bytes lo <= i < hi are accessed, hi <= span.
    banks : Out(act_banks)
        Bit b is set if one of them is in bank b: at most two bits, none if the range is empty.
    bank, line : Out
        For each sub-bank, the bank and the line in it that hold the access's bytes of this sub-bank, if any.
    """

    def __init__(self, config: AcceleratorConfig, span: int) -> None:
        self.config, self.span = config, span
        super().__init__(
            {
                "addr": In(act_addr_width(config)),
                "lo": In(range_width(span)),
                "hi": In(range_width(span)),
                "banks": Out(config.act_banks),
                "bank": Out(Lanes(unsigned((config.act_banks - 1).bit_length()), SUB_BANKS)),
                "line": Out(Lanes(unsigned((config.act_bank_lines - 1).bit_length()), SUB_BANKS)),
            }
        )

    @property
    def module_name(self) -> str:
        """Name of the emitted module."""
        return f"rowcast_vector_address_{self.span}"

    def elaborate(self, platform: object) -> Module:
        """Build the decoder: two short adders for the ends, one increment for the next line."""
        m = Module()
        offset_bits = (self.config.line_bytes - 1).bit_length()
        sub_bits = (self.config.sub_bytes - 1).bit_length()
        bank_lines = self.config.act_bank_lines
        line_bits = (bank_lines - 1).bit_length()

        offset = self.addr[:offset_bits]
        sub = offset[sub_bits:]
        here = self.addr[offset_bits:]
        after = Signal(len(here))
        m.d.comb += after.eq(here + 1)

        first, end = Signal(offset_bits + 1), Signal(offset_bits + 1)
        used, in_here, in_after = Signal(), Signal(), Signal()
        m.d.comb += [
            first.eq(offset + self.lo),
            end.eq(offset + self.hi),
            used.eq(self.lo < self.hi),
            in_here.eq(used & ~first[-1]),
            in_after.eq(used & end[-1] & end[:-1].any()),
            self.banks.eq((in_here << here[line_bits:]) | (in_after << after[line_bits:])),
        ]
        for index in range(SUB_BANKS):
            address = Signal(len(here), name=f"address_{index}")
            m.d.comb += [
                address.eq(Mux(sub > index, after, here)),
                self.line[index].eq(address[:line_bits]),
                self.bank[index].eq(address[line_bits:]),
            ]
        return m


@dataclass(frozen=True)
class _Access:
    """A port's access to the memories in the cycle that performs it.

    Parameters
    ----------
    banks
        Banks to access, one bit each; 0 if there is nothing to do.
    line, bank
        As in :class:`VectorAddress`.
    mask, data
        Of a write: for each sub-bank the byte enables and the word; empty for a read.
    """

    banks: Value
    line: list[Value]
    bank: list[Value]
    mask: list[Value]
    data: list[Value]

    def hits(self, bank: int, sub: int) -> Value:
        """Whether this access's bytes of sub-bank `sub` are in bank `bank`."""
        return self.banks[bank] & (self.bank[sub] == bank)


class Scratchpad(wiring.Component):
    """Activation memory with unaligned vector ports.

    ``act_banks`` banks, split by high address bits, of :data:`~hw.spec.config.SUB_BANKS` sub-banks, each a
    1-read-1-write memory ``sub_bytes`` wide.  A line is one word of every sub-bank; an access of up to ``read_span``
    bytes at any address touches each sub-bank at most once, and may reach into the next line and the next bank
    (the last bank is followed by the first: addresses wrap).  The memories are ``lib.memory.Memory``, so a platform's
    ``get_memory`` method replaces them by SRAM macros; each is read and written once per cycle at most, with byte
    enables, and what a read gives for bytes that are written in its cycle does not matter.

    Every cycle each bank serves one read and one write.  A request needs the banks that hold its bytes lo <= i < hi,
    none if that range is empty.  ``ready`` is high unless a granted request of a port of higher priority in the same
    direction needs one of them; it depends on the port's own payload, not its ``valid``.  The first port of each
    direction is always ready.

    Parameters
    ----------
    config
        Sizes.

    Members
    -------
    read_residual : In(ReadSignature), ``cols`` lanes, highest priority
    read_operand : In(operand_signature), ``read_lanes`` lanes, of which ``cols`` can be strided
    read_store : In(ReadSignature), ``axi_bytes`` lanes
        Data is valid for one cycle, READ_LATENCY cycles after acceptance, and is not held: one cycle in the memories,
        one in bank multiplexer, rotator, stride and fill (with ``pipeline_mac`` one before the rotator and one behind).
    write_result : In(WriteSignature), ``cols`` lanes, higher priority
    write_load : In(WriteSignature), ``axi_bytes`` lanes
        Accepted writes are registered, then rotated and written in the next cycle (WRITE_LATENCY).

    A write accepted during reset is dropped; one accepted before is performed, and memory contents survive.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "read_residual": In(read_signature(config, config.cols)),
                "read_operand": In(operand_signature(config)),
                "read_store": In(read_signature(config, config.axi_bytes)),
                "write_result": In(write_signature(config, config.cols)),
                "write_load": In(write_signature(config, config.axi_bytes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build arbiters, banks and the ports' data paths."""
        m = Module()
        reads = self._arbitrate(m, platform, READ_PORTS)
        writes = [
            self._write_access(m, platform, name, plan, granted)
            for name, (plan, granted) in self._arbitrate(m, platform, WRITE_PORTS).items()
        ]
        # No two are granted the same bank, so their order is free: the operand's grant is known last.
        accesses = [
            _Access(granted, list(plan.line), list(plan.bank), [], [])
            for plan, granted in (reads[name] for name in sorted(reads, key=lambda name: name != "read_operand"))
        ]
        words = self._banks(m, platform, accesses, writes)
        for name, (plan, _) in reads.items():
            self._answer(m, platform, name, plan, words)
        return m

    def _arbitrate(
        self, m: Module, platform: object, ports: tuple[str, ...]
    ) -> dict[str, tuple[VectorAddress, Signal]]:
        """Grant requests in falling priority; return each port's address decoder and the banks granted to it."""
        result = {}
        taken: list[Value] = []
        for name in ports:
            port = getattr(self, name)
            request = port.req.payload
            m.submodules[f"{name}_address"] = plan = shared(platform, VectorAddress, self.config, port.signature.span)
            granted = Signal(self.config.act_banks, name=f"{name}_granted")
            banks = request.banks if "banks" in request.shape().members else plan.banks
            free = ~(banks & reduce(or_, taken)).any() if taken else 1
            m.d.comb += [
                plan.addr.eq(request.addr),
                plan.lo.eq(request.lo),
                plan.hi.eq(request.hi),
                port.req.ready.eq(free),
                granted.eq(Mux(port.req.valid & port.req.ready, banks, 0)),
            ]
            taken.append(granted)
            result[name] = plan, granted
        return result

    def _write_access(self, m: Module, platform: object, name: str, plan: VectorAddress, granted: Signal) -> _Access:
        """Register a granted write, then rotate it into place."""
        config = self.config
        request = getattr(self, name).req.payload
        lanes = len(request.data)
        enables = Signal(lanes, name=f"{name}_enables")
        m.d.comb += enables.eq(_lane_mask(m, request.lo, request.hi, lanes, f"{name}_enables"))
        offset_bits = (config.line_bytes - 1).bit_length()

        def registered(value: Value | data.View, suffix: str) -> Value | data.View:
            return delayed(m, value, 1, name=f"{name}_{suffix}")[1]

        banks = delayed(m, granted, 1, name=f"{name}_banks", reset_less=False)[1]
        line, bank = registered(plan.line, "line"), registered(plan.bank, "bank")
        held = registered(request.data, "data")
        mask = registered(enables, "mask")
        m.submodules[f"{name}_rotate"] = rotate = shared(platform, RotateLeft, 8, config.line_bytes, lanes)
        m.d.comb += [
            rotate.amount.eq(registered(request.addr[:offset_bits], "offset")),
            Value.cast(rotate.lanes).eq(held.as_value()),
            rotate.mask.eq(mask),
        ]

        places = [range(sub * config.sub_bytes, (sub + 1) * config.sub_bytes) for sub in range(SUB_BANKS)]
        return _Access(
            banks,
            list(line),
            list(bank),
            [rotate.enables[span.start : span.stop] for span in places],
            [Cat(rotate.line[place] for place in span) for span in places],
        )

    def _banks(
        self, m: Module, platform: object, reads: list[_Access], writes: list[_Access]
    ) -> list[list[Value]]:
        """Connect the memories; return the words read, as [bank][sub-bank]."""
        config = self.config
        words = []
        for bank in range(config.act_banks):
            words.append([])
            for sub in range(SUB_BANKS):
                memory = Memory(
                    shape=8 * config.sub_bytes, depth=config.act_bank_lines, init=[], attrs=ANY_READ_DURING_WRITE
                )
                m.submodules[f"bank{bank}_sub{sub}"] = memory
                read, write = memory.read_port(), memory.write_port(granularity=8)
                m.d.comb += [
                    read.en.eq(reduce(or_, (access.banks[bank] for access in reads))),
                    read.addr.eq(_first([(access.banks[bank], access.line[sub]) for access in reads])),
                    write.en.eq(reduce(or_, (Mux(access.hits(bank, sub), access.mask[sub], 0) for access in writes))),
                    write.addr.eq(_first([(access.banks[bank], access.line[sub]) for access in writes])),
                    write.data.eq(_first([(access.banks[bank], access.data[sub]) for access in writes])),
                ]
                words[bank].append(read.data)
        return words

    def _answer(self, m: Module, platform: object, name: str, plan: VectorAddress, words: list[list[Value]]) -> None:
        """Pick, rotate, take every second byte if so asked, fill and register the words of one read port."""
        config = self.config
        port = getattr(self, name)
        lanes, span = port.signature.lanes, port.signature.span
        first = lanes - port.signature.strided_lanes
        offset_bits = (config.line_bytes - 1).bit_length()
        moved = port.signature.READ_LATENCY - 1  # cycle of the rotator
        request = delayed(m, port.req.payload, moved, name=f"{name}_request")[moved]
        bank = delayed(m, plan.bank, 1, name=f"{name}_bank")[1]

        m.submodules[f"{name}_rotate"] = rotate = shared(platform, RotateRight, 8, config.line_bytes, span)
        line = Cat(select(bank[sub], [row[sub] for row in words]) for sub in range(SUB_BANKS))
        line = delayed(m, line, moved - 1, name=f"{name}_line")[-1]
        m.d.comb += [Value.cast(rotate.line).eq(line), rotate.amount.eq(request.addr[:offset_bits])]

        inside = Signal(span, name=f"{name}_inside")
        m.d.comb += inside.eq(_lane_mask(m, request.lo, request.hi, span, f"{name}_inside"))
        read = [Cat(rotate.lanes[byte], inside[byte]) for byte in range(span)]
        taken = [
            Mux(request.strided, read[2 * (lane - first)], read[lane]) if lane >= first else read[lane]
            for lane in range(lanes)
        ]
        answer = Signal(port.data.shape(), name=f"{name}_answer", reset_less=True)
        m.d.sync += Value.cast(answer).eq(Cat(Mux(byte[8], byte[:8], request.fill) for byte in taken))
        m.d.comb += port.data.eq(answer)


def _lane_mask(m: Module, lo: Value, hi: Value, lanes: int, name: str) -> Value:
    """Return one bit per lane, 1 for lanes lo <= i < hi."""
    return lanes_below(m, hi, lanes, name=f"{name}_hi") & ~lanes_below(m, lo, lanes, name=f"{name}_lo")


def _first(choices: list[tuple[Value, Value]]) -> Value:
    """Return the value of the first (condition, value) that holds; the last one's if none does."""
    *others, (_, result) = choices
    for condition, value in reversed(others):
        result = Mux(condition, value, result)
    return result
