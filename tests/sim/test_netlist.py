"""Rows of gates inside the RTL run programs like the RTL; ``nox -s netlist`` does so with the whole accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hw.gates import gate_verilog
from hw.generate import accelerator_verilog
from hw.spec.config import PRESETS
from hw.spec.isa import Region
from sim import netlist
from sim.backend import Int8Array, Result
from sim.netlist import compare, netlist_backend, random_cases
from sim.verilator.backend import VerilatorBackend
from sim.verilator.build import BuildOptions

CONFIG = PRESETS["tiny"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gates() -> Iterator[VerilatorBackend]:
    verilog = gate_verilog(accelerator_verilog(CONFIG), modules=["rowcast_row"])
    with netlist_backend(CONFIG, verilog, options=BuildOptions(quick=True)) as backend:
        yield backend


@pytest.fixture(scope="module")
def rtl() -> Iterator[VerilatorBackend]:
    with VerilatorBackend(CONFIG) as backend:
        yield backend


def test_rows_of_gates_run_random_programs(gates: VerilatorBackend, rtl: VerilatorBackend) -> None:
    for case in random_cases(CONFIG, 6):
        run = compare(case, gates, rtl)
        assert run.differences == (), case.name
        assert run.cycles == run.rtl_cycles > 0
        assert run.compared > 0 and run.macs > 0


def test_a_difference_is_found(gates: VerilatorBackend, rtl: VerilatorBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = random_cases(CONFIG, 1)
    run = gates.run

    def wrong(program: object, inputs: dict[str, Int8Array]) -> Result:
        result = run(case.program, inputs)
        output = result.regions[Region.OUTPUT]
        result.regions[Region.OUTPUT] = bytes([output[0] ^ 1]) + output[1:]
        return replace(result, counters={**result.counters, "CYCLES": result.counters["CYCLES"] + 1})

    monkeypatch.setattr(gates, "run", wrong)
    differences = compare(case, gates, rtl).differences
    assert differences[:2] == ("region OUTPUT is not that of the ISS", "region OUTPUT is not that of the RTL")
    assert differences[2].startswith("counter CYCLES: ")
    assert len(differences) == 3


def test_wrong_requests(capsys: pytest.CaptureFixture[str]) -> None:
    assert netlist.main(["--liberty", "missing.lib"]) == 2
    assert "missing.lib: no such file" in capsys.readouterr().err
