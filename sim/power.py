"""Energy of real layers from counted signal changes: ``python -m sim.power --liberty F``.

The digits network runs in the Verilator bench, the array's rows as gates of the library, all else as RTL, and for one
EXEC of a layer every change of every signal is counted.  Energy is that of the library's tables: internal energy per
change of a pin, half C V^2 of the pins a net drives, leakage.  What is counted and what is estimated:

* rows of PEs: every net is counted, at gate level but without delays, so without glitches;
* other modules: registers and nets that RTL names are counted; nets that only the netlist has are taken to change
  as often as the mean of the counted ones of the same instance;
* left out: wires, clock tree, memories.  What memories take is :mod:`sw.model.energy`'s estimate.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hw.emit import EmitError
from hw.gates import gate_verilog
from hw.generate import TOP, accelerator_verilog
from hw.report.cell_energy import Library, read_energies
from hw.report.errors import ReportError, ToolError
from hw.report.liberty import Liberty
from hw.report.synthesis import synthesise
from hw.spec.config import PRESETS, AcceleratorConfig, preset
from hw.spec.isa import Queue
from sim.activity import Scope, read_saif
from sim.backend import SimulationError
from sim.netlist import Case, digits_case
from sim.verilator.backend import HangError, VerilatorBackend
from sim.verilator.build import BuildOptions, build_library
from sim.verilator.toolchain import ToolchainError
from sw.model.energy import EnergyTable

__all__ = ["GROUPS", "Energy", "LayerPower", "main", "measure"]

GROUPS = {
    "PEs": r"exec\.array\.\S*\.pe\d+(\.|$)",
    "rest of the array": r"exec\.array(\.|$)",
    "output stage": r"exec\.writer(\.|$)",
    "scratchpad logic": r"(scratchpad|weights|params)(\.|$)",
    "sequencers": r"exec(\.|$)",
    "control and DMA": r"",
}
"""Parts of the accelerator: the first pattern that an instance's path matches."""

COUNTED = "rowcast_row"
"""Module that runs as gates, with those in it."""

_CELL = re.compile(r"^  (\S+) (\S+|\\\S+ ) ?\((.*?)\n  \);", re.MULTILINE | re.DOTALL)
_PIN = re.compile(r"\.(\w+|\\\S+ )\(([^)]*)\)")


@dataclass
class Energy:
    """Energy of a part, in fJ, over a window.

    Parameters
    ----------
    clock
        Clock pins of registers.
    switching
        Half C V^2 of pins, per change.
    internal
        Inside cells, but for clock pins.
    leakage
        All the time.
    nets, counted
        Nets that cells drive, and those of them whose changes were counted.
    """

    clock: float = 0.0
    switching: float = 0.0
    internal: float = 0.0
    leakage: float = 0.0
    nets: int = 0
    counted: int = 0

    @property
    def total(self) -> float:
        """All of it."""
        return self.clock + self.switching + self.internal + self.leakage


@dataclass(frozen=True)
class LayerPower:
    """One EXEC instruction of a layer.

    Parameters
    ----------
    layer, kind, stos
        Name and kind of the layer; whether the array has ST-OS.
    cycles, macs
        Of the instruction; `macs` are those of the layer, which it is all of.
    parts
        Energy of each of :data:`GROUPS`.
    """

    layer: str
    kind: str
    stos: bool
    cycles: int
    macs: int
    parts: dict[str, Energy] = field(default_factory=dict)

    def milliwatts(self, part: Energy, mhz: float) -> float:
        """Return a part's mean power at a clock frequency; leakage was taken at the same one."""
        return part.total / self.cycles * mhz * 1e-6

    @property
    def pe_pj_per_mac(self) -> float:
        """Energy of all PEs by the multiplications of the layer."""
        return self.parts["PEs"].total / self.macs / 1000


class _Netlist:
    """Cells and instances of each module."""

    def __init__(self, texts: Mapping[str, str], library: Library) -> None:
        self.library = library
        self.cells: dict[str, list[tuple[str, dict[str, str]]]] = defaultdict(list)
        self.children: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.loads: dict[str, dict[str, float]] = {}
        for module, text in texts.items():
            loads: dict[str, float] = defaultdict(float)
            for kind, name, body in _CELL.findall(text):
                if kind in texts:
                    self.children[module].append((name.strip("\\ "), kind))
                elif kind in library.cells:
                    pins = {pin: net.strip().removeprefix("\\").replace(" ", "") for pin, net in _PIN.findall(body)}
                    self.cells[module].append((kind, pins))
                    for pin, net in pins.items():
                        loads[net] += library.cells[kind].capacitance.get(pin, 0.0)
            self.loads[module] = loads

    def walk(self, module: str, scope: Scope, path: str = "") -> Iterator[tuple[str, str, Scope]]:
        """Yield (path, module, counts) of all instances."""
        yield path, module, scope
        for name, kind in self.children[module]:
            inner = scope.children.get(name, Scope())
            yield from self.walk(kind, inner, f"{path}.{name}" if path else name)


def _instance(netlist: _Netlist, module: str, scope: Scope, cycles: int, nanoseconds: float) -> Energy:
    """Return the energy of an instance's own cells."""
    volts, found = netlist.library.volts, Energy()
    bits, loads = scope.bits, netlist.loads[module]
    cells = netlist.cells[module]
    # a pulse changes the clock twice per cycle
    counted = [activity.changes for name, activity in bits.items() if name not in ("clk", "rst")]
    usual = sum(counted) / len(counted) if counted else 0.0

    def changes(net: str) -> float:
        if net == "clk":
            return 2.0 * cycles
        return float(bits[net].changes) if net in bits else usual

    for kind, pins in cells:
        cell = netlist.library.cells[kind]
        found.leakage += cell.leakage * nanoseconds * cycles * 1e-3
        for pin, net in pins.items():
            if pin in cell.internal:
                number, load = changes(net), loads.get(net, 0.0)
                found.nets += 1
                found.counted += net in bits
                found.internal += number * cell.per_change(pin, load)
                found.switching += number * load * volts**2 / 2
            elif net == "clk":
                found.clock += 2 * cycles * (cell.hidden[pin] + cell.capacitance[pin] * volts**2 / 2)
            elif net and "'" not in net:
                found.internal += changes(net) * cell.hidden.get(pin, 0.0)
    return found


def measure(config: AcceleratorConfig, liberty: Liberty, kinds: Sequence[str], mhz: float) -> list[LayerPower]:
    """Run the digits network and return the energy of one layer of each kind.

    Of each kind it is the layer with most multiplications of those that are one EXEC.

    Raises
    ------
    ReportError, ToolError, ToolchainError, SimulationError
        If a library does not tell energies, or a tool fails.
    """
    verilog, library = accelerator_verilog(config), read_energies(liberty)
    netlist = _Netlist(
        {name: mapped.verilog for name, mapped in synthesise(verilog, liberty, progress=lambda text: None).items()},
        library,
    )
    case = digits_case(config)
    with tempfile.TemporaryDirectory(prefix="rowcast-") as folder:
        source, saif = Path(folder, "netlist.v"), Path(folder, "changes.saif")
        source.write_text(gate_verilog(verilog, liberty, modules=[COUNTED]))
        counting = build_library([source], BuildOptions(activity=True, quick=True))
        results = []
        for kind, (name, macs, start, stop) in _windows(config, case, kinds).items():
            with VerilatorBackend(config, library=counting, waves=saif, waves_start=start, waves_stop=stop) as backend:
                backend.max_cycles = stop
                with contextlib.suppress(HangError):  # the rest of the network is of no interest
                    backend.run(case.program, case.inputs)
            found = LayerPower(name, kind, config.stos, stop - start, macs, {part: Energy() for part in GROUPS})
            for path, module, scope in netlist.walk(TOP, read_saif(saif, TOP)):
                part = next(part for part, pattern in GROUPS.items() if re.match(pattern, path))
                _add(found.parts[part], _instance(netlist, module, scope, found.cycles, 1000 / mhz))
            results.append(found)
    return results


def _add(total: Energy, more: Energy) -> None:
    for name, value in asdict(more).items():
        setattr(total, name, getattr(total, name) + value)


def _windows(config: AcceleratorConfig, case: Case, kinds: Sequence[str]) -> dict[str, tuple[str, int, int, int]]:
    """Return (layer, MACs, first cycle, end) of the EXEC for each kind, in cycles since power-on."""
    with VerilatorBackend(config) as backend:
        backend.run(case.program, case.inputs)
        events = backend.model.events()
    times: dict[int, list[int]] = defaultdict(list)
    for event in events[events["unit"] == Queue.EXEC]:
        times[int(event["pc"])].append(int(event["cycle"]))
    found: dict[str, tuple[str, int, int, int]] = {}
    for layer in sorted(case.program.layers, key=lambda layer: layer.macs):
        mine = [times[pc] for pc in layer.instructions if pc in times]
        if len(mine) == 1 and layer.kind in kinds:
            found[layer.kind] = (layer.name, layer.macs, *mine[0])
    if missing := [kind for kind in kinds if kind not in found]:
        raise ValueError(f"no layer of kind {', '.join(missing)} is one EXEC on this accelerator: take another preset")
    return {kind: found[kind] for kind in kinds}


def assumed_pj_per_mac(table: EnergyTable) -> float:
    """Return what the energy model takes for a multiplication and addition, registers apart."""
    return table.multiply_8 + table.add_8


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.power",
        description="Energy of layers of the digits network, from counted signal changes and a library's tables.",
        epilog="ST-OS array and plain array; wires, clock tree, glitches and memories are left out.",
    )
    parser.add_argument("--liberty", type=Path, required=True, metavar="F", help="cell library, .lib or .lib.gz")
    parser.add_argument("--preset", choices=list(PRESETS), default="tiny", help="accelerator (default: %(default)s)")
    parser.add_argument("--mhz", type=float, default=500.0, metavar="F", help="clock (default: %(default)g)")
    parser.add_argument("--stos-only", action="store_true", help="leave out the plain array")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 2 for a wrong request or a tool that failed."""
    options = _parser().parse_args(argv)
    if not options.mhz > 0:
        print(f"sim.power: --mhz {options.mhz}: a frequency above 0 is expected", file=sys.stderr)
        return 2
    config = preset(options.preset)
    try:
        liberty = Liberty.read(options.liberty)
        layers = measure(config, liberty, ("pointwise", "fuse_row", "fuse_col"), options.mhz)
        if not options.stos_only:
            layers += measure(config.twin(stos=False), liberty, ("pointwise",), options.mhz)
    except (ReportError, ToolError, EmitError, ToolchainError, SimulationError, ValueError) as error:
        print(f"sim.power: {error}", file=sys.stderr)
        return 2
    assumed = assumed_pj_per_mac(EnergyTable())
    if options.json:
        report = [{**asdict(one), "pe_pj_per_mac": one.pe_pj_per_mac} for one in layers]
        facts = {"library": liberty.name, "mhz": options.mhz, "assumed_pj_per_mac": assumed}
        print(json.dumps({**facts, "layers": report}))
        return 0
    for one in layers:
        print(
            f"{one.layer} ({one.kind}), {'ST-OS' if one.stos else 'plain'} array of {config.rows}x{config.cols}: "
            f"{one.cycles:,} cycles, {one.macs:,} MACs, at {options.mhz:g} MHz"
        )
        print(f"  {'part':18} {'mW':>8} {'clock':>7} {'nets':>7} {'cells':>7} {'leak':>7}  {'nets counted':>12}")
        for name, part in one.parts.items():
            shares = "".join(
                f" {one.milliwatts(Energy(clock=fj), options.mhz):7.4f}"
                for fj in (part.clock, part.switching, part.internal, part.leakage)
            )
            print(f"  {name:18} {one.milliwatts(part, options.mhz):8.4f}{shares}  {part.counted:6,} of {part.nets:6,}")
        print(f"  PEs: {one.pe_pj_per_mac:.3f} pJ per MAC; sw.model.energy: {assumed:.3f} pJ without registers\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
