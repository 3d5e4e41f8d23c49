"""Networks: the FuSeConv operator, conversion of depthwise networks, the digits classifier and its training."""
