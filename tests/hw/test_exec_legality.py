# amaranth: UnusedElaboratable=no
"""What EXEC may not say: hardware and ISS find the same first illegal value in random instructions."""

from __future__ import annotations

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hw.exec_unit import ExecUnit
from hw.layouts import table_layout
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import EXEC, Instruction, Opcode, encode
from sim.iss.machine import FaultError, UndefinedUseError
from sim.iss.operands import operands

MAXIMUM = {field.name: field.maximum for field in EXEC.fields}
SPOILED = (
    "mode",
    "kh",
    "kw",
    "sy",
    "sx",
    "out_w",
    "out_h",
    "cin",
    "cout",
    "act",
    "seg",
    "seg_gap",
    "seg_missing",
    "fold",
)


def draw(rng: random.Random) -> Instruction:
    """Return an instruction that is legal but for a few fields, which may be anything."""
    values = {name: rng.randint(1, 2) for name in ("kh", "kw", "sy", "cin", "cout")}
    values |= {"mode": rng.randint(0, 4), "sx": 1, "out_w": rng.randint(8, 12), "out_h": rng.randint(4, 8)}
    values |= {"depthwise": rng.random() < 0.1, "act": rng.random() < 0.2, "gap": rng.random() < 0.7}
    values["res"] = rng.choice((0, 1, 2, 3, 3))
    if rng.random() < 0.5:
        values |= {"seg": rng.randint(3, 9), "seg_gap": rng.randint(0, 3), "seg_missing": rng.randint(0, 5)}
        values["fold"] = rng.random() < 0.3
    for name in rng.sample(SPOILED, rng.choice((0, 0, 1, 2))):
        values[name] = rng.choice((0, MAXIMUM[name], rng.randint(0, min(40, MAXIMUM[name]))))
    return Instruction(Opcode.EXEC, {name: int(value) for name, value in values.items()})


def illegal_value(config: AcceleratorConfig, instruction: Instruction) -> int | None:
    """Return the value of which the ISS complains, None if the fields are legal."""
    try:
        operands(config, instruction)
    except FaultError as error:
        return error.info if error.cause == ErrorCause.BAD_FIELD else None
    except UndefinedUseError:  # no check of fields
        return None
    return None


@pytest.mark.parametrize("stos", [True, False])
def test_the_first_illegal_value_is_the_same(stos: bool) -> None:
    sizes = {"act_kib": 1024, "weight_kib": 1024, "param_entries": 65536, "axi_data_width": 64}
    config = AcceleratorConfig(rows=4, cols=12, max_kernel=5, stos=stos, **sizes)
    m, rng = Module(), random.Random(7)
    cfg, illegal, value = Signal(table_layout(EXEC)), Signal(), Signal(32)
    for condition, offender in reversed(ExecUnit(config)._faults(cfg)):
        with m.If(condition):
            m.d.comb += [illegal.eq(1), value.eq(offender)]
    seen = {"legal": 0, "illegal": 0}

    async def bench(ctx) -> None:
        for _ in range(1500):
            instruction = draw(rng)
            ctx.set(cfg.as_value(), int.from_bytes(encode(instruction), "little"))
            found = ctx.get(value) if ctx.get(illegal) else None
            seen["legal" if found is None else "illegal"] += 1
            assert found == illegal_value(config, instruction), instruction

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    assert min(seen.values()) > 100
