"""docs/boards.md: the commands of its figures, run as they stand, in two terminals; and the figures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hw.soc.boards import BOARDS
from tests.document_examples import examples

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "boards.md"
ENVIRONMENT = {
    **os.environ,
    "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
    "PYTHONPATH": str(ROOT),
}
PORT = "/dev/pts/3"


@contextmanager
def terminal(command: str, folder: Path) -> Iterator[str]:
    """Run the board; give the path of its pseudo-terminal."""
    process = subprocess.Popen(command.split(), cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield next(found[0] for line in process.stdout if (found := re.search(r"/dev/pts/\d+", line)))
    finally:
        process.terminate()
        process.wait(30)


def figures(folder: Path) -> dict[str, Any]:
    (example,) = (example for example in examples(PAGE) if "test_boards_page" in example.note)
    build, compilation, board, host = example.commands
    np.save(folder / "x.npy", np.random.default_rng(0).integers(-128, 128, (1, 32, 32), dtype=np.int8))
    for command in (build, compilation):
        subprocess.run(command.split(), cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
    with terminal(board, folder) as port:
        command = host.replace(PORT, port).split()
        done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_figures_are_what_the_commands_print(tmp_path: Path) -> None:
    found = figures(tmp_path)
    (run,) = found["runs"]
    text, clock = PAGE.read_text(), BOARDS["ulx3s_85f"].clock_mhz
    milliseconds = run["cycles"] / clock / 1e3
    rows = {
        "`upload_bytes`": f"{found['upload_bytes']:,} bytes",
        "`upload_seconds_on_the_wire`": f"{found['upload_seconds_on_the_wire']:.3f} s",
        "`cycles`, counted by the RTL": f"{run['cycles']:,} cycles, {milliseconds:.2f} ms at {clock:g} MHz",
        "`utilisation`": f"{100 * run['utilisation']:.1f} %",
    }
    for name, value in rows.items():
        assert f"| {name} | {value}" in text, (name, value)
