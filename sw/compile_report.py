"""What the compiler tells about a program: layers with their DRAM traffic, and where everything lies in DRAM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from hw.spec.isa import INSTRUCTION_BYTES, Instruction, Mode, Opcode, Region
from hw.spec.program import Layer, Program, TensorSpec
from sw.compiler.traffic import LayerTraffic, traffic

__all__ = ["layout", "layout_text", "summary", "summary_text"]


def summary(program: Program) -> dict[str, Any]:
    """Return layers with mode, instruction counts and DRAM traffic, and sizes in bytes (JSON-able)."""
    stream = program.instructions()
    moved = traffic(program)
    pairs = zip(program.layers, moved.layers, strict=True)
    return {
        "network": program.meta.get("network"),
        "config_hash": program.config.hash_hex,
        "macs": program.macs,
        "instructions": len(stream),
        "image_bytes": len(program.image),
        "instruction_bytes": moved.instructions,
        "region_bytes": {region.name: program.region_sizes[region] for region in Region},
        "traffic": {
            "loaded": moved.loaded,
            **{name: moved.total(name) for name in ("activations", "weights", "parameters", "stored")},
        },
        "layers": [_layer(layer, [stream[pc] for pc in layer.instructions], bytes_) for layer, bytes_ in pairs],
    }


def _layer(layer: Layer, instructions: Sequence[Instruction], moved: LayerTraffic) -> dict[str, Any]:
    counts = Counter(instruction.opcode for instruction in instructions)
    execs = [instruction for instruction in instructions if instruction.opcode == Opcode.EXEC]
    mode = Mode(execs[0]["mode"]).name + (" (depthwise)" if execs[0]["depthwise"] else "")
    # the last segment lacks its gap
    segments = -(-execs[0]["out_w"] // execs[0]["seg"]) if execs[0]["seg"] else 1
    return {
        "name": layer.name,
        "kind": layer.kind,
        "output_shape": list(layer.output_shape),
        "macs": layer.macs,
        "mode": mode,
        "segments": segments,
        "load": counts[Opcode.LOAD],
        "exec": counts[Opcode.EXEC],
        "store": counts[Opcode.STORE],
        "activation_bytes": moved.activations,
        "weight_bytes": moved.weights,
        "parameter_bytes": moved.parameters,
        "stored_bytes": moved.stored,
        "result": moved.output,
    }


def summary_text(report: dict[str, Any]) -> str:
    """Return :func:`summary`'s result as a table with totals."""
    head = ("layer", "kind", "output", "MACs", "mode", "load", "exec", "store")
    head += ("B in: maps", "weights", "params", "B out", "result")
    counted = ("load", "exec", "store", "activation_bytes", "weight_bytes", "parameter_bytes", "stored_bytes")
    rows = [
        (
            layer["name"],
            layer["kind"],
            _shape(layer["output_shape"]),
            f"{layer['macs']:,}",
            layer["mode"] + (f", {layer['segments']} segments" if layer["segments"] > 1 else ""),
            *(f"{layer[key]:,}" for key in counted),
            layer["result"],
        )
        for layer in report["layers"]
    ]
    regions = ", ".join(f"{name} {size:,}" for name, size in report["region_bytes"].items())
    moved = report["traffic"]
    return "\n".join(
        [
            *_aligned([head, *rows], right={3, *range(5, 12)}),
            "",
            f"{report['network']}: {len(rows)} layers, {report['macs']:,} MACs, {report['instructions']} instructions",
            f"image {report['image_bytes']:,} bytes, of which instructions {report['instruction_bytes']:,}",
            f"DRAM bytes: {regions}",
            f"DRAM traffic per run: {moved['loaded']:,} bytes in (maps {moved['activations']:,}, weights "
            f"{moved['weights']:,}, parameters {moved['parameters']:,}; instructions besides), "
            f"{moved['stored']:,} bytes out",
            f"configuration {report['config_hash']}",
        ]
    )


def layout(program: Program) -> list[dict[str, Any]]:
    """Return what lies where in DRAM, by region and offset (JSON-able).

    Each entry has ``region``, ``offset``, ``bytes``, ``kind`` and ``name``; tensors also ``shape`` and ``plane_stride``
    (bytes from channel to channel), ``packing`` if they are packed and, for a part or another shape of a tensor,
    ``within``.
    """
    entries = [*_constants(program), *_tensors(program.tensors)]
    return sorted(entries, key=lambda entry: (Region[entry["region"]], entry["offset"], -entry["bytes"]))


def _constants(program: Program) -> list[dict[str, Any]]:
    stream = program.instructions()

    def entry(offset: int, size: int, kind: str, name: str) -> dict[str, Any]:
        return {"region": Region.CONST.name, "offset": offset, "bytes": size, "kind": kind, "name": name}

    entries = [entry(0, len(stream) * INSTRUCTION_BYTES, "instructions", f"{len(stream)} of {INSTRUCTION_BYTES} bytes")]
    for layer in program.layers:
        loads = [stream[pc] for pc in layer.instructions if stream[pc].opcode == Opcode.LOAD]
        ends = [(i["dram_offset"], i["dram_offset"] + i["row_bytes"]) for i in loads if i["region"] == Region.CONST]
        if ends:
            first, last = min(start for start, _ in ends), max(end for _, end in ends)
            entries.append(entry(first, last - first, "weights, parameters", layer.name))
    return entries


def _tensors(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    entries = []
    around: TensorSpec | None = None
    for spec in sorted(specs, key=lambda spec: (spec.region, spec.offset, -spec.end)):
        within = around is not None and spec.region == around.region and spec.end <= around.end
        entries.append(
            {
                "region": Region(spec.region).name,
                "offset": spec.offset,
                "bytes": spec.end - spec.offset,
                "kind": "tensor",
                "name": spec.name,
                "shape": list(spec.shape),
                "plane_stride": spec.plane_stride,
                **({} if spec.packing is None else {"packing": str(spec.packing)}),
                **({"within": around.name} if within and around is not None else {}),
            }
        )
        if not within:
            around = spec
    return entries


def layout_text(entries: Sequence[dict[str, Any]]) -> str:
    """Return :func:`layout`'s result as a table."""
    head = ("region", "offset", "bytes", "what", "name", "shape", "plane stride", "within", "packed")
    rows = [
        (
            entry["region"],
            f"{entry['offset']:,}",
            f"{entry['bytes']:,}",
            entry["kind"],
            entry["name"],
            _shape(entry.get("shape", ())),
            f"{entry['plane_stride']:,}" if "plane_stride" in entry else "",
            entry.get("within", ""),
            entry.get("packing", ""),
        )
        for entry in entries
    ]
    return "\n".join(_aligned([head, *rows], right={1, 2, 6}))


def _shape(sizes: Iterable[int]) -> str:
    return "x".join(map(str, sizes))


def _aligned(rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    """Return the lines of a table whose first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
