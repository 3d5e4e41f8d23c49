"""The zoo's networks by name, their FuSe variants and what their pictures must look like."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sw.defaults import ZOO_CLASSES, ZOO_RESOLUTION, ZOO_WIDTH
from sw.nn.convert import convert
from sw.nn.fuse import Variant
from sw.nn.pretrained import pretrained as pretrained_file
from sw.nn.pretrained import pretrained_facts
from sw.nn.weights import WeightsError
from sw.nn.zoo import efficientnet, mnasnet, mobilenet_v2
from sw.nn.zoo.checkpoint import State, last_outputs, mismatch, read_state, rename_efficientnet_pytorch
from sw.nn.zoo.efficientnet import EfficientNet
from sw.nn.zoo.layers import initialise
from sw.nn.zoo.mnasnet import MnasNetB1
from sw.nn.zoo.mobilenet_v2 import MobileNetV2
from sw.nn.zoo.mobilenet_v3 import LARGE, SMALL, MobileNetV3
from sw.nn.zoo.resnet import ResNet50
from sw.preprocessing import Preprocessing

__all__ = ["Metadata", "Preprocessing", "ZooError", "create", "metadata", "names", "parse", "pretrained", "unfused"]


class ZooError(ValueError):
    """A network name or an argument the zoo does not know; the message says what it knows."""


@dataclass(frozen=True)
class Metadata:
    """What a user of a network has to know.

    Parameters
    ----------
    name
        As in :func:`names`, or with a list of blocks.
    input_shape
        Of one picture: (3, resolution, resolution).
    classes
        Number of logits of the published network.
    preprocessing
        With which the published weights were trained.
    naming
        Project whose parameter names the network has; its checkpoints load.
    depthwise_blocks
        Number of blocks that FuSeConv can replace.
    fused
        Those that are replaced, from 0.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    preprocessing: Preprocessing
    naming: str
    depthwise_blocks: int
    fused: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``input`` of a program's `meta`."""
        return {"shape": list(self.input_shape), **self.preprocessing.to_json()}


# width, resolution, classes and the blocks to be replaced (which decide the place of activations)
_Build = Callable[[float, int, int, Set[int]], nn.Module]


@dataclass(frozen=True)
class _Network:
    build: _Build
    blocks: int
    naming: str
    preprocessing: Preprocessing = Preprocessing()
    hybrid: tuple[int, ...] = ()  # the paper's "50 %" choice
    rename: Callable[[State], State] = dict  # of another project's parameter names
    resolution: int = ZOO_RESOLUTION
    classes: int = ZOO_CLASSES


_LITE = Preprocessing((0.0, 255.0), (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), interpolation="bicubic")
_HALF = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic")
_CIFAR10 = Preprocessing(mean=(0.4913, 0.4821, 0.4465), std=(0.2452, 0.2428, 0.2606), crop=1.0)

_NETWORKS: dict[str, _Network] = {
    "mobilenet_v1": _Network(
        lambda w, r, n, fused: EfficientNet(efficientnet.MOBILENET_V1, w, r, n),
        efficientnet.MOBILENET_V1.blocks,
        "timm mobilenetv1_100",
        _HALF,
        hybrid=tuple(range(5)),
    ),
    "mobilenet_v2": _Network(
        lambda w, r, n, fused: MobileNetV2(w, n),
        mobilenet_v2.BLOCKS,
        "torchvision mobilenet_v2",
        hybrid=tuple(range(1, 10)),
    ),
    "mobilenet_v3_small": _Network(
        lambda w, r, n, fused: MobileNetV3(SMALL, 1024, w, n, fused),
        len(SMALL),
        "torchvision mobilenet_v3_small",
        hybrid=(2, 4, 5, 6, 7),
    ),
    "mobilenet_v3_large": _Network(
        lambda w, r, n, fused: MobileNetV3(LARGE, 1280, w, n, fused),
        len(LARGE),
        "torchvision mobilenet_v3_large",
        hybrid=tuple(range(1, 8)),
    ),
    "mnasnet_b1": _Network(
        lambda w, r, n, fused: MnasNetB1(w, n),
        mnasnet.BLOCKS,
        "torchvision mnasnet1_0",
        hybrid=tuple(range(1, 10)),
    ),
    "efficientnet_lite0": _Network(
        lambda w, r, n, fused: EfficientNet(efficientnet.LITE0, w, r, n),
        efficientnet.LITE0.blocks,
        "timm tf_efficientnet_lite0",
        _LITE,
        rename=lambda state: rename_efficientnet_pytorch(state, efficientnet.LITE0),
    ),
    "efficientnet_edgetpu_s": _Network(
        lambda w, r, n, fused: EfficientNet(efficientnet.EDGETPU_S, w, r, n),
        efficientnet.EDGETPU_S.blocks,
        "timm efficientnet_es",
        Preprocessing(interpolation="bicubic"),
    ),
    "resnet50": _Network(lambda w, r, n, fused: ResNet50(w, n), 0, "torchvision resnet50"),
    "mobilenet_v2_cifar": _Network(
        lambda w, r, n, fused: MobileNetV2(w, n, mobilenet_v2.SMALL_STRIDES),
        mobilenet_v2.BLOCKS,
        "torchvision mobilenet_v2",
        _CIFAR10,
        resolution=32,
        classes=10,
    ),
    "mobilenet_v1_cifar": _Network(
        lambda w, r, n, fused: EfficientNet(efficientnet.MOBILENET_V1_SMALL, w, r, n),
        efficientnet.MOBILENET_V1_SMALL.blocks,
        "timm mobilenetv1_100",
        _CIFAR10,
        resolution=32,
        classes=10,
    ),
}


@dataclass(frozen=True)
class Choice:
    """A name, taken apart: the network, and the blocks to be replaced by which variant."""

    base: str
    variant: Variant | None
    fused: tuple[int, ...]


def names() -> tuple[str, ...]:
    """Return every name :func:`create` takes; ``:fuse_half`` and ``:fuse_full`` also take blocks, as in ``[0,3-5]``."""
    found: list[str] = []
    for base, network in _NETWORKS.items():
        found.append(base)
        if network.blocks:
            found += [f"{base}:fuse_half", f"{base}:fuse_full"]
        if network.hybrid:
            found += [f"{base}:fuse_half_50", f"{base}:fuse_full_50"]
    return tuple(found)


def _blocks(text: str, name: str, count: int) -> tuple[int, ...]:
    chosen: list[int] = []
    for item in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", item.strip())
        if match is None:
            raise ZooError(f"{name}: {item!r} is no block; write numbers and ranges, such as [0,3,5-8]")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= count:
            raise ZooError(f"{name}: there is no block {item.strip()!r}; the network has blocks 0 to {count - 1}")
        chosen += range(first, last + 1)
    if len(set(chosen)) != len(chosen):
        raise ZooError(f"{name}: a block is listed twice")
    return tuple(sorted(chosen))


def parse(name: str) -> Choice:
    """Take a name apart.

    Raises
    ------
    ZooError
        If the network, the variant or a block does not exist.
    """
    base, _, suffix = name.partition(":")
    if base not in _NETWORKS:
        raise ZooError(f"no network {base!r} in the zoo; there are {', '.join(_NETWORKS)}")
    network = _NETWORKS[base]
    if base == name:
        return Choice(base, None, ())
    match = re.fullmatch(r"fuse_(half|full)(_50|\[(.*)\])?", suffix)
    if match is None:
        raise ZooError(
            f"{name}: variant {suffix!r} is unknown; use fuse_half or fuse_full, with _50 (the paper's hybrid) or a "
            f"list of blocks such as [0,3,5-8]"
        )
    variant: Variant = "half" if match[1] == "half" else "full"
    if not network.blocks:
        raise ZooError(f"{name}: {base} has no depthwise convolution that FuSeConv could replace; use {base!r}")
    if match[2] is None:
        return Choice(base, variant, tuple(range(network.blocks)))
    if match[2] == "_50":
        if not network.hybrid:
            raise ZooError(
                f"{name}: the paper defines no hybrid of {base}; list blocks, such as {base}:fuse_{match[1]}[0-3]"
            )
        return Choice(base, variant, network.hybrid)
    return Choice(base, variant, _blocks(match[3], name, network.blocks))


def metadata(name: str, *, resolution: int | None = None) -> Metadata:
    """Return input shape (the published one if `resolution` is None), preprocessing and naming of a network.

    Raises
    ------
    ZooError
        If there is no such network.
    """
    choice = parse(name)
    network = _NETWORKS[choice.base]
    side = network.resolution if resolution is None else resolution
    _check("resolution", side, isinstance(side, int) and side >= 1, "a whole number of pixels from 1")
    shape = (3, side, side)
    return Metadata(name, shape, network.classes, network.preprocessing, network.naming, network.blocks, choice.fused)


def _check(field: str, value: object, good: bool, limit: str) -> None:
    if not good:
        raise ZooError(f"{field} {value!r} must be {limit}")


def create(
    name: str,
    *,
    width: float = ZOO_WIDTH,
    resolution: int | None = None,
    classes: int | None = None,
    weights: str | Path | None = None,
) -> nn.Module:
    """Return a network; in evaluation mode if `weights` are given, otherwise untrained.

    Parameters
    ----------
    name
        One of :func:`names`, e.g. ``mobilenet_v2:fuse_half``, or with a list of blocks, counted from 0 in order of
        execution: ``mobilenet_v2:fuse_half[0,3,5-8]``.
    width
        Multiplier of the channels, rounded to multiples of 8.
    resolution
        Height and width of the pictures, as published if None.  Only EfficientNet-Lite0's SAME padding depends on it.
    classes
        Number of logits, as published if None.
    weights
        Checkpoint to load: a ``.pth`` with a state dict, or an ``.npz`` of :func:`sw.nn.weights.save_weights`.

    Raises
    ------
    ZooError
        If the name or an argument is not possible.
    sw.nn.weights.WeightsError
        If the weights cannot be read or belong to another network.
    """
    choice = parse(name)
    network = _fused(choice, unfused(name, width=width, resolution=resolution, classes=classes))
    if weights is None:
        initialise(network)
        return network
    state = _NETWORKS[choice.base].rename(read_state(weights))
    problem = mismatch(network, state)
    if problem is not None:
        raise WeightsError(f"{weights} does not fit {name}: {problem}; {_advice(name, read_state(weights), width)}")
    network.load_state_dict(state, strict=False)  # strict but for the counters that `mismatch` lets pass
    return network.eval()


def pretrained(name: str) -> nn.Module:
    """Return a trained network: weights of :data:`sw.nn.pretrained.PRETRAINED`, in the size that they were trained in.

    Raises
    ------
    ZooError
        If there is no such network.
    sw.nn.weights.WeightsError
        If there are no trained weights for it, or their package is not installed.
    """
    parse(name)
    width = pretrained_facts(name).get("width", ZOO_WIDTH)
    return create(name, width=width, weights=pretrained_file(name))


def unfused(
    name: str, *, width: float = ZOO_WIDTH, resolution: int | None = None, classes: int | None = None
) -> nn.Module:
    """Return an untrained network of :func:`create` before its depthwise convolutions are replaced.

    Its activations stand where the FuSe network's do: in MobileNetV3 behind the squeeze-and-excite of blocks that are
    to be replaced.  Parameters and errors are those of :func:`create`.
    """
    choice = parse(name)
    published = _NETWORKS[choice.base]
    resolution = published.resolution if resolution is None else resolution
    classes = published.classes if classes is None else classes
    _check("width", width, isinstance(width, int | float) and 0 < width < math.inf, "a number above 0")
    _check("resolution", resolution, isinstance(resolution, int) and resolution >= 1, "a whole number of pixels from 1")
    _check("classes", classes, isinstance(classes, int) and classes >= 1, "a whole number from 1")
    return published.build(width, resolution, classes, frozenset(choice.fused))


def _fused(choice: Choice, network: nn.Module) -> nn.Module:
    return network if choice.variant is None else convert(network, choice.variant, choice.fused)


def _advice(name: str, state: State, width: float) -> str:
    """Say what to do about a state dict that does not fit: find the network it belongs to."""
    classes = last_outputs(state) or 1
    for candidate in (name, *names()):
        choice = parse(candidate)
        with torch.device("meta"):  # names and shapes only
            network = _fused(choice, unfused(candidate, width=width, classes=classes))
        if mismatch(network, _NETWORKS[choice.base].rename(state)) is not None:
            continue
        if candidate == name:
            return f"pass classes={classes}"
        if candidate == parse(name).base:
            return (
                f"these are weights of {candidate!r}: load them there and convert with "
                f"sw.nn.convert.convert(network, {parse(name).variant!r}, init='middle')"
            )
        size = f" with {classes=}" if classes != _NETWORKS[choice.base].classes else ""
        return f"these are weights of {candidate!r}: create that{size}"
    return f"they belong to no network of the zoo at width {width}; it has the names of {metadata(name).naming}"
