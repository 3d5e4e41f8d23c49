"""ONNX files and nodes that are refused: the message names what, and the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sw.frontends.onnx_reader import OnnxError, read_onnx
from tests.sw.onnx_models import Model


def small(folder: Path, *shape: int | str | None, opset: int = 13) -> Path:
    model = Model(*shape, opset=opset)
    return model.save(folder, model.conv("x", 3, 4))


def refused(path: Path, message: str, **options: object) -> None:
    with pytest.raises(OnnxError) as caught:
        read_onnx(path, **options)
    assert message in str(caught.value)


def changed(path: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


# --- shapes --------------------------------------------------------------------------------------------------------


def test_dynamic_axes_are_fixed_by_the_caller(tmp_path: Path) -> None:
    path = small(tmp_path, "batch", 3, "height", None)
    refused(path, "input 'x': axis 2 (H) is dynamic ('height'); fix it with --input-shape CxHxW, such as 3x224x224")
    for shape in ((3, 6, 8), [1, 3, 6, 8], {"x": (3, 6, 8)}):
        assert read_onnx(path, input_shape=shape).shapes == {"x": (1, 3, 6, 8)}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 6, 8), "axis 1 (C) is 3 in the file, 4 was given"),
        ((6, 8), "input shape (6, 8) does not fit; give CxHxW"),
        ((2, 3, 6, 8), "input shape (2, 3, 6, 8) does not fit"),
        ((3, 0, 8), "input shape (3, 0, 8) does not fit"),
        ({"y": (3, 6, 8)}, "input_shape names 'y'; its inputs are x"),
    ],
)
def test_a_wrong_input_shape(shape: object, message: str, tmp_path: Path) -> None:
    refused(small(tmp_path, "n", 3, "h", "w"), message, input_shape=shape)


def test_only_one_dynamic_axis_and_a_fixed_batch(tmp_path: Path) -> None:
    refused(small(tmp_path, 1, 3, 8, "w"), "axis 3 (W) is dynamic ('w')")
    refused(small(tmp_path, 8, 3, 8, 8), "batch size 8 (axis 0); export it with batch size 1 or a dynamic one")


def test_inputs_that_are_no_float_feature_maps(tmp_path: Path) -> None:
    model = Model(1, 3, 8)
    refused(model.save(tmp_path, model.add("Relu", "x")), "input 'x' has 3 axes; only (N, C, H, W) and (N, F)")
    model = Model(1, 3, 8, 8)
    model.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT16, (1, 3, 8, 8))]
    refused(model.save(tmp_path, model.add("Relu", "x")), "input 'x' is FLOAT16, not FLOAT; export")


# --- files ---------------------------------------------------------------------------------------------------------


def test_files_that_are_no_models(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.onnx", "nowhere.onnx: no such file")
    good = small(tmp_path, 1, 3, 8, 8)
    broken = tmp_path / "broken.onnx"
    for content in (b"", b"not a model at all", good.read_bytes()[:150], good.read_bytes()[5:]):
        broken.write_bytes(content)
        refused(broken, "broken.onnx: not a")


def test_weights_kept_elsewhere_are_missed(tmp_path: Path) -> None:
    model = onnx.load(small(tmp_path, 1, 3, 8, 8))
    path = tmp_path / "split.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert read_onnx(path).meta["macs"] == 3 * 4 * 64
    (tmp_path / "weights.bin").unlink()
    refused(path, "split.onnx: not a readable ONNX file")


def test_a_graph_with_a_loose_end(tmp_path: Path) -> None:
    def cut(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = "nothing"

    refused(changed(small(tmp_path, 1, 3, 8, 8), cut), "not a valid ONNX model")


def test_old_operator_sets(tmp_path: Path) -> None:
    path = small(tmp_path, 1, 3, 8, 8, opset=9)
    refused(path, "operator set 9; 11 is the oldest that is read. Export again with a newer one, or convert")


def test_foreign_operators(tmp_path: Path) -> None:
    def mark(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "com.microsoft"
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))

    refused(changed(small(tmp_path, 1, 3, 8, 8), mark), "node 'conv_0' (Conv) is of operator domain 'com.microsoft'")


def test_quantised_models(tmp_path: Path) -> None:
    model = Model(1, 3, 8, 8)
    scale, zero = model.const(0.1), model.const(0, np.int8)
    x = model.add("DequantizeLinear", model.add("QuantizeLinear", "x", scale, zero, name="q"), scale, zero)
    refused(
        model.save(tmp_path, model.conv(x, 3, 4)), "node 'q' (QuantizeLinear): the model is quantised already; give"
    )
    model = Model(1, 4, opset=13)
    matrix = model.const(np.ones((4, 2)), np.int8)
    quantised, _, _ = model.add("DynamicQuantizeLinear", "x", outputs=3, name="dynamic")
    refused(model.save(tmp_path, model.add("MatMulInteger", quantised, matrix)), "node 'dynamic'")


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    model = Model(1, 3, 8, 9, opset=14)
    x = model.add("HardSwish", model.norm(model.conv("x", 3, 4, 3, strides=(2, 1), auto_pad="SAME_UPPER"), 4))
    pooled = model.add("Reshape", model.add("GlobalAveragePool", x), model.ints(1, -1))
    content = model.save(tmp_path, model.add("Softmax", model.add("MatMul", pooled, np.ones((4, 2))))).read_bytes()
    rng, read = np.random.default_rng(0), 0
    broken = tmp_path / "broken.onnx"
    for _ in range(150):
        data = bytearray(content)
        for place in rng.integers(len(data), size=2):
            data[place] = rng.integers(256)
        broken.write_bytes(data)
        try:
            read += bool(read_onnx(broken).meta["layers"])
        except OnnxError as error:
            assert str(error)
    assert 0 < read < 150


def test_names_that_are_no_names_of_code(tmp_path: Path) -> None:
    model = Model(1, 3, 8, 9)
    path = model.save(tmp_path, model.add("Relu", model.conv("x", 3, 4, name='a"b\n.c/d'), name="/block.1/Relu"))
    assert read_onnx(path).meta["layers"] == {"a_b_c/d": ['a"b\n.c/d'], "block_1/Relu": ["/block.1/Relu"]}


# --- nodes ---------------------------------------------------------------------------------------------------------

NODES: dict[str, tuple[Callable[[Model], str], str]] = {
    "unknown": (
        lambda m: m.add("Softsign", "x"),
        "(Softsign, opset 14): operator Softsign is not supported: supported are convolution,",
    ),
    "leak": (lambda m: m.add("LeakyRelu", "x"), "operator LeakyRelu is not supported: the output stage has one slope"),
    "resize": (
        lambda m: m.add("Resize", "x", "", m.const([1, 1, 2, 2])),
        "operator Resize is not supported: there is no interpolation",
    ),
    "silu": (lambda m: m.add("Mul", "x", m.add("Sigmoid", "x")), "uses 'sigmoid_0_out0' of node 'sigmoid_0' (Sigmoid)"),
    "softmax inside": (
        lambda m: m.conv(m.add("Softmax", "x"), 3, 4),
        "follows node 'softmax_0' (Softmax), which needs",
    ),
    "reshaped softmax": (lambda m: m.add("Flatten", m.add("Softmax", "x")), "follows node 'softmax_0' (Softmax)"),
    "square": (lambda m: m.add("Mul", "x", "x"), "multiplies an activation by a function of itself that is no"),
    "odd swish": (
        lambda m: m.add("Mul", "x", m.add("Clip", m.add("Add", "x", 2), 0, 6)),
        "multiplies x by clip(0.166667 * x + 0.333333, 0, 1); h-swish has the form",
    ),
    "product": (
        lambda m: m.add("Mul", "x", m.add("Relu", m.conv("x", 3, 3))),
        "multiplies activations (1, 3, 8, 9) and",
    ),
    "broadcast": (lambda m: m.add("Add", "x", m.add("GlobalAveragePool", "x")), "adds (1, 3, 8, 9) and (1, 3, 1, 1)"),
    "subtraction": (lambda m: m.add("Sub", "x", m.add("Relu", "x")), "subtracts two activations; negate the weights"),
    "division": (lambda m: m.add("Div", 1, "x"), "divides by an activation"),
    "division by 0": (lambda m: m.add("Div", "x", 0), "divides by 0"),
    "times 0": (lambda m: m.add("Mul", "x", 0), "multiplies an activation by 0"),
    "constant per pixel": (
        lambda m: m.add("Add", "x", np.ones((1, 1, 8, 9))),
        "only numbers and one value per channel",
    ),
    "constant per column": (lambda m: m.add("Mul", "x", np.ones(9)), "only numbers and one value per channel"),
    "maximum of two": (lambda m: m.add("Max", "x", m.add("Relu", "x")), "takes the max of activations"),
    "sum of three": (lambda m: m.add("Sum", "x", m.add("Relu", "x"), m.conv("x", 3, 3)), "has 3 operands"),
    "moving weights": (
        lambda m: m.add("Conv", "x", m.add("Reshape", m.add("GlobalAveragePool", "x"), m.ints(1, 3, 1, 1))),
        "its input 1 ('reshape_1_out0') must be a constant; it depends on the data",
    ),
    "product of activations": (lambda m: m.add("MatMul", "x", m.add("Transpose", "x", perm=[0, 1, 3, 2])), "permutes"),
    "4-D matmul": (lambda m: m.add("MatMul", "x", np.ones((9, 2))), "multiplies (1, 3, 8, 9) by (9, 2); only (N, F)"),
    "channels last": (lambda m: m.add("Transpose", "x", perm=[0, 2, 3, 1]), "permutes axes (0, 2, 3, 1)"),
    "reflection": (lambda m: m.add("Pad", "x", m.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"), "mode 'reflect'"),
    "pad with 1": (lambda m: m.add("Pad", "x", m.ints(0, 0, 1, 1, 0, 0, 1, 1), 1), "pads with 1.0; only zeros"),
    "pad channels": (lambda m: m.add("Pad", "x", m.ints(0, 1, 0, 0, 0, 0, 0, 0)), "only lines and pixels are padded"),
    "row concat": (lambda m: m.add("Concat", "x", m.add("Relu", "x"), axis=2), "concatenates along axis 2"),
    "row split": (lambda m: m.add("Split", "x", outputs=2, axis=2)[1], "splits axis 2; only channels"),
    "crop": (lambda m: m.add("Slice", "x", m.ints(1), m.ints(5), m.ints(2)), "slices axis 2 of (1, 3, 8, 9) [1:5:1]"),
    "every second": (
        lambda m: m.add("Slice", "x", m.ints(0), m.ints(3), m.ints(1), m.ints(2)),
        "only channel ranges (axis 1, step 1)",
    ),
    "batch reshape": (lambda m: m.add("Reshape", "x", m.ints(3, -1)), "reshapes (1, 3, 8, 9) to (3, 72)"),
    "row mean": (lambda m: m.add("ReduceMean", "x", axes=[2]), "takes the mean over axes [2]"),
    "all mean": (lambda m: m.add("ReduceMean", "x"), "takes the mean over axes [0, 1, 2, 3]"),
    "max indices": (
        lambda m: m.add("MaxPool", "x", outputs=2, kernel_shape=(2, 2))[1],
        "its indices are used",
    ),
    "uneven mean": (
        lambda m: m.add("AveragePool", "x", kernel_shape=(2, 2), pads=(0, 0, 1, 1)),
        "averages with unequal pads (0, 0, 1, 1) that do not count",
    ),
    "training": (lambda m: m.norm("x", 3, outputs=3, training_mode=1)[0], "runs in training mode"),
    "dropout": (
        lambda m: m.add("Dropout", "x", 0.5, m.const(True, np.bool_)),
        "runs in training mode",
    ),
    "cast": (lambda m: m.add("Cast", "x", to=TensorProto.INT32), "casts an activation to another type"),
    "gather": (
        lambda m: m.add("Gather", "x", m.ints(2, 1, 0), axis=1),
        "operator Gather is not supported: only channel",
    ),
    "transposed": (
        lambda m: m.add("ConvTranspose", "x", np.ones((3, 4, 2, 2))),
        "transposed convolutions have no execution mode",
    ),
    "random": (
        lambda m: m.add("Add", "x", m.add("RandomNormal", shape=(1,))),
        "operator RandomNormal is not supported",
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_nodes(name: str, tmp_path: Path) -> None:
    build, message = NODES[name]
    model = Model(1, 3, 8, 9, opset=14)
    output = build(model)
    with pytest.raises(OnnxError) as caught:
        read_onnx(model.save(tmp_path, output))
    text = str(caught.value)
    assert message in text
    named = [node for node in model.nodes if text.startswith(f"node {node.name!r} ({node.op_type}, opset 14): ")]
    assert len(named) == 1


def test_bounds_that_leave_a_constant(tmp_path: Path) -> None:
    model = Model(1, 3, 8, 9)
    y = model.add("Min", model.add("Relu", "x"), -1)
    refused(model.save(tmp_path, y), "node 'min_1': the bounds -1 and -1 leave only a constant")


def test_sizes_that_contradict_each_other(tmp_path: Path) -> None:
    model = Model(1, 3, "h", "w")
    path = model.save(tmp_path, model.conv("x", 3, 4, 5))
    refused(path, "node 'conv_0' (Conv, opset 13): Calculated padded input size", input_shape=(3, 4, 4))


def test_a_constant_output_and_an_unscalable_vector(tmp_path: Path) -> None:
    model = Model(1, 3, 8, 9)
    refused(model.save(tmp_path, model.add("Shape", "x")), "output 'shape_0_out0' is a constant")
    model = Model(1, 3, 8, 9)
    y = model.add("Mul", model.add("Flatten", "x"), 2)
    refused(model.save(tmp_path, y), "node 'mul_1': scales a vector (1, 216) that no layer makes")


def test_what_no_output_needs_is_not_refused(tmp_path: Path) -> None:
    model = Model(1, 3, 8, 9)
    y = model.conv("x", 3, 4)
    model.add("Erf", "x")
    assert [*read_onnx(model.save(tmp_path, y)).meta["layers"]] == ["conv_0"]
