# amaranth: UnusedElaboratable=no
"""The cycle model against RTL where scratchpad accesses of different instructions meet in a bank: exact as well."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode, Region, ResidualOp, Target
from hw.spec.program import TensorSpec
from sim.program_builder import ProgramBuilder
from sim.verilator.backend import VerilatorBackend
from sw.model.channels import Memory
from sw.model.timeline import timeline
from tests.sim import rtl_configs

CONFIGS = {name: rtl_configs.CONFIGS[name] for name in ("tiny", "4x24", "plain")}
ROUNDS = 6
"""Programs per test; not in all of them accesses meet."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=CONFIGS)
def backend(request: pytest.FixtureRequest) -> Iterator[VerilatorBackend]:
    with VerilatorBackend(CONFIGS[request.param]) as instance:
        yield instance


def modes(config: AcceleratorConfig) -> list[Mode]:
    return [mode for mode in Mode if config.stos or mode not in (Mode.STOS_CH, Mode.STOS_LN)]


def layer(config: AcceleratorConfig, mode: Mode, rng: np.random.Generator, cout: int, **bases: int) -> dict[str, int]:
    """Return a layer with small maps at the given bases."""
    taps = {"kh": int(rng.choice([1, 3])), "kw": int(rng.choice([1, 3]))} if mode != Mode.VEC else {"kh": 1, "kw": 1}
    if mode == Mode.STOS_LN:
        taps["kh"] = 3
    height, width = int(rng.integers(2, 7)), int(rng.integers(2, 9)) * 4
    sy, sx = (int(rng.integers(1, 3)) for _ in range(2))
    high, wide = (height - 1) // sy + 1, (width - 1) // sx + 1
    return {
        "mode": int(mode),
        **taps,
        "pad_y": taps["kh"] // 2,
        "pad_x": taps["kw"] // 2,
        "sy": sy,
        "sx": sx,
        "cin": int(rng.integers(4, 9)),
        "cout": cout,
        "in_h": height,
        "in_w": width,
        "in_pitch": width,
        "in_cs": height * width,
        "out_h": high,
        "out_w": wide,
        "out_pitch": wide,
        "out_cs": high * wide,
        "q_lo": -128,
        "q_hi": 127,
        **bases,
    }


def met(backend: VerilatorBackend, builder: ProgramBuilder, counter: str, latency: int = 64) -> bool:
    """Run a program on RTL and in the model, which must agree; return whether the counter counted."""
    size = backend.config.act_bytes
    program = builder.finish(outputs=(TensorSpec("out", Region.OUTPUT, 0, (1, 1, size), size, 1.0, 0),))
    backend.set_memory(latency=latency)
    measured, predicted = backend.run(program, {}), timeline(program, Memory(latency=latency))
    assert {e.pc: e.done for e in predicted.trace} == {e.pc: e.done for e in measured.trace}
    assert predicted.cycles == measured.cycles
    return measured.counters[counter] > 0


@pytest.mark.parametrize("latency", [64, 5])
def test_loads_wait_for_results_in_their_bank(backend: VerilatorBackend, latency: int) -> None:
    """While an EXEC writes to one bank or across the border of two, rows are loaded to other places of these."""
    config, waited = backend.config, 0
    bank = config.act_bank_bytes
    for mode in modes(config):
        for seed in range(ROUNDS):
            rng = np.random.default_rng(seed)
            builder = ProgramBuilder(config)
            base = bank - 1024 if seed % 3 else bank // 2
            fields = layer(config, mode, rng, int(rng.integers(3, 20)), in_base=bank // 4, out_base=base)
            if seed % 2:
                fields |= {"gap": 1, "res": int(ResidualOp.POOL), "res_base": bank // 16}
            builder.exec(**fields)
            for number in range(6):
                place = (number % 2) * bank + 16 * int(rng.integers(0, 16))
                builder.load_const(Target.ACT, place, bytes(int(rng.integers(1, 300))))
                builder.load_const(Target.WEIGHT, 0, bytes(config.weight_word_bytes * config.axi_bytes))
            waited += met(backend, builder, "LOAD_PORT", latency)
    assert waited > ROUNDS


def test_stores_wait_for_reads_in_their_bank(backend: VerilatorBackend) -> None:
    config, waited = backend.config, 0
    bank = config.act_bank_bytes
    for mode in modes(config):
        for seed in range(ROUNDS):
            rng = np.random.default_rng(seed)
            builder = ProgramBuilder(config)
            base = bank - 1024 if seed % 3 else bank // 2
            builder.exec(**layer(config, mode, rng, int(rng.integers(8, 20)), in_base=base, out_base=bank + bank // 2))
            for number in range(4):
                place = (number % 2) * bank + int(rng.integers(0, 256))
                builder.store(Region.OUTPUT, mem_addr=place, rows=1, row_bytes=int(rng.integers(1, 200)))
            waited += met(backend, builder, "STORE_PORT")
    assert waited > ROUNDS


@pytest.mark.parametrize("res", [ResidualOp.ADD, ResidualOp.SCALE])
def test_first_reads_wait_for_the_second_operand_of_the_exec_before(backend: VerilatorBackend, res: ResidualOp) -> None:
    """That EXEC has its two operands in different banks, so that nothing else meets."""
    config = backend.config
    bank = config.act_bank_bytes
    for mode in modes(config):
        waited = 0
        for seed in range(ROUNDS):
            rng = np.random.default_rng(seed)
            builder = ProgramBuilder(config)
            for number in range(2):
                first = layer(config, Mode.GEMM, rng, int(rng.integers(2, 14)), in_base=0, out_base=bank // 2)
                builder.exec(**first, res=int(res), res_base=bank, overlap=number)
                places = {"in_base": bank + bank // 4, "out_base": bank + bank // 2}
                builder.exec(**layer(config, mode, rng, int(rng.integers(2, 14)), **places), overlap=1)
            waited += met(backend, builder, "EXEC_PORT")
        assert waited > 1
