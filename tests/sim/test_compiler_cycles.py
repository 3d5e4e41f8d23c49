"""The compiler's own figures against the hardware's and the model's: which may differ, and in which direction."""

from __future__ import annotations

from hw import token_queue
from sim.verilator.model import LATENCY
from sw.compiler import prefetch, tiling
from sw.model import channels, landing
from sw.model.execute import VISIBLE


def test_steps_ahead_of_a_load_leave_room_in_their_queue() -> None:
    assert 0 < prefetch._QUEUED < token_queue.QUEUE_DEPTH


def test_loads_are_expected_no_sooner_than_they_come() -> None:
    """From a LOAD's acceptance until its first beat is visible on chip, and hardly later."""
    real = channels._TO_BUS + LATENCY + landing._TO_WRITE + VISIBLE
    assert real <= prefetch._LATENCY < real + LATENCY // 8


def test_a_transfer_among_others_is_expected_to_cost_less_than_a_lone_one() -> None:
    """The memory works at several bursts at once, so the price lies between a share of the latency and all of it."""
    assert prefetch._LATENCY / channels.Memory().outstanding < tiling.TRANSFER_START < LATENCY
