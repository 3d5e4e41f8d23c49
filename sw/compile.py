"""Command line of the compiler: a network becomes a program directory."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw.spec.config import AcceleratorConfig, ConfigError
from hw.spec.isa import INSTRUCTION_BYTES, Instruction, Mode, Opcode, Region
from hw.spec.program import Layer, Program
from sw.compiler import CompileError, compile_graph
from sw.options import add_network_options, add_target_options, network_arguments, target

__all__ = ["main", "summary"]


def summary(program: Program) -> dict[str, Any]:
    """Return what the tool prints: layers with mode and instruction counts, and sizes in bytes (JSON-able)."""
    stream = program.instructions()
    return {
        "network": program.meta.get("network"),
        "config_hash": program.config.hash_hex,
        "macs": program.macs,
        "instructions": len(stream),
        "image_bytes": len(program.image),
        "instruction_bytes": len(stream) * INSTRUCTION_BYTES,
        "region_bytes": {region.name: program.region_sizes[region] for region in Region},
        "layers": [_layer(layer, [stream[pc] for pc in layer.instructions]) for layer in program.layers],
    }


def _layer(layer: Layer, instructions: Sequence[Instruction]) -> dict[str, Any]:
    counts = Counter(instruction.opcode for instruction in instructions)
    execs = [instruction for instruction in instructions if instruction.opcode == Opcode.EXEC]
    mode = Mode(execs[0]["mode"]).name + (" (depthwise)" if execs[0]["depthwise"] else "")
    return {
        "name": layer.name,
        "kind": layer.kind,
        "output_shape": list(layer.output_shape),
        "macs": layer.macs,
        "mode": mode,
        "load": counts[Opcode.LOAD],
        "exec": counts[Opcode.EXEC],
        "store": counts[Opcode.STORE],
    }


def _table(report: dict[str, Any]) -> str:
    head = ("layer", "kind", "output", "MACs", "mode", "load", "exec", "store")
    rows = [
        (
            layer["name"],
            layer["kind"],
            "x".join(map(str, layer["output_shape"])),
            f"{layer['macs']:,}",
            layer["mode"],
            *(str(layer[key]) for key in ("load", "exec", "store")),
        )
        for layer in report["layers"]
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    right = {3, 5, 6, 7}
    lines = [
        "  ".join(
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    lines.insert(1, "-" * len(lines[0]))
    regions = ", ".join(f"{name} {size:,}" for name, size in report["region_bytes"].items())
    lines += [
        "",
        f"{report['network']}: {len(rows)} layers, {report['macs']:,} MACs, {report['instructions']} instructions",
        f"image {report['image_bytes']:,} bytes, of which instructions {report['instruction_bytes']:,}",
        f"DRAM bytes: {regions}",
        f"configuration {report['config_hash']}",
    ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sw.compile",
        description="Compile a quantised network to a program for one accelerator configuration.",
        epilog="Networks of the zoo (mobilenet_v2, mobilenet_v2:fuse_half, ..., see docs/zoo.md) need --weights or "
        "--pretrained, and --calib.  A .pt2 file is a network quantised with sw.quant and written by sw.quant.save "
        "(batch size 1). An .onnx file is a floating-point network (operator set 11 or newer), which --calib "
        "quantises.",
    )
    add_network_options(parser)
    add_target_options(parser)
    parser.add_argument("--out", metavar="DIR", default="prog", help="program directory (default: %(default)s/)")
    parser.add_argument("--dump-tensors", action="store_true", help="also store every intermediate tensor in DRAM")
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
        calibration=options.calib,
        pictures=options.calib_pictures,
        progress=_progress,
    )
    graph = import_program(network.exported, name=network.name, meta=network.meta)
    return compile_graph(graph, config, dump_tensors=options.dump_tensors)


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
    print(json.dumps(report, indent=1) if options.json else f"{_table(report)}\nwritten to {out}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
