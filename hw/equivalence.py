"""Proof that ST-OS hardware in GEMM mode is the plain hardware: ``python -m hw.equivalence``.

Yosys is given the Verilog of both, the ST-OS one with its mode inputs and taps tied as GEMM holds them, the pixels of
its halo left free.  Registers correspond by name.  It proves that equal registers and equal inputs give equal
outputs and, after the clock edge, equal registers: by induction the two never differ, once a flush has left them in the
same state (the array's registers have no reset, see :mod:`hw.pe`).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from amaranth.hdl import Shape
from amaranth.lib import wiring

from hw.emit import emit
from hw.errors import exit_status
from hw.pe import PE
from hw.row import Row
from hw.spec.config import PRESETS, AcceleratorConfig, preset
from hw.yosys import YosysError, run_yosys

__all__ = ["GEMM", "Proof", "main", "prove", "prove_all"]

GEMM: Mapping[str, int] = {"stos": 0, "use_taps": 0, "halo_out": 0, "capture": 0, "v_en": 1, "w_row_n": 1}
"""What GEMM mode holds the ST-OS inputs at, every bit of them: ``w_row_n`` of ones is a tap of 0."""

_PREPARE = (
    "read_verilog -sv {folder}/{side}.v {folder}/top_{side}.v",
    "hierarchy -check -top top_{side}",
    "proc",
    "flatten",
    "rename -hide w:*._[0-9]*_",  # names that Yosys made up pair at random
    "setattr -unset init w:*",  # nothing may depend on what the registers start with
    "opt -full",
    "design -stash {side}",
)
_COMPARE = (
    "design -copy-from plain -as plain top_plain",
    "design -copy-from stos -as stos top_stos",
    "equiv_make plain stos both",
    "hierarchy -top both",
    "opt_clean",
    "opt_merge -share_all",  # one multiplier instead of two with the same operands, which SAT would have to prove equal
    "opt_clean",
    "equiv_simple -short",
    "equiv_induct",
    "equiv_status -assert",
)
_STATUS = re.compile(r"^  Of those cells (\d+) are proven and (\d+) are unproven\.$", re.MULTILINE)
_UNPROVEN = re.compile(r"^  Unproven \$equiv \S+: \\(?:dut\.)?(\S+)_gold (\[\d+\])?", re.MULTILINE)


@dataclass(frozen=True)
class Proof:
    """What Yosys found.

    Parameters
    ----------
    name
        What was compared.
    points
        Register, wire and output bits that correspond.
    proven
        How many of them are equal whenever all are equal in the cycle before.
    differing
        Names of signals with others, without their bits.
    seconds
        Wall-clock time.
    """

    name: str
    points: int
    proven: int
    differing: tuple[str, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the two are equivalent."""
        return self.points > 0 and self.proven == self.points


def prove(plain: wiring.Component, stos: wiring.Component, name: str, *, tied: Mapping[str, int] = GEMM) -> Proof:
    """Compare an ST-OS component with its plain twin.

    Parameters
    ----------
    plain, stos
        The components.  Ports of the same name are connected; where the ST-OS one is wider, the bits at its low end
        are the halo's.
    name
        What to call the comparison.
    tied
        Values, of every bit, of inputs that only `stos` has; others are free.

    Raises
    ------
    hw.yosys.YosysError
        If Yosys fails otherwise than by an unproven point.
    """
    started = time.monotonic()
    mine, theirs = _ports(plain), _ports(stos)
    with tempfile.TemporaryDirectory(prefix="rowcast-") as folder:
        for side, component in (("plain", plain), ("stos", stos)):
            Path(folder, f"{side}.v").write_text(emit(component, f"{side}_dut"))
            Path(folder, f"top_{side}.v").write_text(_top(side, mine, theirs, tied))
        commands = [c.format(folder=folder, side=side) for side in ("plain", "stos") for c in _PREPARE]
        try:
            log = run_yosys([*commands, *_COMPARE])
        except YosysError as error:
            if "unproven $equiv cells in 'equiv_status" not in str(error):
                raise
            log = error.log
    found = _STATUS.search(log)
    if found is None:
        raise YosysError(f"no result in the log: {log[-500:]}", log)
    proven, unproven = map(int, found.groups())
    signals = tuple(sorted({match[1] for match in _UNPROVEN.finditer(log)}))
    return Proof(name, proven + unproven, proven, signals, round(time.monotonic() - started, 2))


def prove_all(config: AcceleratorConfig) -> list[Proof]:
    """Compare PE and row of a configuration with their plain twins, with `pipeline_mac` and without."""
    proofs = []
    for pipelined in (False, True):
        suffix = ", pipeline_mac" if pipelined else ""
        pes = (PE(stos=stos, pipeline_mac=pipelined) for stos in (False, True))
        proofs.append(prove(*pes, f"PE{suffix}"))
        halos = ((False, 0), (True, config.max_kernel - 1))
        rows = (Row(config.cols, halo, stos=stos, pipeline_mac=pipelined) for stos, halo in halos)
        proofs.append(prove(*rows, f"row of {config.cols} PEs{suffix}"))
    return proofs


@dataclass(frozen=True)
class _Port:
    flow: str
    width: int


def _ports(component: wiring.Component) -> dict[str, _Port]:
    ports = {}
    for path, member, _ in component.signature.flatten(component):
        flow = "input" if member.flow == wiring.In else "output"
        ports["_".join(map(str, path))] = _Port(flow, Shape.cast(member.shape).width)
    return ports


def _top(side: str, plain: Mapping[str, _Port], stos: Mapping[str, _Port], tied: Mapping[str, int]) -> str:
    """Return a module around one side; both sides' have the same ports."""
    ports, wires, connected = ["input clk"], [], [".clk(clk)", ".rst(1'b0)"]
    for name, theirs in stos.items():
        mine = plain.get(name, _Port(theirs.flow, 0))
        extra = theirs.width - mine.width
        own = f"{name}_halo" if mine.width else name  # bits of this port that only the ST-OS side has
        pieces = []
        if mine.width:
            ports.append(f"{mine.flow} [{mine.width - 1}:0] {name}")
            pieces.append(name)
        if extra and name in tied and not mine.width:
            pieces.append(f"{{{extra}{{1'b{tied[name]}}}}}")
        elif extra:
            pieces.append(own)
            (ports if theirs.flow == "input" else wires).append(
                f"{'input' if theirs.flow == 'input' else 'wire'} [{extra - 1}:0] {own}"
            )
        if side == "stos":
            connected.append(f".{name}({{{', '.join(pieces)}}})")
        elif mine.width:
            connected.append(f".{name}({name})")
    body = "".join(f"  {wire};\n" for wire in wires) + f"  {side}_dut dut({', '.join(connected)});\n"
    return f"module top_{side}({', '.join(ports)});\n{body}endmodule\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 proven, 1 not proven or Yosys failed."""
    parser = argparse.ArgumentParser(
        prog="python -m hw.equivalence",
        description="Prove with Yosys that PE and row with ST-OS, in GEMM mode, are the plain PE and row.",
        epilog="With pipeline_mac and without; the row is as long as the configuration's.",
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="tiny", help="configuration (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args(argv)
    return exit_status("hw.equivalence", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    proofs = prove_all(preset(options.preset))
    if options.json:
        print(json.dumps({"proofs": [{**asdict(proof), "holds": proof.holds} for proof in proofs]}))
    else:
        for proof in proofs:
            verdict = "equivalent" if proof.holds else f"NOT PROVEN: {', '.join(proof.differing)}"
            print(f"{proof.name:28} {proof.proven:5} of {proof.points:5} points  {proof.seconds:5.1f} s  {verdict}")
    return 0 if all(proof.holds for proof in proofs) else 1


if __name__ == "__main__":
    sys.exit(main())
