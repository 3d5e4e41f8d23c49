"""Choices and defaults that the command lines, which do without torch, share with what they call."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = [
    "CALIBRATION_PICTURES",
    "DEFAULT_OBSERVER",
    "OBSERVERS",
    "ZOO_CLASSES",
    "ZOO_RESOLUTION",
    "ZOO_WIDTH",
    "ObserverKind",
]

ObserverKind = Literal["histogram", "percentile", "minmax"]
"""How calibration sets the ranges of activations, see :class:`sw.quant.RowcastQuantizer`."""

OBSERVERS: tuple[ObserverKind, ...] = get_args(ObserverKind)

DEFAULT_OBSERVER: ObserverKind = "percentile"

CALIBRATION_PICTURES = 64
"""How many pictures at most calibrate a network."""

ZOO_WIDTH, ZOO_RESOLUTION, ZOO_CLASSES = 1.0, 224, 1000
"""Of the networks of the zoo as published: multiplier of the channels, height and width of pictures, logits."""
