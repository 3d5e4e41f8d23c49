"""Command line: accuracy of a network on a backend, beside its floating-point form."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.spec.config import AcceleratorConfig, ConfigError
from sw.backends import BackendError, RunError
from sw.journal import Journal, check_folder
from sw.options import (
    add_network_options,
    add_target_options,
    count,
    network_arguments,
    quantisation_arguments,
    target,
)

if TYPE_CHECKING:
    from sw.compiler.ir import Graph
    from sw.evaluation import Record, Setup
    from sw.frontends.networks import FloatNetwork, QuantisedNetwork
    from sw.nn.samples import Samples

__all__ = ["BACKENDS", "main"]

BACKENDS = {"torch": None, "torch_int8": None, "iss": "iss", "rtl": "verilator"}
"""Choices, and the entry point (see :mod:`sw.backends`) of those that run the compiled program."""

_PICTURES = "a tar with labels.csv, a folder with one subfolder per class, or an .npz"

Progress = Callable[[int, int | None], None]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sw.evaluate",
        description="Evaluate a classifier on a backend and compare it with its floating-point form.",
        epilog="--json prints one object: top1, top5, fp32_top1 and agreement (pictures with the same best class as in "
        "floating point) in percent; max_lsb, the largest difference of the int8 logits to those of PyTorch's int8 "
        "(torch_int8), null with torch; n, the pictures counted; images_per_s of the backend alone. fp32_top1 and "
        "agreement are null for a quantised .pt2 file, which holds no floating-point network. Exit status: 0 done, 1 "
        "the accelerator did not finish, 2 wrong usage or files, 130 interrupted.",
    )
    add_network_options(parser)
    parser.add_argument(
        "--data",
        metavar="F",
        help=f"labelled pictures: {_PICTURES} (its test set); or an .npz with preprocessed inputs (N, C, H, W) and "
        f"labels (N,). The digits networks have their own test pictures",
    )
    parser.add_argument(
        "--backend",
        choices=list(BACKENDS),
        default="iss",
        help="torch: floating point; torch_int8: the quantised network in PyTorch; iss: the compiled program on the "
        "instruction set simulator; rtl: on the generated Verilog in Verilator (default: %(default)s)",
    )
    parser.add_argument("--limit", metavar="N", type=count, help="take N pictures, spread over the set (default: all)")
    parser.add_argument("--jobs", metavar="N", type=count, default=1, help="processes for iss and rtl (default 1)")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out pictures that cannot be read, and count them"
    )
    parser.add_argument(
        "--resume",
        metavar="FILE",
        help="keep the result of each picture in this file (JSON lines), and continue from it if it exists",
    )
    add_target_options(parser)
    parser.add_argument("--topk", metavar="K", type=count, default=5, help="ranks in the table (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    """Show progress on a terminal's standard error, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _samples(options: argparse.Namespace, shape: Sequence[int], meta: dict[str, Any]) -> Samples:
    from sw.nn.samples import array_samples, read_samples

    if options.data is None:
        if not options.network.startswith("digits"):
            raise ValueError(f"{options.network}: give --data with {_PICTURES}")
        from sw.nn.digits import digits_data

        return array_samples(*digits_data()[2:], limit=options.limit)
    return read_samples(options.data, shape, meta, limit=options.limit)


def _quantised(options: argparse.Namespace) -> tuple[QuantisedNetwork, Graph]:
    from sw.frontends.networks import quantised_network
    from sw.frontends.torch_export import import_program

    with _bar("calibrating") as progress:
        network = quantised_network(
            **network_arguments(options), **quantisation_arguments(options), progress=progress
        )
    graph = import_program(network.exported, name=network.name, meta=network.meta)
    outputs = [graph[name] for name in graph.outputs]
    if len(graph.inputs) != 1 or len(outputs) != 1 or outputs[0].plane != 1:
        shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in outputs)
        raise ValueError(
            f"{options.network}: has {len(graph.inputs)} inputs and outputs of shape {shapes}; accuracy needs one of "
            f"each, the output of logits, Cx1x1"
        )
    return network, graph


def _inputs(
    options: argparse.Namespace, samples: Samples, meta: dict[str, Any], network: FloatNetwork | None
) -> dict[str, Any]:
    """Return the facts about pictures and floating-point network; only a journal needs them."""
    from sw.nn.evaluate import state_digest

    if options.resume is None:
        return {}
    weights = None if network is None else state_digest(network.module)
    return {"data": samples.digest(), "preprocessing": meta.get("input"), "weights": weights}


def _prepare(
    options: argparse.Namespace, config: AcceleratorConfig, closing: ExitStack
) -> tuple[Samples, Setup, dict[str, Any]]:
    """Return data, network and the facts on which the results depend."""
    # torch takes seconds to import, which --help and wrong options need not wait for
    from sw.compiler import compile_graph
    from sw.evaluation import CHUNK, Setup, graph_digest
    from sw.frontends.networks import float_network
    from sw.program_runner import ProgramRunner

    facts: dict[str, Any] = {"network": options.network, "backend": options.backend, "limit": options.limit}
    if options.backend == "torch":
        floating = float_network(**network_arguments(options))
        samples = _samples(options, floating.shape, floating.meta)
        return samples, Setup(floating.module), {**facts, **_inputs(options, samples, floating.meta, floating)}
    network, graph = _quantised(options)
    source, sink = graph[graph.inputs[0]], graph[graph.outputs[0]]
    samples = _samples(options, source.shape, network.meta)
    facts |= {**_inputs(options, samples, network.meta, network.reference), "quantised network": graph_digest(graph)}
    runner = None
    name = BACKENDS[options.backend]
    if name is not None:
        program = compile_graph(graph, config)
        facts |= {"configuration": config.hash_hex, "program": hashlib.sha256(program.image).hexdigest()}
        runner = closing.enter_context(ProgramRunner(program, name, jobs=options.jobs))
    reference = None if network.reference is None else network.reference.module
    module = network.exported.module() if network.module is None else network.module
    return samples, Setup(reference, module, runner, source, sink, 1 if network.module is None else CHUNK), facts


def _show(options: argparse.Namespace, report: dict[str, Any], records: Sequence[Record]) -> None:
    from sw.evaluation import topk

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f} %"

    print(f"{options.network} on {options.backend}, {report['n']} pictures")
    print(f"{'':6}{'fp32':>10}{options.backend:>12}")
    for k in range(1, options.topk + 1):
        found, floating = topk(records, k)
        print(f"top-{k:<2}{percent(floating):>10}{percent(found):>12}")
    print(f"same best class as fp32: {percent(report['agreement'])}")
    if report["max_lsb"] is not None:
        print(f"largest difference to PyTorch's int8: {report['max_lsb']} LSB")
    print(f"{report['images_per_s']:.3g} images/s")


def _run(options: argparse.Namespace) -> None:
    config = target(options)
    if options.jobs > 1 and BACKENDS[options.backend] is None:
        raise ValueError("--jobs is for --backend iss and rtl; torch has threads of its own")
    # before calibration, which takes minutes
    if options.data is not None and not Path(options.data).exists():
        raise FileNotFoundError(f"--data {options.data}: no such folder or tar of pictures, or .npz")
    if options.resume is not None:
        check_folder(options.resume)
    with ExitStack() as closing:
        samples, setup, facts = _prepare(options, config, closing)
        from sw.evaluation import evaluate, metrics

        journal = None if options.resume is None else closing.enter_context(Journal(options.resume, facts))
        progress = closing.enter_context(_bar("evaluating"))
        records = evaluate(samples, setup, journal=journal, skip_bad=options.skip_bad, progress=progress)
    report = metrics(records)
    bad = [record.bad for record in records if record.bad is not None]
    if bad:
        print(
            f"left out {len(bad)} of {len(records)} pictures that cannot be read; the first: {bad[0]}", file=sys.stderr
        )
    if options.json:
        print(json.dumps(report))
    else:
        _show(options, report, records)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status (1: the accelerator did not finish, 2: the user's input is wrong)."""
    options = _parser().parse_args(argv)
    try:
        _run(options)
    except KeyboardInterrupt:
        advice = "" if options.resume is None else f"; the same command continues from {options.resume}"
        print(f"interrupted{advice}", file=sys.stderr)
        return 130
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (BackendError, ConfigError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
