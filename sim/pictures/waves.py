"""Signals of a simulation, read from its VCD file, one value a clock cycle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["Signal", "read_waves"]

Signal = tuple[str, int]
"""Path below the top, and bits: names are not unique, because ports and signals behind them may share one."""

_CLOCK: Signal = ("clk", 1)


def read_waves(path: Path, top: str, wanted: Iterable[Signal]) -> dict[Signal, list[int]]:
    """Return the values of signals in the cycles of a simulation, just before each rising edge of ``clk``.

    Parameters
    ----------
    path
        File of Amaranth's ``write_vcd``: a declaration or a change in each line.
    top
        Scopes of the top module, joined by dots.
    wanted
        Signals; of several with one name and size the first is taken.

    Raises
    ------
    KeyError
        If a signal is not in the file.
    """
    wanted = [_CLOCK, *wanted]
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    codes = _declared(lines, f"{top}.")
    if missing := [signal for signal in wanted if signal not in codes]:
        raise KeyError(f"{path.name} has no signal {missing[0]}")
    order = [codes[signal] for signal in wanted]
    values = dict.fromkeys(order, 0)
    history: list[list[int]] = []
    before: list[int] = []
    for line in lines:
        if line.startswith("#"):
            before = [values[code] for code in order]
            continue
        digits, code = line[1:].split() if line.startswith("b") else (line[:1], line[1:])
        if code not in values or set(digits) - {"0", "1"}:
            continue
        value = int(digits, 2)
        if code == order[0] and value and not values[code]:
            history.append(before)
        values[code] = value
    return {signal: [cycle[number] for cycle in history] for number, signal in enumerate(wanted)}


def _declared(lines: Iterable[str], top: str) -> dict[Signal, str]:
    """Read a file's declarations."""
    codes: dict[Signal, str] = {}
    scopes: list[str] = []
    for line in lines:
        match line.split():
            case ["$scope", _, name, "$end"]:
                scopes.append(name)
            case ["$upscope", "$end"]:
                scopes.pop()
            case ["$var", _, size, code, name, *_]:
                path = ".".join([*scopes, name.partition("$")[0]]).removeprefix(top)
                codes.setdefault((path, int(size)), code)
            case ["$enddefinitions", "$end"]:
                break
    return codes
