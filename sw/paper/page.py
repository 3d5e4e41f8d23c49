"""docs/results.md: prose from a template, every number from the figures of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from sw.model.shapes import LAYER_TYPES
from sw.paper.pictures import TYPE_NAMES
from sw.paper.published import BASELINE, NETWORKS, PUBLISHED_SIZE, SIZES, VARIANTS

__all__ = ["TOLERANCE", "page", "summary"]

Facts = Mapping[str, Any]

TOLERANCE = 0.03
"""How far a cell of the published table may be off."""

_SIZE_COLUMNS = tuple(f"{size}x{size}" for size in SIZES)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """Return a Markdown table, its first `left` columns left-aligned."""
    marks = ["---" if index < left else "---:" for index in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *rows))


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _range(values: Iterable[float]) -> str:
    found = list(values)
    return f"{min(found):.2f} to {max(found):.2f}"


def _speed_ups(base: Facts, rows: Facts) -> list[float]:
    return [base[str(size)]["cycles"] / rows[str(size)]["cycles"] for size in SIZES]


def _all_speed_ups(cells: Facts, base: str, variant: str) -> str:
    """Return least and greatest speed-up over all networks and sizes."""
    return _range(value for row in cells.values() for value in _speed_ups(row[base], row[variant]))


def _published(cells: Sequence[Facts]) -> str:
    rows = [
        (
            NETWORKS[network],
            *(
                f"{cell['computed']:.2f} / {cell['published']:g} ({100 * cell['deviation']:+.1f} %)"
                for cell in cells
                if cell["network"] == network
            ),
        )
        for network in NETWORKS
    ]
    return _table(("network", *VARIANTS.values()), rows, 1)


def _verdict(cells: Sequence[Facts]) -> str:
    off = [cell for cell in cells if abs(cell["deviation"]) > TOLERANCE]
    lines = [f"{len(cells) - len(off)} of {len(cells)} cells are within {100 * TOLERANCE:.0f} %."]
    for cell in off:
        lines.append(
            f"{NETWORKS[cell['network']]} {VARIANTS[cell['variant']]} is not: {cell['computed']:.3f} instead of "
            f"{cell['published']:g}, {100 * cell['deviation']:+.1f} %."
        )
        if cell["macs"]:
            lines.append(_macs(cell))
    return "\n".join(lines)


def _macs(cell: Facts) -> str:
    """Return how multiply-accumulates compare with published ones."""
    name = NETWORKS[cell["network"]]
    (base, mine), (published_base, published) = cell["macs"]["computed"], cell["macs"]["published"]
    return (
        f"{VARIANTS[cell['variant']]} adds {_mega(mine - base)} M multiply-accumulates to {name}, "
        f"{_mega(published - published_base)} M as published.\n"
        f"The sums are not the published ones: {_mega(base)} M without FuSe, published {_mega(published_base)} M "
        f"({100 * (base / published_base - 1):+.1f} %), and\n"
        f"{_mega(mine)} M with it, published {_mega(published)} M ({100 * (mine / published - 1):+.1f} %)."
    )


def _mega(count: int) -> str:
    return f"{count / 1e6:.0f}"


def _authors(authors: Facts) -> str:
    rows = [
        (NETWORKS[network], name, *map(_ratio, _speed_ups(row[BASELINE], row[variant])))
        for network, row in authors.items()
        for variant, name in VARIANTS.items()
    ]
    return _table(("network", "variant", *_SIZE_COLUMNS), rows, 2)


def _hardware(cells: Facts) -> str:
    names = {"im2col": "im2col", BASELINE: "native", **VARIANTS}
    rows = [
        (NETWORKS[network], name, *(_cell(row, variant, str(size)) for size in SIZES))
        for network, row in cells.items()
        for variant, name in names.items()
    ]
    return _table(("network", "variant", *_SIZE_COLUMNS), rows, 2)


def _cell(rows: Facts, variant: str, size: str) -> str:
    cell = rows[variant][size]
    text = f"{cell['cycles'] / 1000:,.0f}"
    if variant == "im2col":
        return text
    ratios = [rows["im2col"][size]["cycles"] / cell["cycles"]]
    if variant != BASELINE:
        ratios.append(rows[BASELINE][size]["cycles"] / cell["cycles"])
    ratios.append(cell["authors"] / cell["cycles"])
    return f"{text} ({' / '.join(map(_ratio, ratios))})"


def _rtl(hardware: Facts) -> str:
    names = {BASELINE: "native", **VARIANTS}
    rows = [
        (
            NETWORKS[network],
            names[variant],
            f"{size}x{size}",
            f"{cell['rtl']:,}",
            f"{cell['cycles']:,}",
            f"{100 * (cell['cycles'] / cell['rtl'] - 1):+.2f} %",
            _ratio(row["im2col"][size]["cycles"] / cell["rtl"]),
            _ratio(row[BASELINE][size]["cycles"] / cell["rtl"]),
        )
        for network, row in hardware["cells"].items()
        for variant in names
        for size, cell in row[variant].items()
        if "rtl" in cell
    ]
    head = ("network", "variant", "array", "RTL", "model", "off by", "over im2col", "over native")
    parts = ["No measurement on RTL of these programs was at hand."]
    if rows:
        parts = [
            "Cycles measured on RTL, and their speed-up over the baselines (of the model):",
            "",
            _table(head, rows, 3),
        ]
    if hardware["dropped"]:
        cases = ", ".join(f"`{item['case']}` in {item['file']} ({item['reason']})" for item in hardware["dropped"])
        parts += ["", f"Measurements left out: {cases}."]
    return "\n".join(parts)


def _types(facts: Facts) -> str:
    size = str(PUBLISHED_SIZE)
    rows = []
    for network, name in NETWORKS.items():
        above, below = facts["authors"][network], facts["hardware"]["cells"][network]
        for label, cell in (
            ("authors, depthwise", above[BASELINE][size]),
            ("authors, Half", above["fuse_half"][size]),
            ("im2col", below["im2col"][size]),
            ("native", below[BASELINE][size]),
            ("Half", below["fuse_half"][size]),
        ):
            shares = (f"{100 * cell['types'][kind] / cell['cycles']:.1f}" for kind in LAYER_TYPES)
            rows.append((name, label, f"{cell['cycles'] / 1000:,.0f}", *shares))
    return _table(("network", "what", "kcycles", *(TYPE_NAMES[kind] for kind in LAYER_TYPES)), rows, 2)


def _peers(peers: Facts | None) -> str:
    if peers is None:
        return "Not measured yet: `nox -s bench-peers` does it."
    head = (
        ("network", "array", "layers", "SCALE-Sim, cycles", "im2col", "ratio", "with ST-OS", "ratio")
        + ("SCALE-Sim, CPU s", "model, CPU s", "ratio")
    )  # fmt: skip
    rows = [
        (
            f"`{run['network']}`",
            f"{run['rows']}x{run['cols']}",
            f"{len(run['layers'])} of {run['of_layers']}",
            f"{run['scalesim']:,}",
            *(("-", "-") if run["im2col"] is None else (f"{run['im2col']:,}", _ratio(run["scalesim"] / run["im2col"]))),
            f"{run['model']:,}",
            _ratio(run["scalesim"] / run["model"]),
            f"{run['scalesim_seconds']:.0f}",
            f"{run['model_seconds']:.1f}",
            f"{run['seconds_ratio']:.0f}",
        )
        for run in peers["runs"]
    ]
    version = peers["runs"][0]["scalesim_version"]
    return _template("peers.md").substitute(table=_table(head, rows, 3), version=version).rstrip()


def _template(name: str) -> Template:
    return Template(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def page(facts: Facts) -> str:
    """Return the document.

    Parameters
    ----------
    facts
        ``authors``, ``published``, ``hardware`` and ``peers`` of :mod:`sw.paper.facts`.
    """
    hardware = facts["hardware"]
    cells = hardware["cells"]
    return _template("template.md").substitute(
        size=PUBLISHED_SIZE,
        published=_published(facts["published"]),
        verdict=_verdict(facts["published"]),
        authors=_authors(facts["authors"]),
        latency=hardware["memory"]["latency"],
        over_im2col=_all_speed_ups(cells, "im2col", "fuse_half"),
        over_native=_all_speed_ups(cells, BASELINE, "fuse_half"),
        full_over_native=_all_speed_ups(cells, BASELINE, "fuse_full"),
        hardware=_hardware(cells),
        rtl=_rtl(hardware),
        types=_types(facts),
        peers=_peers(facts["peers"]),
        networks=len(hardware["exports"]),
        programs=sum(len(variants) for row in cells.values() for variants in row.values()),
        export_seconds=f"{sum(hardware['exports'].values()):.0f}",
        compile_seconds=f"{hardware['compile_seconds']:.0f}",
    )


def summary(facts: Facts) -> str:
    """Return the least that a terminal should show: how far the published table is reached, and Half's speed-ups."""
    worst = max(facts["published"], key=lambda cell: abs(cell["deviation"]))
    within = sum(abs(cell["deviation"]) <= TOLERANCE for cell in facts["published"])
    lines = [
        f"published table: {within} of {len(facts['published'])} cells within {100 * TOLERANCE:.0f} %, worst "
        f"{worst['network']}:{worst['variant']} {100 * worst['deviation']:+.1f} %",
    ]
    for network, rows in facts["hardware"]["cells"].items():
        half = rows["fuse_half"]
        lines.append(
            f"{network}: Half over im2col {_range(_speed_ups(rows['im2col'], half))}, over native depthwise "
            f"{_range(_speed_ups(rows[BASELINE], half))}"
        )
    return "\n".join(lines)
