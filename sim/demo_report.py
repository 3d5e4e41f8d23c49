"""Tables and chart of the demonstration."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich import box
from rich.console import Console
from rich.table import Table

from hw.spec.config import AcceleratorConfig
from hw.spec.program import write_atomic
from sw.model.layers import LayerCycles

__all__ = ["chart", "operator_of", "print_layers", "print_summary"]


class Measured(Protocol):
    """What the report needs of a case."""

    title: str
    shares: list[LayerCycles]
    cycles: int
    utilisation: float


def operator_of(layer: str) -> str:
    """Return the name under which layers of twin networks correspond: all branches of a block's spatial operator."""
    head, spatial, _ = layer.partition(".spatial")
    return head + spatial


def _grouped(shares: Sequence[LayerCycles]) -> dict[str, LayerCycles]:
    groups: dict[str, LayerCycles] = {}
    for share in shares:
        name = operator_of(share.name)
        old = groups.get(name)
        if old is None:
            groups[name] = LayerCycles(name, share.kind, share.macs, share.cycles)
        else:
            groups[name] = LayerCycles(
                name, f"{old.kind}+{share.kind}", old.macs + share.macs, old.cycles + share.cycles
            )
    return groups


def print_layers(console: Console, cases: Mapping[str, Measured], config: AcceleratorConfig) -> None:
    """Print cycles and utilisation per layer, one column pair per case."""
    title = f"Cycles per layer, measured on RTL, {config.rows}x{config.cols} PEs"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", no_wrap=True)
    for case in cases.values():
        table.add_column(case.title.replace(", ", "\n") + "\ncycles", justify="right", no_wrap=True)
        table.add_column("\n\nuse %", justify="right", no_wrap=True)
    groups = [_grouped(case.shares) for case in cases.values()]
    for name in groups[0]:
        cells = []
        for group in groups:
            share = group[name]
            cells += [f"{share.cycles:,}", f"{100 * share.utilisation(config.rows, config.cols):.1f}"]
        table.add_row(name, *cells)
    table.add_section()
    totals = [(f"{case.cycles:,}", f"{100 * case.utilisation:.1f}") for case in cases.values()]
    table.add_row("all", *(cell for pair in totals for cell in pair))
    console.print(table)


def print_summary(console: Console, report: Mapping[str, Any]) -> None:
    """Print accuracy, equality, cycles and the three speed-ups."""
    percent, speedup, share = report["accuracy"], report["speedup"], report["rtl_pictures"]
    lines = {
        "accuracy": f"fp32 {percent['fp32']:.2f} %, int8 PyTorch {percent['int8']:.2f} %, ISS {percent['iss']:.2f} % "
        f"of {report['pictures']} pictures",
        "": f"RTL {percent['rtl']:.2f} % of the first {share} (ISS on these: {report['iss_on_rtl_pictures']:.2f} %)",
        "predictions": f"{_spaced(report['predictions'])} ... on RTL; labels {_spaced(report['labels'])} ...",
        "RTL and ISS": "RTL = ISS, all bytes" if report["rtl_equals_iss"] else "[bold red]they differ[/]",
        "cycles": f"{report['cycles']:,} per picture, utilisation {100 * report['utilisation']:.1f} %",
        "speed-up": f"{speedup['im2col']:.2f} over depthwise as im2col on the plain array (measured on RTL)",
        " ": f"{speedup['native_depthwise']:.2f} over native depthwise on the ST-OS array (measured on RTL)",
        "  ": f"{speedup['authors']:.2f} by the FuSeConv authors' closed form (no memory, no overlap)",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in lines.items():
        table.add_row(name, text)
    console.print(table)


def _spaced(values: Sequence[int]) -> str:
    return " ".join(map(str, values[:10]))


def chart(path: Path, cases: Mapping[str, Measured], title: str) -> None:
    """Write a bar chart (PNG) of cycles per layer, one bar per case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = [_grouped(case.shares) for case in cases.values()]
    names = list(groups[0])
    height = 0.8 / len(groups)
    figure, axes = pyplot.subplots(figsize=(9, 0.45 * len(names) + 1.6), layout="constrained")
    for index, (case, group) in enumerate(zip(cases.values(), groups, strict=True)):
        places = [place + (index - (len(groups) - 1) / 2) * height for place in range(len(names))]
        label = f"{case.title}: {case.cycles:,} cycles"
        axes.barh(places, [group[name].cycles for name in names], height, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("clock cycles per picture")
    axes.set_title(title)
    axes.legend(loc="lower right")
    axes.grid(axis="x", alpha=0.3)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    pyplot.close(figure)
    write_atomic(path, data.getvalue())
