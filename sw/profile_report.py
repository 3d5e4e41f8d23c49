"""Tables and pictures of runs; every function takes what ``python -m sw.profile --json`` prints."""

from __future__ import annotations

import base64
import html as escaping
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["html", "sweep_text", "table_text"]

Facts = Mapping[str, Any]

_BASELINES = {
    "im2col": "depthwise network as im2col, array without ST-OS",
    "native_depthwise": "depthwise network natively on the ST-OS array",
    "authors": "closed form of FuSeConv's authors, their hardware",
}
_COLOURS = {
    "compute": "tab:blue",
    "input": "tab:green",
    "output": "tab:orange",
    "weight port": "tab:purple",
    "DRAM": "tab:red",
}
_SOURCES = {"model": "predicted by the model", "rtl": "measured on RTL"}
_ESTIMATE = "energy is an estimate: counted events times published energies, see docs/profile.md"


def _aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Return a table's lines, its first `left` columns left-aligned; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [lines[0].rstrip(), "-" * max(map(len, lines)), *(line.rstrip() for line in lines[1:])]


def _title(facts: Facts) -> str:
    return f"{facts['network']}: cycles {_SOURCES[facts['source']]}"


def _array(facts: Facts) -> str:
    return f"{facts['rows']}x{facts['cols']}{'' if facts['stos'] else ' without ST-OS'}"


def _microjoules(facts: Facts) -> str:
    total = facts["energy_pj"]["total"]
    shares = [
        f"{name} {100 * value / total:.0f} %"
        for name, value in sorted(facts["energy_pj"].items(), key=lambda item: -item[1])
        if name != "total" and value >= 0.005 * total
    ]
    return f"{total / 1e6:,.0f} uJ ({', '.join(shares)})"


def _known(facts: Facts) -> list[str]:
    """Return the baselines that there are figures of."""
    return [name for name, cycles in facts["baselines"].items() if cycles is not None]


def table_text(facts: Facts) -> str:
    """Return a run layer by layer."""
    head = ("layer", "mode", "bound", "cycles", "share %", "waiting", "use %", "limit", "DRAM in", "DRAM out", "uJ")
    rows = [
        (
            layer["name"],
            layer["mode"],
            layer["bound"],
            f"{layer['cycles']:,}",
            f"{100 * layer['cycles'] / facts['cycles']:.1f}",
            f"{max(0, layer['cycles'] - layer['busy']):,}",
            f"{100 * layer['utilisation']:.1f}",
            f"{max(layer['limits'].values()):,}",
            f"{layer['dram_loaded']:,}",
            f"{layer['dram_stored']:,}",
            f"{layer['energy_pj']['total'] / 1e6:.2f}",
        )
        for layer in facts["layers"]
    ]
    lines = [
        *_aligned([head, *rows], left=3),
        "",
        f"{facts['network']} on {_array(facts)}: {facts['cycles']:,} cycles {_SOURCES[facts['source']]}, "
        f"{facts['macs']:,} MACs, utilisation {100 * facts['utilisation']:.1f} %",
        f"{facts['store']:,} of the cycles pass after the last layer, until its results are in DRAM",
        f"the ports of an array of this size would allow {facts['limit']:,} cycles",
        f"about {_microjoules(facts)}; {_ESTIMATE}",
        f"compiled in {facts['compile_seconds']:.2f} s, "
        + (
            f"predicted in {facts['model_seconds']:.2f} s"
            if facts["source"] == "model"
            else f"measured in {facts['rtl_seconds']:.1f} s; what it is compared with is predicted"
        ),
    ]
    for name in _known(facts):
        cycles = facts["baselines"][name]
        lines.append(f"{cycles / facts['cycles']:.2f}x faster than {cycles:,} cycles ({name}: {_BASELINES[name]})")
    return "\n".join(lines)


def sweep_text(runs: Sequence[Facts]) -> str:
    """Return one line per array."""
    names = _known(runs[0])
    head = ("array", "cycles", "use %", "limit", "uJ", *names)
    rows = [
        (
            _array(facts),
            f"{facts['cycles']:,}",
            f"{100 * facts['utilisation']:.1f}",
            f"{facts['limit']:,}",
            f"{facts['energy_pj']['total'] / 1e6:,.0f}",
            *(f"{facts['baselines'][name]:,} ({facts['baselines'][name] / facts['cycles']:.2f}x)" for name in names),
        )
        for facts in runs
    ]
    notes = [*(f"{name}: {_BASELINES[name]}" for name in names), _ESTIMATE]
    return "\n".join([_title(runs[0]), *_aligned([head, *rows], 1), *notes])


# --- pictures


def _picture(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    return f'<img src="data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _figure(width: float, height: float) -> Figure:
    # a figure of its own, so that neither a display nor pyplot's global state is needed
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _breakdown(facts: Facts) -> Figure:
    """Return cycles per layer: what its bound allows, what its EXECs take beyond, and what it waits."""
    layers = facts["layers"]
    figure = _figure(9, 1.5 + 0.18 * len(layers))
    axes = figure.subplots()
    places = range(len(layers))
    limits = [min(max(layer["limits"].values()), layer["cycles"]) for layer in layers]
    axes.barh(places, [layer["cycles"] for layer in layers], color="lightgrey", label="cycles")
    axes.barh(places, limits, color=[_COLOURS[layer["bound"]] for layer in layers])
    for name, colour in _COLOURS.items():
        axes.barh([0], [0], color=colour, label=f"limit by {name}")
    axes.set_yticks(places, [layer["name"] for layer in layers], fontsize=7)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel(f"cycles ({facts['source']})")
    axes.legend(fontsize=8)
    return figure


def _energy(facts: Facts) -> Figure:
    """Return energy per layer, by part, and beside it that of the whole run without DRAM's, which dwarfs the others."""
    layers, parts = facts["layers"], [name for name in facts["energy_pj"] if name != "total"]
    figure = _figure(11, 1.5 + 0.18 * len(layers))
    axes, whole = figure.subplots(1, 2, width_ratios=(3, 1))
    places, left = range(len(layers)), [0.0] * len(layers)
    for number, part in enumerate(parts):
        values = [layer["energy_pj"][part] / 1e6 for layer in layers]
        axes.barh(places, values, left=left, color=f"C{number}", label=part)
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes.set_yticks(places, [layer["name"] for layer in layers], fontsize=7)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("uJ per layer (estimate)")
    axes.legend(fontsize=8)
    chip = [(number, part) for number, part in enumerate(parts) if part != "DRAM"]
    for number, part in chip:
        whole.bar([part], [facts["energy_pj"][part] / 1e6], color=f"C{number}")
    whole.tick_params(axis="x", rotation=90)
    whole.set_ylabel("uJ on chip, all layers (estimate)")
    return figure


def _roofline(facts: Facts) -> Figure:
    """Return MACs per cycle over MACs per DRAM byte."""
    figure = _figure(7, 5)
    axes = figure.subplots()
    peak = facts["rows"] * facts["cols"]
    points = [
        (layer["macs"] / moved, layer["macs"] / layer["cycles"], layer)
        for layer in facts["layers"]
        if layer["macs"] and layer["cycles"] and (moved := layer["dram_loaded"] + layer["dram_stored"])
    ]
    for name, colour in _COLOURS.items():
        mine = [(x, y) for x, y, layer in points if layer["bound"] == name]
        if mine:
            axes.scatter(*zip(*mine, strict=True), s=14, color=colour, label=f"bound by {name}")
    axes.axhline(peak, color="black", linewidth=1, label=f"{peak} PEs")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("MACs per byte moved from or to DRAM")
    axes.set_ylabel("MACs per cycle")
    axes.legend(fontsize=8)
    return figure


def _sweep(runs: Sequence[Facts]) -> Figure:
    """Return cycles over array sizes."""
    figure = _figure(7, 5)
    axes = figure.subplots()
    sizes = [facts["rows"] for facts in runs]
    axes.plot(sizes, [facts["cycles"] for facts in runs], marker="o", label=runs[0]["network"])
    axes.plot(
        sizes, [facts["limit"] for facts in runs], linestyle=":", color="black", label="limit of the array's ports"
    )
    for name in _known(runs[0]):
        axes.plot(sizes, [facts["baselines"][name] for facts in runs], marker=".", linestyle="--", label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size}x{size}" for size in sizes])
    axes.set_ylabel(f"cycles ({runs[0]['source']})")
    axes.legend(fontsize=8)
    return figure


def html(runs: Sequence[Facts]) -> str:
    """Return a page that needs no other file: tables and pictures (breakdown, roofline, energy) of runs, and a sweep's.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    title = escaping.escape(_title(runs[0]))
    parts = [f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>"]
    if len(runs) > 1:
        parts += [f"<pre>{escaping.escape(sweep_text(runs))}</pre>", _picture(_sweep(runs))]
    for facts in runs:
        parts += [
            f"<h2>{escaping.escape(_array(facts))}</h2>",
            _picture(_breakdown(facts)),
            _picture(_roofline(facts)),
            _picture(_energy(facts)),
            f"<pre>{escaping.escape(table_text(facts))}</pre>",
        ]
    return "\n".join(parts) + "\n"
