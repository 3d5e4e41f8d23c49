"""Programs in several processes, on a backend that notes what happens to it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sw.backends import BackendError, RunError
from sw.program_runner import ProgramRunner

SOURCE = '''
import os, pathlib, time
from types import SimpleNamespace

class Noting:
    def __init__(self, config):
        self.folder = pathlib.Path(config["folder"])
        if config.get("broken"):
            raise RuntimeError("no compiler")
        if config.get("deadly"):
            os._exit(9)
        time.sleep(0.3)
        (self.folder / f"made-{os.getpid()}").touch()

    def run(self, program, inputs):
        (value,) = inputs.values()
        if value.max() > 100:
            raise RuntimeError("instruction 3: BAD_FIELD")
        (self.folder / f"run-{os.getpid()}").touch()
        return SimpleNamespace(outputs={"y": value + 1})
'''


@pytest.fixture
def noting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the backend "noting" and return the folder of its notes."""
    found = tmp_path / "site"
    (found / "noting-1.dist-info").mkdir(parents=True)
    (found / "noting.py").write_text(SOURCE)
    (found / "noting-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: noting\nVersion: 1\n")
    (found / "noting-1.dist-info" / "entry_points.txt").write_text("[rowcast.backends]\nnoting = noting:Noting\n")
    monkeypatch.syspath_prepend(found)  # worker processes get it too
    notes = tmp_path / "notes"
    notes.mkdir()
    return notes


def program(folder: Path, **config: bool) -> SimpleNamespace:
    named = SimpleNamespace(inputs=[SimpleNamespace(name="x")], outputs=[SimpleNamespace(name="y")])
    return SimpleNamespace(**vars(named), config={"folder": str(folder), **config})


def notes(folder: Path, kind: str) -> set[int]:
    return {int(path.name.partition("-")[2]) for path in folder.glob(f"{kind}-*")}


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_backend_is_built_before_the_first_run(noting: Path, jobs: int) -> None:
    inputs = [np.full((2, 1, 1), value, np.int8) for value in range(9)]
    with ProgramRunner(program(noting), "noting", jobs=jobs) as runner:
        made = notes(noting, "made")
        assert len(made) == jobs and (os.getpid() in made) == (jobs == 1) and not notes(noting, "run")
        outputs = list(runner.run(inputs))
    assert [output.tolist() for output in outputs] == [[value + 1] * 2 for value in range(9)]
    assert notes(noting, "made") == made >= notes(noting, "run")


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_come_from_any_process(noting: Path, jobs: int) -> None:
    with pytest.raises(BackendError, match="^noting: no compiler$"):
        ProgramRunner(program(noting, broken=True), "noting", jobs=jobs)
    with (
        ProgramRunner(program(noting), "noting", jobs=jobs) as runner,
        pytest.raises(RunError, match="did not finish: instruction 3: BAD_FIELD"),
    ):
        list(runner.run([np.full((2, 1, 1), 101, np.int8)]))


def test_a_process_that_dies(noting: Path) -> None:
    with pytest.raises(RunError, match="a worker process died.*use --jobs 1"):
        ProgramRunner(program(noting, deadly=True), "noting", jobs=2)
