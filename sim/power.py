"""Energy of layers from counted signal changes: ``python -m sim.power --liberty F``.

The accelerator is synthesised, and the digits network runs in the Verilator bench, the array's rows as gates
(``--modules``: others, too), all else as RTL.  While one EXEC of a layer runs, every change of every signal is counted.
Energy is that of the library's tables: clock pins, internal energy per change of a pin, half C V^2 of the pins that a
net drives, leakage.

* Modules that run as gates: every net is counted, but no glitches, as the simulation has no delays.
* Other modules: clock pins and leakage are as exact; nets that RTL does not name are taken to change as often as the
  mean of the counted ones of the same instance.
* Left out: wires and clock tree.  Memories are no cells of the library; what they take is the estimate of
  :mod:`sw.model.energy`, shown beside its estimate of what is measured here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hw.errors import ToolError
from hw.gates import gate_verilog
from hw.generate import TOP, accelerator_verilog
from hw.report.cell_energy import Library, read_energies
from hw.report.liberty import Liberty
from hw.report.synthesis import synthesise
from hw.spec.config import PRESETS, AcceleratorConfig, preset
from hw.spec.isa import Instruction, Mode, Queue
from sim.activity import read_saif
from sim.backend import SimulationError
from sim.netlist import Case, digits_case
from sim.netlist_energy import CLOCK, Energy, Netlist
from sim.power_report import markdown, text
from sim.verilator.backend import HangError, VerilatorBackend
from sim.verilator.build import BuildOptions, build_library
from sim.verilator.toolchain import ToolchainError
from sw.model.energy import EnergyTable, energy
from sw.model.events import count_events

__all__ = ["KINDS", "PARTS", "LayerPower", "Window", "chosen_windows", "main", "measure", "part_of", "windows"]

KINDS = ("pointwise", "fuse_row", "fuse_col")
"""Kinds of layers that are measured: GEMM, and both of ST-OS."""

ROW = "rowcast_row"
"""Module that runs as gates, with those in it, unless others are asked for."""

PARTS = {
    "PEs": r"exec\.array\.\S*\bpe\d+(\.|$)",
    "rest of the array": r"exec\.array(\.|$)",
    "output stage": r"exec\.writer(\.|$)",
    "scratchpad logic": r"(scratchpad|weights|params)(\.|$)",
    "sequencers": r"exec(\.|$)",
    "control and DMA": r"",
}
"""Parts of the accelerator: the first pattern that an instance's path matches."""

MODEL = ("multiply-accumulate", "array registers", "output stage", "scratchpad", "weights", "parameters")
"""What of the energy model's parts an EXEC has."""


@dataclass(frozen=True)
class Window:
    """One EXEC of a layer.

    Parameters
    ----------
    layer, kind
        Of the layer.
    instruction
        The EXEC.
    start, stop
        First and one-past-last cycle since power-on: until it is done or, if that overlaps, until the next one starts.
    """

    layer: str
    kind: str
    instruction: Instruction
    start: int
    stop: int

    @property
    def macs(self) -> int:
        """Multiplications and additions, those with padding included, as layers count them."""
        item = self.instruction
        sums = item["cin"] if item["mode"] == Mode.GEMM and not item["depthwise"] else 1
        return item["kh"] * item["kw"] * sums * item["cout"] * item["out_h"] * item["out_w"]

    @property
    def work(self) -> tuple[object, ...]:
        """What is computed, whichever way: equal for equal parts of a layer."""
        names = ("cout", "out_h", "out_w", "kh", "kw", "sx", "sy", "res", "gap")
        return (self.layer, self.macs, *(self.instruction[name] for name in names))


@dataclass(frozen=True)
class LayerPower:
    """One EXEC of a layer, measured.

    Parameters
    ----------
    layer, kind, stos
        Name and kind of the layer; whether the array has ST-OS.
    cycles, macs
        Clock cycles counted, and multiplications of the EXEC.
    parts
        Energy of each of :data:`PARTS`.
    model
        The energy model's parts of the same EXEC, in pJ.
    """

    layer: str
    kind: str
    stos: bool
    cycles: int
    macs: int
    parts: dict[str, Energy]
    model: dict[str, float]

    def to_dict(self, mhz: float) -> dict[str, object]:
        """Return the figures for JSON: energies of parts in pJ, mean power in mW at a clock in MHz."""
        total = sum(self.parts.values(), Energy())
        found = {
            name: {
                **{kind: getattr(part, kind) / 1000 for kind in ("clock", "switching", "internal", "leakage")},
                "total": part.total / 1000,
                "pj_per_mac": part.total / self.macs / 1000,
                "mw": part.total / self.cycles * mhz * 1e-6,
                "nets": part.nets,
                "counted": part.counted,
            }
            for name, part in (*self.parts.items(), ("all logic", total))
        }
        facts = {name: getattr(self, name) for name in ("layer", "kind", "stos", "cycles", "macs")}
        return {**facts, "parts": found, "model": self.model}


def part_of(path: str) -> str:
    """Return the part of :data:`PARTS` that an instance belongs to."""
    return next(part for part, pattern in PARTS.items() if re.match(pattern, path))


def windows(config: AcceleratorConfig, case: Case) -> list[Window]:
    """Run a program on RTL and return its EXECs, in order."""
    with VerilatorBackend(config) as backend:
        backend.run(case.program, case.inputs)
        events = backend.model.events()
    times: dict[int, list[int]] = {}
    for event in events[events["unit"] == Queue.EXEC]:
        times.setdefault(int(event["pc"]), []).append(int(event["cycle"]))
    layers = {pc: layer for layer in case.program.layers for pc in layer.instructions}
    code, order = case.program.instructions(), sorted(times)
    starts = [times[pc][0] for pc in order[1:]]
    return [
        Window(layers[pc].name, layers[pc].kind, code[pc], times[pc][0], min(times[pc][1], following))
        for pc, following in zip(order, [*starts, times[order[-1]][1]], strict=True)
    ]


def chosen_windows(found: Sequence[Window], kinds: Sequence[str], same: Collection[object] | None) -> list[Window]:
    """Return the EXEC of each kind with most multiplications, the first of several.

    Parameters
    ----------
    found
        All EXECs.
    kinds
        Kinds of layers.
    same
        Take only EXECs whose :attr:`Window.work` is among these; None: any.

    Raises
    ------
    ValueError
        If no layer is of a kind, or none has the same work.
    """
    chosen = []
    for kind in kinds:
        fitting = [one for one in found if one.kind == kind and (same is None or one.work in same)]
        if not fitting:
            raise ValueError(f"no EXEC of a {kind} layer that both arrays have: take another preset or --stos-only")
        chosen.append(max(fitting, key=lambda one: one.macs))
    return chosen


def measure(
    config: AcceleratorConfig,
    case: Case,
    wanted: Sequence[Window],
    liberty: Liberty,
    *,
    mhz: float,
    modules: Sequence[str] = (ROW,),
    progress: Callable[[str], None] = lambda text: None,
) -> list[LayerPower]:
    """Return the energy of EXECs of a program.

    Parameters
    ----------
    config, case, wanted
        The accelerator, what it runs, and which EXECs of it are measured.
    liberty
        Cell library, with energies.
    mhz
        Clock, for leakage.
    modules
        Patterns of the modules that run as gates; in the others only what RTL names is counted.
    progress
        Called with what is being done.

    Raises
    ------
    RequestError, ToolError, ToolchainError, SimulationError
        If the library does not tell energies, or a tool fails.
    """
    library: Library = read_energies(liberty)
    verilog = accelerator_verilog(config)
    gates = gate_verilog(verilog, liberty, modules=modules, progress=progress)
    mapped = synthesise(verilog, liberty, progress=progress)
    netlist = Netlist({name: module.verilog for name, module in mapped.items()}, library)
    results = []
    with tempfile.TemporaryDirectory(prefix="rowcast-") as folder:
        source, saif = Path(folder, "netlist.v"), Path(folder, "changes.saif")
        source.write_text(gates)
        counting = build_library([source], BuildOptions(activity=True, quick=True))
        for one in wanted:
            progress(f"{one.layer}: cycles {one.start} to {one.stop}")
            _count(config, case, one, counting, saif)
            cycles = one.stop - one.start
            parts = dict.fromkeys(PARTS, Energy())
            counts = read_saif(saif, TOP)
            if (edges := counts.bits[CLOCK]) != 2 * cycles - 1:
                raise SimulationError(f"{edges} changes of {CLOCK} in {cycles} cycles: not all were counted")
            for path, found in netlist.energies(TOP, counts, cycles, 1000 / mhz):
                parts[part_of(path)] += found
            model = energy(config, count_events(config, [one.instruction], one.macs), cycles, EnergyTable())
            taken = {name: model[name] for name in MODEL}
            results.append(LayerPower(one.layer, one.kind, config.stos, cycles, one.macs, parts, taken))
    return results


def _count(config: AcceleratorConfig, case: Case, window: Window, library: Path, saif: Path) -> None:
    """Run a program until the end of a window, and write how often signals change in it."""
    span = {"waves_start": window.start, "waves_stop": window.stop, "max_cycles": window.stop}
    with VerilatorBackend(config, library=library, waves=saif, **span) as backend, contextlib.suppress(HangError):
        backend.run(case.program, case.inputs)  # the rest of the program is of no interest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.power",
        description="Energy of layers of the digits network, from counted signal changes and a library's tables.",
        epilog="Wires, clock tree, glitches and memories are left out.  The first run synthesises and builds "
        "simulators, which takes minutes; both are kept.",
    )
    parser.add_argument("--liberty", type=Path, required=True, metavar="F", help="cell library, .lib or .lib.gz")
    parser.add_argument("--preset", choices=list(PRESETS), default="tiny", help="accelerator (default: %(default)s)")
    parser.add_argument("--mhz", type=float, default=400.0, metavar="F", help="clock (default: %(default)g)")
    parser.add_argument("--stos-only", action="store_true", help="leave out the plain array")
    parser.add_argument(
        "--modules",
        nargs="+",
        metavar="M",
        default=[ROW],
        help="modules that run as gates (patterns; default: the rows of PEs; '*': all, which takes long to build)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    form.add_argument("--markdown", action="store_true", help="print Markdown tables")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 2 for a wrong request or a tool that failed."""
    options = _parser().parse_args(argv)
    if not options.mhz > 0:
        print(f"sim.power: --mhz {options.mhz}: a frequency above 0 is expected", file=sys.stderr)
        return 2

    def tell(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    config = preset(options.preset)
    configs = [config] if options.stos_only else [config, config.twin(stos=False)]
    try:
        liberty = Liberty.read(options.liberty)
        read_energies(liberty)  # tell what it lacks before minutes of work
        cases = [digits_case(one) for one in configs]
        found = [windows(one, case) for one, case in zip(configs, cases, strict=True)]
        same = set.intersection(*({one.work for one in execs} for execs in found))
        layers = []
        for one, case, execs in zip(configs, cases, found, strict=True):
            wanted = chosen_windows(execs, KINDS, same)
            layers += measure(one, case, wanted, liberty, mhz=options.mhz, modules=options.modules, progress=tell)
    except (ToolError, ToolchainError, SimulationError, ValueError) as error:
        print(f"sim.power: {error}", file=sys.stderr)
        return 2
    report = {
        "preset": options.preset,
        "rows": config.rows,
        "cols": config.cols,
        "library": liberty.name,
        "mhz": options.mhz,
        "gates": options.modules,
        "layers": [one.to_dict(options.mhz) for one in layers],
    }
    print(json.dumps(report, indent=1) if options.json else markdown(report) if options.markdown else text(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
