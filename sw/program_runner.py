"""Runs one program on many inputs, in this process or in several."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack
from threading import BrokenBarrierError
from types import TracebackType

import numpy as np
import numpy.typing as npt

from hw.spec.program import Program
from sw.backends import Backend, BackendError, RunError, find_backend

__all__ = ["ProgramRunner"]

Int8 = npt.NDArray[np.int8]

_DIED = "a worker process died, perhaps for lack of memory; use --jobs 1"


class ProgramRunner:
    """A program of one input and one output on a backend, which is ready to run once this is made.

    Parameters
    ----------
    program, backend
        What to run, and the backend's name (see :mod:`sw.backends`).
    jobs
        Processes, each with a backend of its own; with 1 everything happens in this process.

    Raises
    ------
    BackendError
        If there is no such backend or it cannot be built.
    RunError
        If a process dies.
    """

    def __init__(self, program: Program, backend: str, *, jobs: int = 1) -> None:
        self.program = program
        find_backend(backend)
        self._closing = ExitStack()
        self._pool: ProcessPoolExecutor | None = None
        if jobs == 1:
            self._backend = _create(program, backend, self._closing)
        else:
            # not forked: torch and numpy have threads
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(jobs, context, _start, (program, backend, context.Barrier(jobs)))
            with ExitStack() as started:
                started.enter_context(pool)
                _wait_for(pool, jobs)
                self._closing = started.pop_all()
            self._pool = pool

    def run(self, inputs: Sequence[Int8]) -> Iterator[Int8]:
        """Yield the output vector of each input (C, H, W), in order.

        Raises
        ------
        RunError
            If a run fails.
        """
        if self._pool is None:
            for value in inputs:
                yield _run(self._backend, self.program, value)
            return
        try:
            yield from self._pool.map(_work, inputs)
        except BrokenProcessPool:
            raise RunError(_DIED) from None

    def __enter__(self) -> ProgramRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None and error is not None:
            self._pool.shutdown(cancel_futures=True)
        self._closing.close()


def _wait_for(pool: ProcessPoolExecutor, jobs: int) -> None:
    """Return when each process has built its backend, so that who times runs does not time that."""
    errors = [future.exception() for future in [pool.submit(_prepare) for _ in range(jobs)]]
    for error in errors:
        if isinstance(error, BrokenProcessPool):
            raise RunError(_DIED)
        # with a broken barrier another process has a better reason
        if error is not None and not isinstance(error, BrokenBarrierError):
            raise error


def _create(program: Program, name: str, closing: ExitStack) -> Backend:
    try:
        backend = find_backend(name)(program.config)
    except BackendError:
        raise
    except RuntimeError as error:
        raise BackendError(f"{name}: {error}") from error
    if isinstance(backend, AbstractContextManager):
        closing.enter_context(backend)
    return backend


def _run(backend: Backend, program: Program, value: Int8) -> Int8:
    (source,), (sink,) = program.inputs, program.outputs
    try:
        outcome = backend.run(program, {source.name: value})
    except RuntimeError as error:
        raise RunError(f"the accelerator did not finish: {error}") from error
    return outcome.outputs[sink.name].reshape(-1)


# of a worker process: what it runs, what all wait at until each is ready, and the backend, which a task makes because
# the errors of an initialiser would not reach the parent
_task: tuple[Program, str] | None = None
_all_ready: multiprocessing.synchronize.Barrier | None = None
_made: Backend | None = None


def _start(program: Program, name: str, all_ready: multiprocessing.synchronize.Barrier) -> None:
    global _task, _all_ready
    _task, _all_ready = (program, name), all_ready


def _prepare() -> None:
    """Build the backend and wait for the other processes, so that none of them prepares twice."""
    global _made
    assert _task is not None and _all_ready is not None
    try:
        _made = _create(*_task, ExitStack())
        _all_ready.wait()
    except BaseException:
        _all_ready.abort()
        raise


def _work(value: Int8) -> Int8:
    assert _task is not None and _made is not None
    return _run(_made, _task[0], value)
