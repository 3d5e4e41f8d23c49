"""The ONNX front end: every operator and pattern against onnxruntime, and what it becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sw.frontends.onnx_ops import HANDLERS
from sw.frontends.onnx_reader import OnnxNetwork, read_onnx
from tests.sw.onnx_models import Model, reference

torch.set_num_threads(1)

RNG = np.random.default_rng(7)


def same(folder: Path, model: Model, *outputs: str, batch: int = 1, scale: float = 3.0) -> OnnxNetwork:
    """Read a model; its results must be onnxruntime's, also one picture at a time where the file takes only one."""
    path = model.save(folder, *outputs)
    network = read_onnx(path)
    (shape,) = network.shapes.values()
    for _ in range(2):
        x = (RNG.uniform(-1, 1, (batch, *shape[1:])) * scale).astype(np.float32)
        expected = reference(path, x)
        results = network.run(torch.from_numpy(x))
        assert len(results) == len(expected)
        for result, wanted in zip(results, expected, strict=True):
            assert result.shape == wanted.shape
            np.testing.assert_allclose(result.numpy(), wanted, rtol=1e-5, atol=1e-5)
    return network


def kinds(network: OnnxNetwork) -> list[str]:
    return [type(module).__name__ for module in network.module.children()]


def found(network: OnnxNetwork) -> dict[str, int]:
    return {name: len(layers) for name, layers in network.meta["recognised"].items() if layers}


# --- patterns ------------------------------------------------------------------------------------------------------

SIXTH = np.float32(1) / np.float32(6)
HSIGMOID: dict[str, Callable[[Model, str], str]] = {
    "op": lambda m, x: m.add("HardSigmoid", x, alpha=float(SIXTH), beta=0.5),
    "op with slope 0.2": lambda m, x: m.add("HardSigmoid", x),
    "clip(x + 3) / 6": lambda m, x: m.add("Div", m.add("Clip", m.add("Add", x, 3), 0, 6), 6),
    "clip(3 + x) * 0.1667": lambda m, x: m.add("Mul", SIXTH, m.add("Clip", m.add("Add", 3, x), 0, 6)),
    "clip(x / 6 + 0.5)": lambda m, x: m.add("Clip", m.add("Add", m.add("Div", x, 6), 0.5), 0, 1),
    "clip((x + 3) / 6)": lambda m, x: m.add("Clip", m.add("Mul", m.add("Add", x, 3), SIXTH), 0, 1),
    "min(max)": lambda m, x: m.add("Div", m.add("Min", m.add("Max", m.add("Add", x, 3), 0), 6), 6),
    "max(min), operands swapped": lambda m, x: m.add(
        "Mul", m.add("Max", 0, m.add("Min", 6, m.add("Add", x, 3))), SIXTH
    ),
    "relu, min": lambda m, x: m.add("Div", m.add("Min", m.add("Relu", m.add("Add", x, 3)), 6), 6),
    "x - -3": lambda m, x: m.add("Div", m.add("Clip", m.add("Sub", x, -3), 0, 6), 6),
    "1 - clip(0.5 - x / 6)": lambda m, x: m.add("Sub", 1, m.add("Clip", m.add("Sub", 0.5, m.add("Div", x, 6)), 0, 1)),
}
HSWISH: dict[str, Callable[[Model, str], str]] = {
    "op": lambda m, x: m.add("HardSwish", x),
    "x * clip(x + 3) / 6": lambda m, x: m.add("Div", m.add("Mul", x, m.add("Clip", m.add("Add", x, 3), 0, 6)), 6),
    "clip(x + 3) * x * 0.1667": lambda m, x: m.add(
        "Mul", m.add("Mul", m.add("Clip", m.add("Add", x, 3), 0, 6), x), SIXTH
    ),
    "(x / 6) * clip(x + 3)": lambda m, x: m.add("Mul", m.add("Div", x, 6), m.add("Clip", m.add("Add", x, 3), 0, 6)),
    **{f"x * ({name})": (lambda m, x, f=f: m.add("Mul", x, f(m, x))) for name, f in HSIGMOID.items()},
    **{f"({name}) * x": (lambda m, x, f=f: m.add("Mul", f(m, x), x)) for name, f in HSIGMOID.items()},
}


@pytest.mark.parametrize("spelling", HSWISH)
def test_hswish_in_any_spelling(spelling: str, tmp_path: Path) -> None:
    model = Model(1, 4, 5, 6, opset=14)
    x = model.conv("x", 4, 6)
    y = model.conv(HSWISH[spelling](model, x), 6, 3, 3, pads=(1, 1, 1, 1))
    network = same(tmp_path, model, y)
    assert found(network) == {"hswish": 1}
    # a slope that is not torch's scales the input, and the result back, inside the convolutions around
    assert kinds(network) == ["Conv2d", "Hardswish", "Conv2d"]


@pytest.mark.parametrize("spelling", HSIGMOID)
@pytest.mark.parametrize("gate_first", [False, True])
def test_squeeze_excite_in_any_spelling(spelling: str, gate_first: bool, tmp_path: Path) -> None:
    model = Model(1, 4, 5, 6)
    x = model.add("Relu", model.conv("x", 4, 8))
    pooled = model.add("GlobalAveragePool", x) if gate_first else model.add("ReduceMean", x, axes=[2, 3])
    squeezed = model.add("Relu", model.conv(pooled, 8, 2))
    gate = HSIGMOID[spelling](model, model.conv(squeezed, 2, 8))
    y = model.conv(model.add("Mul", *((gate, x) if gate_first else (x, gate))), 8, 3)
    network = same(tmp_path, model, y)
    assert found(network) == {"hsigmoid": 1, "channel_scale": 1, "squeeze_excite": 1}
    assert kinds(network) == [
        *("Conv2d", "ReLU", "AdaptiveAvgPool2d", "Conv2d", "ReLU", "Conv2d", "Hardsigmoid"),
        *("ChannelScale", "Conv2d"),
    ]


def test_the_sixth_of_a_gate_may_stand_behind_the_product(tmp_path: Path) -> None:
    model = Model(1, 4, 5, 6)
    x = model.conv("x", 4, 8)
    gate = model.add("Clip", model.add("Add", model.conv(model.add("GlobalAveragePool", x), 8, 8), 3), 0, 6)
    y = model.conv(model.add("Div", model.add("Mul", x, gate), 6), 8, 3)
    network = same(tmp_path, model, y)
    assert kinds(network) == ["Conv2d", "AdaptiveAvgPool2d", "Conv2d", "Hardsigmoid", "ChannelScale", "Conv2d"]
    assert found(network)["squeeze_excite"] == 1


def test_gate_over_one_pixel(tmp_path: Path) -> None:
    model = Model(1, 4, 1, 1)
    x = model.conv("x", 4, 8)
    gate = model.add("HardSigmoid", model.conv(x, 8, 8))
    network = same(tmp_path, model, model.conv(model.add("Mul", gate, x), 8, 3))
    scale = next(node for node in network.module.graph.nodes if str(node.target).startswith("mul"))
    assert [str(source.target).partition("_")[0] for source in scale.args] == ["conv", "hardsigmoid"]


def test_a_gate_from_elsewhere_is_a_channel_scale_but_no_squeeze_excite(tmp_path: Path) -> None:
    model = Model(1, 4, 5, 6)
    a, b = model.conv("x", 4, 8), model.conv("x", 4, 8)
    gate = model.add("HardSigmoid", model.conv(model.add("GlobalAveragePool", a), 8, 8))
    network = same(tmp_path, model, model.add("Mul", b, gate))
    assert found(network) == {"hsigmoid": 1, "channel_scale": 1}


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda m, x: m.add("Relu", x), "ReLU"),
        (lambda m, x: m.add("Clip", x, 0, 6), "ReLU6"),
        (lambda m, x: m.add("Clip", x, 0), "ReLU"),
        (lambda m, x: m.add("Clip", x, "", 1.5), "Hardtanh"),
        (lambda m, x: m.add("Clip", x, 0, np.finfo(np.float32).max), "ReLU"),
        (lambda m, x: m.add("Clip", x, -1, 1), "Hardtanh"),
        (lambda m, x: m.add("Min", m.add("Relu", x), 6), "ReLU6"),
        (lambda m, x: m.add("Max", x, 0), "ReLU"),
        (lambda m, x: m.add("Clip", m.add("Clip", x, -2, 8), 0, 6), "ReLU6"),
        (lambda m, x: m.add("Clip", m.add("Mul", x, 2), 0, 1), "Hardtanh"),
        (lambda m, x: m.add("Neg", m.add("Relu", m.add("Neg", x))), "Hardtanh"),
    ],
)
def test_bounds(make: Callable[[Model, str], str], kind: str, tmp_path: Path) -> None:
    model = Model(1, 3, 4, 5)
    network = same(tmp_path, model, make(model, model.conv("x", 3, 4)))
    assert kinds(network) == ["Conv2d", kind]
    assert found(network) == {}


# --- convolutions and what folds into them -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(7, 10), (8, 9)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("padding", ["SAME_UPPER", "SAME_LOWER", "VALID", (1, 0, 2, 1)])
def test_convolution(
    size: tuple[int, int], stride: tuple[int, int], kernel: int, padding: str | tuple[int, ...], tmp_path: Path
) -> None:
    model = Model(1, 4, *size)
    where = {"auto_pad": padding} if isinstance(padding, str) else {"pads": padding}
    y = model.conv("x", 4, 6, kernel, groups=2, strides=stride, **where)
    network = same(tmp_path, model, y)
    assert kinds(network)[-1] == "Conv2d" and set(kinds(network)[:-1]) <= {"ZeroPad2d"}


def test_equal_padding_needs_no_padding_layer(tmp_path: Path) -> None:
    model = Model(1, 4, 7, 9)
    x = model.add("Pad", "x", model.ints(0, 0, 0, 1, 0, 0, 1, 2))
    y = model.conv(x, 4, 4, 3, groups=4, pads=(1, 1, 0, 0), strides=(2, 1))
    network = same(tmp_path, model, y)
    assert kinds(network) == ["Conv2d"]
    (conv,) = network.module.children()
    assert conv.padding == (1, 2) and conv.stride == (2, 1) and conv.groups == 4


def test_dilation_is_kept(tmp_path: Path) -> None:
    model = Model(1, 2, 9, 9)
    network = same(tmp_path, model, model.conv("x", 2, 3, 3, dilations=(2, 1), pads=(2, 1, 2, 1)))
    (conv,) = network.module.children()
    assert conv.dilation == (2, 1)


def per_channel(model: Model, channels: int) -> np.ndarray:
    return model.rng.uniform(0.5, 2, (channels, 1, 1))


FOLDED: dict[str, Callable[[Model, str], str]] = {
    "batch normalisation": lambda m, x: m.norm(x, 5),
    "twice": lambda m, x: m.norm(m.norm(x, 5), 5, epsilon=0.1),
    "per channel": lambda m, x: m.add("Add", m.add("Mul", x, per_channel(m, 5)), per_channel(m, 5)[None]),
    "constant in front": lambda m, x: m.add("Sub", per_channel(m, 5), m.add("Div", x, per_channel(m, 5))),
    "numbers": lambda m, x: m.add("Div", m.add("Sub", m.add("Mul", x, -2), 0.5), 3),
}


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("bias", [False, True])
def test_what_folds_into_the_convolution(name: str, bias: bool, tmp_path: Path) -> None:
    model = Model(1, 3, 6, 7)
    y = model.add("Relu", FOLDED[name](model, model.conv("x", 3, 5, 3, bias=bias, pads=(1, 1, 1, 1))))
    network = same(tmp_path, model, y)
    assert kinds(network) == ["Conv2d", "ReLU"]
    assert {node.name for node in model.nodes[:-1]} <= set(network.meta["layers"]["conv_0"])


def test_a_convolution_used_twice_keeps_its_own_result(tmp_path: Path) -> None:
    model = Model(1, 3, 6, 7)
    x = model.conv("x", 3, 5)
    y = model.add("Add", x, model.norm(x, 5))
    network = same(tmp_path, model, y)
    assert kinds(network) == ["Conv2d", "Conv2d", "Sum"]
    assert list(network.module.children())[1].groups == 5


def test_scaling_in_front_goes_into_the_convolutions_behind(tmp_path: Path) -> None:
    model = Model(1, 4, 6, 7)
    x = model.norm("x", 4)
    network = same(tmp_path, model, model.conv(x, 4, 6, groups=2), model.conv(x, 4, 6, 3))
    assert kinds(network) == ["Conv2d", "Conv2d"]


def test_an_offset_in_front_of_padding_does_not_fold(tmp_path: Path) -> None:
    model = Model(1, 4, 6, 7)
    network = same(tmp_path, model, model.conv(model.norm("x", 4), 4, 6, 3, pads=(1, 1, 1, 1)))
    assert kinds(network) == ["Conv2d", "Conv2d"]
    factor = Model(1, 4, 6, 7)
    network = same(tmp_path, factor, factor.conv(factor.add("Div", "x", 255), 4, 6, 3, pads=(1, 1, 1, 1)))
    assert kinds(network) == ["Conv2d"]


# --- pooling, linear layers, shapes --------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("keep", [0, 1])
def test_global_mean(opset: int, keep: int, tmp_path: Path) -> None:
    model = Model(1, 3, 6, 7, opset=opset)
    if opset < 18:
        y = model.add("ReduceMean", "x", axes=[-1, 2], keepdims=keep)
    else:
        y = model.add("ReduceMean", "x", model.ints(2, 3), keepdims=keep)
    assert kinds(same(tmp_path, model, y)) == ["AdaptiveAvgPool2d"] + ["Reshape"] * (1 - keep)


@pytest.mark.parametrize(
    ("op", "attributes", "kind"),
    [
        ("GlobalMaxPool", {}, ["MaxPool2d"]),
        ("AveragePool", {"kernel_shape": (6, 9)}, ["AdaptiveAvgPool2d"]),
        ("AveragePool", {"kernel_shape": (2, 3), "strides": (2, 3)}, ["AvgPool2d"]),
        ("AveragePool", {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}, ["AvgPool2d"]),
        ("AveragePool", {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "count_include_pad": 1}, ["AvgPool2d"]),
        (
            "AveragePool",
            {"kernel_shape": (2, 2), "pads": (0, 0, 1, 1), "count_include_pad": 1},
            ["ZeroPad2d", "AvgPool2d"],
        ),
        ("MaxPool", {"kernel_shape": (2, 2), "strides": (2, 2)}, ["MaxPool2d"]),
        ("MaxPool", {"kernel_shape": (2, 2), "strides": (2, 2), "ceil_mode": 1}, ["MaxPool2d"]),
        ("MaxPool", {"kernel_shape": (3, 3), "strides": (2, 1), "pads": (1, 1, 1, 1)}, ["MaxPool2d"]),
        ("MaxPool", {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (0, 1, 1, 1)}, ["ConstantPad2d", "MaxPool2d"]),
        (
            "MaxPool",
            {"kernel_shape": (2, 2), "strides": (2, 2), "auto_pad": "SAME_UPPER"},
            ["ConstantPad2d", "MaxPool2d"],
        ),
        ("MaxPool", {"kernel_shape": (2, 2), "auto_pad": "SAME_LOWER"}, ["ConstantPad2d", "MaxPool2d"]),
        ("MaxPool", {"kernel_shape": (3, 3), "pads": (2, 2, 2, 2)}, ["ConstantPad2d", "MaxPool2d"]),
        ("MaxPool", {"kernel_shape": (3, 2), "strides": (2, 1), "auto_pad": "VALID"}, ["MaxPool2d"]),
        (
            "MaxPool",
            {"kernel_shape": (2, 2), "strides": (3, 3), "pads": (1, 0, 0, 1), "ceil_mode": 1},
            ["ConstantPad2d", "MaxPool2d"],
        ),
    ],
)
def test_pooling(op: str, attributes: dict[str, object], kind: list[str], tmp_path: Path) -> None:
    model = Model(1, 3, 6, 9)
    assert kinds(same(tmp_path, model, model.add(op, "x", **attributes))) == kind


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed: int, tmp_path: Path) -> None:
    model = Model("n", 6)
    weight = model.rng.normal(size=(4, 6) if transposed else (6, 4))
    hidden = model.add("Relu", model.add("Gemm", "x", weight, model.rng.normal(size=4), transB=transposed, alpha=0.5))
    y = model.add("Gemm", hidden, model.rng.normal(size=(4, 2)), 0.5, beta=3.0)
    assert kinds(same(tmp_path, model, y, batch=3)) == ["Linear", "ReLU", "Linear"]


def test_matmul_and_its_bias(tmp_path: Path) -> None:
    model = Model("n", 6)
    y = model.add("Add", model.add("MatMul", "x", model.rng.normal(size=(6, 3))), model.rng.normal(size=3))
    network = same(tmp_path, model, y, batch=2)
    assert kinds(network) == ["Linear"] and network.meta["macs"] == 18


def test_shapes_computed_in_the_network_fold(tmp_path: Path) -> None:
    model = Model("batch", 3, 4, 4)
    x = model.add("GlobalAveragePool", model.conv("x", 3, 5))
    first = model.add("Gather", model.add("Shape", x), model.const(0, np.int64), axis=0)
    target = model.add("Concat", model.add("Unsqueeze", first, model.ints(0)), model.ints(-1), axis=0)
    y = model.add("Gemm", model.add("Reshape", x, target), model.rng.normal(size=(5, 2)))
    network = same(tmp_path, model, y, batch=3)
    assert kinds(network) == ["Conv2d", "AdaptiveAvgPool2d", "Reshape", "Linear"]
    assert set(network.meta["without_effect"]) == {"shape_2", "gather_3", "unsqueeze_4", "concat_5"}


def test_reshapes_join(tmp_path: Path) -> None:
    model = Model(1, 3, 4, 4)
    x = model.add("GlobalAveragePool", "x")
    x = model.add("Squeeze", model.add("Squeeze", x, model.ints(3)), model.ints(-1))
    x = model.add("Unsqueeze", model.add("Dropout", model.add("Identity", x)), model.ints(2, 3))
    x = model.add("Flatten", model.add("Transpose", x, perm=[0, 2, 3, 1]))
    network = same(tmp_path, model, model.add("Gemm", x, model.rng.normal(size=(3, 2))))
    assert kinds(network) == ["AdaptiveAvgPool2d", "Reshape", "Linear"]


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_channel_shuffling_operators(opset: int, tmp_path: Path) -> None:
    model = Model(1, 6, 4, 4, opset=opset)
    if opset == 11:
        a, b, c = model.add("Split", "x", outputs=3, axis=1, split=[1, 2, 3])
    elif opset == 13:
        a, b, c = model.add("Split", "x", model.ints(1, 2, 3), outputs=3, axis=1)
    else:
        a, b, c = model.add("Split", "x", outputs=3, axis=-3, num_outputs=3)
    end = model.ints(2**62)
    tail = model.add("Slice", "x", model.ints(2), end, model.ints(1))
    whole = model.add("Slice", "x", model.ints(0), end, model.ints(3))
    network = same(tmp_path, model, model.add("Concat", c, tail, model.add("Relu", b), a, whole, axis=1))
    assert kinds(network) == ["Channels"] * 4 + ["ReLU", "Concat"]


# --- what the host keeps, and the whole ----------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Softmax", {"axis": 1}),
        ("LogSoftmax", {}),
        ("Sigmoid", {}),
        ("ArgMax", {"axis": 1}),
        ("ArgMax", {"axis": -3, "keepdims": 0}),
    ],
)
def test_the_host_ends_the_network(opset: int, op: str, attributes: dict[str, int], tmp_path: Path) -> None:
    model = Model(1, 3, 2, 4, opset=opset)
    y = model.add("Identity", model.add(op, model.conv("x", 3, 5), **attributes))
    network = same(tmp_path, model, y)
    assert kinds(network) == ["Conv2d"]
    assert network.meta["host"] == {y: [model.nodes[1].name]}


def test_softmax_and_argmax_in_a_row_and_a_second_output(tmp_path: Path) -> None:
    model = Model(1, 8)
    logits = model.add("Gemm", "x", model.rng.normal(size=(8, 4)))
    top = model.add("ArgMax", model.add("Softmax", logits), axis=1)
    network = same(tmp_path, model, top, logits)
    assert [len(steps) for steps in network.host.values()] == [2, 0]


def random_network(seed: int) -> tuple[Model, str, Counter[str]]:
    """Return a random network of what is supported, activations spelled at random, and the patterns in it."""
    model = Model(1, 3, int(8 + seed % 7), int(9 + seed % 5), opset=14, seed=seed)
    rng = model.rng
    hswish, hsigmoid = (list(spellings.values()) for spellings in (HSWISH, HSIGMOID))
    made: Counter[str] = Counter()
    channels, x = 3, "x"

    def active(y: str) -> str:
        kind = ["hswish", "hsigmoid", "relu", "none"][rng.choice(4, p=[0.5, 0.1, 0.2, 0.2])]
        made[kind] += 1
        if kind == "relu":
            return model.add("Relu", y)
        spellings = {"hswish": hswish, "hsigmoid": hsigmoid, "none": [lambda m, x: x]}[kind]
        return spellings[rng.integers(len(spellings))](model, y)

    for _ in range(4):
        wide = int(rng.integers(2, 9))
        y = active(model.norm(model.conv(x, channels, wide), wide))
        stride = (1, 1) if rng.random() < 0.5 else (2, int(rng.integers(1, 3)))
        kernel = int(rng.integers(1, 6))
        y = model.conv(y, wide, wide, kernel, groups=wide, bias=False, strides=stride, auto_pad="SAME_UPPER")
        y = active(model.norm(y, wide))
        if rng.random() < 0.6:
            gate = model.conv(model.add("Relu", model.conv(model.add("GlobalAveragePool", y), wide, 2)), 2, wide)
            y = model.add("Mul", hsigmoid[rng.integers(len(hsigmoid))](model, gate), y)
            made.update(("hsigmoid", "channel_scale", "squeeze_excite"))
        out = channels if stride == (1, 1) else int(rng.integers(2, 7))
        y = model.norm(model.conv(y, wide, out), out)
        x, channels = (model.add("Add", y, x) if out == channels and stride == (1, 1) else y), out
    output = model.add("Flatten", model.add("GlobalAveragePool", active(x)))
    del made["relu"], made["none"]
    return model, output, made


@pytest.mark.parametrize("seed", range(24))
def test_random_networks(seed: int, tmp_path: Path) -> None:
    model, output, patterns = random_network(seed)
    network = same(tmp_path, model, output)
    meta = network.meta
    noted = {name for nodes in meta["layers"].values() for name in nodes} | set(meta["without_effect"])
    assert noted == {node.name for node in model.nodes}
    assert found(network) == patterns


def test_the_documentation_lists_every_operator() -> None:
    text = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text()
    section = text.partition("## Operators\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")][2:]
    assert {name.strip() for row in rows for name in row.split(",")} == {*HANDLERS, "Constant", "Shape", "Size"}
