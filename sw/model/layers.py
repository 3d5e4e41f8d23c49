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
    """A layer's share of a run: cycles from the end of the layer before to the end of its last EXEC."""

    name: str
    kind: str
    macs: int
    cycles: int

    def utilisation(self, rows: int, cols: int) -> float:
        """Multiply-accumulates per PE and cycle."""
        return self.macs / (self.cycles * rows * cols) if self.cycles else 0.0


def layer_cycles(program: Program, trace: Sequence[TraceEvent], total: int) -> list[LayerCycles]:
    """Split a run's `total` cycles over the program's layers; what follows the last layer is called "store".

    Parameters
    ----------
    program
        The program that ran; its layers are executed in order.
    trace
        Of the same run.
    total
        Cycles from start to done.

    Raises
    ------
    ValueError
        If the trace lacks an EXEC of a layer.
    """
    ends = {event.pc: event.done for event in trace if event.queue == Queue.EXEC}
    shares, before = [], 0
    for layer in program.layers:
        mine = [ends[pc] for pc in layer.instructions if pc in ends]
        if not mine:
            raise ValueError(f"layer {layer.name}: no EXEC of it is in the trace")
        shares.append(LayerCycles(layer.name, layer.kind, layer.macs, max(mine) - before))
        before = max(mine)
    return [*shares, LayerCycles("store", "store", 0, total - before)]
