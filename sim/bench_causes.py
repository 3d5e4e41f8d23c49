"""Where the cycles of a measured run beyond its port bound went, in causes that add up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode, Opcode, Queue, ResidualOp
from hw.spec.program import Layer, Program
from sw.model.execute import exec_cycles
from sw.model.trace import TraceEvent

__all__ = ["CAUSES", "PARTS", "causes", "kind_of"]

CAUSES: dict[str, str] = {
    "first data": "cycles before the first EXEC starts: its input, weights and parameters come from DRAM",
    "loads": "no EXEC is in progress, and the next one waits for a LOAD",
    "stores": "no EXEC is in progress, and the next one waits for a STORE",
    "fetch": "no EXEC is in progress, and the next one waits for none of the two",
    "refill": "latency of EXECs that follow such a wait, so that nothing drains meanwhile",
    "mode change": "latency of EXECs for which the array changes between GEMM and ST-OS",
    "dependency": "latency of EXECs that read what the one before writes (overlap=0)",
    "hand-over": "latency of all other EXECs, and operand reads that lost arbitration",
    "second operand": "turns that reads of a map to add, or of gates, take from operand reads",
    "last results": "cycles after the last EXEC: results go to DRAM",
}
"""Causes and what they count, tiles left out."""

PARTS: dict[str, str] = {
    "idle columns": "their share of steps without an output pixel, where lines do not fill the columns (pixels that a "
    "stride drops afterwards count as used, gaps between packed lines do not)",
    "idle rows": "their share of steps without an output channel, where those do not fill the rows",
    "other steps": "all other steps less the bound: rows that drain, lines in front of a first window, taps beside a "
    "port that is faster; whole layers where the bound has them for free (gates, pooling)",
}
"""Parts of the steps of a kind's tiles, and what they count; as causes they are named ``KIND: PART``."""

_NONE = "no layer"


def causes(program: Program, execs: Sequence[TraceEvent], cycles: int, bounds: Mapping[str, float]) -> dict[str, float]:
    """Return cycles by cause: the tiles' by kind and :data:`PARTS`, then :data:`CAUSES`; those that are 0 are left out.

    EXECs end in order, and the cycles from one's end to the next one's are the latter's.  Of these, its tiles take
    what the cycle model says that the sequencer walks them in; the rest is latency or waiting.  A latency is negative
    where tiles ran while the EXEC before drained.

    Parameters
    ----------
    program
        What ran.
    execs
        When its EXECs ran on RTL, in cycles since the start.
    cycles
        Of the whole run.
    bounds
        Port bound in cycles by layer name.

    Returns
    -------
    dict
        Its sum is `cycles` less the sum of `bounds`.

    Raises
    ------
    ValueError
        If the trace lacks EXECs, or has others than the program.
    """
    stream = program.instructions()
    layer_of = {pc: layer.name for layer in program.layers for pc in layer.instructions}
    expected = [pc for pc, instruction in enumerate(stream) if instruction.opcode == Opcode.EXEC]
    if sorted(event.pc for event in execs) != expected:
        raise ValueError(f"a trace of {len(execs)} EXECs is none of this program, which has {len(expected)}")
    found: Counter[str] = Counter()
    parts: dict[str, Counter[str]] = defaultdict(Counter)  # by layer
    before, array_mode = 0, None
    for event in sorted(execs, key=lambda event: event.done):
        instruction = stream[event.pc]
        waited = max(0, event.start - before)
        tiles, second = _steps(program.config, instruction)
        mode = _array_mode(instruction)
        changed = mode is not None and array_mode is not None and mode != array_mode
        found[_waits_for(instruction) if before else "first data"] += waited
        parts[layer_of.get(event.pc, _NONE)].update(_parts(program.config, instruction, tiles))
        found["second operand"] += second
        found[_latency(instruction, waited, changed)] += event.done - before - waited - tiles - second
        before, array_mode = event.done, array_mode if mode is None else mode
    found["last results"] = cycles - before
    for layer in (*program.layers, Layer(_NONE, _NONE, 0, (), (0, 0, 0))):
        bound = bounds.get(layer.name, 0.0)
        # Lines of ST-OS are bound by ports anyway.
        dense = any(_dense(stream[pc]) for pc in layer.instructions if stream[pc].opcode == Opcode.EXEC)
        port = max(0.0, bound - layer.macs / (program.config.rows * program.config.cols)) if dense else 0.0
        for part, share in _beyond(parts[layer.name], bound, port).items():
            found[f"{layer.kind}: {part}"] += share
    names = {layer.name for layer in program.layers}
    found[f"{_NONE}: other steps"] -= sum(bound for name, bound in bounds.items() if name not in names)
    order = (*sorted(name for name in found if kind_of(name)), *CAUSES)
    return {name: float(found[name]) for name in order if found[name]}


def kind_of(cause: str) -> str | None:
    """Return the kind of layers whose tiles a cause counts; None if it counts something else."""
    kind, colon, _ = cause.partition(": ")
    return kind if colon else None


def _steps(config: AcceleratorConfig, instruction: Instruction) -> tuple[int, int]:
    """Return the cycles from an EXEC's first step to its last one, both included, and those a second operand adds."""
    if not ResidualOp(instruction["res"]).reads:
        tiles = exec_cycles(config, instruction)
        return tiles.first + 1 + tiles.rest, 0
    alone = replace(instruction, values={**instruction.values, "res": int(ResidualOp.NONE)})
    whole, tiles = (exec_cycles(config, item) for item in (instruction, alone))
    return tiles.first + 1 + tiles.rest, whole.first + whole.rest - tiles.first - tiles.rest


def _parts(config: AcceleratorConfig, instruction: Instruction, steps: int) -> dict[str, float]:
    """Split the steps of an EXEC's tiles by :data:`PARTS`, the bound not yet taken off."""
    windows = instruction["mode"] in (Mode.STOS_CH, Mode.STOS_LN) and instruction["kw"] > 1
    spread = instruction["sx"] if windows else 1  # columns per output pixel
    line_tiles = -(-instruction["out_w"] // (config.cols // spread))
    columns = spread * _pixels(instruction) / (instruction["out_h"] * line_tiles * config.cols)
    rows, used = 1.0, float(steps)
    if _dense(instruction):
        blocks = -(-instruction["cout"] // config.rows)
        rows = instruction["cout"] / (blocks * config.rows)
        # The rest of the steps waits for rows to drain.
        tiles = blocks * instruction["out_h"] * line_tiles
        used = tiles * instruction["cin"] * instruction["kh"] * instruction["kw"]
    idle_columns, idle_rows = used * (1 - columns), used * columns * (1 - rows)
    return {
        "idle columns": idle_columns,
        "idle rows": idle_rows,
        "other steps": steps - idle_columns - idle_rows,
    }


def _dense(instruction: Instruction) -> bool:
    return instruction["mode"] == Mode.GEMM and not instruction["depthwise"]


def _pixels(instruction: Instruction) -> int:
    """Return the output pixels of a channel that belong to an image line."""
    seg, out_h, out_w = instruction["seg"], instruction["out_h"], instruction["out_w"]
    if not seg:
        return out_h * out_w
    image = [x % seg < seg - instruction["seg_gap"] for x in range(out_w)]
    return out_h * sum(image) - instruction["seg_missing"] * sum(image[out_w - seg :])


def _beyond(parts: Mapping[str, float], bound: float, port: float) -> dict[str, float]:
    """Take a layer's bound off its parts; during `port` cycles of it PEs are idle whatever the shape."""
    beyond = {name: parts.get(name, 0.0) for name in PARTS}
    for part in ("idle columns", "idle rows"):
        taken = min(port, beyond[part])
        beyond[part] -= taken
        port -= taken
        bound -= taken
    return {**beyond, "other steps": beyond["other steps"] - bound}


def _array_mode(instruction: Instruction) -> str | None:
    """Return how an EXEC uses the array; None if it does not."""
    if instruction["mode"] in (Mode.VEC, Mode.MAX):
        return None
    return "GEMM" if instruction["mode"] == Mode.GEMM else "ST-OS"


def _waits_for(instruction: Instruction) -> str:
    for queue, name in ((Queue.LOAD, "loads"), (Queue.STORE, "stores")):
        if instruction["wait"] >> queue & 1:
            return name
    return "fetch"


def _latency(instruction: Instruction, waited: int, changed: bool) -> str:
    if waited:
        return "refill"
    if changed:
        return "mode change"
    return "hand-over" if instruction["overlap"] else "dependency"
