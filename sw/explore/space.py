"""The accelerators that an exploration chooses from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from hw.spec.config import AcceleratorConfig, ConfigError

__all__ = ["Space"]


@dataclass(frozen=True)
class Space:
    """Values to choose from, per field of :class:`~hw.spec.config.AcceleratorConfig`.

    Parameters
    ----------
    rows, act_kib, weight_kib, axi_data_width, stos
        As there.
    cols
        As there; empty: as many as rows.

    Raises
    ------
    hw.spec.config.ConfigError
        If a field but `cols` has no values, or has one twice.
    """

    rows: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64)
    cols: tuple[int, ...] = ()
    act_kib: tuple[int, ...] = (64, 128, 256, 512, 1024)
    weight_kib: tuple[int, ...] = (32, 64, 128, 256, 512)
    axi_data_width: tuple[int, ...] = (64, 128, 256, 512)
    stos: tuple[bool, ...] = (True,)

    def __post_init__(self) -> None:
        for field in fields(self):
            values: Sequence[int] = getattr(self, field.name)
            if not values and field.name != "cols":
                raise ConfigError(f"{field.name}: no values to choose from")
            if len(set(values)) != len(values):
                raise ConfigError(f"{field.name}: {', '.join(map(str, values))} has a value twice")

    @property
    def choices(self) -> dict[str, list[int]]:
        """Values by name, of the fields that the exploration chooses."""
        return {field.name: list(values) for field in fields(self) if (values := getattr(self, field.name))}

    @property
    def size(self) -> int:
        """Number of combinations; not all of them can be built."""
        size = 1
        for values in self.choices.values():
            size *= len(values)
        return size

    def config(self, chosen: Mapping[str, Any]) -> AcceleratorConfig:
        """Return the accelerator of one combination.

        Raises
        ------
        hw.spec.config.ConfigError
            If there is no such hardware.
        """
        return AcceleratorConfig(**{"cols": chosen["rows"], **chosen})
