"""The embedded default task: a MobileNet-style classifier of scikit-learn's digits, with its FuSeConv twin.

Data: the 1797 8x8 pictures that ship inside scikit-learn, scaled to 0..1 and upsampled bilinearly to 32x32.  The split
is fixed: 500 test pictures, drawn stratified by class with seed 0, and 1297 for training.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw.nn.convert import convert
from sw.nn.weights import load_weights

__all__ = [
    "CLASSES",
    "INPUT_SHAPE",
    "VARIANTS",
    "DigitsNet",
    "DigitsVariant",
    "digits_calibration",
    "digits_data",
    "digits_network",
    "load_digits_network",
    "weights_path",
]

DigitsVariant = Literal["half", "full", "depthwise"]
VARIANTS: tuple[DigitsVariant, ...] = ("half", "full", "depthwise")
CLASSES = 10
INPUT_SHAPE = (1, 32, 32)
TEST_PICTURES = 500
_FILES = {"half": "digits_fuse_half.npz", "depthwise": "digits_depthwise.npz"}

# (output channels, hidden channels, kernel, stride) of each inverted residual
_BLOCKS = ((24, 32, 3, 2), (24, 72, 3, 1), (32, 72, 5, 2), (32, 96, 5, 1))
_STEM = 16
_HEAD = 96


def conv_bn_act(
    cin: int, cout: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Return convolution without bias, batch normalisation and, unless told otherwise, ReLU6."""
    layers = [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(cout)]
    return nn.Sequential(*layers, nn.ReLU6()) if act else nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Expand, depthwise, project (MobileNetV2, arXiv 1801.04381), with a shortcut where shapes allow it."""

    def __init__(self, cin: int, cout: int, hidden: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.expand = conv_bn_act(cin, hidden)
        self.spatial = conv_bn_act(hidden, hidden, kernel, stride, groups=hidden)
        self.project = conv_bn_act(hidden, cout, act=False)
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, cin, H, W) to (N, cout, ceil(H / stride), ceil(W / stride))."""
        y = self.project(self.spatial(self.expand(x)))
        return x + y if self.shortcut else y


class DigitsNet(nn.Module):
    """Depthwise classifier: 3x3 stem, four inverted residuals (K 3 and 5, strides 1 and 2), pooling, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_act(INPUT_SHAPE[0], _STEM, 3)
        blocks, cin = [], _STEM
        for cout, hidden, kernel, stride in _BLOCKS:
            blocks.append(InvertedResidual(cin, cout, hidden, kernel, stride))
            cin = cout
        self.blocks = nn.Sequential(*blocks)
        self.head = conv_bn_act(cin, _HEAD)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(_HEAD, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 1, 32, 32) in 0..1 to logits (N, 10)."""
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(torch.flatten(self.pool(x), 1))


def digits_network(variant: DigitsVariant, *, seed: int = 0) -> nn.Module:
    """Return an untrained network; the same seed gives the same weights.

    Raises
    ------
    ValueError
        If the variant is unknown.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown; use one of {', '.join(VARIANTS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DigitsNet()
        return network if variant == "depthwise" else convert(network, variant)


def weights_path(variant: DigitsVariant) -> Path:
    """Return the committed weights of a variant.

    Raises
    ------
    ValueError
        If the project has no trained weights for it.
    """
    if variant not in _FILES:
        raise ValueError(
            f"there are no trained weights for variant {variant!r}, only for {', '.join(_FILES)}; "
            f"train some with 'python -m sw.nn.train_digits --variant {variant}'"
        )
    return Path(__file__).parent / "weights" / _FILES[variant]


def load_digits_network(variant: DigitsVariant, path: str | Path | None = None) -> nn.Module:
    """Return a trained network in evaluation mode, from the committed weights or from a file of the training script.

    Raises
    ------
    ValueError
        If the variant is unknown or has no committed weights.
    sw.nn.weights.WeightsError
        If the file is missing, unreadable or of another network.
    """
    network = digits_network(variant)
    load_weights(network, weights_path(variant) if path is None else path)
    return network.eval()


@cache
def _digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    # scikit-learn is imported here, so that building a network does not need it
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = torch.from_numpy(data.images.astype(np.float32) / 16).unsqueeze(1)
    upsampled = F.interpolate(images, size=INPUT_SHAPE[1:], mode="bilinear", align_corners=False).numpy()
    labels = data.target.astype(np.int64)
    order = np.arange(len(labels))
    train, test = train_test_split(order, test_size=TEST_PICTURES, random_state=0, stratify=labels)
    return upsampled, labels, np.concatenate([train, test])


def digits_data() -> tuple[
    npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]
]:
    """Return (train_x, train_y, test_x, test_y): float32 pictures (N, 1, 32, 32) in 0..1 and int64 classes (N,)."""
    images, labels, order = _digits()
    train, test = order[:-TEST_PICTURES], order[-TEST_PICTURES:]
    return images[train], labels[train], images[test], labels[test]


def digits_calibration(pictures: int = 256, *, batch: int = 32) -> list[Tensor]:
    """Return evenly spread training pictures in batches (N, 1, 32, 32), for post-training quantisation."""
    train = digits_data()[0]
    return list(torch.from_numpy(train[:: max(1, len(train) // pictures)][:pictures]).split(batch))
