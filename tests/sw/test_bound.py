"""The port bound and the authors' closed form give the table of targets, on the networks that it is of."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from hw.spec.config import preset
from sw.compiler.ir import Conv, Graph, Linear, Tensor
from sw.model.authors import network_cycles
from sw.model.bound import layer_sizes, port_bound
from sw.nn import zoo

TARGETS = json.loads((Path(__file__).parents[2] / "bench" / "targets.json").read_text())["networks"]
CELLS = [(network, name) for network, cells in TARGETS.items() for name in cells]


def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor(name, (*shape, 1, 1)[:3], 1.0, 0)


def as_in_the_targets(network: str) -> Graph:
    """Return a graph with what the table of targets adds: see ``remark`` in its file."""
    made = graph(network)
    ops = list(made.ops)
    if network.startswith("mobilenet_v3"):
        first = next(op for op in ops if op.name.endswith("row.conv"))
        wide = tensor("expanded", (16, 112, 112))
        weight = np.broadcast_to(np.int8(0), (16, 16, 1, 1))
        ops.insert(
            1,
            replace(
                ops[0],
                name="expand",
                input="expanded",
                output="expanded",
                weight=weight,
                stride=(1, 1),
                padding=(0, 0, 0, 0),
            ),
        )
        assert made[first.input].shape == (8, 112, 112)
        made = replace(made, tensors={**made.tensors, "expanded": wide})
    if network.startswith("mobilenet_v3_small"):
        features, classes = (op.weight.shape for op in ops if isinstance(op, Linear))
        assert (features, classes) == ((1024, 576), (1000, 1024))
        for index, op in enumerate(ops):
            if isinstance(op, Linear):
                shape = (1280, 576) if op.weight.shape == features else (1000, 1280)
                ops[index] = replace(op, weight=np.broadcast_to(np.int8(0), shape))
    return replace(made, ops=tuple(ops))


@cache
def graph(network: str) -> Graph:
    """Return a network's convolutions and linear layers as IR, with the shapes that PyTorch gives them."""
    model = zoo.create(network).eval()
    tensors, ops = {}, []

    def hook(name: str):
        def record(module, inputs, output):
            source, made = tensor(f"{name}.in", inputs[0].shape[1:]), tensor(name, output.shape[1:])
            tensors.update({source.name: source, made.name: made})
            weight = np.broadcast_to(np.int8(0), module.weight.shape)
            shared = {"name": name, "input": source.name, "output": name, "weight": weight, "weight_scale": np.ones(1)}
            if isinstance(module, torch.nn.Linear):
                ops.append(Linear(**shared))
                return
            (top, left), stride = module.padding, module.stride
            ops.append(Conv(**shared, stride=stride, padding=(top, left, top, left), groups=module.groups))

        return record

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(hook(name))
    with torch.no_grad():
        model(torch.zeros(1, 3, 224, 224))
    return Graph(network, tensors, tuple(ops), (), ())


@pytest.mark.parametrize(("network", "name"), CELLS)
def test_the_bound_is_that_of_the_targets(network: str, name: str) -> None:
    rows = preset(name).rows
    assert port_bound(as_in_the_targets(network), rows, rows) / 1000 == pytest.approx(
        TARGETS[network][name]["bound"], rel=0.01
    )


@pytest.mark.parametrize(("network", "name"), CELLS)
def test_the_closed_form_is_that_of_the_targets(network: str, name: str) -> None:
    rows = preset(name).rows
    expected = TARGETS[network][name]["authors"]
    assert network_cycles(as_in_the_targets(network), rows, rows) / 1000 == pytest.approx(expected, rel=0.01)


def test_each_resource_can_bound() -> None:
    image, small = tensor("image", (8, 9, 9)), tensor("small", (4, 4, 4))
    weight = np.zeros((4, 8, 2, 3), np.int8)
    shared = {
        "input": "image",
        "output": "small",
        "weight": weight,
        "weight_scale": np.ones(4),
        "padding": (0, 1, 0, 0),
    }
    tensors = {"image": image, "small": small}
    (sizes,) = layer_sizes(Graph("g", tensors, (Conv(name="a", stride=(2, 2), **shared),), (), ()))
    assert (sizes.macs, sizes.outputs, sizes.weights) == (64 * 48, 64, 192)
    # Lines 0 to 7; pixels -1 to 7.
    assert sizes.inputs == 8 * 8 * 8
    assert sizes.bound(1, 1) == 3072 and sizes.bound(2, 10) == 3072 / 20 and sizes.bound(1, 100) == 192
    (skipping,) = layer_sizes(Graph("g", tensors, (Conv(name="a", stride=(3, 4), **shared),), (), ()))
    assert skipping.inputs == 8 * 6 * 7  # lines 0 1 3 4 6 7, pixels 0 1 3 4 5 7 8; others lie outside
