"""What an EXEC instruction touches: its fields checked, its reads and writes as blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import EXEC_LIMITS, Instruction, Mode, ResidualOp
from sim.iss.machine import Block, FaultError, UndefinedUseError

__all__ = ["Operands", "Part", "Window", "operands"]


@dataclass(frozen=True)
class Window:
    """Input positions along one axis: place j of the window is input coordinate ``j - pad``; low <= j < high exist."""

    size: int
    pad: int
    low: int
    high: int

    @classmethod
    def of(cls, outputs: int, stride: int, kernel: int, pad: int, extent: int) -> Window:
        """Return the window that `outputs` positions of a kernel need on an axis of `extent` positions."""
        size = (outputs - 1) * stride + kernel
        low = min(max(0, pad), size)
        return cls(size, pad, low, max(low, min(size, extent + pad)))


@dataclass(frozen=True)
class Part:
    """A window, and the input bytes in it: `source` fills the places from ``low`` to ``high`` of both axes."""

    rows: Window
    columns: Window
    source: Block


@dataclass(frozen=True)
class Operands:
    """A checked EXEC.

    Parameters
    ----------
    mode, depthwise
        How it computes; `depthwise` holds for every mode with one input channel per output channel.
    channels
        Input channels.
    parts
        The input lines and pixels needed, and where they lie inside the tensor: in one place, with ``fold`` in five.
    reads
        The lines of the parts that some tap reads: all of them, unless the stride skips lines.
    second
        Second operand: a map to add, one byte per channel to multiply with, or None.
    sink
        Bytes written, without `pooled`.
    pooled
        Bytes of pooling beside a map, or None.
    weight_words, param_entries
        First and last-plus-one word and entry read.
    """

    mode: Mode
    depthwise: bool
    channels: int
    parts: tuple[Part, ...]
    reads: tuple[Block, ...]
    second: Block | None
    sink: Block
    pooled: Block | None
    weight_words: range
    param_entries: range

    @property
    def writes(self) -> tuple[Block, ...]:
        """All bytes written."""
        return (self.sink,) if self.pooled is None else (self.sink, self.pooled)


def operands(config: AcceleratorConfig, instruction: Instruction) -> Operands:
    """Check an EXEC and return what it touches.

    The input must lie in the scratchpad as a whole (all channels, lines 0..in_h-1, pixels 0..in_w-1), whatever part
    of it the strip reads.

    Raises
    ------
    FaultError
        BAD_FIELD or MEM_RANGE, in this order.
    UndefinedUseError
        If input, output and second operand overlap in a way the ISA forbids.
    """
    _check_fields(config, instruction)
    mode = Mode(instruction["mode"])
    depthwise = mode != Mode.GEMM or bool(instruction["depthwise"])
    cout, kh, kw = instruction["cout"], instruction["kh"], instruction["kw"]
    channels = cout if depthwise else instruction["cin"]
    in_w, in_h, in_cs, pitch = (instruction[name] for name in ("in_w", "in_h", "in_cs", "in_pitch"))

    tensor = Block(instruction["in_base"], channels, in_cs, in_h, pitch, in_w)
    _check_range("input", tensor, config.act_bytes)
    parts = _parts(instruction, tensor)
    plane = (instruction["out_cs"], instruction["out_h"], instruction["out_pitch"], instruction["out_w"])
    second = None
    if instruction["res"] == ResidualOp.ADD:
        second = Block(instruction["res_base"], cout, *plane)
        _check_range("residual", second, config.act_bytes)
    elif instruction["res"] == ResidualOp.SCALE:
        second = Block(instruction["res_base"], cout, 1, 1, 0, 1)
        _check_range("gate", second, config.act_bytes)
    full = Block(instruction["out_base"], cout, *plane)
    pooled = None
    if instruction["res"] == ResidualOp.POOL:
        pooled = Block(instruction["res_base"], cout, 1, 1, 0, 1)
        _check_range("pooled", pooled, config.act_bytes)
    alone = instruction["gap"] and pooled is None
    sink = Block(instruction["out_base"], cout, instruction["out_cs"], 1, 0, 1) if alone else full
    _check_range("output", sink, config.act_bytes)

    blocks = -(-cout // config.rows)
    words = 0 if mode in (Mode.VEC, Mode.MAX) else blocks * kh * kw * (1 if depthwise else channels)
    weight_words = range(instruction["w_base"], instruction["w_base"] + words)
    param_entries = range(instruction["p_base"], instruction["p_base"] + cout)
    _check_end("weight words", weight_words, config.weight_words)
    _check_end("parameter entries", param_entries, config.param_entries)

    if not sink.distinct:
        raise UndefinedUseError(f"output channels or lines overlap (out_cs={sink.cs}, out_pitch={sink.pitch})")
    for part in parts:
        for written in (sink,) if pooled is None else (sink, pooled):
            if written.overlaps(part.source):
                raise UndefinedUseError(f"output {written} overlaps the input {part.source}")
    if pooled is not None and pooled.overlaps(sink):
        raise UndefinedUseError(f"pooled bytes {pooled} overlap the map {sink}")
    if second is not None and sink.overlaps(second):
        if instruction["res"] == ResidualOp.SCALE:
            raise UndefinedUseError(f"output {sink} overlaps the gate {second}")
        if second != sink:
            raise UndefinedUseError(f"output {sink} overlaps the residual {second} without being the same place")
    reads = tuple(block for part in parts for block in _lines_read(part.source, part.rows, instruction["sy"], kh))
    return Operands(mode, depthwise, channels, parts, reads, second, sink, pooled, weight_words, param_entries)


def _parts(instruction: Instruction, tensor: Block) -> tuple[Part, ...]:
    """Return the parts of the window in which an input tensor lies, once for every place that ``fold`` gives it."""
    sides = (0, -1, 1, -2, 2) if instruction["fold"] else (0,)
    # x(c, y, x) is the input's line y + lines, pixel x + pixels
    shifts = [(-side * tensor.lines, side * instruction["seg"]) for side in sides]
    parts = []
    for lines, pixels in shifts:
        rows, columns = (
            Window.of(*(instruction[name] for name in names), instruction[pad] - shift, extent)
            for names, pad, shift, extent in (
                (("out_h", "sy", "kh"), "pad_y", lines, tensor.lines),
                (("out_w", "sx", "kw"), "pad_x", pixels, tensor.width),
            )
        )
        source = replace(
            tensor,
            base=tensor.base + (rows.low - rows.pad) * tensor.pitch + columns.low - columns.pad,
            lines=rows.high - rows.low,
            width=columns.high - columns.low,
        )
        parts.append(Part(rows, columns, source))
    return tuple(parts)


def _lines_read(source: Block, rows: Window, stride: int, kernel: int) -> tuple[Block, ...]:
    if kernel >= stride:
        return (source,)
    blocks = []
    for tap in range(kernel):
        places = [place for place in range(tap, rows.size, stride) if rows.low <= place < rows.high]
        if places:
            base = source.base + (places[0] - rows.low) * source.pitch
            blocks.append(replace(source, base=base, lines=len(places), pitch=source.pitch * stride))
    return tuple(blocks)


def _check_fields(config: AcceleratorConfig, instruction: Instruction) -> None:
    """Raise BAD_FIELD for the first illegal field, in the order in which the hardware looks at them."""
    mode, res = instruction["mode"], instruction["res"]
    name_of = f"mode={Mode(mode).name if mode in set(Mode) else mode}"
    if mode in (Mode.STOS_CH, Mode.STOS_LN) and not config.stos:
        raise FaultError(ErrorCause.BAD_FIELD, mode, f"{name_of} on an accelerator built without ST-OS")
    if instruction["depthwise"] and mode != Mode.GEMM:
        raise FaultError(ErrorCause.BAD_FIELD, 1, f"depthwise=1 with {name_of}; it belongs to GEMM")
    kernel = 1 if mode == Mode.VEC else config.max_kernel
    bounds: dict[str, tuple[int, int | None]] = {"kh": (1, kernel), "kw": (1, kernel), **EXEC_LIMITS}
    if mode == Mode.GEMM and not instruction["depthwise"]:
        bounds["cin"] = (1, None)
    for name, (low, high) in bounds.items():
        value = instruction[name]
        if value < low or (high is not None and value > high):
            limit = f"at least {low}" if high is None else f"{int(low)} to {int(high)}"
            where = "" if name == "mode" else f" with {name_of}"
            raise FaultError(ErrorCause.BAD_FIELD, value, f"{name}={value}{where}; legal is {limit}")
    _check_segments(config, instruction, name_of)
    if res == ResidualOp.POOL and not instruction["gap"]:
        raise FaultError(ErrorCause.BAD_FIELD, res, "res=POOL without gap; it says where pooled bytes go")


def _check_segments(config: AcceleratorConfig, instruction: Instruction, mode: str) -> None:
    """Raise BAD_FIELD for what the fields of packed lines forbid each other."""
    seg, out_w, out_h = instruction["seg"], instruction["out_w"], instruction["out_h"]
    packed, stos = seg != 0, instruction["mode"] in (Mode.STOS_CH, Mode.STOS_LN)
    masked = bool(instruction["seg_gap"] or instruction["seg_missing"])
    for name, wrong, limit in (
        *((name, not packed and instruction[name], "needs seg") for name in ("fold", "seg_gap", "seg_missing")),
        ("fold", instruction["fold"] and not stos, f"with {mode}; it belongs to STOS_CH and STOS_LN"),
        ("sx", masked and instruction["sx"] != 1, "with gaps between segments; these have stride 1 along x"),
        ("out_w", masked and out_w > config.cols, f"with gaps; a packed line has at most {config.cols} pixels"),
        ("seg", masked and seg > out_w, f"with gaps and out_w={out_w}; a segment is no longer than the line"),
        ("seg_gap", packed and instruction["seg_gap"] >= seg, f"with seg={seg}; a segment is longer than its gap"),
        ("seg_missing", instruction["seg_missing"] > out_h, f"with out_h={out_h}; no more lines than there are"),
    ):
        if wrong:
            raise FaultError(ErrorCause.BAD_FIELD, instruction[name], f"{name}={instruction[name]} {limit}")


def _check_range(what: str, block: Block, size: int) -> None:
    if not block.empty and block.end > size:
        raise FaultError(ErrorCause.MEM_RANGE, block.end - 1, f"{what} bytes {block.base} to {block.end}, of {size}")


def _check_end(what: str, used: range, size: int) -> None:
    if used.stop > size and len(used):
        raise FaultError(ErrorCause.MEM_RANGE, used.stop - 1, f"{what} {used.start} to {used.stop}, of {size}")
