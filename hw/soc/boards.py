"""Boards: part, resources, and what is built unless asked otherwise.  Pins are those of the amaranth-boards package."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from hw.errors import RequestError
from hw.spec.config import PRESETS, AcceleratorConfig

__all__ = ["BOARDS", "LIGHTS", "RESOURCES", "Board", "Pin", "board"]

RESOURCES = ("luts", "ffs", "dsps", "brams")
"""What a part has of: LUTs, flip-flops, multipliers, block RAMs (of 18 or 36 kbit)."""

LIGHTS = 4
"""LEDs in use: running, active, interrupt, link error."""


@dataclass(frozen=True)
class Pin:
    """A port of the top module, the package ball it is at, its attributes, and the frequency if it is a clock."""

    port: str
    ball: str
    attributes: tuple[tuple[str, str], ...]
    inverted: bool = False
    hertz: float | None = None


@dataclass(frozen=True)
class Board:
    """One board.

    Parameters
    ----------
    name, title
        As typed, and as read.
    family
        ``ecp5`` or ``xc7``.
    platform
        Module and class of its Amaranth platform, from which part and pins come.
    available
        :data:`RESOURCES` of the part, by name.
    config, memory_kib, clock_mhz
        What is built by default: accelerator, on-chip memory behind its bus, clock.
    """

    name: str
    title: str
    family: str
    platform: tuple[str, str]
    available: tuple[int, int, int, int]
    config: AcceleratorConfig
    memory_kib: int
    clock_mhz: float
    baud: int = 1_000_000

    def load(self) -> Any:
        """Return the platform class.

        Raises
        ------
        RequestError
            If the package is not installed.
        """
        module, name = self.platform
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise RequestError(f"board {self.name}: {error}; it comes with pip install 'rowcast[boards]'") from None

    def pins(self) -> list[Pin]:
        """Return the pins in use: clock, reset if there is one, serial line, LEDs."""
        platform = self.load()
        found = {(resource.name, resource.number): resource for resource in platform.resources}
        clock = found[platform.default_clk, 0]
        pins = [_pin("clk_in", clock, clock)]
        if reset := getattr(platform, "default_rst", None):
            pins.append(_pin("reset_in", found[reset, 0], found[reset, 0]))
        uart = found["uart", 0]
        for signal in uart.ios:
            if signal.name in ("rx", "tx"):
                pins.append(_pin(f"uart_{signal.name}", uart, signal))
        return [*pins, *(_pin(f"led[{n}]", found["led", n], found["led", n]) for n in range(LIGHTS))]


def _pin(port: str, resource: Any, signal: Any) -> Pin:
    """Return the pin of a resource, or of one of its signals, with the attributes of both."""
    place = signal.ios[0]
    attributes = {**resource.attrs, **signal.attrs}
    hertz = resource.clock.frequency if resource.clock is not None else None
    return Pin(port, place.names[0], tuple(sorted(attributes.items())), place.invert, hertz)


_EDGE8 = PRESETS["edge8"].twin(pipeline_mac=True, axi_addr_width=32)

BOARDS: dict[str, Board] = {
    item.name: item
    for item in (
        Board(
            name="ulx3s_85f",
            title="Radiona ULX3S with LFE5U-85F",
            family="ecp5",
            platform=("amaranth_boards.ulx3s", "ULX3S_85F_Platform"),
            available=(83_640, 83_640, 156, 208),
            config=_EDGE8.twin(act_kib=64, weight_kib=32, param_entries=512),
            memory_kib=128,
            clock_mhz=50,
        ),
        Board(
            name="arty_a7_35",
            title="Digilent Arty A7-35T",
            family="xc7",
            platform=("amaranth_boards.arty_a7", "ArtyA7_35Platform"),
            available=(20_800, 41_600, 90, 50),
            config=_EDGE8.twin(rows=4, cols=4, act_kib=32, act_banks=2, weight_kib=16, param_entries=512),
            memory_kib=64,
            clock_mhz=100,
        ),
        Board(
            name="arty_a7_100",
            title="Digilent Arty A7-100T",
            family="xc7",
            platform=("amaranth_boards.arty_a7", "ArtyA7_100Platform"),
            available=(63_400, 126_800, 240, 135),
            config=_EDGE8,
            memory_kib=128,
            clock_mhz=100,
        ),
    )
}
"""Boards by name."""


def board(name: str) -> Board:
    """Return a board.

    Raises
    ------
    RequestError
        If there is none of that name.
    """
    try:
        return BOARDS[name]
    except KeyError:
        raise RequestError(f"no board {name!r}; there are {', '.join(BOARDS)}") from None
