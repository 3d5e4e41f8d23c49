"""Quantisation for the accelerator, on torchao's PT2E flow.

``quantise(model, example_inputs, batches)`` exports a network, folds batch normalisation, calibrates and returns its
q/dq graph: floating-point operators between ``quantize_per_tensor`` and ``dequantize_per_tensor`` (namespace
``torch.ops.quantized_decomposed``).  ``export_program`` fixes its shapes for the compiler, ``save`` and ``load`` keep
it as a ``.pt2`` file.  :mod:`sw.quant.qat` trains a network with the same graph's rounding.  Options and measured
accuracies are in docs/quantisation.md.

The graph of a FuSe-Half block with shortcut (``dq`` stands for dequantize_per_tensor, ``q`` for quantize_per_tensor,
both with scale, zero point, -128, 127, torch.int8; weights are int8 constants)::

    w0 = dequantize_per_channel(p_expand_weight_int8, scales, zeros, 0, -127, 127, torch.int8)
    t0 = q(hardtanh(conv2d(dq(x), w0, bias0), 0.0, 6.0), s0, z0)              expand
    t1 = q(slice(dq(t0), 1, 0, 36), s0, z0)                                   channels of the row filters
    t2 = q(slice(dq(t0), 1, 36, 2**63 - 1), s0, z0)                           channels of the column filters
    t3 = q(hardtanh(conv2d(dq(t1), w1, bias1, [1, 1], [0, 1], [1, 1], 36), 0.0, 6.0), s1, z1)
    t4 = q(hardtanh(conv2d(dq(t2), w2, bias2, [1, 1], [1, 0], [1, 1], 36), 0.0, 6.0), s1, z1)
    t5 = q(cat([dq(t3), dq(t4)], 1), s1, z1)                                  the same scale: no requantisation
    y  = q(add(dq(x), conv2d(dq(t5), w3, bias3)), s2, z2)                     project and shortcut, fused

and the end of a network::

    t6 = q(adaptive_avg_pool2d(dq(h), [1, 1]), s3, z3)
    t7 = q(flatten(dq(t6), 1), s3, z3)
    t8 = q(linear(dq(t7), w4, bias4), s4, z4)
    return dq(t8)

So a quantised operation is what lies between ``dq`` and ``q``: a convolution (with ``pad`` in front perhaps) or linear,
perhaps an addition whose other operand comes from ``dq``, perhaps a clamp (``hardtanh``, ``relu``).  A tensor with
several users has one ``q`` and one ``dq`` per user.  Operations that only move bytes (slice, cat, flatten) have equal
parameters before and behind.
"""

from __future__ import annotations

from sw.quant import _quiet as _quiet  # before anything else imports torchao
from sw.quant.pt2e import QuantisationError, calibrate, export_program, load, prepare, quantise, save
from sw.quant.quantizer import RowcastQuantizer, UnsupportedOperatorError

__all__ = [
    "QuantisationError",
    "RowcastQuantizer",
    "UnsupportedOperatorError",
    "calibrate",
    "export_program",
    "load",
    "prepare",
    "quantise",
    "save",
]
