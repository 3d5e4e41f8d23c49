"""Command line of the compiler: a network becomes a program directory."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw.spec.config import PRESETS, AcceleratorConfig, ConfigError, preset
from hw.spec.isa import INSTRUCTION_BYTES, Instruction, Mode, Opcode, Region
from hw.spec.program import Layer, Program
from sw.compiler import CompileError, compile_graph

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


def _sizes(text: str) -> tuple[int, ...]:
    sizes = re.split("[x,]", text.lower())
    if not all(size.isdecimal() for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write it as 3x224x224")
    return tuple(map(int, sizes))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pictures, 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sw.compile",
        description="Compile a quantised network to a program for one accelerator configuration.",
        epilog="Networks of the zoo (mobilenet_v2, mobilenet_v2:fuse_half, ..., see docs/zoo.md) need --weights and "
        "--calib.  A .pt2 file is a network quantised with sw.quant and written by sw.quant.save (batch size 1). "
        "An .onnx file is a floating-point network (operator set 11 or newer), which --calib quantises.",
    )
    parser.add_argument(
        "network",
        metavar="NET",
        help="digits, digits:fuse_half, digits:fuse_full, a network of the zoo, a .pt2 or an .onnx file",
    )
    parser.add_argument(
        "--weights", metavar="F", help="weights for a network by name: .npz, or for the zoo also a .pth of torch.save"
    )
    parser.add_argument(
        "--random-weights", action="store_true", help="compile a network of the zoo untrained, for its size and cycles"
    )
    parser.add_argument(
        "--calib",
        metavar="F",
        help="what to calibrate with: for the zoo pictures (a folder, or a tar with labels.csv), for an .onnx file "
        "preprocessed inputs (a .npy or a folder of them)",
    )
    parser.add_argument(
        "--calib-pictures",
        metavar="N",
        type=_count,
        default=64,
        help="pictures to take at most, spread over the set (default: %(default)s)",
    )
    parser.add_argument(
        "--input-shape",
        metavar="CxHxW",
        type=_sizes,
        help="input shape of an .onnx file that leaves it open, or of a network of the zoo (default 3x224x224)",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--config", metavar="F", help="manifest.json of the generated accelerator")
    target.add_argument(
        "--preset", choices=list(PRESETS), default="edge16", help="configuration (default: %(default)s)"
    )
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
        options.network,
        weights=options.weights,
        calibration=options.calib,
        input_shape=options.input_shape,
        pictures=options.calib_pictures,
        random_weights=options.random_weights,
        progress=_progress,
    )
    graph = import_program(network.exported, name=network.name, meta=network.meta)
    return compile_graph(graph, config, dump_tensors=options.dump_tensors)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status (2: the user's input is wrong)."""
    options = _parser().parse_args(argv)
    try:
        config = AcceleratorConfig.from_manifest(options.config) if options.config else preset(options.preset)
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
