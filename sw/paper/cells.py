"""Cycles of every network, variant and array on this hardware, by compiler and cycle model; kept on disk.

A cell is measured again only if something that decides it has changed: sources of the front end for its graph, and
those of compiler, model and specification for its cycles.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pickle
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from hw.spec.config import AcceleratorConfig
from hw.spec.program import write_atomic
from sw.compiler import compile_graph
from sw.compiler.ir import Graph
from sw.model.authors import network_cycles
from sw.model.channels import Memory
from sw.model.layers import layer_cycles
from sw.model.shapes import LAYER_TYPES, graph_types
from sw.model.sizes import square
from sw.model.timeline import timeline
from sw.paper.published import BASELINE, NETWORKS, SIZES, VARIANTS, network_name
from sw.rtl_identity import schedule_key
from sw.sources import CYCLE_SOURCES, sources_digest

__all__ = ["Case", "Cell", "Cells", "cases"]

_GRAPH_SOURCES = (
    *("sw/nn/zoo", "sw/nn/convert.py", "sw/nn/fuse.py"),
    *("sw/quant", "sw/frontends", "sw/defaults.py", "sw/compiler/ir.py"),
)
_MEASURING_SOURCES = ("sw/rtl_identity.py", "sw/paper/cells.py")
_PACKAGES = ("torch", "torchao", "numpy")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """What is measured.

    Parameters
    ----------
    network, variant
        Of the paper's.
    size
        Rows and columns.
    stos
        Whether the array has ST-OS; without it, depthwise convolutions run as im2col.
    """

    network: str
    variant: str
    size: int
    stos: bool = True

    @property
    def config(self) -> AcceleratorConfig:
        """The accelerator."""
        return square(self.size).twin(stos=self.stos)

    @property
    def source(self) -> str:
        """The zoo's name."""
        return network_name(self.network, self.variant)

    def __str__(self) -> str:
        return f"{self.source.replace(':', '-')}@{self.size}{'' if self.stos else '-im2col'}"


@dataclass(frozen=True)
class Cell:
    """A measurement.

    Parameters
    ----------
    cycles
        Predicted by the cycle model, from start to done.
    authors
        By the authors' closed form, for the same network and array.
    types
        Cycles by :data:`~sw.model.shapes.LAYER_TYPES`; those after the last EXEC count as ``other``.
    macs
        Multiply-accumulates.
    instructions
        In the program.
    schedule
        The program's :func:`~sw.rtl_identity.schedule_key`.
    seconds
        CPU time that compiler and model took.
    """

    cycles: int
    authors: int
    types: dict[str, int]
    macs: int
    instructions: int
    schedule: str
    seconds: float


def cases() -> Iterator[Case]:
    """Yield all cases, a network's graph at a time: the variants, and the depthwise network on arrays without ST-OS."""
    for network in NETWORKS:
        for variant in (BASELINE, *VARIANTS):
            for size in SIZES:
                yield Case(network, variant, size)
                if variant == BASELINE:
                    yield Case(network, variant, size, stos=False)


def measure(graph: Graph, config: AcceleratorConfig) -> Cell:
    """Compile a network and predict its run."""
    started = time.process_time()
    program = compile_graph(graph, config)
    run = timeline(program, Memory())
    *layers, rest = layer_cycles(program, run.trace, run.cycles)
    types = dict.fromkeys(LAYER_TYPES, 0)
    for kind, layer in zip(graph_types(graph, [layer.name for layer in layers]), layers, strict=True):
        types[kind] += layer.cycles
    types["other"] += rest.cycles
    return Cell(
        cycles=run.cycles,
        authors=network_cycles(graph, config.rows, config.cols),
        types=types,
        macs=program.macs,
        instructions=program.instruction_count,
        schedule=schedule_key(program),
        seconds=round(time.process_time() - started, 3),
    )


class Cells:
    """Cells in a folder.

    Parameters
    ----------
    folder
        Where cells and graphs are kept.
    fresh
        Forget what is there.
    tell
        Called with what is being done when it takes seconds.
    build
        Makes the graph of a network of the zoo.
    """

    def __init__(self, folder: Path, *, fresh: bool, tell: Tell, build: Callable[[str], Graph]) -> None:
        self.folder, self.tell, self.build = folder, tell, build
        self.measured = 0
        self._graph: tuple[str, Graph] | None = None
        for name in ("cells", "graphs"):
            if fresh:
                shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir(parents=True, exist_ok=True)

    def get(self, case: Case) -> Cell:
        """Return a cell, measured now or before."""
        path = self.folder / "cells" / f"{case}.json"
        identity = self.identity(case)
        try:
            kept = json.loads(path.read_text())
            if kept["identity"] == identity:
                return Cell(**kept["cell"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        graph = self.graph(case.source)
        self.tell(f"{case}: compiling, predicting")
        cell = measure(graph, case.config)
        self.measured += 1
        record = {"identity": identity, "cell": asdict(cell)}
        write_atomic(path, (json.dumps(record, indent=1) + "\n").encode())
        return cell

    def graph(self, source: str) -> Graph:
        """Return a network's graph, quantised now or before."""
        if self._graph is None or self._graph[0] != source:
            kept = self._kept(source, graph=True)
            self._graph = source, kept and kept[1] or self._make(source)
        return self._graph[1]

    def identity(self, case: Case) -> str:
        """Return a hash of all that decides a cell."""
        facts = [self._graph_key, self._cycle_key, case.source, case.config.hash_hex, repr(Memory())]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    def exports(self, sources: Iterable[str]) -> dict[str, float]:
        """Return the CPU seconds that the graphs of networks took, of those that are kept and of today's sources."""
        found = {source: self._kept(source, graph=False) for source in sources}
        return {source: kept[0] for source, kept in found.items() if kept}

    @cached_property
    def _graph_key(self) -> str:
        versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
        return " ".join([sources_digest(_GRAPH_SOURCES), *versions])

    @cached_property
    def _cycle_key(self) -> str:
        return sources_digest((*CYCLE_SOURCES, *_MEASURING_SOURCES))

    def _path(self, source: str) -> Path:
        return self.folder / "graphs" / f"{source.replace(':', '-')}.pickle"

    def _kept(self, source: str, *, graph: bool) -> tuple[float, Graph | None] | None:
        """Return the seconds that a kept graph took, and the graph if asked for.

        A file holds two pickles, what the first says and the graph; it is this program's own, and a user who can
        change it can change the program too.
        """
        try:
            with self._path(source).open("rb") as file:
                key, seconds = pickle.load(file)
                if key != self._graph_key:
                    return None
                return seconds, pickle.load(file) if graph else None
        except Exception:  # missing, cut off, or of other versions of the classes in it: unpickling raises anything
            return None

    def _make(self, source: str) -> Graph:
        self.tell(f"{source}: exporting, quantising")
        started = time.process_time()
        graph = self.build(source)
        seconds = time.process_time() - started
        write_atomic(self._path(source), pickle.dumps((self._graph_key, seconds)) + pickle.dumps(graph))
        return graph
