"""Where the cycles of a measured run beyond its port bound went, in causes that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode, Queue, ResidualOp
from hw.spec.program import Program
from sw.model.execute import exec_cycles
from sw.model.trace import TraceEvent

__all__ = ["CAUSES", "causes"]

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
"""Causes and what they count.  ``tiles: KIND`` comes before them: the steps of a kind's tiles, less its bound."""

_TILES = "tiles: "


def causes(program: Program, execs: Sequence[TraceEvent], cycles: int, bounds: Mapping[str, float]) -> dict[str, float]:
    """Return cycles by cause, in the order of :data:`CAUSES`, the tiles first; those that are 0 are left out.

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
    kinds = {pc: layer.kind for layer in program.layers for pc in layer.instructions}
    expected = [pc for pc, instruction in enumerate(stream) if instruction.opcode.name == "EXEC"]
    if sorted(event.pc for event in execs) != expected:
        raise ValueError(f"a trace of {len(execs)} EXECs is none of this program, which has {len(expected)}")
    found: Counter[str] = Counter()
    before, array_mode = 0, None
    for event in sorted(execs, key=lambda event: event.done):
        instruction = stream[event.pc]
        waited = max(0, event.start - before)
        tiles, second = _steps(program.config, instruction)
        mode = _array_mode(instruction)
        changed = mode is not None and array_mode is not None and mode != array_mode
        found[_waits_for(instruction) if before else "first data"] += waited
        found[_TILES + kinds.get(event.pc, "no layer")] += tiles
        found["second operand"] += second
        found[_latency(instruction, waited, changed)] += event.done - before - waited - tiles - second
        before, array_mode = event.done, array_mode if mode is None else mode
    found["last results"] = cycles - before
    for layer in program.layers:
        found[_TILES + layer.kind] -= bounds.get(layer.name, 0)
    if elsewhere := set(bounds) - {layer.name for layer in program.layers}:
        found[_TILES + "no layer"] -= sum(bounds[name] for name in elsewhere)
    order = (*sorted(name for name in found if name.startswith(_TILES)), *CAUSES)
    return {name: float(found[name]) for name in order if found[name]}


def _steps(config: AcceleratorConfig, instruction: Instruction) -> tuple[int, int]:
    """Return the cycles from an EXEC's first step to its last one, both included, and those a second operand adds."""
    alone = replace(instruction, values={**instruction.values, "res": int(ResidualOp.NONE)})
    whole, tiles = (exec_cycles(config, item) for item in (instruction, alone))
    return tiles.first + 1 + tiles.rest, whole.first + whole.rest - tiles.first - tiles.rest


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
