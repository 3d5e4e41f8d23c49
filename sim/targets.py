"""The data file of targets for cycles, bench/targets.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sim.whole_cases import Case

__all__ = ["TARGETS", "Native", "Targets"]

TARGETS = Path(__file__).parents[1] / "bench" / "targets.json"


@dataclass(frozen=True)
class Native:
    """An unmodified depthwise network, and the network that it may take a little longer than.

    Parameters
    ----------
    case
        What is measured.
    over
        Its FuSe network on the same array.
    limit
        The largest ratio of cycles.
    """

    case: Case
    over: Case
    limit: float


@dataclass(frozen=True)
class Targets:
    """What to compare cycles with.

    Parameters
    ----------
    source
        Where the figures are from.
    remarks
        By network: in what the figures are of something else than what is measured.
    cells
        By network and preset: ``target`` and ``bound`` in thousand cycles.
    natives
        Depthwise networks, measured against others.
    """

    source: str
    remarks: dict[str, str]
    cells: dict[str, dict[str, dict[str, float]]]
    natives: tuple[Native, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Targets:
        """Read a file.

        Raises
        ------
        ValueError, OSError
            If it cannot be read or lacks something.
        """
        try:
            data = json.loads(path.read_text())
            cells = {
                network: {
                    name: {key: float(cell[key]) for key in ("target", "bound")}
                    for name, cell in row.items()
                }
                for network, row in data["networks"].items()
            }
            natives = tuple(
                Native(Case(network, name), Case(row["over"], name), float(row["limit"]))
                for network, row in data["natives"].items()
                for name in row["presets"]
            )
            remarks = {network: str(data["remarks"][network]) for network in data["remarks"]}
            return cls(str(data["source"]), remarks, cells, natives)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: no file of targets ({type(error).__name__}: {error})") from None

    def cases(self, networks: Sequence[str] | None = None, presets: Sequence[str] | None = None) -> list[Case]:
        """Return the cases of some networks and presets (None: all), in the file's order, depthwise networks last.

        Raises
        ------
        ValueError
            If a network or preset is not in the file.
        """
        every = [Case(network, name) for network, row in self.cells.items() for name in row]
        every += [native.case for native in self.natives]
        for what, asked in (("network", networks), ("preset", presets)):
            there = list(dict.fromkeys(getattr(case, what) for case in every))
            for name in asked or ():
                if name not in there:
                    raise ValueError(f"{what} {name!r} has no targets; those are of {', '.join(there)}")
        return [
            case
            for case in every
            if (networks is None or case.network in networks) and (presets is None or case.preset in presets)
        ]

    def native(self, case: Case) -> Native | None:
        """Return what a depthwise network is measured against, None for a cell of the table."""
        return next((native for native in self.natives if native.case == case), None)
