"""Observers beyond torchao's: how ranges come from calibration data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver

__all__ = ["HEADROOM", "PERCENTILE", "PercentileObserver", "ResultObserver"]

PERCENTILE = 99.99
"""Percent of a tensor's values that are not above its range, and that are not below it."""

HEADROOM = 1 / 16
"""Of the distance between a result's extremes, added at either end."""


class PercentileObserver(HistogramObserver):
    """Takes the range that leaves out the same small share of all values at either end.

    Ends at which values pile up, such as the bounds of a ReLU6, are kept exactly.  The resolution is that of torchao's
    histogram, 1/2048 of the extremes' distance.

    Parameters
    ----------
    percentile
        Percent of the values, over 50 and up to 100, that must not lie above the range, and not below it.
    arguments
        As for torchao's ``HistogramObserver``.

    Raises
    ------
    ValueError
        If the percentile is not in that range.
    """

    def __init__(self, percentile: float = PERCENTILE, **arguments: Any) -> None:
        if not 50 < percentile <= 100:
            raise ValueError(f"percentile {percentile} must be over 50 and at most 100")
        super().__init__(**arguments)
        self.outside = 1 - percentile / 100

    def _non_linear_param_search(self) -> tuple[Tensor, Tensor]:
        below = torch.cumsum(self.histogram.double(), 0)
        left_out = self.outside * below[-1]
        # the first bin not wholly in the lower tail, and the first whose end reaches the upper one
        first = int(torch.searchsorted(below, left_out, right=True))
        last = int(torch.searchsorted(below, below[-1] - left_out))
        width = (self.max_val - self.min_val) / self.bins
        return self.min_val + width * first, self.min_val + width * (last + 1)


class ResultObserver(MinMaxObserver):
    """Takes the extremes and some room beyond, for what a network returns.

    Of a classifier's logits the outliers are the answer.  Two that both lie beyond the range become equal, and the
    surest pictures are decided by chance; calibration with tens of pictures has not seen the largest logits.  An end
    at 0 is one that the layer keeps (a ReLU), and stays.
    """

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Return scale and zero point."""
        room = HEADROOM * (self.max_val - self.min_val)
        low = torch.where(self.min_val < 0, self.min_val - room, self.min_val)
        high = torch.where(self.max_val > 0, self.max_val + room, self.max_val)
        scale, zero_point = self._calculate_qparams(low, high)
        return scale, zero_point
