"""The digits network over a pseudo-terminal on the RTL of a whole board: bytes of the ISS, cycles of the accelerator.

``ROWCAST_BOARD=ulx3s_85f`` takes the accelerator and memory of that board (``nox -s boards``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from hw.soc.boards import BOARDS
from hw.spec.config import preset
from hw.spec.program import Program, ProgramError
from sim.board.pseudo_terminal import BoardThread, Noise
from sim.board.soc_model import SocModel
from sim.iss import IssBackend
from sim.verilator.backend import VerilatorBackend
from sw.compiler import compile_graph
from sw.frontends.networks import quantised_network
from sw.frontends.torch_export import import_program
from sw.nn.digits import digits_data
from sw.regions import quantise_input
from sw.runtime.backend import BoardBackend

BOARD = BOARDS[name] if (name := os.environ.get("ROWCAST_BOARD")) else None
CONFIG = preset("tiny") if BOARD is None else BOARD.config
SIZES = {"memory_bytes": 1024 * (128 if BOARD is None else BOARD.memory_kib), "clock_hz": 100_000_000, "bit_clocks": 4}
MEMORY_LATENCY = 2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program() -> Program:
    network = quantised_network("digits:fuse_half")
    return compile_graph(import_program(network.exported, name=network.name, meta=network.meta), CONFIG)


@pytest.fixture(scope="module")
def inputs(program: Program) -> list[dict[str, np.ndarray]]:
    _, _, pictures, _ = digits_data()
    (spec,) = program.inputs
    return [{spec.name: quantise_input(spec, picture)} for picture in pictures[:2]]


@pytest.fixture(scope="module")
def soc() -> Iterator[SocModel]:
    model = SocModel(CONFIG, **SIZES)
    yield model
    assert not model.framing_errors
    model.close()


def test_digits_on_a_board_equal_the_iss(soc: SocModel, program: Program, inputs: list[dict[str, np.ndarray]]) -> None:
    """On a clean line, then on one that loses and damages bytes in both directions: the same bytes and counters."""
    iss = IssBackend(CONFIG, check_hazards=False)
    noise = Noise(0.0, seed=0)
    counters = []
    with (
        BoardThread(soc, noise) as board,
        BoardBackend(CONFIG, port=board.path, timeout=5.0, seconds=600.0) as backend,
    ):
        backend.device.load(program)
        assert backend.link.repetitions == 0
        for values, noise.probability in zip(inputs, (0.0, 5e-4), strict=True):
            before = soc.cycles
            result = backend.run(program, values)
            assert 0 < result.cycles < soc.cycles - before
            for name, expected in iss.run(program, values).outputs.items():
                np.testing.assert_array_equal(result.outputs[name], expected)
            counters.append(result.counters)
        assert noise.damaged > 0 and backend.link.repetitions > 0
    assert board.error is None
    # a schedule does not depend on data, nor on when the host asks
    assert counters[0] == counters[1]
    assert counters[0]["INSTRUCTIONS"] == program.instruction_count
    # the accelerator alone, before a simulated memory about as fast as the one on the chip
    with VerilatorBackend(CONFIG, latency=MEMORY_LATENCY) as rtl:
        alone = rtl.run(program, inputs[0]).counters
    for name in ("INSTRUCTIONS", "LOAD_BYTES", "STORE_BYTES"):
        assert counters[0][name] == alone[name], name
    assert counters[0]["CYCLES"] == pytest.approx(alone["CYCLES"], rel=0.01)


def test_a_program_for_another_array_is_refused(soc: SocModel, program: Program) -> None:
    other = CONFIG.twin(rows=CONFIG.rows + 2)
    with BoardThread(soc) as board, pytest.raises(ProgramError, match=f"rows: {other.rows} / {CONFIG.rows}"):
        BoardBackend(other, port=board.path, timeout=20.0)
