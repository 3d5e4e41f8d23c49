"""Builds seeded random IR graphs whose values fill the int8 range, for the compiler's tests."""

from __future__ import annotations

import numpy as np

from sw.compiler.ir import (
    FULL_RANGE,
    Activation,
    Add,
    AvgPool,
    ChannelScale,
    Concat,
    Conv,
    Curve,
    GlobalAvgPool,
    Graph,
    Linear,
    MaxPool,
    Op,
    Requantise,
    Reshape,
    Slice,
    Tensor,
)


class Builder:
    """Adds one layer after the other; every method returns the name of the tensor it makes."""

    def __init__(self, seed: int, name: str = "random") -> None:
        self.rng = np.random.default_rng(seed)
        self.name = name
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.inputs: list[str] = []

    def _tensor(self, name: str, shape: tuple[int, int, int], scale: float, zero_point: int | None = None) -> str:
        zp = int(self.rng.integers(-30, 31)) if zero_point is None else zero_point
        self.tensors[name] = Tensor(name, shape, float(scale), zp)
        return name

    def input(self, shape: tuple[int, int, int], name: str = "x") -> str:
        self.inputs.append(name)
        return self._tensor(name, shape, 0.03 * self.rng.uniform(0.7, 1.4))

    def conv(
        self,
        source: str,
        cout: int,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] | None = None,
        *,
        depthwise: bool = False,
        clamp: tuple[int, int] = FULL_RANGE,
        like: str | None = None,
        bias: bool = True,
        curve: Curve | None = None,
        groups: int = 1,
        residual: str | None = None,
    ) -> str:
        cin, height, width = self.tensors[source].shape
        pad = (kernel[0] // 2, kernel[1] // 2) * 2 if padding is None else padding
        groups = cin if depthwise else groups
        cout = cin if depthwise else cout
        weight = np.clip(self.rng.normal(0, 45, (cout, cin // groups, *kernel)), -127, 127).astype(np.int8)
        scale = self.rng.uniform(0.5, 2, cout) * 0.01
        spread = self.tensors[source].scale * 0.0125 * 45 * 60 * np.sqrt(weight[0].size)
        shape = (
            cout,
            (height + pad[0] + pad[2] - kernel[0]) // stride[0] + 1,
            (width + pad[1] + pad[3] - kernel[1]) // stride[1] + 1,
        )
        if curve is not None:
            scale, spread = scale * (2 / spread), 2.0
        name = f"layer{len(self.ops)}"
        if like is not None:
            made = self._tensor(name, shape, self.tensors[like].scale, self.tensors[like].zero_point)
        elif curve is not None:
            made = self._curved(name, shape, curve, spread)
        else:
            made = self._tensor(name, shape, spread / 50)
        self.ops.append(
            Conv(
                name=name,
                input=source,
                output=made,
                weight=weight,
                weight_scale=scale,
                bias=self.rng.normal(0, spread, cout) if bias else None,
                stride=stride,
                padding=pad,
                groups=groups,
                clamp=clamp,
                curve=curve,
                linear=clamp == FULL_RANGE and curve is None,
                residual=residual,
            )
        )
        return made

    def _curved(self, name: str, shape: tuple[int, int, int], curve: Curve, spread: float) -> str:
        """A tensor whose quantisation suits a curve of values with this standard deviation."""
        if curve == "hsigmoid":
            return self._tensor(name, shape, self.rng.uniform(0.9, 1.3) / 255, int(self.rng.integers(-128, -120)))
        scale = (0.375 + spread * self.rng.uniform(1.5, 4)) / 255
        return self._tensor(name, shape, scale, round(0.375 / scale) - 128)

    def linear(self, source: str, cout: int, curve: Curve | None = None) -> str:
        size = self.tensors[source].size
        weight = np.clip(self.rng.normal(0, 45, (cout, size)), -127, 127).astype(np.int8)
        spread = self.tensors[source].scale * 0.01 * 45 * 60 * np.sqrt(size)
        scale = 0.01
        if curve is not None:
            scale, spread = scale * (2 / spread), 2.0
        name = f"layer{len(self.ops)}"
        shape = (cout, 1, 1)
        made = self._tensor(name, shape, spread / 50) if curve is None else self._curved(name, shape, curve, spread)
        self.ops.append(
            Linear(
                name=name,
                input=source,
                output=made,
                weight=weight,
                weight_scale=np.full(cout, scale),
                bias=self.rng.integers(-5000, 5000, cout).astype(np.int32),
                curve=curve,
            )
        )
        return made

    def add(self, left: str, right: str, clamp: tuple[int, int] = FULL_RANGE) -> str:
        name = f"layer{len(self.ops)}"
        scale = np.hypot(self.tensors[left].scale, self.tensors[right].scale)
        made = self._tensor(name, self.tensors[left].shape, scale)
        self.ops.append(Add(name=name, input=left, other=right, output=made, clamp=clamp))
        return made

    def pool(self, source: str) -> str:
        name = f"layer{len(self.ops)}"
        made = self._tensor(name, (self.tensors[source].shape[0], 1, 1), self.tensors[source].scale / 3)
        self.ops.append(GlobalAvgPool(name=name, input=source, output=made))
        return made

    def activation(self, source: str, kind: Curve) -> str:
        name, tensor = f"layer{len(self.ops)}", self.tensors[source]
        made = self._curved(name, tensor.shape, kind, 60 * tensor.scale)
        self.ops.append(Activation(name=name, input=source, output=made, kind=kind))
        return made

    def scale(self, source: str, gate: str, curve: Curve | None = None) -> str:
        """Product with a gate, in about the map's own quantisation, or a curve's."""
        name, tensor = f"layer{len(self.ops)}", self.tensors[source]
        if curve is None:
            made = self._tensor(name, tensor.shape, tensor.scale * self.rng.uniform(0.6, 1.1), tensor.zero_point)
        else:
            made = self._curved(name, tensor.shape, curve, 60 * tensor.scale)
        self.ops.append(ChannelScale(name=name, input=source, gate=gate, output=made, curve=curve))
        return made

    def window(
        self,
        source: str,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        *,
        mean: bool = False,
        factor: float = 1.0,
    ) -> str:
        """Maximum or mean of a window; `factor` is output scale / input scale."""
        name, tensor = f"layer{len(self.ops)}", self.tensors[source]
        channels, height, width = tensor.shape
        height = (height + padding[0] + padding[2] - kernel[0]) // stride[0] + 1
        width = (width + padding[1] + padding[3] - kernel[1]) // stride[1] + 1
        made = self._tensor(name, (channels, height, width), tensor.scale * factor, tensor.zero_point)
        kind = AvgPool if mean else MaxPool
        self.ops.append(kind(name=name, input=source, output=made, kernel=kernel, stride=stride, padding=padding))
        return made

    def gate(self, source: str, hidden: int, *, alone: bool = False, curve: Curve | None = None) -> str:
        """Squeeze-and-excite: pool, two 1x1 convolutions with ReLU and h-sigmoid, and the product."""
        channels = self.tensors[source].shape[0]
        y = self.pool(source)
        y = self.conv(y, hidden, clamp=(self.tensors[y].zero_point, 127))
        y = self.activation(self.conv(y, channels), "hsigmoid") if alone else self.conv(y, channels, curve="hsigmoid")
        return self.scale(source, y, curve)

    def _view(self, source: str, shape: tuple[int, int, int]) -> tuple[str, str]:
        name = f"layer{len(self.ops)}"
        return name, self._tensor(name, shape, self.tensors[source].scale, self.tensors[source].zero_point)

    def slice(self, source: str, start: int, stop: int) -> str:
        name, made = self._view(source, (stop - start, *self.tensors[source].shape[1:]))
        self.ops.append(Slice(name=name, input=source, output=made, start=start, stop=stop))
        return made

    def concat(self, *parts: str) -> str:
        channels = sum(self.tensors[part].shape[0] for part in parts)
        name, made = self._view(parts[0], (channels, *self.tensors[parts[0]].shape[1:]))
        self.ops.append(Concat(name=name, parts=parts, output=made))
        return made

    def reshape(self, source: str, shape: tuple[int, int, int]) -> str:
        name, made = self._view(source, shape)
        self.ops.append(Reshape(name=name, input=source, output=made))
        return made

    def requantise(self, source: str, factor: float = 1.3) -> str:
        name = f"layer{len(self.ops)}"
        made = self._tensor(name, self.tensors[source].shape, self.tensors[source].scale * factor)
        self.ops.append(Requantise(name=name, input=source, output=made))
        return made

    def fuse(self, source: str, kernel: int, stride: tuple[int, int] = (1, 1), *, full: bool = False) -> str:
        """FuSeConv: row filters and column filters, concatenated."""
        channels = self.tensors[source].shape[0]
        half = channels if full else channels // 2
        rows = source if full else self.slice(source, 0, half)
        columns = source if full else self.slice(source, half, channels)
        row = self.conv(rows, 0, (1, kernel), stride, depthwise=True)
        column = self.conv(columns, 0, (kernel, 1), stride, depthwise=True, like=row)
        return self.concat(row, column)

    def graph(self, *outputs: str) -> Graph:
        return Graph(self.name, self.tensors, tuple(self.ops), tuple(self.inputs), outputs)

    def values(self) -> dict[str, np.ndarray]:
        """Random int8 inputs."""
        return {n: self.rng.integers(-128, 128, self.tensors[n].shape).astype(np.int8) for n in self.inputs}


def block_net(seed: int, *, size: int = 14, channels: int = 10) -> tuple[Builder, Graph]:
    """A small MobileNet-like network with every kind of layer."""
    build = Builder(seed, f"blocks{seed}")
    x = build.input((3, size, size + 1))
    x = build.conv(x, channels, (3, 3), (2, 2), (1, 1, 1, 1), clamp=(-20, 127))
    y = build.conv(x, 2 * channels)
    y = build.fuse(y, 3)
    y = build.conv(y, channels)
    x = build.add(x, y)
    y = build.conv(x, 13, (5, 5), (1, 2))
    y = build.conv(y, 0, (3, 3), (2, 1), depthwise=True)
    y = build.conv(y, 9)
    y = build.fuse(y, 5, full=True)
    y = build.conv(y, 2 * channels + 1)
    y = build.pool(y)
    return build, build.graph(build.linear(y, 10))


def random_net(seed: int, max_kernel: int) -> tuple[Builder, Graph]:
    """A directed graph of up to nine random operators; every result that nothing reads is an output."""
    build = Builder(seed, f"random{seed}")
    rng = np.random.default_rng(seed)
    made = [build.input(tuple(int(n) for n in rng.integers(1, (9, 26, 26))))]
    for _ in range(int(rng.integers(1, 10))):
        source = made[-1] if rng.random() < 0.7 else made[int(rng.integers(len(made)))]
        made.append(_random_layer(build, rng, source, made, max_kernel))
    read = {name for op in build.ops for name in op.inputs}
    return build, build.graph(*(name for name in dict.fromkeys(made) if name not in read))


def _random_layer(build: Builder, rng: np.random.Generator, source: str, made: list[str], max_kernel: int) -> str:
    channels, height, width = build.tensors[source].shape
    clamp = [FULL_RANGE, (0, 127), (-90, 60)][int(rng.integers(3))]
    stride = (int(rng.integers(1, 4)), int(rng.integers(1, 3)))
    odd = int(rng.choice([k for k in (3, 5, 7) if k <= max_kernel]))
    kinds = ["pointwise", "residual", "add", "pool", "slice", "requantise"]
    kinds += ["conv"] if channels * odd < 40 else []
    kinds += ["depthwise", "full"] if channels > 1 else []
    kinds += ["half"] if channels % 2 == 0 and channels > 2 else []
    kinds += ["linear", "reshape"] if channels * height * width <= 300 else []
    match rng.choice(kinds):
        case "conv" | "depthwise" as kind:
            kernel = (odd, int(rng.integers(1, odd + 1)))
            padding = (
                tuple(int(p) for p in rng.integers(0, (odd, kernel[1]) * 2)) if min(height, width) >= odd else None
            )
            dense = kind == "conv"
            return build.conv(
                source, int(rng.integers(1, 13)), kernel, stride, padding, depthwise=not dense, clamp=clamp
            )
        case "residual":
            return build.add(source, build.conv(source, channels), clamp)
        case "add":
            equal = [name for name in made if build.tensors[name].shape == (channels, height, width)]
            return build.add(source, equal[int(rng.integers(len(equal)))], clamp)
        case "pool":
            return build.pool(source)
        case "slice":
            start = int(rng.integers(channels))
            part = build.slice(source, start, int(rng.integers(start, channels)) + 1)
            return build.concat(part, build.conv(source, int(rng.integers(1, 6)), like=source), source)
        case "requantise":
            return build.requantise(source, float(rng.uniform(0.6, 1.6)))
        case "half":
            return build.fuse(source, odd, (stride[1],) * 2)
        case "full":
            return build.fuse(source, odd, (stride[1],) * 2, full=True)
        case "linear":
            return build.linear(source, int(rng.integers(1, 20)))
        case "reshape":
            return build.reshape(source, (channels * height, 1, width))
    return build.conv(source, int(rng.integers(1, 25)), clamp=clamp)
