"""One accelerator of an exploration: what a network takes on it, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from sw.compiler import compile_graph
from sw.compiler.ir import Graph
from sw.model.area import AreaTable, area
from sw.model.channels import Memory
from sw.model.energy import EnergyTable
from sw.model.profile import profile

__all__ = ["OBJECTIVES", "Point", "evaluate"]

OBJECTIVES = {"cycles": "cycles", "energy": "energy_uj", "area": "area_mm2"}
"""What can be minimised, and the member of :class:`Point` that has it."""


@dataclass(frozen=True)
class Point:
    """What the models say of one picture through a network.

    Parameters
    ----------
    cycles
        Of the whole network.
    energy_uj
        Microjoules.
    area_mm2
        Square millimetres, memories included.
    utilisation
        Multiply-accumulates per PE and cycle.
    dram_bytes
        Loaded and stored.
    """

    cycles: int
    energy_uj: float
    area_mm2: float
    utilisation: float
    dram_bytes: int


def evaluate(
    graph: Graph,
    config: AcceleratorConfig,
    *,
    memory: Memory | None = None,
    area_table: AreaTable | None = None,
    energy_table: EnergyTable | None = None,
) -> Point:
    """Compile a network for an accelerator and ask the models.

    Raises
    ------
    sw.compiler.CompileError
        If the network does not fit.
    """
    run = profile(compile_graph(graph, config), memory, energies=energy_table)
    return Point(
        cycles=run.timeline.cycles,
        energy_uj=sum(run.energy.values()) * 1e-6,
        area_mm2=sum(area(config, area_table).values()) * 1e-6,
        utilisation=run.utilisation,
        dram_bytes=sum(layer.loaded + layer.stored for layer in run.layers),
    )
