"""What an EXEC instruction touches: its fields checked, its reads and writes as blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import EXEC_LIMITS, Activation, Instruction, Mode, ResidualOp
from sim.iss.machine import Block, FaultError, UndefinedUseError

__all__ = ["Operands", "Window", "operands"]


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
class Operands:
    """A checked EXEC.

    Parameters
    ----------
    mode, depthwise
        How it computes; `depthwise` holds for every mode with one input channel per output channel.
    channels
        Input channels.
    rows, columns
        Input lines and pixels needed.
    source
        The part of the window inside the tensor.
    reads
        The lines of `source` that some tap reads: all of them, unless the stride skips lines.
    second
        Second operand: a map to add, one byte per channel to multiply with, or None.
    sink
        Bytes written.
    weight_words, param_entries
        First and last-plus-one word and entry read.
    """

    mode: Mode
    depthwise: bool
    channels: int
    rows: Window
    columns: Window
    source: Block
    reads: tuple[Block, ...]
    second: Block | None
    sink: Block
    weight_words: range
    param_entries: range


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

    rows = Window.of(instruction["out_h"], instruction["sy"], kh, instruction["pad_y"], in_h)
    columns = Window.of(instruction["out_w"], instruction["sx"], kw, instruction["pad_x"], in_w)
    tensor = Block(instruction["in_base"], channels, in_cs, in_h, pitch, in_w)
    _check_range("input", tensor, config.act_bytes)
    source = Block(
        tensor.base + (rows.low - rows.pad) * pitch + columns.low - columns.pad,
        channels,
        in_cs,
        rows.high - rows.low,
        pitch,
        columns.high - columns.low,
    )
    plane = (instruction["out_cs"], instruction["out_h"], instruction["out_pitch"], instruction["out_w"])
    second = None
    if instruction["res"] == ResidualOp.ADD:
        second = Block(instruction["res_base"], cout, *plane)
        _check_range("residual", second, config.act_bytes)
    elif instruction["res"] == ResidualOp.SCALE:
        second = Block(instruction["res_base"], cout, 1, 1, 0, 1)
        _check_range("gate", second, config.act_bytes)
    full = Block(instruction["out_base"], cout, *plane)
    sink = Block(instruction["out_base"], cout, instruction["out_cs"], 1, 0, 1) if instruction["gap"] else full
    _check_range("output", sink, config.act_bytes)

    blocks = -(-cout // config.rows)
    words = 0 if mode in (Mode.VEC, Mode.MAX) else blocks * kh * kw * (1 if depthwise else channels)
    weight_words = range(instruction["w_base"], instruction["w_base"] + words)
    param_entries = range(instruction["p_base"], instruction["p_base"] + cout)
    _check_end("weight words", weight_words, config.weight_words)
    _check_end("parameter entries", param_entries, config.param_entries)

    if not sink.distinct:
        raise UndefinedUseError(f"output channels or lines overlap (out_cs={sink.cs}, out_pitch={sink.pitch})")
    if sink.overlaps(source):
        raise UndefinedUseError(f"output {sink} overlaps the input {source}")
    if second is not None and sink.overlaps(second):
        if instruction["res"] == ResidualOp.SCALE:
            raise UndefinedUseError(f"output {sink} overlaps the gate {second}")
        if second != sink:
            raise UndefinedUseError(f"output {sink} overlaps the residual {second} without being the same place")
    reads = _lines_read(source, rows, instruction["sy"], kh)
    return Operands(mode, depthwise, channels, rows, columns, source, reads, second, sink, weight_words, param_entries)


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
    mode, act, res = instruction["mode"], instruction["act"], instruction["res"]
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
    if act != Activation.NONE and res == ResidualOp.SCALE:
        raise FaultError(ErrorCause.BAD_FIELD, act, f"act={Activation(act).name} with res=SCALE; one product at most")


def _check_range(what: str, block: Block, size: int) -> None:
    if block.end > size:
        raise FaultError(ErrorCause.MEM_RANGE, block.end - 1, f"{what} bytes {block.base} to {block.end}, of {size}")


def _check_end(what: str, used: range, size: int) -> None:
    if used.stop > size and len(used):
        raise FaultError(ErrorCause.MEM_RANGE, used.stop - 1, f"{what} {used.start} to {used.stop}, of {size}")
