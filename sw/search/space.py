"""The networks to choose from: MobileNetV2 with a kernel, an expansion and an operator per block, a depth per stage."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sw.nn.zoo.layers import divisible

__all__ = ["OPERATORS", "Architecture", "Block", "Place", "Space", "SpaceError", "Stage"]

Operator = Literal["depthwise", "fuse_half"]

OPERATORS: tuple[Operator, ...] = get_args(Operator)
"""What filters a block's channels: KxK depthwise, or FuSeConv (half of them 1xK, half Kx1)."""

_STEM, _LAST = 32, 1280  # channels of MobileNetV2's first and last convolution


class SpaceError(ValueError):
    """A space or a network of it that cannot be; the message names the field, the value and the limit."""


@dataclass(frozen=True)
class Stage:
    """Blocks of one number of channels.

    Parameters
    ----------
    channels
        Of each block's output, before the width multiplier.
    repeats
        Most blocks; a network has 1 to that many.
    stride
        Of the first block.
    expand
        Whether blocks expand; MobileNetV2's first does not.
    """

    channels: int
    repeats: int
    stride: int
    expand: bool = True


@dataclass(frozen=True)
class Block:
    """What is chosen for a block: K of its KxK or 1xK filters, hidden over input channels, and the operator."""

    kernel: int
    expansion: int
    operator: Operator

    def __str__(self) -> str:
        return f"{self.expansion}{self.operator[0]}{self.kernel}"


@dataclass(frozen=True)
class Place:
    """Where a block is.

    Parameters
    ----------
    stage, index
        Its number, and the stage's, from 0.
    cin, cout
        Channels.
    stride, size
        Stride, and lines and pixels of the input.
    expand
        See :class:`Stage`.
    """

    stage: int
    index: int
    cin: int
    cout: int
    stride: int
    size: int
    expand: bool

    @property
    def shortcut(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.cin == self.cout

    @property
    def out_size(self) -> int:
        """Lines and pixels of the output."""
        return -(-self.size // self.stride)

    @property
    def geometry(self) -> tuple[int, int, int, int]:
        """What decides a block's cycles besides what is chosen for it."""
        return self.cin, self.cout, self.stride, self.size


@dataclass(frozen=True)
class Architecture:
    """A network of the space: the blocks of each stage."""

    stages: tuple[tuple[Block, ...], ...]

    @property
    def blocks(self) -> list[Block]:
        """All blocks in order."""
        return [block for stage in self.stages for block in stage]

    def __str__(self) -> str:
        """Expansion, d(epthwise) or f(use_half) and kernel of each block: ``1d3|6f5,3d3``."""
        return "|".join(",".join(map(str, stage)) for stage in self.stages)

    @staticmethod
    def parse(text: str) -> Architecture:
        """Read what ``str`` writes.

        Raises
        ------
        SpaceError
            If a block cannot be read.
        """
        letters = {operator[0]: operator for operator in OPERATORS}
        stages = []
        for stage in text.split("|"):
            blocks = []
            for item in stage.split(","):
                match = re.fullmatch(r"(\d+)([a-z])(\d+)", item)
                if match is None or match[2] not in letters:
                    raise SpaceError(f"{text!r}: {item!r} is no block; write expansion, d or f, and kernel, as 6f3")
                blocks.append(Block(int(match[3]), int(match[1]), letters[match[2]]))
            stages.append(tuple(blocks))
        return Architecture(tuple(stages))

    def with_operators(self, operators: Mapping[int, Operator]) -> Architecture:
        """Return the network with the operators of some blocks (numbered in order) replaced."""
        numbers = iter(range(len(self.blocks)))
        return Architecture(
            tuple(
                tuple(
                    dataclasses.replace(block, operator=operators.get(next(numbers), block.operator)) for block in stage
                )
                for stage in self.stages
            )
        )


@dataclass(frozen=True)
class Space:
    """Networks to choose from.

    Parameters
    ----------
    width
        Multiplier of all channels, those of the last convolution only upwards.
    resolution
        Lines and pixels of the input.
    classes
        Number of logits.
    kernels, expansions
        To choose from; kernels odd, from 3.
    stages
        As MobileNetV2's for small pictures (:data:`sw.nn.zoo.mobilenet_v2.SMALL_STRIDES`) if not given.
    last
        Channels of the last convolution, before the multiplier.

    Raises
    ------
    SpaceError
        If a value is out of range.
    """

    width: float = 1.0
    resolution: int = 32
    classes: int = 10
    kernels: tuple[int, ...] = (3, 5, 7)
    expansions: tuple[int, ...] = (3, 4, 6)
    stages: tuple[Stage, ...] = (
        Stage(16, 1, 1, expand=False),
        Stage(24, 2, 2),
        Stage(32, 3, 2),
        Stage(64, 4, 2),
        Stage(96, 3, 1),
        Stage(160, 3, 1),
        Stage(320, 1, 1),
    )
    last: int = _LAST

    def __post_init__(self) -> None:
        for name in ("kernels", "expansions"):
            values = getattr(self, name)
            if not values or list(values) != sorted(set(values)):
                raise SpaceError(f"{name} {values!r} must be different numbers, the smallest first")
        if any(kernel < 3 or kernel % 2 == 0 for kernel in self.kernels):
            raise SpaceError(f"kernels {self.kernels!r} must be odd and at least 3")
        if self.expansions[0] < 1:
            raise SpaceError(f"expansions {self.expansions!r} must be at least 1")
        if not self.width > 0:
            raise SpaceError(f"width {self.width!r} must be above 0")
        if not self.stages or any(min(s.channels, s.repeats, s.stride) < 1 for s in self.stages):
            raise SpaceError("stages: each needs channels, repeats and stride of at least 1")
        if min(self.resolution, self.classes) < 1:
            raise SpaceError(f"resolution {self.resolution!r} and classes {self.classes!r} must be at least 1")

    @property
    def stem_channels(self) -> int:
        """Of the first convolution, 3x3 with stride 1."""
        return divisible(_STEM * self.width)

    @property
    def last_channels(self) -> int:
        """Of the last convolution."""
        return divisible(self.last * max(1.0, self.width))

    @property
    def places(self) -> list[list[Place]]:
        """The places of blocks, stage by stage; a network fills the first ones of each."""
        result, cin, size = [], self.stem_channels, self.resolution
        for number, stage in enumerate(self.stages):
            cout, found = divisible(stage.channels * self.width), []
            for index in range(stage.repeats):
                place = Place(number, index, cin, cout, stage.stride if index == 0 else 1, size, stage.expand)
                found.append(place)
                cin, size = cout, place.out_size
            result.append(found)
        return result

    def place_expansions(self, place: Place) -> tuple[int, ...]:
        """Return the expansions that a place can have."""
        return self.expansions if place.expand else (1,)

    def options(self, place: Place) -> list[Block]:
        """Return all choices for a place."""
        return [
            Block(kernel, expansion, operator)
            for kernel in self.kernels
            for expansion in self.place_expansions(place)
            for operator in OPERATORS
        ]

    @property
    def choices(self) -> dict[str, list[Any]]:
        """Values by name: a depth per stage, kernel, expansion and operator per place (``k2_0``: stage 2, block 0)."""
        found: dict[str, list[Any]] = {}
        for number, places in enumerate(self.places):
            found[f"d{number}"] = list(range(1, len(places) + 1))
            for place in places:
                name = f"{number}_{place.index}"
                found[f"k{name}"] = list(self.kernels)
                found[f"e{name}"] = list(self.place_expansions(place))
                found[f"o{name}"] = list(OPERATORS)
        return found

    @property
    def size(self) -> int:
        """Number of networks."""
        total = 1
        for places in self.places:
            blocks = [len(self.options(place)) for place in places]
            total *= sum(math.prod(blocks[:depth]) for depth in range(1, len(places) + 1))
        return total

    def architecture(self, chosen: Mapping[str, Any]) -> Architecture:
        """Return the network of some :attr:`choices`; those of places beyond a stage's depth make no difference."""
        return Architecture(
            tuple(
                tuple(
                    Block(chosen[f"k{s}_{i}"], chosen[f"e{s}_{i}"], chosen[f"o{s}_{i}"]) for i in range(chosen[f"d{s}"])
                )
                for s in range(len(self.stages))
            )
        )

    def chosen(self, architecture: Architecture) -> dict[str, Any]:
        """Return :attr:`choices` that make a network; the first value at places it does not fill."""
        found = {name: values[0] for name, values in self.choices.items()}
        for s, stage in enumerate(architecture.stages):
            found[f"d{s}"] = len(stage)
            for i, block in enumerate(stage):
                found |= {f"k{s}_{i}": block.kernel, f"e{s}_{i}": block.expansion, f"o{s}_{i}": block.operator}
        return found

    def draw(self, pick: Callable[[int], int]) -> Architecture:
        """Return a network drawn with `pick`, which returns a number from 0 to n - 1 for n."""
        return self.architecture({name: values[pick(len(values))] for name, values in self.choices.items()})

    @property
    def largest(self) -> Architecture:
        """The network with the most of everything, depthwise."""
        return self._uniform(self.kernels[-1], -1, deepest=True, operator="depthwise")

    @property
    def smallest(self) -> Architecture:
        """The network with the least of everything, FuSe-Half."""
        return self._uniform(self.kernels[0], 0, deepest=False, operator="fuse_half")

    @property
    def baseline(self) -> Architecture:
        """The network nearest to MobileNetV2: smallest kernels, largest expansions, all blocks, depthwise."""
        return self._uniform(self.kernels[0], -1, deepest=True, operator="depthwise")

    def _uniform(self, kernel: int, expansion: int, *, deepest: bool, operator: Operator) -> Architecture:
        return Architecture(
            tuple(
                tuple(
                    Block(kernel, self.place_expansions(place)[expansion], operator)
                    for place in (places if deepest else places[:1])
                )
                for places in self.places
            )
        )

    def blocks(self, architecture: Architecture) -> Iterator[tuple[Place, Block]]:
        """Yield a network's blocks with their places.

        Raises
        ------
        SpaceError
            If the network is not one of the space.
        """
        if len(architecture.stages) != len(self.stages):
            raise SpaceError(f"{architecture}: has {len(architecture.stages)} stages, not {len(self.stages)}")
        for number, (places, stage) in enumerate(zip(self.places, architecture.stages, strict=True)):
            if not 1 <= len(stage) <= len(places):
                raise SpaceError(f"{architecture}: stage {number} has {len(stage)} blocks, not 1 to {len(places)}")
            for place, block in zip(places, stage, strict=False):
                if block not in self.options(place):
                    raise SpaceError(
                        f"{architecture}: stage {number} cannot have {block}; kernels {self.kernels}, expansions "
                        f"{self.place_expansions(place)}"
                    )
                yield place, block

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        found = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Space:
        """Return the space of :meth:`to_dict`'s result.

        Raises
        ------
        SpaceError
            If it is none.
        """
        try:
            known = {**data, "stages": tuple(Stage(**stage) for stage in data["stages"])}
            return Space(**{name: tuple(v) if isinstance(v, list) else v for name, v in known.items()})
        except (TypeError, KeyError) as error:
            raise SpaceError(f"no description of a space ({error})") from None
