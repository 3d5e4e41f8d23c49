"""Build a component's Verilog for a simulator and run a cocotb bench on it."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy.typing as npt
from amaranth.lib import wiring
from cocotb_tools.runner import Runner, Verilator, get_runner

from hw.emit import emit
from sim.backend import SimulationError
from sim.build_cache import default_cache, locked, prune, touch
from sim.cocotb.exchange import FOLDER_VARIABLE, Arrays, read_arrays, write_task
from sim.verilator.toolchain import find_toolchain

__all__ = ["BenchFailure", "quickest", "run_bench"]


class BenchFailure(SimulationError):
    """A bench failed; the message holds the end of its log."""


class _Verilator(Verilator):
    """Verilator with the top's ports public only: every signal public costs optimisation, build time and speed."""

    def _build_command(self) -> list[list[str]]:
        commands = super()._build_command()
        verilate = commands[0]
        at = verilate.index("--public-flat-rw")
        verilate[at : at + 1] = ["--public-depth", "1"]
        return commands


def run_bench(
    component: Callable[[], wiring.Component],
    bench: str,
    *,
    name: str = "rowcast",
    parameters: Mapping[str, object] | None = None,
    arrays: Mapping[str, npt.ArrayLike] | None = None,
    reset_low: bool = False,
    simulator: str | None = None,
    waves: bool = False,
    timeout_cycles: int = 200_000,
) -> Arrays:
    """Emit a component, build it (or take it from the cache) and run a bench module on it.

    Parameters
    ----------
    component
        Makes the component.
    bench
        Dotted name of a module with ``@cocotb.test`` functions, reading data with :class:`sim.cocotb.bench.Bench`.
    name
        Top module's name.
    parameters, arrays
        What the bench reads: JSON-able values, and numpy arrays.
    reset_low
        Emit with ``aresetn``.
    simulator
        ``verilator`` or ``icarus``; default :func:`quickest`.
    waves
        Record waves in the run's folder (printed).
    timeout_cycles
        Clock cycles after which the bench is ended as failed.

    Returns
    -------
    dict
        Arrays that the bench handed back.

    Raises
    ------
    BenchFailure
        If a test of the bench fails, or none ran.
    sim.verilator.toolchain.ToolchainError
        If a tool is missing.
    """
    simulator = simulator or quickest()
    build = _build(emit(component(), name, reset_low=reset_low), name, simulator, waves)
    run = Path(tempfile.mkdtemp(prefix="rowcast-"))
    try:
        facts = {**(parameters or {}), "reset_low": reset_low, "timeout_cycles": timeout_cycles}
        write_task(run, facts, arrays or {})
        _test(_runner(simulator), bench, name, build, run, waves)
        return read_arrays(run, results=True)
    finally:
        if not waves:
            shutil.rmtree(run, ignore_errors=True)


def quickest() -> str:
    """Return the simulator for small blocks: Icarus if installed (builds in 1 s), else Verilator (10 to 20 s)."""
    return "icarus" if shutil.which("iverilog") else "verilator"


def _runner(simulator: str) -> Runner:
    if simulator == "verilator":
        return _Verilator()
    return get_runner(simulator)


def _build(verilog: str, name: str, simulator: str, waves: bool) -> Path:
    """Return the build folder of a design, building it once per text, simulator and wave option.

    The cache keeps the :data:`~sim.build_cache.KEPT_BUILDS` folders used last.
    """
    toolchain = find_toolchain()
    key = hashlib.sha256(f"{simulator} {waves} {name}\0{verilog}".encode()).hexdigest()[:20]
    directory = default_cache() / "cocotb"
    target, complete = directory / key, directory / key / "complete"
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory, key):
        if complete.is_file():
            touch(complete)
            return target
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        source = target / f"{name}.v"
        source.write_text(verilog)
        saved = dict(os.environ)
        os.environ.update(toolchain.env)
        os.environ["MAKEFLAGS"] += " OPT_FAST=-O1 OPT_SLOW=-O0"  # the AXI models in Python take longer than the design
        try:
            _runner(simulator).build(
                sources=[source],
                hdl_toplevel=name,
                build_dir=target,
                build_args=_BUILD_ARGS[simulator],
                waves=waves,
                timescale=("1ns", "1ps"),
                log_file=target / "build.log",
            )
        except SystemExit as error:
            log = (target / "build.log").read_text(errors="replace") if (target / "build.log").exists() else str(error)
            raise BenchFailure(f"{simulator} could not build {name}:\n{log[-4000:]}") from None
        finally:
            os.environ.clear()
            os.environ.update(saved)
        complete.touch()
    prune(directory, complete.name)
    return target


_BUILD_ARGS = {
    "verilator": ["-Wno-fatal", "-Wno-lint", "-Wno-style", "--x-assign", "fast", "--noassert", "-O3"],
    "icarus": ["-g2005"],
}


def _test(runner: Runner, bench: str, name: str, build: Path, run: Path, waves: bool) -> None:
    log = run / "bench.log"
    try:
        results = runner.test(
            test_module=bench,
            hdl_toplevel=name,
            hdl_toplevel_lang="verilog",
            build_dir=build,
            test_dir=run,
            results_xml=str(run / "results.xml"),
            extra_env={FOLDER_VARIABLE: str(run), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            waves=waves,
            log_file=log,
        )
    except SystemExit:
        results = run / "results.xml"
    text = log.read_text(errors="replace") if log.exists() else ""
    if waves:
        print(f"{bench}: waves and log in {run}")
    if not results.is_file():
        raise BenchFailure(f"{bench} left no results:\n{text[-6000:]}")
    cases = list(ElementTree.parse(results).iter("testcase"))
    failed = [
        case.get("name", "?") for case in cases if case.find("failure") is not None or case.find("error") is not None
    ]
    if failed or not cases:
        raise BenchFailure(f"{bench}: {', '.join(failed) or 'no test ran'}:\n{text[-6000:]}")
