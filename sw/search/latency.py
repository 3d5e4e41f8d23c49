"""The table of cycles: what each choice for a block takes on an accelerator, by the cycle model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Queue
from hw.spec.program import write_atomic
from sw.compiler import compile_graph
from sw.compiler.ir import Graph
from sw.model.layers import layer_cycles
from sw.model.timeline import timeline
from sw.search.graph import block_graph, ends_graph, network_graph
from sw.search.space import Architecture, Block, Place, Space
from sw.sources import CYCLE_SOURCES, sources_digest

__all__ = ["CycleTable", "TableError", "table_identity", "table_path", "whole_cycles"]

Progress = Callable[[int, int], None]
"""Called with entries done and in all."""


class TableError(ValueError):
    """A file that holds no table, or that of something else."""


def table_identity(space: Space, config: AcceleratorConfig) -> dict[str, Any]:
    """Return what decides a table's figures: space, accelerator, and the sources of compiler and models."""
    sources = sources_digest([*CYCLE_SOURCES, "sw/search/graph.py", "sw/search/latency.py"])
    facts = {"space": space.to_dict(), "config": config.to_dict(), "sources": sources[:16]}
    return json.loads(json.dumps(facts))


def table_path(folder: Path, config: AcceleratorConfig) -> Path:
    """Return where a configuration's table lies in a search's folder."""
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()
    return folder / f"table-{digest[:8]}.json"


def whole_cycles(space: Space, architecture: Architecture, config: AcceleratorConfig) -> int:
    """Return the cycles of a network compiled as a whole.

    Raises
    ------
    sw.compiler.CompileError
        If it does not fit.
    sw.search.space.SpaceError
        If it is not of the space.
    """
    return timeline(compile_graph(network_graph(space, architecture), config)).cycles


def _alone(graph: Graph, config: AcceleratorConfig) -> tuple[int, int]:
    """Return the cycles in which a graph computes, compiled alone, and all cycles of its run."""
    program = compile_graph(graph, config)
    run = timeline(program)
    return sum(layer.busy for layer in layer_cycles(program, run.trace, run.cycles)), run.cycles


def _start(space: Space, config: AcceleratorConfig) -> int:
    """Return the cycles before the first layer begins."""
    trace = timeline(compile_graph(ends_graph(space, first=True), config)).trace
    return min(event.start for event in trace if event.queue == Queue.EXEC)


def _key(place: Place, block: Block) -> str:
    """Return the name of an entry; places of one geometry share theirs."""
    return f"{'x'.join(map(str, place.geometry))} {block}"


@dataclass(frozen=True)
class CycleTable:
    """Cycles of every choice at every place of a space.

    An entry is compiled alone.  It counts the cycles in which the array computes, not those before and after, when
    a block alone waits for its input and stores its output; in a network both are on chip or move meanwhile.

    Parameters
    ----------
    identity
        See :func:`table_identity`.
    shared
        Of the layers that all networks have, and until the first one has its input.
    entries
        By place and block: computing, and with waiting.
    """

    identity: dict[str, Any]
    shared: int
    entries: dict[str, tuple[int, int]]

    @staticmethod
    def build(space: Space, config: AcceleratorConfig, progress: Progress = lambda done, total: None) -> CycleTable:
        """Compile every choice.

        Raises
        ------
        sw.compiler.CompileError
            If one does not fit.
        """
        wanted = {
            _key(place, block): (place, block)
            for places in space.places
            for place in places
            for block in space.options(place)
        }
        entries = {}
        for done, (key, (place, block)) in enumerate(wanted.items(), 1):
            entries[key] = _alone(block_graph(place, block), config)
            progress(done, len(wanted))
        shared = _start(space, config) + sum(_alone(ends_graph(space, first=f), config)[0] for f in (True, False))
        return CycleTable(table_identity(space, config), shared, entries)

    def block(self, place: Place, block: Block) -> int:
        """Return the cycles of a choice at a place."""
        return self.entries[_key(place, block)][0]

    def cycles(self, space: Space, architecture: Architecture) -> int:
        """Return the estimate of a network, the sum of its blocks.

        Raises
        ------
        sw.search.space.SpaceError
            If the network is not one of the space.
        """
        return self.shared + sum(self.block(place, block) for place, block in space.blocks(architecture))

    def fastest(self, space: Space) -> Architecture:
        """Return the network with the fewest cycles: the fastest choice at each stage's first place, and no more."""
        return Architecture(
            tuple(
                (min(space.options(places[0]), key=lambda block, place=places[0]: self.block(place, block)),)
                for places in space.places
            )
        )

    def save(self, path: Path) -> None:
        """Write the table."""
        data = {"identity": self.identity, "shared": self.shared, "entries": self.entries}
        write_atomic(path, json.dumps(data, indent=1).encode())

    @staticmethod
    def load(path: Path, space: Space, config: AcceleratorConfig) -> CycleTable:
        """Read a table of a space and an accelerator.

        Raises
        ------
        TableError
            If it is missing, unreadable, or of something else (the first difference is named).
        """
        again = "make it again with 'python -m sw.search table'"
        try:
            data = json.loads(path.read_text())
            entries = {key: (int(busy), int(run)) for key, (busy, run) in data["entries"].items()}
            found = CycleTable(data["identity"], int(data["shared"]), entries)
        except FileNotFoundError:
            raise TableError(f"{path}: no such table; make it with 'python -m sw.search table'") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise TableError(f"{path}: no readable table ({error}); {again}") from None
        for key, value in table_identity(space, config).items():
            if found.identity.get(key) != value:
                what = "compiler or models have changed" if key == "sources" else f"it is of another {key}"
                raise TableError(f"{path}: {what}; {again}")
        return found
