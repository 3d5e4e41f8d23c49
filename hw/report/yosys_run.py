"""One run of Yosys in a process of its own, which Yosys may end: ``python -m hw.report.yosys_run job.json``.

The job names files, and the modules to keep as black boxes; the results are files in its folder.  Standard output is
Yosys' log, lines with :data:`PROGRESS` in front on standard error tell what is being done.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["MEMORIES", "MULTIPLIER", "PE", "PROGRESS", "Job", "main"]

PROGRESS = "progress: "
MEMORIES = "rowcast_ram_*"
"""Modules that stay black boxes in every run."""

PE = "rowcast_pe"
MULTIPLIER = "rowcast_multiplier"
"""The PE's product, made a module of its own: else what a change of the PE costs drowns in the noise of mapping it."""

_MAP = "strash;&get,-n;&fraig,-x;&put;scorr;dc2;dretime;strash"
_CELLS = f"{_MAP};&get,-n;&dch,-f;&nf;&put"  # what `abc -liberty` does
_GATES = f"{_MAP};dch;map"  # what `abc -g` does


@dataclass(frozen=True)
class Job:
    """What to synthesise.

    Parameters
    ----------
    folder
        Holds ``design.v``, with a library ``cells.lib``; gets ``netlist.v`` and ``stat.json``.
    liberty
        Whether there is a library; otherwise the cells are Yosys' generic gates.
    top
        The module to flatten everything into; empty: keep the hierarchy.
    black_boxes
        Modules that are known already.
    """

    folder: str
    liberty: bool
    top: str = ""
    black_boxes: tuple[str, ...] = ()

    def save(self) -> Path:
        """Write the job into its folder; return the file."""
        path = Path(self.folder, "job.json")
        path.write_text(json.dumps(asdict(self)))
        return path


def _tell(text: str) -> None:
    print(f"{PROGRESS}{text}", file=sys.stderr, flush=True)


def main(path: str) -> None:
    """Run a job; Yosys ends the process with its own message and status if it refuses the design."""
    from pyosys import libyosys as ys

    job = Job(**json.loads(Path(path).read_text()))
    folder, design = job.folder, ys.Design()

    def run(command: str) -> None:
        ys.run_pass(command, design)

    def modules() -> list[str]:
        """Return the names of the modules that have contents."""
        found = [(str(name).removeprefix("\\"), module) for name, module in design.modules_.items()]
        return sorted(name for name, module in found if not module.get_blackbox_attribute())

    run(f"read_verilog -sv {folder}/design.v")
    run(f"blackbox {MEMORIES}")
    for name in job.black_boxes:
        run(f"blackbox {name}")
    run(f"hierarchy -check -top {job.top}" if job.top else "hierarchy -check")
    kept = modules()
    _tell(f"{len(kept)} modules: processes, arithmetic, flip-flops")
    if PE in kept and not job.top:
        for command in ("proc", "opt_expr", "opt_clean", "wreduce", "opt_clean"):
            run(command)
        run(f"select -assert-count 1 {PE}/t:$mul")
        run(f"select {PE}/t:$mul")
        run(f"submod -name {MULTIPLIER}")
        run("select -clear")
    run(f"synth -booth -run begin:check -flatten -top {job.top}" if job.top else "synth -booth -run begin:check")
    cells = f"{folder}/cells.lib"
    run(f"dfflibmap -liberty {cells}" if job.liberty else "dfflegalize -cell $_DFF_P_ 01")
    kept = modules()
    for number, name in enumerate(kept, 1):
        _tell(f"mapping {number} of {len(kept)}: {name}")
        run(f"log {PROGRESS}{name}")
        if job.liberty:
            run(f"abc -liberty {cells} -script +{_CELLS};print_stats;topo;stime {name}")
        else:
            run(f"abc -g cmos -script +{_GATES};print_stats {name}")
    run("opt_clean")
    run("rename -wire")
    _tell("counting cells")
    library = f"-liberty {cells}" if job.liberty else "-tech cmos"
    run(f"tee -q -o {folder}/stat.json stat -json {library}")
    run(f"write_verilog -noattr -noexpr -simple-lhs {folder}/netlist.v")


if __name__ == "__main__":
    main(sys.argv[1])
