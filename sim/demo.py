"""The whole path in one command: a trained FuSe network on the generated Verilog, beside its depthwise twin.

Three runs are compared, all measured on RTL with the same memories and bus:

* the FuSe-Half network on the ST-OS array,
* its depthwise twin on the ST-OS array, which runs depthwise layers natively,
* the twin on the same array without ST-OS, which runs them as im2col products, one filter at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from hw.generate import generate
from hw.spec.config import PRESETS, AcceleratorConfig, ConfigError, preset
from hw.spec.program import Program, write_atomic
from sim.backend import Int8Array, Result, SimulationError
from sim.demo_report import chart, print_layers, print_summary
from sim.iss import IssBackend
from sim.verilator.backend import VerilatorBackend
from sim.verilator.build import build_library
from sim.verilator.toolchain import ToolchainError
from sw.model.layers import LayerCycles, layer_cycles
from sw.regions import quantise_input

if TYPE_CHECKING:
    from sw.compiler.ir import Graph

__all__ = ["main"]

FUSE, NATIVE, IM2COL = "fuse", "native_depthwise", "im2col"


@dataclass
class Case:
    """One network on one accelerator."""

    title: str
    graph: Graph
    program: Program
    dumped: Program
    shares: list[LayerCycles] = field(default_factory=list)
    cycles: int = 0
    utilisation: float = 0.0
    equal: bool = True
    predictions: list[int] = field(default_factory=list)


def prediction(result: Result) -> int:
    """Return the class with the highest score."""
    (scores,) = result.outputs.values()
    return int(scores.argmax())


@dataclass(frozen=True)
class Pictures:
    """Test pictures (N, C, H, W) float32 and their classes (N,)."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def inputs(self, program: Program, index: int) -> dict[str, Int8Array]:
        """Return picture `index`, quantised, as the program's input."""
        (spec,) = program.inputs
        return {spec.name: quantise_input(spec, self.images[index])}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; return the exit status (1: RTL and ISS differ, 2: the user's input or tools)."""
    options = _parser().parse_args(argv)
    console = Console(stderr=options.json, highlight=False)
    try:
        report = run(options, console)
    except (ConfigError, ToolchainError, SimulationError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(report, indent=1))
    return 0 if report["rtl_equals_iss"] else 1


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Do all of it and return the report that ``--json`` prints."""
    started = time.monotonic()
    config = preset(options.preset)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    # torch takes seconds to import, which --help and wrong options need not wait for
    from sw.nn.digits import digits_data, load_digits_network
    from sw.nn.evaluate import accuracy

    _, _, images, labels = digits_data()
    test = Pictures(images[: options.pictures or None], labels[: options.pictures or None])
    cases, quantised = _compile(config, console)
    fuse = cases[FUSE]
    hits = _iss_hits(fuse.program, test, console)
    percent = {
        "fp32": accuracy(load_digits_network("half"), test.images, test.labels),
        "int8": accuracy(quantised, test.images, test.labels),
        "iss": 100 * float(hits.mean()),
    }
    for label, case in cases.items():
        _run_on_rtl(label, case, test, options.rtl, out, console)
    share = min(options.rtl, len(hits))
    percent["rtl"] = 100 * float((np.array(fuse.predictions) == test.labels[:share]).mean())

    report = {
        "network": "digits:fuse_half",
        "accuracy": percent,
        "pictures": len(hits),
        "rtl_pictures": share,
        "iss_on_rtl_pictures": 100 * float(hits[:share].mean()),
        "predictions": fuse.predictions,
        "labels": test.labels[:share].tolist(),
        **_measured(cases, config),
    }
    print_layers(console, cases, config)
    picture = out / "layers.png"
    chart(picture, cases, f"digits on {config.rows}x{config.cols} PEs, measured on RTL")
    print_summary(console, report)
    write_atomic(out / "report.json", (json.dumps(report, indent=1) + "\n").encode())
    console.print(f"{picture}, {out / 'report.json'}; {time.monotonic() - started:.0f} s")
    return report


def _compile(config: AcceleratorConfig, console: Console) -> tuple[dict[str, Case], Any]:
    from sw.compiler import compile_graph
    from sw.frontends.networks import quantised_network
    from sw.frontends.torch_export import import_program

    graphs, modules = {}, {}
    for name in ("digits:fuse_half", "digits"):
        console.print(f"quantising and compiling {name}")
        network = quantised_network(name)
        graphs[name] = import_program(network.exported, name=network.name, meta=network.meta)
        modules[name] = network.module
    plain = config.twin(stos=False)
    plan = {
        FUSE: ("FuSe-Half, ST-OS", "digits:fuse_half", config),
        NATIVE: ("depthwise, ST-OS", "digits", config),
        IM2COL: ("depthwise, plain", "digits", plain),
    }
    cases = {
        label: Case(
            title, graphs[name], compile_graph(graphs[name], on), compile_graph(graphs[name], on, dump_tensors=True)
        )
        for label, (title, name, on) in plan.items()
    }
    return cases, modules["digits:fuse_half"]


def _iss_hits(program: Program, test: Pictures, console: Console) -> npt.NDArray[np.bool_]:
    """Return for every picture whether the ISS predicts its class."""
    backend = IssBackend(program.config, check_hazards=False)
    hits = np.zeros(len(test.labels), np.bool_)
    with Progress(console=console, transient=True) as progress:
        for index in progress.track(range(len(test.labels)), description="ISS"):
            hits[index] = prediction(backend.run(program, test.inputs(program, index))) == test.labels[index]
    return hits


def _run_on_rtl(label: str, case: Case, test: Pictures, pictures: int, out: Path, console: Console) -> None:
    """Run `pictures` pictures (the baselines: two) on RTL and ISS, one of them with every tensor stored."""
    config = case.program.config
    folder = out / ("stos" if config.stos else "plain")
    generate(config, folder)
    console.print(f"{case.title}: {folder / 'rowcast.v'}, building the simulator if it is new")
    iss = IssBackend(config, check_hazards=False)
    with VerilatorBackend(config, library=build_library([folder / "rowcast.v"], quiet=True)) as rtl:
        count = min(pictures if label == FUSE else 2, len(test.labels))
        with Progress(console=console, transient=True) as progress:
            for index in progress.track(range(count), description="RTL"):
                inputs = test.inputs(case.program, index)
                measured = rtl.run(case.program, inputs)
                case.equal &= measured.regions == iss.run(case.program, inputs).regions
                case.predictions.append(prediction(measured))
        assert measured.cycles is not None  # RTL always counts
        case.cycles = measured.cycles
        case.shares = layer_cycles(case.program, measured.trace, measured.cycles)
        case.utilisation = case.program.macs / (measured.cycles * config.rows * config.cols)
        inputs = test.inputs(case.dumped, 0)
        case.equal &= rtl.run(case.dumped, inputs).regions == iss.run(case.dumped, inputs).regions


def _measured(cases: dict[str, Case], config: AcceleratorConfig) -> dict[str, Any]:
    """Return the report's cycles, all measured on RTL except the authors' closed form."""
    from sw.model.authors import network_cycles

    fuse, native, im2col = (cases[label] for label in (FUSE, NATIVE, IM2COL))
    authors = {
        "depthwise": network_cycles(native.graph, config.rows, config.cols),
        "fuse": network_cycles(fuse.graph, config.rows, config.cols),
    }
    return {
        "rows": config.rows,
        "cols": config.cols,
        "rtl_equals_iss": all(case.equal for case in cases.values()),
        "cycles": fuse.cycles,
        "macs": fuse.program.macs,
        "utilisation": fuse.utilisation,
        "speedup": {
            "im2col": im2col.cycles / fuse.cycles,
            "native_depthwise": native.cycles / fuse.cycles,
            "authors": authors["depthwise"] / authors["fuse"],
        },
        "baselines": {
            "im2col": {"cycles": im2col.cycles, "utilisation": im2col.utilisation},
            "native_depthwise": {"cycles": native.cycles, "utilisation": native.utilisation},
            "authors": authors,
        },
        "layers": [share.__dict__ for share in fuse.shares],
        "source": "rtl",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.demo",
        description="Run a trained FuSe network for digits on generated RTL, beside its depthwise twin.",
        epilog="Accuracy in fp32, int8 (PyTorch), on the ISS and on RTL; cycles, utilisation and speed-up from RTL.",
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="edge16", help="accelerator (default: %(default)s)")
    parser.add_argument("--pictures", type=_pictures, default=0, metavar="N", help="test pictures (default: all 500)")
    parser.add_argument(
        "--rtl",
        type=_pictures,
        default=100,
        metavar="N",
        help="the first so many also on RTL (default: %(default)s, at most all)",
    )
    parser.add_argument("--out", default="results/demo", metavar="DIR", help="chart, report, Verilog (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object; the rest to stderr")
    return parser


def _pictures(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pictures, 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
