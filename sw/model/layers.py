"""Where a run's cycles go: its trace, measured or predicted, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hw.spec.isa import Queue
from hw.spec.program import Program
from sw.model.trace import TraceEvent

__all__ = ["LayerCycles", "layer_cycles"]


@dataclass(frozen=True)
class LayerCycles:
    """A layer's share of a run.

    EXECs end one after another, so the cycles from the end of one to the end of the next belong to the latter: its work
    and what it waited for.  A layer's cycles are those of its EXECs, whether or not EXECs of fused layers run between
    them.

    Parameters
    ----------
    name, kind, macs
        As in :class:`hw.spec.program.Layer`.
    cycles
        Of its EXECs.
    busy
        Of these, those in which one of its EXECs was in progress; in the others it waited for data or for room.
    """

    name: str
    kind: str
    macs: int
    cycles: int
    busy: int = 0

    def utilisation(self, rows: int, cols: int) -> float:
        """Multiply-accumulates per PE and cycle."""
        return self.macs / (self.cycles * rows * cols) if self.cycles else 0.0


def layer_cycles(program: Program, trace: Sequence[TraceEvent], total: int) -> list[LayerCycles]:
    """Split a run's `total` cycles over the program's layers; what follows the last EXEC is called "store".

    Parameters
    ----------
    program
        The program that ran.
    trace
        Of the same run, in cycles since the start command.
    total
        Cycles from start to done.

    Returns
    -------
    list
        As many as layers, in their order, and the store.  Their cycles add up to `total`.

    Raises
    ------
    ValueError
        If the trace lacks an EXEC of a layer.
    """
    cycles: dict[int, int] = {}
    busy: dict[int, int] = {}
    before = 0
    for event in sorted((event for event in trace if event.queue == Queue.EXEC), key=lambda event: event.done):
        cycles[event.pc] = event.done - before
        busy[event.pc] = event.done - max(event.start, before)
        before = event.done
    shares = []
    for layer in program.layers:
        mine = [pc for pc in layer.instructions if pc in cycles]
        if not mine:
            raise ValueError(f"layer {layer.name}: no EXEC of it is in the trace")
        taken, worked = sum(cycles.pop(pc) for pc in mine), sum(busy[pc] for pc in mine)
        shares.append(LayerCycles(layer.name, layer.kind, layer.macs, taken, worked))
    rest = total - before + sum(cycles.values())  # EXECs of no layer
    return [*shares, LayerCycles("store", "store", 0, rest)]
