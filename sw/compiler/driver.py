"""The compiler's passes in order, and the program image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress

from hw.spec.config import AcceleratorConfig
from hw.spec.fields import FieldError
from hw.spec.isa import INSTRUCTION_BYTES, ISA_VERSION, Instruction, Opcode, Region, encode
from hw.spec.program import Layer, Program, TensorSpec
from sw.compiler.arrival import split_first
from sw.compiler.emit import emit
from sw.compiler.errors import CompileError
from sw.compiler.fuse import fuse_pool, fuse_residual
from sw.compiler.groups import split_groups
from sw.compiler.ir import Graph, Tensor
from sw.compiler.lower import lower
from sw.compiler.packing import Packed, pack
from sw.compiler.plan import Plan, plan
from sw.compiler.pooling import pool_beside
from sw.compiler.prefetch import place_loads
from sw.compiler.steps import Step
from sw.compiler.tokens import Order, order_steps
from sw.compiler.turns import take_turns
from sw.compiler.validate import validate
from sw.compiler.views import View, insert_copies

__all__ = ["compile_graph", "optimise"]


def optimise(graph: Graph, config: AcceleratorConfig) -> Graph:
    """Run the passes from IR to IR: fusion, groups, and copies where a concatenation cannot be written in place.

    Raises
    ------
    CompileError
        If the graph is not valid.
    """
    validate(graph)
    for step in (fuse_residual, lambda g: fuse_pool(g, config.act_bytes), split_groups, insert_copies):
        graph = step(graph)
        validate(graph)
    return graph


def compile_graph(
    graph: Graph,
    config: AcceleratorConfig,
    *,
    dump_tensors: bool = False,
    name: str | None = None,
    fusion: bool = True,
    packing: bool = True,
) -> Program:
    """Compile a quantised network.

    Parameters
    ----------
    graph
        Network; its `meta` goes into the program.
    config
        Accelerator to compile for.
    dump_tensors
        Also write every intermediate tensor to region WORK and list it in the program's `tensors`.
    name
        Network name in the program; the graph's by default.
    fusion
        Run groups of kernels strip by strip where tensors between them do not fit on chip.
    packing
        Pack small maps where that saves cycles (see :mod:`sw.compiler.packing`).

    Raises
    ------
    CompileError
        Naming the layer, if the network is invalid, needs what the hardware lacks, or does not fit.
    """
    graph = optimise(graph, config)
    if not graph.ops:
        raise CompileError(graph.name, "the network has no layers")
    packed, placed = _place(graph, config, dump_tensors=dump_tensors, fusion=fusion, packing=packing)
    kernels = packed.kernels
    steps, blobs = emit(placed, config)
    steps = place_loads(split_first(take_turns(steps, config)), config)
    names = [kernel.name for kernel in kernels]
    image = _image(steps, blobs, order_steps(steps), names, config)
    layers = tuple(
        Layer(
            name=kernel.name,
            kind=kernel.kind,
            macs=kernel.macs,
            instructions=tuple(1 + i for i, step in enumerate(steps) if step.layer == index),
            output_shape=kernel.image_shape,
        )
        for index, kernel in enumerate(kernels)
    )
    sizes = dict(placed.region_sizes)
    sizes[Region.CONST] = len(image)
    specs = {
        tensor: _spec(graph[tensor], packed, placed)
        for tensor in graph.tensors
        if _in_dram(packed.views[tensor], placed)
    }
    program = Program(
        config=config,
        image=image,
        instruction_count=len(steps) + 2,
        region_sizes=(sizes[Region.CONST], sizes[Region.WORK], sizes[Region.INPUT], sizes[Region.OUTPUT]),
        inputs=tuple(specs[tensor] for tensor in graph.inputs),
        outputs=tuple(specs[tensor] for tensor in graph.outputs),
        layers=layers,
        tensors=tuple(specs.values()),
        meta={**graph.meta, "network": name or graph.name},
    )
    program.validate()
    return program


def _in_dram(view: View, placed: Plan) -> bool:
    return placed.storages[view.storage].offset >= 0


def _place(
    graph: Graph, config: AcceleratorConfig, *, dump_tensors: bool, fusion: bool, packing: bool
) -> tuple[Packed, Plan]:
    """Lower and plan, with and without pooling beside maps; the cheapest plan.

    Where packed tensors, which are larger, do not all stay on chip, plan without them as well.
    """
    kernels, views = lower(graph, config)
    plain = Packed(graph, kernels, views, {})
    layouts = [plain]
    if packing:
        found = [pack(graph, kernels, views, config, spread=spread) for spread in (True, False)]
        # what runs spread cannot pool beside its map, so try without
        layouts = [some for some in found[: 1 + _mixes(found[0])] if some.packings] + layouts
    choices, errors = [], []
    for some in layouts:
        try:
            placed = plan(some.graph, some.kernels, some.views, config, store_all=dump_tensors, fusion=fusion)
        except CompileError as error:
            errors.append(error)
            continue
        choices.append((some, placed))
        pooled = dataclasses.replace(some, kernels=pool_beside(some.kernels, placed.whole))
        if len(pooled.kernels) < len(some.kernels):
            with suppress(CompileError):  # pooled bytes cannot go to DRAM; then it stays as it is
                again = plan(pooled.graph, pooled.kernels, pooled.views, config, store_all=dump_tensors, fusion=fusion)
                choices.append((pooled, again))
        if some.packings and not _mixes(some) and not _spills(some, placed):
            break
    if not choices:
        raise errors[-1]
    return min(choices, key=lambda choice: choice[1].cost)


def _mixes(packed: Packed) -> bool:
    """Whether kernels other than copies read another layout than they write."""
    return any(kernel.spread and not kernel.relayout for kernel in packed.kernels)


def _spills(packed: Packed, placed: Plan) -> bool:
    """Whether a tensor lies in DRAM while a packed one lives."""
    names = {packed.views[name].storage for name in packed.packings}
    lives = [(storage.first, storage.last) for name, storage in placed.storages.items() if name in names]
    away = [storage for storage in placed.storages.values() if not storage.resident]
    return any(storage.first <= last and first <= storage.last for storage in away for first, last in lives)


def _spec(tensor: Tensor, packed: Packed, placed: Plan) -> TensorSpec:
    view = packed.views[tensor.name]
    storage = placed.storages[view.storage]
    return TensorSpec(
        name=tensor.name,
        region=int(storage.region),
        offset=storage.offset + view.offset,
        shape=tensor.shape,
        plane_stride=view.plane,
        scale=tensor.scale,
        zero_point=tensor.zero_point,
        packing=packed.packings.get(tensor.name),
    )


def _image(
    steps: Sequence[Step], blobs: Sequence[bytes], order: Order, layers: Sequence[str], config: AcceleratorConfig
) -> bytes:
    """Return region CONST: the instructions, then the constants, each aligned for DMA."""
    align = max(INSTRUCTION_BYTES, config.axi_bytes)
    count = len(steps) + 2
    offsets = []
    end = count * INSTRUCTION_BYTES
    for blob in blobs:
        end = -(-end // align) * align
        offsets.append(end)
        end += len(blob)
    image = bytearray(end)
    header = {"isa_version": ISA_VERSION, "config_hash": config.hash, "count": count}
    image[:INSTRUCTION_BYTES] = encode(Instruction(Opcode.HEADER, header))
    for index, step in enumerate(steps):
        values = {**step.values, "wait": order.wait[index], "signal": order.signal[index]}
        if order.overlap[index]:
            values["overlap"] = 1
        if step.blob is not None:
            values["dram_offset"] = offsets[step.blob]
        try:
            word = encode(Instruction(step.opcode, values))
        except FieldError as error:
            raise CompileError(layers[step.layer], f"does not fit the instruction format: {error}") from None
        start = (index + 1) * INSTRUCTION_BYTES
        image[start : start + INSTRUCTION_BYTES] = word
    last = (count - 1) * INSTRUCTION_BYTES
    image[last : last + INSTRUCTION_BYTES] = encode(Instruction(Opcode.HALT))
    for blob, offset in zip(blobs, offsets, strict=True):
        image[offset : offset + len(blob)] = blob
    return bytes(image)
