"""A search from pictures to RTL: what it finds compiles, and takes the cycles that it said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hw.spec.program import Program
from sim.iss import IssBackend
from sim.model_accuracy import NETWORK_LIMIT
from sim.verilator.backend import VerilatorBackend
from sw.compile import main as compile_main
from sw.random_inputs import random_inputs
from sw.search.__main__ import main
from tests.sw.supernet_runs import OPTIONS
from tests.sw.training_pictures import save_archive


@pytest.mark.slow
def test_predicted_cycles_are_those_of_rtl(tmp_path: Path) -> None:
    data, out = str(save_archive(tmp_path / "bars.npz")), str(tmp_path / "search")
    assert main(["train", "--data", data, "--out", out, *OPTIONS, "--epochs", "1"]) == 0
    assert main(["table", "--out", out, "--preset", "tiny"]) == 0
    given = ["--out", out, "--data", data, "--threads", "1"]
    assert main(["search", *given, "--preset", "tiny", "--trials", "6", "--seed", "0"]) == 0
    assert main(["export", *given, "0", "greedy"]) == 0
    found = json.loads((tmp_path / "search" / "result.json").read_text())
    rows = {"front-0": found["front"][0], **{row["kind"]: row for row in found["baselines"]}}
    for name in ("front-0", "greedy"):
        folder = tmp_path / name
        network = f"{out}/networks/{name}.pt2"
        assert compile_main([network, "--calib", data, "--preset", "tiny", "--out", str(folder)]) == 0
        program = Program.load(folder)
        inputs = random_inputs(program)
        with VerilatorBackend(program.config) as backend:
            run = backend.run(program, inputs)
        assert run.cycles == pytest.approx(rows[name]["cycles"], rel=NETWORK_LIMIT)
        expected = IssBackend(program.config).run(program, inputs).outputs
        assert all(np.array_equal(run.outputs[key], expected[key]) for key in expected)
