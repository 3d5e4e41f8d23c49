"""Trainings of a small supernet that end in the middle: each in a process of its own, which a signal kills.

``python tests/sw/supernet_runs.py DATA OUT WORLD MOMENT...`` trains once per MOMENT and a last time to the end, in
WORLD processes.  A MOMENT is what the first process is killed at: ``all:2:1`` (run, epoch, step), or ``write:5`` (when
the fifth file is written, but not in place yet).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

OPTIONS = ["--width", "0.25", "--stages", "16x1x1,24x2x2", "--kernels", "3,5", "--expansions", "2,3", "--last", "16"]
OPTIONS += ["--epochs", "2", "--batch", "12", "--set", "resolution=16", "ema=0.9", "--threads", "1", "--device", "cpu"]


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(moment: str) -> None:
    import sw.search.training as training
    from hw.spec import program

    kind, *numbers = moment.split(":")
    if kind == "write":
        place, left = os.replace, int(numbers[0])

        def replace(source: str, target: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                _kill()
            place(source, target)

        program.os.replace = replace
        return
    fit = training.fit

    def watched(*args, **kwargs):
        folder, at = args[4].name, tuple(map(int, numbers))

        def seen(epoch: int, step: int, steps: int, loss: float) -> None:
            if (folder, epoch, step) == (kind, *at):
                _kill()

        return fit(*args, **{**kwargs, "progress": seen})

    training.fit = watched


def _train(data: str, out: str, world: int, rank: int, port: int, moment: str | None) -> None:
    os.environ |= {"WORLD_SIZE": str(world), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    from sw.search.__main__ import main

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if moment is not None and rank == 0:
        _arm(moment)
    os._exit(main(["train", "--data", data, "--out", out, *OPTIONS]))


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run(data: str, out: str, world: int, moment: str | None) -> list[int]:
    """Train in `world` processes; return how each ended (a signal: its number, negative)."""
    port, children = _free_port(), []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            _train(data, out, world, rank, port, moment)
        children.append(child)
    found = [os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])]
    for child in children[1:]:
        if found[0]:
            os.kill(child, signal.SIGKILL)  # as torchrun does when another process has failed
        found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import sw.search.__main__  # noqa: F401  once, before the processes part

    data, out, world, *moments = sys.argv[1:]
    for moment in (*moments, None):
        print(*run(data, out, int(world), moment), flush=True)
