"""SCALE-Sim beside this project's cycle model, on the same layers: ``nox -s bench-peers``.

SCALE-Sim is given each distinct layer once, output-stationary, on an array of the same size.  It has no ST-OS: a
depthwise layer, and a row or column filter, is a matrix product with a single filter, once per channel; one channel is
simulated and its cycles multiplied, its CPU seconds not.  It knows no memory that limits here, no instructions, no
pooling and no squeeze-and-excite products; the cycle model predicts all of this hardware, so layers that SCALE-Sim
does not know are left out on both sides.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.scalesim_files import Measured, PeerError, Work, check, simulate, work
from hw.spec.config import AcceleratorConfig, ConfigError
from hw.spec.program import write_atomic
from sw.compiler import CompileError, compile_graph
from sw.compiler.ir import Graph
from sw.model.layers import layer_cycles
from sw.model.shapes import LayerShape, graph_shapes
from sw.model.sizes import square
from sw.model.timeline import timeline
from sw.options import array_size

__all__ = ["choose", "compare", "main", "table"]

ROOT = Path(__file__).parents[1]
LAYERS = 10
Row = dict[str, Any]


def choose(items: Sequence[Work], count: int | None) -> list[Work]:
    """Return `count` of the distinct items, spread evenly from first to last, or all."""
    distinct = list(dict.fromkeys(items))
    if count is None or count >= len(distinct):
        return distinct
    if count == 1:
        return distinct[:1]
    return [distinct[round(index * (len(distinct) - 1) / (count - 1))] for index in range(count)]


def predicted(graph: Graph, config: AcceleratorConfig) -> tuple[dict[str, int], int, float]:
    """Return this hardware's cycles by layer and in all, and the CPU seconds of compiler and model."""
    started = time.process_time()
    program = compile_graph(graph, config)
    run = timeline(program)
    layers = layer_cycles(program, run.trace, run.cycles)
    return {layer.name: layer.cycles for layer in layers}, run.cycles, time.process_time() - started


def compare(
    network: str,
    shapes: Sequence[LayerShape],
    measured: dict[Work, Measured],
    native: dict[str, int],
    im2col: dict[str, int] | None,
) -> list[Row]:
    """Return a row per layer that was simulated.

    Parameters
    ----------
    network
        Named if a layer is missing.
    shapes
        Of the network.
    measured
        SCALE-Sim's.
    native, im2col
        This hardware's cycles by layer: with ST-OS, and the array without it if the network has depthwise layers.

    Raises
    ------
    PeerError
        If this hardware has no such layer: the program names its layers otherwise.
    """
    rows = []
    for shape in shapes:
        item = work(shape)
        if item not in measured:
            continue
        if shape.name not in native:
            raise PeerError(f"{network}: layer {shape.name} is none of the program's")
        rows.append(
            {
                "layer": shape.name,
                "type": shape.layer_type,
                "work": astuple(item),
                "macs": shape.macs,
                "scalesim": measured[item].cycles * item.times,
                "cpu_seconds": measured[item].seconds,
                "model": native[shape.name],
                "im2col": None if im2col is None else im2col[shape.name],
            }
        )
    return rows


def run(options: argparse.Namespace, network: str, size: int, known: dict[Work, Measured], console: Console) -> Row:
    """Measure one network on one array; `known` is what has been simulated on that array, and is added to."""
    # torch takes seconds to import, which --help and wrong options need not wait for
    from sw.frontends.untrained import untrained_graph

    config = square(size)
    console.print(f"{network} on {size}x{size}: exporting, compiling")
    graph = untrained_graph(network)
    shapes = graph_shapes(graph)
    native, cycles, seconds = predicted(graph, config)
    im2col = None if ":" in network else predicted(graph, config.twin(stos=False))[0]
    items = choose([work(shape) for shape in shapes], options.layers)
    new = [item for item in items if item not in known]
    with console.status("") as status:

        def progress(done: int) -> None:
            status.update(f"{network} on {size}x{size}: SCALE-Sim has simulated {done} of {len(new)} layers")

        progress(0)
        version, found = simulate(options.scalesim, new, size, size, progress)
    known.update(zip(new, found, strict=True))
    measured = {item: known[item] for item in items}
    rows = compare(network, shapes, measured, native, im2col)
    seconds_there = sum(item.seconds for item in measured.values())
    sums = {key: sum(row[key] for row in rows) for key in ("scalesim", "model", "macs")}
    return {
        "network": network,
        "rows": size,
        "cols": size,
        "scalesim_version": version,
        "layers": rows,
        "of_layers": len(shapes),
        **sums,
        "im2col": None if im2col is None else sum(row["im2col"] for row in rows),
        "network_cycles": cycles,
        "ratio": sums["scalesim"] / sums["model"],
        "scalesim_seconds": seconds_there,
        "simulated": len(items),
        "model_seconds": seconds,
        "seconds_ratio": seconds_there / seconds,
    }


def _beside(row: Row) -> tuple[str, str]:
    """Return cycles on the array without ST-OS, and SCALE-Sim's over them."""
    return ("-", "-") if row["im2col"] is None else (f"{row['im2col']:,}", f"{row['scalesim'] / row['im2col']:.2f}")


def table(result: Row) -> str:
    """Return a run as text."""
    head = ("layer", "type", "SCALE-Sim", "CPU s", "model", "ratio", "im2col", "ratio")
    lines = [
        (
            row["layer"],
            row["type"],
            f"{row['scalesim']:,}",
            f"{row['cpu_seconds']:.2f}",
            f"{row['model']:,}",
            f"{row['scalesim'] / row['model']:.2f}",
            *(
                ("-", "-")
                if row["im2col"] is None
                else (f"{row['im2col']:,}", f"{row['scalesim'] / row['im2col']:.2f}")
            ),
        )
        for row in result["layers"]
    ]
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    text = [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in (head, *lines)
    ]
    size = f"{result['rows']}x{result['cols']}"
    return "\n".join(
        [
            f"{result['network']} on {size}; model: this hardware with memory, ST-OS; im2col: the same without ST-OS",
            *text,
            f"{len(result['layers'])} of {result['of_layers']} layers: SCALE-Sim {result['scalesim_version']} "
            f"{result['scalesim']:,} cycles, model {result['model']:,}: ratio {result['ratio']:.2f}",
            f"CPU seconds: SCALE-Sim {result['scalesim_seconds']:.1f} for {result['simulated']} distinct layers, one "
            f"channel of depthwise ones; compiler and model {result['model_seconds']:.2f} for the whole network: "
            f"ratio {result['seconds_ratio']:.0f}",
        ]
    )


def _layers(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'all' nor a number of layers, 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nox -s bench-peers --",
        description="Run SCALE-Sim and this project's cycle model on the same layers, in one run.",
        epilog="Exit status: 0 done, 2 wrong usage, or SCALE-Sim is not there.",
    )
    parser.add_argument(
        "networks",
        nargs="*",
        default=["mobilenet_v2", "mobilenet_v2:fuse_half"],
        metavar="NET",
        help="networks of the zoo (default: mobilenet_v2 mobilenet_v2:fuse_half)",
    )
    parser.add_argument(
        "--rows", type=array_size, nargs="+", default=[16], metavar="N", help="arrays, N x N (default: 16)"
    )
    parser.add_argument(
        "--layers",
        type=_layers,
        default=LAYERS,
        metavar="N",
        help="distinct layers to simulate, spread over the network, or 'all', which takes minutes "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--scalesim",
        type=Path,
        default=ROOT / ".nox" / "bench-peers" / "bin" / "python",
        metavar="PYTHON",
        help="interpreter of an environment with SCALE-Sim (default: the one that nox makes)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results/peers.json"),
        metavar="F",
        help="write all figures, for python -m sw.results (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser


def _check_writable(path: Path) -> None:
    """Refuse a file that cannot be written with :class:`OSError`, before minutes of simulation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"--out {path}: is a directory; name a file")
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status (2: the user's input is wrong)."""
    options = _parser().parse_args(argv)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    results = []
    try:
        check(options.scalesim)
        _check_writable(options.out)
        for size in options.rows:
            known: dict[Work, Measured] = {}
            for network in options.networks:
                results.append(run(options, network, size, known, console))
                document = {"kind": "bench-peers", "runs": results}  # after each run: an interrupt loses no other
                write_atomic(options.out, (json.dumps(document, indent=1) + "\n").encode())
                if not options.json:
                    print(f"{table(results[-1])}\n", flush=True)
    except (CompileError, ConfigError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"kind": "bench-peers", "runs": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
