"""Small ONNX models, node by node, and their results by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


class Model:
    """A model under construction; arrays given as operands become initialisers.

    ``model.add("Conv", "x", weight, strides=(2, 1))`` returns the output's name, or a list of names if there are more.
    """

    def __init__(self, *shape: int | str | None, opset: int = 13, seed: int = 0) -> None:
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def add(self, op: str, *operands: Any, outputs: int = 1, name: str | None = None, **attributes: Any) -> Any:
        inputs = [operand if isinstance(operand, str) else self.const(operand) for operand in operands]
        label = f"{op.lower()}_{len(self.nodes)}" if name is None else name
        made = [f"{label}_out{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, name=label, **attributes))
        return made[0] if outputs == 1 else made

    def conv(
        self, source: str, cin: int, cout: int, kernel: int = 1, *, groups: int = 1, bias: bool = True, **kw
    ) -> str:
        weight = self.rng.normal(size=(cout, cin // groups, kernel, kernel)) / (kernel * np.sqrt(cin // groups))
        extra = [self.rng.normal(size=cout)] if bias else []
        return self.add("Conv", source, weight, *extra, group=groups, **kw)

    def norm(self, source: str, channels: int, **kw: Any) -> Any:
        low, high = np.full(channels, 0.5), np.full(channels, 1.5)
        gamma, beta, mean, variance = (self.rng.uniform(low, high) for _ in range(4))
        return self.add("BatchNormalization", source, gamma, beta, mean, variance, **kw)

    def proto(self, *outputs: str) -> onnx.ModelProto:
        infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph(self.nodes, "test", self.inputs, infos, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        # the standard wants types of outputs
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        known = {info.name: info for info in inferred.graph.output}
        for info in model.graph.output:
            info.CopyFrom(known[info.name])
        return model

    def save(self, folder: Path, *outputs: str) -> Path:
        path = folder / "model.onnx"
        onnx.save(self.proto(*outputs), path)
        return path


def reference(path: Path, x: np.ndarray) -> list[np.ndarray]:
    """Return onnxruntime's results, with its own rewriting of the graph off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})
