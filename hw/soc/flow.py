"""From a board's project to figures and a bitstream: Yosys, nextpnr and ecppack, each stage kept by its hash."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.emit import tool_versions
from hw.errors import RequestError
from hw.soc.boards import RESOURCES, Board
from hw.soc.dsp_registers import absorb_registers
from hw.soc.project import SYSTEM, TOP, Request, project_files
from hw.soc.tools import Progress, find_tool, run_tool, synthesise, tool_version
from hw.spec.program import write_atomic

__all__ = ["Options", "build", "check_fit", "ecp5_cells", "xc7_cells"]

_NEXTPNR_CELLS = {"luts": "TRELLIS_COMB", "ffs": "TRELLIS_FF", "dsps": "MULT18X18D", "brams": "DP16KD"}
_REGISTERS = "registers into multiplier blocks"
_WIRE_PS = 1000
"""Delay of a wire that logic is mapped for.  ``synth_ecp5`` reckons with 300 ps, and trades levels of LUTs for fewer
LUTs; routed wires of a design that fills half of the part take about this long."""
_PACKAGES = {"BG256": "CABGA256", "BG381": "CABGA381", "BG554": "CABGA554", "BG756": "CABGA756"}


@dataclass(frozen=True)
class Options:
    """How far to go, and how.

    Parameters
    ----------
    synth, pnr
        Run synthesis; place and route (ECP5).
    seed
        Of placement.
    allow_timing_failure
        Make a bitstream even if the clock is too fast for it.
    """

    synth: bool = True
    pnr: bool = True
    seed: int = 1
    allow_timing_failure: bool = False


def build(request: Request, out: Path, options: Options, progress: Progress) -> dict[str, Any]:
    """Make a board's files; return the figures, also written to ``build.json``.

    A stage whose inputs, options and tools are those of its results in `out` is not run again.

    Raises
    ------
    RequestError
        If the design does not fit, or a tool is missing.
    ToolError
        If a tool fails.
    OSError
        If a file cannot be written.
    """
    board = request.board
    if options.pnr and options.synth and board.family == "ecp5":
        for tool in ("nextpnr-ecp5", "ecppack"):  # before the work starts
            find_tool(tool)
    out.mkdir(parents=True, exist_ok=True)
    (out / "build.json").unlink(missing_ok=True)
    figures: dict[str, Any] = {
        "board": board.name,
        "config": request.config.to_dict(),
        "config_hash": request.config.hash_hex,
        "array_only": request.array_only,
        "memory_kib": request.memory_kib,
        "clock_mhz": request.dividers.mhz,
        "baud": request.baud,
        "stage": "files",
        "available": dict(zip(RESOURCES, board.available, strict=True)),
        "tools": tool_versions(),
        "seconds": {},
    }
    files = _timed(figures, "files", lambda: _write_files(request, out, progress))
    verilog = "".join(files[name] for name in sorted(files) if name.endswith(".v"))
    figures["verilog_sha256"] = hashlib.sha256(verilog.encode()).hexdigest()
    if options.synth:
        cells = _timed(figures, "synth", lambda: _synthesise(board, files, out, progress))
        used = ecp5_cells(cells) if board.family == "ecp5" else xc7_cells(cells)
        figures |= {"stage": "synth", **used}
        check_fit(board, used)
        if options.pnr and board.family == "ecp5":
            _place_and_route(request, out, options, figures, progress)
    write_atomic(out / "build.json", (json.dumps(figures, indent=1) + "\n").encode())
    return figures


def _timed(figures: dict[str, Any], stage: str, work: Any) -> Any:
    start = time.perf_counter()
    result = work()
    figures["seconds"][stage] = round(time.perf_counter() - start, 1)
    return result


def _write_files(request: Request, out: Path, progress: Progress) -> dict[str, str]:
    progress("files: Verilog and constraints")
    files = project_files(request)
    for name, text in files.items():
        write_atomic(out / name, text.encode())
    manifest = {"config": request.config.to_dict(), "config_hash": request.config.hash_hex}
    write_atomic(out / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())
    return files


class _Stage:
    """A stage's results in a folder, with the hash of what they were made from."""

    def __init__(self, out: Path, name: str, results: tuple[str, ...], *facts: object) -> None:
        self.stamp = out / f"{name}.key"
        self.paths = [out / result for result in results]
        self.key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def fresh(self) -> bool:
        """Return whether the results are there and of these inputs; forget them if not."""
        if self.stamp.is_file() and self.stamp.read_text() == self.key and all(path.is_file() for path in self.paths):
            return True
        for path in (self.stamp, *self.paths):
            path.unlink(missing_ok=True)
        return False

    def done(self) -> None:
        """Keep the results."""
        write_atomic(self.stamp, self.key.encode())


def _synthesise(board: Board, files: dict[str, str], out: Path, progress: Progress) -> dict[str, int]:
    """Return cells by type."""
    if board.family == "ecp5":
        results = ("synth.json", "cells.json")
        mapping = [
            f"synth_ecp5 -top {TOP} -run begin:map_luts",
            "check -latchonly -assert",
            f"abc9 -W {_WIRE_PS}",
            "clean",
            f"synth_ecp5 -top {TOP} -json synth.json -run map_cells:",
        ]
    else:
        results, mapping = ("cells.json",), [f"synth_xilinx -family xc7 -flatten -top {TOP}"]
    commands = [f"read_verilog -sv {SYSTEM}.v {TOP}.v", *mapping, "check -assert", "tee -q -o stat.json stat -json"]
    verilog = {name: text for name, text in files.items() if name.endswith(".v")}
    stage = _Stage(out, "synth", results, verilog, commands, _REGISTERS, tool_versions())
    if stage.fresh():
        progress("Yosys: results of these files are here")
    else:
        synthesise(commands, out, "synth.log", progress)
        cells = json.loads((out / "stat.json").read_text())["design"]["num_cells_by_type"]
        if board.family == "ecp5":
            cells["TRELLIS_FF"] = cells.get("TRELLIS_FF", 0) - _registers_into_blocks(out, progress)
        write_atomic(out / "cells.json", json.dumps(cells).encode())
        stage.done()
    return dict(json.loads((out / "cells.json").read_text()))


def _registers_into_blocks(out: Path, progress: Progress) -> int:
    """Rewrite ``synth.json``; return how many flip-flops went."""
    netlist = json.loads((out / "synth.json").read_text())
    moved = absorb_registers(netlist)
    progress(
        f"{_REGISTERS}: {moved.flip_flops} flip-flops; of {moved.blocks} blocks {moved.products} have a register of "
        f"their product, {moved.operands} of their operands"
    )
    write_atomic(out / "synth.json", json.dumps(netlist).encode())
    return moved.flip_flops


def ecp5_cells(cells: dict[str, int]) -> dict[str, int]:
    """Return :data:`~hw.soc.boards.RESOURCES` of an ECP5 netlist.

    A carry cell takes two LUTs and a distributed RAM of 16x4 six: four that store, two that write.
    """
    return {
        "luts": cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0) + 6 * cells.get("TRELLIS_DPR16X4", 0),
        "ffs": cells.get("TRELLIS_FF", 0),
        "dsps": cells.get("MULT18X18D", 0),
        "brams": cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0),
    }


def xc7_cells(cells: dict[str, int]) -> dict[str, int]:
    """Return :data:`~hw.soc.boards.RESOURCES` of a 7-series netlist, distributed RAM counted as LUTs."""

    def count(*patterns: str) -> int:
        return sum(number for name, number in cells.items() if any(re.fullmatch(p, name) for p in patterns))

    ram = {"RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4}
    return {
        "luts": count(r"LUT\d", "SRL16E", "SRLC32E") + sum(size * cells.get(name, 0) for name, size in ram.items()),
        "ffs": count(r"FD[RSCP]E(_1)?"),
        "dsps": count("DSP48E1"),
        "brams": cells.get("RAMB36E1", 0) + -(-cells.get("RAMB18E1", 0) // 2),
    }


def check_fit(board: Board, used: dict[str, int]) -> None:
    """Raise :class:`RequestError` if a part has less than is used."""
    over = [
        f"{used[name]:,} of {has:,} {name}"
        for name, has in zip(RESOURCES, board.available, strict=True)
        if used[name] > has
    ]
    if over:
        raise RequestError(
            f"the design does not fit {board.title}: it takes {', '.join(over)}. Lower --rows and --cols (dsps, luts), "
            f"--act-kib, --weight-kib, --param-entries or --memory-kib (brams)"
        )


def _place_and_route(
    request: Request, out: Path, options: Options, figures: dict[str, Any], progress: Progress
) -> None:
    """Add fmax, timing_met, utilisation and the bitstream's name to the figures."""
    board = request.board
    platform = board.load()
    nextpnr, ecppack = find_tool("nextpnr-ecp5"), find_tool("ecppack")
    version = tool_version(nextpnr)
    figures["tools"]["nextpnr"] = version
    size = f"--{platform.device.partition('-')[2].removesuffix('F').lower()}k"
    arguments = [
        size, "--package", _PACKAGES[platform.package], "--speed", platform.speed, "--json", "synth.json",
        "--lpf", f"{TOP}.lpf", "--textcfg", f"{TOP}.config", "--report", "report.json", "--seed", str(options.seed),
        "--freq", f"{request.dividers.mhz:g}", "--timing-allow-fail",
    ]  # fmt: skip
    netlist = hashlib.sha256((out / "synth.json").read_bytes()).hexdigest()
    constraints = (out / f"{TOP}.lpf").read_text()
    stage = _Stage(out, "pnr", (f"{TOP}.config", "report.json"), netlist, constraints, arguments, version)
    if stage.fresh():
        progress("nextpnr: results of this netlist are here")
    else:
        tell = _NextpnrProgress(progress)
        _timed(figures, "pnr", lambda: run_tool([nextpnr, *arguments], out, "pnr.log", tell, name="nextpnr"))
        stage.done()
    report = json.loads((out / "report.json").read_text())
    figures |= _routed(report, request.dividers.mhz)
    figures |= {"stage": "pnr", "seed": options.seed}
    bitstream = out / f"{TOP}.bit"
    bitstream.unlink(missing_ok=True)
    if figures["timing_met"] or options.allow_timing_failure:
        progress("ecppack: bitstream")
        command = [ecppack, "--compress", f"{TOP}.config", bitstream.name]
        run_tool(command, out, "pack.log", lambda line: None, name="ecppack")
        figures["bitstream"] = bitstream.name


def _routed(report: dict[str, Any], wanted: float) -> dict[str, Any]:
    """Return the figures of nextpnr's report: the slowest clock beside what it was asked for, and cells."""
    clocks = {name: (item["achieved"], item["constraint"]) for name, item in report["fmax"].items()}
    if not clocks:
        raise RequestError("nextpnr reports no clock: the design is empty")
    worst = min(clocks, key=lambda name: clocks[name][0] / clocks[name][1])
    used = {name: report["utilization"].get(cell, {}).get("used", 0) for name, cell in _NEXTPNR_CELLS.items()}
    paths = [item for item in report["critical_paths"] if worst in item["from"] and worst in item["to"]]
    return {
        **used,
        "fmax_mhz": round(clocks[worst][0], 2),
        "timing_met": all(achieved >= constraint for achieved, constraint in clocks.values())
        and clocks[worst][0] >= wanted,
        "clocks_mhz": {name: {"achieved": round(a, 2), "wanted": round(w, 2)} for name, (a, w) in clocks.items()},
        "critical_path": _path(paths[0]) if paths else [],
    }


def _path(path: dict[str, Any]) -> list[str]:
    """Return the cells of a path with their delays, begin first."""
    return [
        f"{step['delay']:.2f} ns {step['type']} {step['to']['cell']}.{step['to']['port']}" for step in path["path"]
    ]


class _NextpnrProgress:
    """Tells of nextpnr's log what shows how far it is."""

    _TOLD = re.compile(
        r"Info: (Packing|Placed \d+ cells|Running \w+|Starting \w+|Routing globals|Max frequency for clock"
        r"|HeAP Placer Time|SA placement time|Router\d time)"
    )
    _INTERVAL = 10.0

    def __init__(self, progress: Progress) -> None:
        self._progress, self._last = progress, 0.0

    def __call__(self, line: str) -> None:
        steps = re.match(r"Info:\s+(at iteration|iter=|\d+ \|)", line)
        now = time.monotonic()
        if not (self._TOLD.match(line) or steps) or (steps and now - self._last < self._INTERVAL):
            return
        self._last = now
        self._progress(f"nextpnr: {line.removeprefix('Info:').strip()}")
