"""The report of one configuration: sizes, memories, longest path, and what ST-OS costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from hw.emit import tool_versions
from hw.generate import TOP, accelerator_verilog
from hw.report.cache import Store, sources_hash
from hw.report.hierarchy import Hierarchy, family
from hw.report.liberty import Liberty
from hw.report.synthesis import Mapped, Progress, netlist_text, synthesise
from hw.report.timing import longest_path, sta_version
from hw.report.yosys_run import MULTIPLIER, PE
from hw.spec.config import AcceleratorConfig

__all__ = ["FORMAT", "Options", "measure"]

FORMAT = 1
_ROUNDING = 1e-6  # of sums of areas

_SOURCES = ("hw/*.py", "hw/spec/*.py", "hw/report/*.py")


@dataclass(frozen=True)
class Options:
    """How to measure.

    Parameters
    ----------
    liberty
        Cell library; None: generic gates and Yosys' estimate of CMOS transistors.
    sta
        Find longest paths with OpenSTA, not abc.
    flat
        Flatten the accelerator before synthesis.
    twin
        Measure the same accelerator without ST-OS too.
    cached
        Use and keep results.
    """

    liberty: Liberty | None = None
    sta: bool = False
    flat: bool = False
    twin: bool = True
    cached: bool = True


@dataclass(frozen=True)
class _Design:
    """An accelerator as gates."""

    modules: dict[str, Mapped]
    tree: Hierarchy


def measure(config: AcceleratorConfig, options: Options, progress: Progress) -> dict[str, Any]:
    """Return the report of a configuration, a JSON object.

    ``*_um2`` are null without a library, ``*_transistors`` with one, ``stos_price_*`` (fractions of the plain
    accelerator's size) without ST-OS or without its twin, ``*_ps`` and ``fmax_mhz`` where not measured.

    Raises
    ------
    ToolError
        If Yosys or OpenSTA fails.
    """
    store = Store("reports", active=options.cached)
    method = _method(options)
    key = store.key(FORMAT, config.hash_hex, method, sources_hash(*_SOURCES))
    if (kept := store.get(key)) is not None:
        progress("found in the cache")
        return kept
    name = f"{config.rows} x {config.cols}"
    design = _design(config, options, lambda text: progress(f"{name}: {text}"))
    plain = None
    if config.stos and options.twin:
        plain = _design(config.twin(stos=False), options, lambda text: progress(f"{name} --no-stos: {text}"))
    report = {
        "format": FORMAT,
        "config": config.to_dict(),
        "config_hash": config.hash_hex,
        "method": method,
        **_sizes(config, options, design, plain),
        **_memories(design.tree),
        **_paths(config, options, design, plain, progress),
        "modules": [
            {**asdict(module), "share": module.everywhere / design.tree.top.total}
            for module in design.tree.modules.values()
        ],
        "stos_by_module": _difference(design.tree, plain.tree) if plain else None,
    }
    store.put(key, report)
    store.prune()
    return report


def _method(options: Options) -> dict[str, Any]:
    liberty = options.liberty
    return {
        "library": liberty and {"name": liberty.name, "file": liberty.file, "sha256": liberty.sha256},
        "cells": "library" if liberty else "generic gates, CMOS transistors estimated by Yosys",
        "synthesis": f"synth -booth, {'flattened' if options.flat else 'module by module, multiplier apart'}",
        "timing": "OpenSTA, no wire load" if options.sta else "abc, within one module",
        "twin": options.twin,
        "tools": {**tool_versions(), **({"opensta": sta_version()} if options.sta else {})},
    }


def _design(config: AcceleratorConfig, options: Options, progress: Progress) -> _Design:
    progress("generating")
    verilog = accelerator_verilog(config)
    store = Store("modules", active=options.cached)
    modules = synthesise(verilog, options.liberty, flat=options.flat, store=store, progress=progress)
    return _Design(modules, Hierarchy(modules, TOP, options.liberty))


def _sizes(config: AcceleratorConfig, options: Options, design: _Design, plain: _Design | None) -> dict[str, Any]:
    def pe(one: _Design | None) -> float | None:
        return one.tree.modules[PE].total if one and PE in one.tree.modules else None

    def logic(one: _Design | None) -> float | None:
        return one.tree.top.total if one else None

    sizes = {"pe": pe(design), "pe_plain": pe(plain), "logic": logic(design), "logic_plain": logic(plain)}
    if not config.stos:
        sizes |= {"pe_plain": sizes["pe"], "logic_plain": sizes["logic"]}
    here, there = ("um2", "transistors") if options.liberty else ("transistors", "um2")
    found: dict[str, Any] = {f"{name}_{here}": size for name, size in sizes.items()}
    found |= {f"{name}_{there}": None for name in sizes}
    prices = {
        "pe": _price(pe(design), pe(plain)),
        "logic": _price(logic(design), logic(plain)),
    }
    for name, price in prices.items():
        found[f"stos_price_{name}"] = price if options.liberty else None
        found[f"stos_price_{name}_transistors"] = None if options.liberty else price
    multiplier = design.tree.modules.get(MULTIPLIER)
    found[f"multiplier_{here}"], found[f"multiplier_{there}"] = multiplier.total if multiplier else None, None
    return found


def _price(size: float | None, plain: float | None) -> float | None:
    return size / plain - 1 if size is not None and plain else None


def _memories(tree: Hierarchy) -> dict[str, Any]:
    return {
        "memory_bits": tree.memory_bits,
        "memory_count": sum(shape.count for shape in tree.memories),
        "memories": [{**asdict(shape), "bits": shape.bits} for shape in tree.memories],
    }


def _paths(
    config: AcceleratorConfig, options: Options, design: _Design, plain: _Design | None, progress: Progress
) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(
        ("fmax_mhz", "period_ps", "period_plain_ps", "pe_period_ps", "pe_plain_period_ps", "longest_path", "pe_path")
    )
    if options.sta:
        assert options.liberty is not None
        for one, suffix in ((design, ""), (plain, "_plain")):
            if one is None:
                continue
            text = netlist_text(one.modules)
            progress(f"{config.rows} x {config.cols}{' --no-stos' if suffix else ''}: OpenSTA")
            whole = longest_path(text, TOP, options.liberty)
            found[f"period{suffix}_ps"] = whole.period_ps
            if not suffix:
                found |= {"longest_path": {"method": "OpenSTA", **asdict(whole)}, "fmax_mhz": whole.fmax_mhz}
            if not options.flat:
                path = longest_path(text, PE, options.liberty)
                found[f"pe{suffix}_period_ps"] = path.period_ps
                if not suffix:
                    found["pe_path"] = {"method": "OpenSTA", **asdict(path)}
    else:
        name = max(
            (name for name in design.tree.modules),
            key=lambda name: (design.modules[name].delay_ps or 0, design.modules[name].levels),
        )
        slowest = design.modules[name]
        found["longest_path"] = {
            "method": "abc, within one module", "module": name, "gates": slowest.levels, "delay_ps": slowest.delay_ps
        }  # fmt: skip
    found["stos_price_clock"] = _price(found["period_ps"], found["period_plain_ps"])
    found["stos_price_clock_pe"] = _price(found["pe_period_ps"], found["pe_plain_period_ps"])
    return found


def _difference(tree: Hierarchy, plain: Hierarchy) -> list[dict[str, Any]]:
    """Return what ST-OS adds to each kind of module, largest first."""
    mine, other = _by_family(tree), _by_family(plain)
    rows = [
        {
            "module": kind,
            "size": mine[kind],
            "plain": other[kind],
            "added": mine[kind] - other[kind],
            "share_of_plain": (mine[kind] - other[kind]) / plain.top.total,
        }
        for kind in sorted({*mine, *other})
    ]
    return sorted((row for row in rows if abs(row["added"]) > _ROUNDING), key=lambda row: -abs(row["added"]))


def _by_family(tree: Hierarchy) -> Counter[str]:
    """Return kind of module to the size of all of them."""
    sizes: Counter[str] = Counter()
    for module in tree.modules.values():
        sizes[family(module.name)] += module.everywhere
    return sizes
