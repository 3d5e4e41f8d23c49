"""The graph IR: printing, rewriting, and validation errors that name the layer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sw.compiler import CompileError
from sw.compiler.ir import Activation, ChannelScale, Conv, Graph, MaxPool, Slice, Tensor
from sw.compiler.validate import validate
from tests.sw.ir_graphs import Builder, block_net


def test_random_networks_are_valid_and_print_every_layer() -> None:
    build, graph = block_net(0)
    validate(graph)
    text = str(graph)
    assert all(op.name in text for op in graph.ops)
    assert "scale=" in text and "3x3" in text and text.startswith("graph blocks0")


def test_curves_gates_and_windows_are_carried() -> None:
    build = Builder(1)
    x = build.input((4, 6, 6))
    gate = build.pool(x)
    tensors = {
        **build.tensors,
        "a": Tensor("a", (4, 6, 6), 0.1, 0),
        "s": Tensor("s", (4, 6, 6), 0.1, 0),
        "m": Tensor("m", (4, 3, 3), 0.1, 0),
    }
    ops = (
        *build.ops,
        Activation(name="act", input=x, output="a", kind="hswish"),
        ChannelScale(name="se", input="a", gate=gate, output="s"),
        MaxPool(name="max", input="s", output="m", kernel=(2, 2), stride=(2, 2)),
    )
    graph = Graph("excite", tensors, ops, ("x",), ("m",))
    validate(graph)
    assert "hswish" in str(graph)
    broken = dataclasses.replace(graph, ops=(*build.ops, dataclasses.replace(ops[-3], kind="tanh"), *ops[-2:]))
    with pytest.raises(CompileError, match="layer act: curve 'tanh' is none of"):
        validate(broken)


def test_rewrite_drops_tensors_that_nobody_makes() -> None:
    _, graph = block_net(0)
    shorter = dataclasses.replace(graph.rewrite(graph.ops[:1]), outputs=(graph.ops[0].output,))
    validate(shorter)
    assert set(shorter.tensors) == {"x", graph.ops[0].output}


def _small() -> tuple[Builder, Graph]:
    build = Builder(3)
    x = build.input((4, 6, 6))
    return build, build.graph(build.conv(x, 5, (3, 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": np.zeros((5, 3, 3, 3), np.int8)}, "does not fit 4 input channels"),
        ({"weight": np.zeros((5, 4, 3, 3), np.int32)}, "not int8"),
        ({"weight": np.zeros((5, 4, 15, 3), np.int8)}, "larger than the padded input"),
        ({"weight_scale": np.ones(4)}, "weight_scale has shape"),
        ({"weight_scale": np.zeros(5)}, "positive and finite"),
        ({"bias": np.full(5, np.nan)}, "not finite"),
        ({"bias": np.zeros(6)}, "bias has shape"),
        ({"clamp": (5, -5)}, "clamp"),
        ({"clamp": (-129, 0)}, "clamp"),
        ({"stride": (0, 1)}, "stride"),
        ({"stride": (2, 2)}, "is declared"),
        ({"padding": (-1, 0, 0, 0)}, "padding"),
        ({"input": "nowhere"}, "which no earlier layer makes"),
        ({"output": "nowhere"}, "is not declared"),
        ({"residual": "x"}, "residual x is"),
    ],
)
def test_a_wrong_convolution_is_named(changes: dict, message: str) -> None:
    _, graph = _small()
    broken = dataclasses.replace(graph, ops=(dataclasses.replace(graph.ops[0], **changes),))
    with pytest.raises(CompileError, match=message) as error:
        validate(broken)
    assert error.value.layer == "layer0"


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("x", (4, 6), 0.1, 0),
        Tensor("x", (4, 0, 6), 0.1, 0),
        Tensor("x", (4, 6, 6), 0.0, 0),
        Tensor("x", (4, 6, 6), float("nan"), 0),
        Tensor("x", (4, 6, 6), 0.1, 200),
    ],
)
def test_a_wrong_tensor_is_named(tensor: Tensor) -> None:
    _, graph = _small()
    with pytest.raises(CompileError, match="layer x: tensor"):
        validate(dataclasses.replace(graph, tensors={**graph.tensors, "x": tensor}))


def test_duplicate_names_views_with_other_quantisation_and_missing_outputs_are_refused() -> None:
    _, graph = _small()
    with pytest.raises(CompileError, match="used by an earlier layer"):
        validate(dataclasses.replace(graph, ops=(*graph.ops, *graph.ops)))
    with pytest.raises(CompileError, match="no tensor"):
        validate(dataclasses.replace(graph, outputs=("nothing",)))
    build, _ = _small()
    made = build.slice("layer0", 0, 2)
    build.tensors[made] = dataclasses.replace(build.tensors[made], zero_point=99)
    with pytest.raises(CompileError, match="insert a Requantise"):
        validate(build.graph(made))
    build.tensors[made] = dataclasses.replace(build.tensors["layer0"], name=made, shape=(2, 6, 6))
    op = build.ops[-1]
    assert isinstance(op, Slice)
    build.ops[-1] = dataclasses.replace(op, stop=9)
    with pytest.raises(CompileError, match="channels 0:9 of 5"):
        validate(build.graph(made))


def test_conv_kernel_is_read_from_its_weight() -> None:
    _, graph = _small()
    conv = graph.ops[0]
    assert isinstance(conv, Conv) and conv.kernel == (3, 3)
