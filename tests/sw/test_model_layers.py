"""Cycles per layer add up to the run, whatever order loads and stores take."""

from __future__ import annotations

import dataclasses

import pytest

from hw.spec.config import preset
from hw.spec.isa import Queue
from hw.spec.program import Layer
from sim.random_programs import random_program
from sw.model.layers import layer_cycles
from sw.model.trace import TraceEvent


def program(*layers: Layer):
    return dataclasses.replace(random_program(preset("tiny"), 0, execs=1, cycles=500), layers=layers)


def test_layers_end_with_their_last_exec() -> None:
    two = program(Layer("a", "conv", 1600, (1, 2), (1, 1, 1)), Layer("b", "linear", 0, (3, 4, 5), (1, 1, 1)))
    trace = [
        TraceEvent(Queue.LOAD, 1, 5, 40),
        TraceEvent(Queue.EXEC, 2, 40, 100),
        TraceEvent(Queue.EXEC, 3, 100, 120),
        TraceEvent(Queue.EXEC, 4, 120, 150),
        TraceEvent(Queue.STORE, 5, 150, 190),
    ]
    shares = layer_cycles(two, trace, 200)
    assert [(share.name, share.cycles) for share in shares] == [("a", 100), ("b", 50), ("store", 50)]
    assert shares[0].utilisation(4, 4) == pytest.approx(1.0)
    assert sum(share.cycles for share in shares) == 200


def test_layers_that_take_turns() -> None:
    """Fused layers: what each EXEC takes and waits for is its layer's."""
    two = program(Layer("a", "conv", 1600, (1, 3), (1, 1, 1)), Layer("b", "conv", 0, (2, 4), (1, 1, 1)))
    starts_and_ends = [(10, 30), (25, 40), (50, 90), (80, 95)]
    trace = [TraceEvent(Queue.EXEC, pc, *times) for pc, times in enumerate(starts_and_ends, 1)]
    shares = layer_cycles(two, trace[::-1], 100)
    assert [(share.cycles, share.busy) for share in shares] == [(30 + 50, 20 + 40), (10 + 5, 10 + 5), (5, 0)]


def test_a_layer_that_did_not_run_is_an_error() -> None:
    with pytest.raises(ValueError, match="layer a"):
        layer_cycles(program(Layer("a", "conv", 1, (1,), (1, 1, 1))), [], 10)
