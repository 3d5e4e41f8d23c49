"""Instruction set: field tables and semantics.  Assembler, disassembler, RTL layouts and ISA document derive from it.

Every instruction is one 512-bit little-endian word.  Three in-order queues (load, execute, store) run concurrently
and are ordered by token counters: an instruction takes one token from each queue named in ``wait`` before it starts,
and gives one to each queue named in ``signal`` once all its writes are visible.  Program order must itself be a valid
sequential order, so a program that runs on a machine executing one instruction at a time never deadlocks on hardware.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from hw.spec.fields import Field, FieldError, FieldTable

__all__ = [
    "EXEC",
    "EXEC_LIMITS",
    "HALT",
    "HEADER",
    "INSTRUCTION_BYTES",
    "ISA_VERSION",
    "LOAD",
    "OPCODES",
    "STORE",
    "TOKEN_MAX",
    "Activation",
    "Instruction",
    "Mode",
    "Opcode",
    "Queue",
    "Region",
    "ResidualOp",
    "Target",
    "assemble",
    "decode",
    "disassemble",
    "encode",
]

ISA_VERSION = 6
INSTRUCTION_BYTES = 64
TOKEN_MAX = 255
"""Tokens one queue may have given another and not seen taken; one more is TOKEN_OVERFLOW.

Instructions that still wait in a queue have not taken theirs, so a program is safe if, in program order, it leaves at
least as many to spare as a queue holds instructions (4)."""
_BITS = INSTRUCTION_BYTES * 8


class Opcode(enum.IntEnum):
    """Instruction class.  0 is illegal, so that cleared memory is never a program."""

    HEADER = 1
    LOAD = 2
    EXEC = 3
    STORE = 4
    HALT = 5


class Queue(enum.IntEnum):
    """Bit positions in the ``wait`` and ``signal`` masks."""

    LOAD = 0
    EXEC = 1
    STORE = 2


class Target(enum.IntEnum):
    """Memory a LOAD writes."""

    ACT = 0
    WEIGHT = 1
    PARAM = 2


class Region(enum.IntEnum):
    """DRAM region; its base and size are CSRs, so programs are relocatable."""

    CONST = 0
    WORK = 1
    INPUT = 2
    OUTPUT = 3


class Mode(enum.IntEnum):
    """What an EXEC instruction does with the array."""

    GEMM = 0
    STOS_CH = 1
    STOS_LN = 2
    VEC = 3
    MAX = 4


class Activation(enum.IntEnum):
    """Non-linearity between residual and clamp.  ReLU, ReLU6 and h-sigmoid need none: they are clamp bounds."""

    NONE = 0
    HSWISH = 1


class ResidualOp(enum.IntEnum):
    """Use of res_base: a map to add, a byte per channel to multiply with (squeeze-and-excite gate), or pooled bytes."""

    NONE = 0
    ADD = 1
    SCALE = 2
    POOL = 3

    @property
    def reads(self) -> bool:
        """Whether there is a second operand to read."""
        return self in (ResidualOp.ADD, ResidualOp.SCALE)


_HEAD = (
    Field("opcode", 4, "instruction class"),
    Field("wait", 3, "queues to take one token from before starting: bit 0 load, bit 1 execute, bit 2 store"),
    Field("signal", 3, "queues to give one token to when done"),
)

HEADER = FieldTable(
    "HEADER",
    _BITS,
    (
        *_HEAD,
        Field("isa_version", 16, "ISA version the program was assembled for"),
        Field("config_hash", 64, "AcceleratorConfig.hash the program was compiled for"),
        Field("count", 32, "instructions in the program, this one and HALT included"),
    ),
    """First instruction of every program.  Both identities must be the accelerator's own, else HASH_MISMATCH.""",
)

_DMA = (
    Field("region", 2, "DRAM region (Region)"),
    Field("dram_offset", 40, "first byte, relative to the region's base"),
    Field("mem_addr", 24, "first byte in the on-chip memory"),
    Field("rows", 16, "rows to move, at least 1"),
    Field("row_bytes", 24, "bytes per row, at least 1"),
    Field("dram_stride", 32, "bytes from row to row in DRAM"),
    Field("mem_stride", 24, "bytes from row to row on chip"),
)

LOAD = FieldTable(
    "LOAD",
    _BITS,
    (*_HEAD, Field("target", 2, "on-chip memory (Target)"), *_DMA),
    """DMA from DRAM to an on-chip memory::

        for r in range(rows):
            target[mem_addr + r*mem_stride :][:row_bytes] = region[dram_offset + r*dram_stride :][:row_bytes]

    ACT takes any byte addresses.  For WEIGHT and PARAM the DRAM address (base included), mem_addr, both strides and
    row_bytes must be multiples of the AXI beat (else MISALIGNED); with one row the strides are ignored.""",
)

STORE = FieldTable(
    "STORE",
    _BITS,
    (*_HEAD, *_DMA),
    """DMA from the activation scratchpad to DRAM::

        for r in range(rows):
            region[dram_offset + r*dram_stride :][:row_bytes] = ACT[mem_addr + r*mem_stride :][:row_bytes]

    Done, and its tokens given, when the last write response has arrived.""",
)

EXEC = FieldTable(
    "EXEC",
    _BITS,
    (
        *_HEAD,
        Field("mode", 3, "GEMM, STOS_CH, STOS_LN, VEC or MAX (Mode)"),
        Field("depthwise", 1, "GEMM only: one input channel per output channel, one at a time (im2col baseline)"),
        Field("overlap", 1, "may start while the previous EXEC drains: it reads nothing that one writes"),
        Field("in_base", 24, "byte address of channel 0, line 0, pixel 0 of the input"),
        Field("in_cs", 24, "input bytes from channel to channel"),
        Field("in_pitch", 20, "input bytes from line to line"),
        Field("in_w", 20, "input pixels per line; outside 0..in_w-1 reads give in_zp"),
        Field("in_h", 16, "input lines present; outside 0..in_h-1 reads give in_zp"),
        Field("in_zp", 8, "input zero point", signed=True),
        Field("out_base", 24, "byte address of channel 0, line 0, pixel 0 of the output"),
        Field("out_cs", 24, "output bytes from channel to channel"),
        Field("out_pitch", 20, "output bytes from line to line"),
        Field("out_w", 20, "output pixels per line, at least 1"),
        Field("out_h", 16, "output lines, at least 1"),
        Field("kh", 4, "kernel height, 1..max_kernel"),
        Field("kw", 4, "kernel width, 1..max_kernel"),
        Field("sy", 3, "stride along y, 1..4"),
        Field("sx", 2, "stride along x, 1 or 2"),
        Field("pad_y", 6, "output line y, tap ky reads input line y*sy + ky - pad_y", signed=True),
        Field("pad_x", 6, "output pixel x, tap kx reads input pixel x*sx + kx - pad_x", signed=True),
        Field("cin", 16, "GEMM: input channels, at least 1; unused by the other modes and with depthwise"),
        Field("cout", 16, "output channels (= input channels in all but plain GEMM), at least 1"),
        Field("w_base", 20, "first weight word"),
        Field("p_base", 16, "first parameter entry; output channel c uses entry p_base + c"),
        Field("out_zp", 8, "output zero point", signed=True),
        Field("q_lo", 8, "lower clamp bound", signed=True),
        Field("q_hi", 8, "upper clamp bound", signed=True),
        Field("post_shift", 5, "fraction bits left by the channel shift, and by a product, rounded away at the end"),
        Field("act", 2, "Activation"),
        Field("act_offset", 15, "HSWISH: the number 3 in the units of the channel shift's result"),
        Field("act_limit", 16, "HSWISH: the number 6 in the same units"),
        Field("res", 2, "ResidualOp: NONE, ADD, SCALE, or, only with gap, POOL"),
        Field(
            "res_base",
            24,
            "second operand's first byte: a map with out_cs, out_pitch, out_w, out_h to add, or one byte per channel; "
            "POOL: first pooled byte",
        ),
        Field("res_zp", 8, "second operand's zero point", signed=True),
        Field("res_mult", 16, "ADD: second operand's multiplier, in units of 2**-post_shift"),
        Field("gap", 1, "global average pooling: write one byte per channel instead of the map (POOL: besides it)"),
        Field("gap_bias", 26, "added to the sum of all output pixels of a channel", signed=True),
        Field("gap_mult", 16, "multiplier of the pooled sum"),
        Field("gap_shift", 6, "right shift of the pooled sum"),
        Field("gap_zp", 8, "zero point of the pooled result", signed=True),
        Field("seg", 9, "output pixels per segment of a line, each one image line; 0: lines have no segments"),
        Field("seg_gap", 4, "last pixels of every segment that belong to no image line: written as out_zp, not pooled"),
        Field("seg_missing", 5, "last output lines whose last segment holds no image line: treated like a gap"),
        Field("fold", 1, "ST-OS: beyond line 0 and the last line lines continue in the next two segments"),
    ),
    """One strip of a layer.

    ACT, WEIGHT and PARAM are the on-chip memories: int8 bytes, words of int8 lanes, and entries (bias, mult, shift).
    All other names are the fields, the named values below, the array's number of `rows`, and what section Arithmetic
    defines::

        single = mode != GEMM or depthwise              # one input channel per output channel

        def pixel(c, y, x):
            if fold and -2 * in_h <= y < 3 * in_h:  # segments are beside each other
                y, x = y % in_h, x + y // in_h * seg
            inside = 0 <= y < in_h and 0 <= x < in_w
            return ACT[in_base + c*in_cs + y*in_pitch + x] if inside else in_zp

        def weight(c, ci, ky, kx):
            block, i = divmod(c, rows)
            n = min(rows, cout - block*rows)            # channels of this block
            if single:                                  # taps of a line last first
                word = (block*kh + ky)*kw + kw - 1 - kx
            else:
                word = ((block*cin + ci)*kh + ky)*kw + kx
            return WEIGHT[w_base + word][n - 1 - i]

        for c in range(cout):
            bias, mult, shift = PARAM[p_base + c]
            total = 0
            for y in range(out_h):
                for x in range(out_w):
                    taps = [
                        (ci, ky, kx, pixel(ci, y*sy + ky - pad_y, x*sx + kx - pad_x))
                        for ci in ([c] if single else range(cin))
                        for ky in range(kh)
                        for kx in range(kw)
                    ]
                    if mode in (VEC, MAX):              # VEC: kh = kw = 1; no weights
                        acc = max(value for ci, ky, kx, value in taps)
                    else:
                        acc = sum(weight(c, ci, ky, kx) * value for ci, ky, kx, value in taps)
                    v = sat24(rshift_round((acc + bias) * mult, shift))
                    if res == ADD:
                        v += (ACT[res_base + c*out_cs + y*out_pitch + x] - res_zp) * res_mult
                    if res == SCALE:
                        v = sat16(v) * (ACT[res_base + c] - res_zp)
                    if act == HSWISH:
                        w = rshift_round(v, 8) if res == SCALE else sat16(v)
                        v = w * clamp(w + act_offset, 0, act_limit)
                    q = clamp(rshift_round(v, post_shift) + out_zp, q_lo, q_hi)
                    in_gap = seg and x % seg >= seg - seg_gap
                    missing = seg and y >= out_h - seg_missing and x >= out_w - seg
                    if in_gap or missing:
                        q = out_zp
                    else:
                        total += q
                    if not gap or res == POOL:
                        ACT[out_base + c*out_cs + y*out_pitch + x] = q
            if gap:
                mean = sat24(rshift_round((total + gap_bias) * gap_mult, gap_shift))
                ACT[res_base + c if res == POOL else out_base + c*out_cs] = clamp(mean + gap_zp, -128, 127)

    Segments pack several image lines into one line, so that small maps fill the columns: line y, segment s of a packed
    plane of n lines holds image line s*n + y.  With seg > 0, seg_gap < seg and seg_missing <= out_h; with gaps or
    missing lines besides, sx = 1 and seg <= out_w <= cols.  A gap of kw//2 pixels separates the lines of a row
    convolution; of column and square filters (ST-OS) the lines above and below a segment are found by `fold`; it is
    whether the pixel in that segment lies in 0..in_w-1 that counts then, not where x lies.

    GEMM and STOS_CH tiles are ``rows`` channels by ``cols`` pixels of one line; STOS_LN tiles are ``rows`` lines of
    one channel.  STOS_CH and STOS_LN compute the same; they differ in cost.

    Weights are stored one word of ``rows`` lanes per step, in order of use: the lanes of a block of n channels are its
    channels last first.

    With sx = 2 every second pixel is read, but by ST-OS with kw > 1, which computes tiles at stride 1 and keeps every
    second column.  Input, output, residual and pooled ranges must not overlap, except that a map to add may be the
    output's own place (read before written).

    All of them must lie in the scratchpad, the input as a whole (in_h lines of in_w pixels in every channel), whatever
    part of it the strip reads.  MEM_RANGE is certain for a byte, weight word or parameter entry in use that lies beyond
    its memory.  For input that no tap reads it may be reported or not (the ISS does, the hardware does not).""",
)

EXEC_LIMITS: dict[str, tuple[int, int | None]] = {
    "mode": (Mode.GEMM, Mode.MAX),
    "sy": (1, 4),
    "sx": (1, 2),
    "out_w": (1, None),
    "out_h": (1, None),
    "cout": (1, None),
    "act": (Activation.NONE, Activation.HSWISH),
}
"""EXEC fields whose legal values are less than they can hold, whatever mode and configuration: lowest, highest."""

HALT = FieldTable("HALT", _BITS, _HEAD, "Last instruction: done, and interrupt, when all queues are empty and idle.")

OPCODES: dict[Opcode, FieldTable] = {
    Opcode.HEADER: HEADER,
    Opcode.LOAD: LOAD,
    Opcode.EXEC: EXEC,
    Opcode.STORE: STORE,
    Opcode.HALT: HALT,
}
"""Opcode to field table."""

QUEUE_OF: dict[Opcode, Queue] = {Opcode.LOAD: Queue.LOAD, Opcode.EXEC: Queue.EXEC, Opcode.STORE: Queue.STORE}
"""Queue that runs an opcode; HEADER and HALT belong to the fetcher."""

ENUM_FIELDS: dict[str, type[enum.IntEnum]] = {
    "region": Region,
    "target": Target,
    "mode": Mode,
    "act": Activation,
    "res": ResidualOp,
}
"""Fields whose values have names."""


_FIELD_NAMES = {spec.name for table in OPCODES.values() for spec in table.fields}


@dataclass(frozen=True)
class Instruction:
    """One instruction: opcode and field values (fields not given are 0)."""

    opcode: Opcode
    values: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> int:
        """Return a field's value; 0 if another opcode has it; raise KeyError if none has."""
        if name not in _FIELD_NAMES:
            raise KeyError(f"no instruction has a field {name}")
        return self.values.get(name, 0) if name != "opcode" else int(self.opcode)

    @property
    def table(self) -> FieldTable:
        """The opcode's field table."""
        return OPCODES[self.opcode]

    def __str__(self) -> str:
        parts = []
        for spec in self.table.fields[1:]:
            if value := self[spec.name]:
                names = ENUM_FIELDS.get(spec.name)
                if spec.name in ("wait", "signal"):
                    shown = "+".join(q.name.lower() for q in Queue if value >> q & 1)
                elif spec.name == "config_hash":
                    shown = f"{value:016x}"
                elif names is not None and value in set(names):
                    shown = names(value).name.lower()
                else:
                    shown = str(value)
                parts.append(f"{spec.name}={shown}")
        return f"{self.opcode.name:<6} {' '.join(parts)}".rstrip()


def encode(instruction: Instruction) -> bytes:
    """Return the 64 bytes of an instruction; raise :class:`FieldError` if a value does not fit its field."""
    word = instruction.table.encode({**instruction.values, "opcode": int(instruction.opcode)})
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def decode(data: bytes) -> Instruction:
    """Return the instruction in 64 bytes; raise :class:`FieldError` for an unknown opcode or set reserved bits."""
    if len(data) != INSTRUCTION_BYTES:
        raise FieldError(f"an instruction has {INSTRUCTION_BYTES} bytes, not {len(data)}")
    word = int.from_bytes(data, "little")
    code = word & 0xF
    if code not in set(Opcode):
        raise FieldError(f"unknown opcode {code}; known are {', '.join(f'{o.value} {o.name}' for o in Opcode)}")
    values = OPCODES[Opcode(code)].decode(word)
    del values["opcode"]
    return Instruction(Opcode(code), {name: value for name, value in values.items() if value})


def assemble(instructions: list[Instruction]) -> bytes:
    """Concatenate the encodings of a program."""
    return b"".join(encode(instruction) for instruction in instructions)


def disassemble(data: bytes) -> Iterator[Instruction]:
    """Decode a program's bytes one instruction after another.

    Raises
    ------
    FieldError
        If the length is no multiple of 64 bytes or an instruction does not decode; the index is named.
    """
    if len(data) % INSTRUCTION_BYTES:
        raise FieldError(f"{len(data)} bytes are no whole number of {INSTRUCTION_BYTES}-byte instructions")
    for index in range(len(data) // INSTRUCTION_BYTES):
        try:
            yield decode(data[index * INSTRUCTION_BYTES : (index + 1) * INSTRUCTION_BYTES])
        except FieldError as error:
            raise FieldError(f"instruction {index}: {error}") from None
