"""Seeded random networks as IR graphs, for simulators of every kind.

Blocks of the networks people run (inverted residuals with depthwise or FuSe filters, squeeze-and-excite, curves,
pooling, grouped and dense convolutions, classifiers), in sizes nobody would choose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.program import Program
from sw.compiler import CompileError, compile_graph
from sw.compiler.ir import FULL_RANGE, Curve, Graph
from tests.sw.ir_graphs import Builder

__all__ = ["CONFIGS", "RandomNetwork", "compile_in_smallest", "networks_for", "random_network"]

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "tiny-plain": PRESETS["tiny"].twin(stos=False),
    "rows5-cols7": AcceleratorConfig(
        rows=5, cols=7, act_kib=1, act_banks=1, weight_kib=2, param_entries=64, axi_data_width=64
    ),
    "rows3-cols12": AcceleratorConfig(
        rows=3, cols=12, act_kib=2, act_banks=2, weight_kib=1, param_entries=16, axi_data_width=64
    ),
    "rows12-cols4": AcceleratorConfig(
        rows=12, cols=4, act_kib=1, act_banks=1, weight_kib=2, param_entries=32, axi_data_width=64
    ),
    "rows1-cols16-plain": AcceleratorConfig(
        rows=1, cols=16, stos=False, act_kib=4, weight_kib=1, param_entries=16, axi_data_width=128
    ),
    "edge8": PRESETS["edge8"],
}
"""Accelerators the networks are compiled for; scratchpads are as small as the format allows, but for the presets'."""

_MAX_BYTES = 60_000
"""Largest tensor."""

_STRIDES = [(1, 1), (1, 1), (2, 2), (2, 1), (1, 2), (3, 2), (4, 1)]


@dataclass(frozen=True)
class RandomNetwork:
    """A graph and int8 values for its input."""

    graph: Graph
    inputs: dict[str, np.ndarray]


def random_network(seed: int, *, macs: int = 1_500_000) -> RandomNetwork:
    """Return network number `seed`.

    Parameters
    ----------
    macs
        Multiply-accumulates it may have, about; fewer make shorter simulations.
    """
    return _Generator(seed, macs).network()


def compile_in_smallest(graph: Graph, config: AcceleratorConfig, *, dump_tensors: bool = False) -> Program:
    """Compile for `config`, its scratchpads doubled where an error asks for more.

    Raises
    ------
    CompileError
        If it is about anything else, or larger scratchpads do not help.
    """
    while True:
        try:
            return compile_graph(graph, config, dump_tensors=dump_tensors)
        except CompileError as error:
            memory = next((name for name in ("act_kib", "weight_kib") if f"raise {name}" in str(error)), None)
            if memory is None or getattr(config, memory) >= 1024:
                raise
            config = config.twin(**{memory: 2 * getattr(config, memory)})


def networks_for(
    config: AcceleratorConfig, count: int, *, macs: int = 1_500_000, dump_tensors: bool = True
) -> Iterator[tuple[RandomNetwork, Program]]:
    """Yield the first `count` networks that fit an accelerator as it is and keep to `macs`, with their programs.

    Raises
    ------
    ValueError
        If there are not that many among the first 20 * count.
    """
    found = 0
    for seed in range(20 * count):
        network = random_network(seed, macs=macs)
        program = compile_in_smallest(network.graph, config, dump_tensors=dump_tensors)
        if program.config == config and program.macs <= macs:
            yield network, program
            found += 1
            if found == count:
                return
    raise ValueError(f"only {found} of {20 * count} networks fit the configuration and {macs} MACs, not {count}")


class _Generator:
    def __init__(self, seed: int, macs: int) -> None:
        self.rng = np.random.default_rng([seed, 77])
        self.build = Builder(seed, f"random{seed}")
        self.budget = macs

    def network(self) -> RandomNetwork:
        """Draw one."""
        blocks = [self.inverted, self.inverted, self.inverted, self.dense, self.window, self.grouped, self.branches]
        x = self.build.input(self.input_shape())
        outputs = []
        for _ in range(int(self.rng.integers(1, 6))):
            x = blocks[int(self.rng.integers(len(blocks)))](x)
            if self.rng.random() < 0.1:
                outputs.append(x)
        x = self.head(x) if self.chance(0.6) else x
        if not self.build.ops:
            x = self.build.conv(x, 3)
        outputs = [name for name in dict.fromkeys((*outputs, x)) if name != "x"]
        return RandomNetwork(self.build.graph(*outputs), self.build.values())

    # --- choices ---------------------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        """Toss a coin."""
        return bool(self.rng.random() < probability)

    def pick(self, low: int, high: int) -> int:
        """Draw an integer, small ones more often; both bounds included."""
        return int(round(math.exp(self.rng.uniform(math.log(low), math.log(high)))))

    def input_shape(self) -> tuple[int, int, int]:
        """Draw a shape: 1x1 to 224x224, lines and pixels of unlike number."""
        longest = int(self.rng.choice([1, 4, 12, 40, 100, 224]))
        height, width = (self.pick(max(1, longest // 3), longest) for _ in range(2))
        if longest == 224 and self.chance(0.5):
            height, width = 224, 224
        channels = self.pick(1, max(1, min(24, _MAX_BYTES // (height * width))))
        return (3, 112, 224) if channels * height * width > _MAX_BYTES else (channels, height, width)

    def shape(self, name: str) -> tuple[int, int, int]:
        """Shape of a tensor."""
        return self.build.tensors[name].shape

    def channels(self, plane: int, taps: int, most: int = 40) -> int:
        """Draw the output channels of a layer with `taps` products per output that memory and budget allow."""
        allowed = min(most, _MAX_BYTES // plane, self.budget // (2 * plane * taps))
        return self.pick(1, allowed) if allowed > 1 else 1

    def stride(self, name: str) -> tuple[int, int]:
        """Draw a stride; large maps shrink."""
        _, height, width = self.shape(name)
        if height * width > 3000:
            return (2, 2)
        return _STRIDES[int(self.rng.integers(len(_STRIDES)))]

    def padding(self, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
        """Pads that keep the size at stride 1, the odd one at the end."""
        (kh, kw) = kernel
        return ((kh - 1) // 2, (kw - 1) // 2, kh // 2, kw // 2)

    def non_linearity(self) -> tuple[tuple[int, int], Curve | None]:
        """Draw clamp and curve."""
        return [(FULL_RANGE, None), ((-20, 127), None), ((-90, 60), None), (FULL_RANGE, "hswish")][
            int(self.rng.integers(4))
        ]

    # --- layers ----------------------------------------------------------------------------------------------------

    def conv(self, source: str, cout: int, kernel: tuple[int, int] = (1, 1), **options) -> str:
        """Add a convolution and take its cost from the budget."""
        made = self.build.conv(source, cout, kernel, padding=self.padding(kernel), **options)
        self.budget -= math.prod(self.shape(made)) * self.build.ops[-1].weight[0].size
        return made

    def activated(self, source: str, cout: int, kernel: tuple[int, int] = (1, 1), **options) -> str:
        """A convolution and a non-linearity, now and then quantised in between."""
        clamp, curve = self.non_linearity()
        if curve is not None and self.chance(0.15):
            return self.build.activation(self.conv(source, cout, kernel, **options), curve)
        return self.conv(source, cout, kernel, clamp=clamp, curve=curve, **options)

    def inverted(self, source: str) -> str:
        """Expansion, spatial filters, gate, projection, residual; every part but the filters may be missing."""
        channels, height, width = self.shape(source)
        stride = self.stride(source)
        x = source
        if self.chance(0.7):
            x = self.activated(x, self.channels(height * width, channels))
        x = self.spatial(x, stride)
        if self.chance(0.4):
            curve: Curve | None = "hswish" if self.chance(0.4) else None
            x = self.build.gate(x, self.pick(1, 12), alone=self.chance(0.3), curve=curve)
        made = self.shape(x)
        keeps = stride == (1, 1)
        cout = channels if keeps else self.channels(made[1] * made[2], made[0])
        # a projection is linear; without it the filters' own result is added
        x = self.conv(x, cout)
        if keeps and self.shape(x) == self.shape(source):
            x = self.build.add(source, x, (-128, 127) if self.chance(0.5) else (-70, 90))
        return x

    def spatial(self, source: str, stride: tuple[int, int]) -> str:
        """Depthwise KxK, or row and column filters on half or all channels."""
        clamp, curve = self.non_linearity()
        kernel = int(self.rng.integers(1, 8))
        channels = self.shape(source)[0]
        variant = self.rng.choice(["depthwise", "half", "full"])
        if variant == "depthwise":
            other = kernel if self.chance(0.7) else int(self.rng.integers(1, 8))
            return self.conv(source, 0, (kernel, other), stride=stride, depthwise=True, clamp=clamp, curve=curve)
        if variant == "half" and channels > 1:
            rows = self.build.slice(source, 0, channels // 2)
            columns = self.build.slice(source, channels // 2, channels)
        else:
            rows = columns = source
        options = {"stride": stride, "depthwise": True, "clamp": clamp}
        row = self.conv(rows, 0, (1, kernel), curve=curve, **options)
        # both halves lie in one tensor, so the second has the first one's quantisation
        column = self.conv(columns, 0, (kernel, 1), curve=curve, like=row, **options)
        return self.build.concat(row, column)

    def dense(self, source: str) -> str:
        """A full convolution of any kernel that the budget allows."""
        channels, height, width = self.shape(source)
        stride = self.stride(source)
        kernel = (int(self.rng.integers(1, 8)), int(self.rng.integers(1, 8)))
        plane = -(-height // stride[0]) * -(-width // stride[1])
        if 2 * plane * channels * math.prod(kernel) > self.budget:
            kernel = (1, 1)
        return self.activated(source, self.channels(plane, channels * math.prod(kernel), 24), kernel, stride=stride)

    def grouped(self, source: str) -> str:
        """A convolution in groups, where the channels have a divisor."""
        channels, height, width = self.shape(source)
        divisors = [n for n in range(2, 6) if channels % n == 0]
        if not divisors:
            return self.dense(source)
        groups = int(self.rng.choice(divisors))
        stride = self.stride(source)
        plane = -(-height // stride[0]) * -(-width // stride[1])
        each = self.channels(plane * groups, 9 * channels // groups, 6)
        return self.activated(source, groups * each, (3, 3), stride=stride, groups=groups)

    def window(self, source: str) -> str:
        """Maximum or mean of a window, with pads of any size on any side."""
        _, height, width = self.shape(source)
        kernel = (int(self.rng.integers(1, min(7, height) + 1)), int(self.rng.integers(1, min(7, width) + 1)))
        padding = tuple(int(self.rng.integers(0, size)) for size in kernel * 2)
        factor = float(self.rng.choice([1.0, 0.7, 1.2]))
        return self.build.window(source, kernel, self.stride(source), padding, mean=self.chance(0.5), factor=factor)

    def branches(self, source: str) -> str:
        """Two paths, added, joined or one of them gating the other."""
        channels, height, width = self.shape(source)
        match self.rng.choice(["add", "concat", "requantise"]):
            case "add":
                cout = self.channels(height * width, channels)
                return self.build.add(self.activated(source, cout), self.activated(source, cout, (1, 3)), (-100, 127))
            case "concat" if 2 * channels * height * width <= _MAX_BYTES:
                other = self.conv(source, self.channels(height * width, channels, channels), like=source)
                part = self.build.slice(source, int(self.rng.integers(channels)), channels)
                return self.build.concat(other, source, part)
        return self.build.requantise(source, float(self.rng.uniform(0.7, 1.4)))

    def head(self, source: str) -> str:
        """Global pooling or the whole map, then one or two linear layers."""
        x = source
        if math.prod(self.shape(x)) > 500 or self.chance(0.5):
            x = self.build.pool(x)
        if self.chance(0.4):
            x = self.build.linear(x, self.pick(1, 60), "hswish" if self.chance(0.6) else "hsigmoid")
        return self.build.linear(x, self.pick(1, 50))
