"""Storages: tensors that are no views of others, how long they live and where."""

from __future__ import annotations

from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Region
from sw.compiler.lower import Kernel
from sw.compiler.views import View

__all__ = ["Storage", "reads_of", "views_of"]


@dataclass
class Storage:
    """A tensor that is no view: its life (kernel indices, both included) and its places.

    Parameters
    ----------
    resident
        Lies in the scratchpad, at `base`, as long as it lives.
    windowed
        Lives inside one group only: no more of it is anywhere at a time than the lines in a window on chip.
    region, offset
        Home in DRAM (`offset` is -1 until one is given).
    stored
        Every part is also written to its home.
    pinned
        Must be resident.
    """

    name: str
    size: int
    first: int
    last: int
    region: Region
    stored: bool
    resident: bool = True
    windowed: bool = False
    pinned: bool = False
    base: int = -1
    offset: int = -1

    def first_load(self, config: AcceleratorConfig) -> float:
        """Return the cycles for which its first reader waits: a network input on chip is loaded as a whole."""
        return self.size / config.axi_bytes if self.resident and self.region == Region.INPUT else 0.0

    @property
    def at_home(self) -> bool:
        """Whether it has a place in DRAM."""
        return self.stored or self.region == Region.INPUT or not (self.resident or self.windowed)


def views_of(kernel: Kernel) -> list[View]:
    """Return the places that a kernel reads and writes."""
    return [view for view in (kernel.source, kernel.residual, kernel.target, kernel.beside) if view is not None]


def reads_of(kernel: Kernel) -> list[View]:
    """Return the places that a kernel reads."""
    return [view for view in (kernel.source, kernel.residual) if view is not None]
