"""Command line of the compiler: a network becomes a program directory."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hw.spec.config import AcceleratorConfig, ConfigError
from hw.spec.program import Program
from sw.compile_report import layout, layout_text, summary, summary_text
from sw.compiler import CompileError, compile_graph
from sw.options import (
    add_compile_options,
    add_network_options,
    add_target_options,
    network_arguments,
    quantisation_arguments,
    target,
)

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sw.compile",
        description="Compile a quantised network to a program for one accelerator configuration.",
        epilog="Networks of the zoo (mobilenet_v2, mobilenet_v2:fuse_half, ..., see docs/zoo.md) need --weights or "
        "--pretrained, and --calib.  A .pt2 file is a network quantised with sw.quant and written by sw.quant.save "
        "(batch size 1), or a floating-point one of torch.export.save. The latter and an .onnx file (operator set 11 "
        "or newer) are quantised with --calib: preprocessed inputs, or pictures with --mean and --std.",
    )
    add_network_options(parser)
    add_target_options(parser)
    add_compile_options(parser)
    parser.add_argument("--out", metavar="DIR", default="prog", help="program directory (default: %(default)s/)")
    parser.add_argument("--dump-tensors", action="store_true", help="also store every intermediate tensor in DRAM")
    parser.add_argument("--layout", action="store_true", help="also report where everything lies in DRAM")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    return parser


def _progress(done: int, total: int | None) -> None:
    if sys.stderr.isatty():
        print(f"\rcalibrating: batch {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _compile(options: argparse.Namespace, config: AcceleratorConfig) -> Program:
    # torch takes seconds to import, which --help and wrong options need not wait for
    from sw.frontends.networks import quantised_network
    from sw.frontends.torch_export import import_program

    network = quantised_network(
        **network_arguments(options),
        **quantisation_arguments(options),
        progress=_progress,
    )
    graph = import_program(network.exported, name=network.name, meta=network.meta)
    return compile_graph(graph, config, dump_tensors=options.dump_tensors, packing=options.packing)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status (2: the user's input is wrong)."""
    options = _parser().parse_args(argv)
    try:
        config = target(options)
        out = Path(options.out)
        if out.exists() and not out.is_dir():
            raise NotADirectoryError(f"--out {out}: exists and is no directory")
        program = _compile(options, config)
        program.save(out)
    except (ConfigError, CompileError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = summary(program)
    if options.layout:
        report["layout"] = layout(program)
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        if options.layout:
            print(f"{layout_text(report['layout'])}\n")
        print(f"{summary_text(report)}\nwritten to {out}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
