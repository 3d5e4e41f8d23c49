"""Command line of the reports: which accelerators, how measured, where the results go."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from pathlib import Path

from hw.errors import RequestError
from hw.generate import add_configuration
from hw.spec.config import AcceleratorConfig, preset

__all__ = ["configurations", "parser"]


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    made = argparse.ArgumentParser(
        prog="python -m hw.report",
        description="Synthesise accelerators with Yosys: area by module, memories, longest path, price of ST-OS.",
        epilog="Numbers and --preset take several values: every combination is measured. --cols follows --rows. "
        "Without --liberty there are no um2, but CMOS transistors as Yosys estimates them.",
    )
    made.add_argument("--config", type=Path, metavar="F", help="manifest.json of python -m hw.generate to start from")
    made.add_argument("--liberty", type=Path, metavar="F", help="cell library, .lib or .lib.gz")
    made.add_argument("--sta", action="store_true", help="longest paths by OpenSTA (program sta); needs --liberty")
    made.add_argument("--flat", action="store_true", help="flatten the accelerator first (minutes from 16 x 16 on)")
    made.add_argument("--no-twin", action="store_true", help="do not measure the same accelerator with --no-stos too")
    made.add_argument("--no-cache", action="store_true", help="measure again what was measured before")
    made.add_argument("--json", action="store_true", help="print one JSON object, for several accelerators a list")
    made.add_argument("--markdown", action="store_true", help="print the overview as a Markdown table")
    made.add_argument("--csv", type=Path, metavar="F", help="write a line of figures for each accelerator")
    made.add_argument("--plot", type=Path, metavar="F", help="write a picture (.png, .svg, .pdf)")
    made.add_argument("--out", type=Path, metavar="DIR", help="write reports.json, report.txt and tables.md there")
    made.add_argument("--quiet", action="store_true", help="no progress on standard error")
    add_configuration(made, sweep=True)
    return made


def configurations(args: argparse.Namespace) -> dict[str, AcceleratorConfig]:
    """Return the accelerators that options ask for, by name.

    Raises
    ------
    RequestError
        If both a manifest and presets are named.
    hw.spec.config.ConfigError
        If a configuration is invalid or unknown.
    """
    if args.config and args.preset:
        raise RequestError("--config and --preset: only one of them can be where configurations start")
    if args.config:
        bases = {"": AcceleratorConfig.from_manifest(args.config)}
    else:
        bases = {name: preset(name) for name in args.preset or []} or {"": AcceleratorConfig()}
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(AcceleratorConfig)}
    values = {
        name: value if isinstance(value, list) else [value] for name, value in given.items() if value is not None
    }
    found: dict[str, AcceleratorConfig] = {}
    for base, start in bases.items():
        for choice in itertools.product(*values.values()):
            changes = dict(zip(values, choice, strict=True))
            if "rows" in changes:
                changes.setdefault("cols", changes["rows"])
            config = start.twin(**changes)
            found[_name(base, config, [name for name in values if name not in ("rows", "cols")])] = config
    return found


def _name(base: str, config: AcceleratorConfig, changed: list[str]) -> str:
    parts = [base] if base else [f"{config.rows}x{config.cols}"]
    if base and (config.rows, config.cols) != (preset(base).rows, preset(base).cols):
        parts.append(f"{config.rows}x{config.cols}")
    for name in changed:
        value = getattr(config, name)
        option = name.replace("_", "-")
        parts.append((option if value else f"no-{option}") if isinstance(value, bool) else f"{option}={value}")
    return " ".join(parts)
