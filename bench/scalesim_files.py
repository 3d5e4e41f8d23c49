"""SCALE-Sim's input files, and its runs in an environment of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen

from sw.model.shapes import LayerShape

__all__ = ["Measured", "PeerError", "Work", "check", "configuration", "layout", "parse", "simulate", "topology", "work"]

RUNNER = Path(__file__).with_name("scalesim_run.py")

_LAYOUT_COLUMNS = 20  # that its reader expects; unused, as both custom layouts are off


class PeerError(ValueError):
    """SCALE-Sim is not there, or did not do what was asked; the message says what to do."""


@dataclass(frozen=True)
class Work:
    """What SCALE-Sim is given for a layer: a dense convolution without padding.

    Parameters
    ----------
    height, width
        Of the input that is read, padding included.
    kernel
        (y, x).
    channels, filters
        1 and 1 for a depthwise layer.
    stride
        Of both axes.
    times
        How often it runs: the channels of a depthwise layer, whose filters run one after the other; else 1.
    """

    height: int
    width: int
    kernel: tuple[int, int]
    channels: int
    filters: int
    stride: int
    times: int


@dataclass(frozen=True)
class Measured:
    """A piece of work, simulated once: cycles without first filling its buffers, and CPU seconds."""

    cycles: int
    seconds: float


def work(shape: LayerShape) -> Work:
    """Return a layer as SCALE-Sim's topology format can say it.

    Raises
    ------
    PeerError
        If it cannot: the format has one stride for both axes, and no groups but single channels.
    """
    if shape.stride[0] != shape.stride[1]:
        raise PeerError(f"layer {shape.name}: strides {shape.stride} differ, which SCALE-Sim's topology cannot say")
    if shape.groups not in (1, shape.channels) or shape.groups > 1 and shape.outputs != shape.channels:
        raise PeerError(f"layer {shape.name}: {shape.groups} groups of several channels, which SCALE-Sim has not")
    stride, depthwise = shape.stride[0], shape.groups > 1
    return Work(
        height=(shape.out_height - 1) * stride + shape.kernel[0],
        width=(shape.out_width - 1) * stride + shape.kernel[1],
        kernel=shape.kernel,
        channels=1 if depthwise else shape.channels,
        filters=1 if depthwise else shape.outputs,
        stride=stride,
        times=shape.channels if depthwise else 1,
    )


def topology(items: Sequence[Work]) -> str:
    """Return the topology file.  Names must not hold "DP", by which SCALE-Sim would repeat a layer per channel."""
    head = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,"
    rows = [
        f"L{index}, {item.height}, {item.width}, {item.kernel[0]}, {item.kernel[1]}, {item.channels}, {item.filters}, "
        f"{item.stride},"
        for index, item in enumerate(items)
    ]
    return "\n".join([head, *rows]) + "\n"


def layout(items: Sequence[Work]) -> str:
    """Return the layout file, without which SCALE-Sim 3.0 does not start; nothing in it is used."""
    columns = range(_LAYOUT_COLUMNS)
    head = ",".join(["Layer name", *(f"column {column}" for column in columns)])
    rows = [",".join([f"L{index}", *("1" for _ in columns)]) for index in range(len(items))]
    return "\n".join(f"{line}," for line in [head, *rows]) + "\n"


def configuration(rows: int, cols: int) -> str:
    """Return the configuration: output-stationary, bandwidth that never limits, no sparsity, no custom layout."""
    sections = {
        "general": {"run_name": "rowcast"},
        "run_presets": {"InterfaceBandwidth": "CALC", "UseRamulatorTrace": False},
        "architecture_presets": {
            "ArrayHeight": rows,
            "ArrayWidth": cols,
            **dict.fromkeys(("ifmapsramszkB", "filtersramszkB", "ofmapsramszkB"), 1024),
            "IfmapOffset": 0,
            "FilterOffset": 10_000_000,
            "OfmapOffset": 20_000_000,
            "Dataflow": "os",
            "Bandwidth": cols,
            "ReadRequestBuffer": 32,
            "WriteRequestBuffer": 32,
        },
        "layout": {
            f"{kind}{name}": value
            for kind in ("Ifmap", "Filter")
            for name, value in {
                "CustomLayout": False,
                "SRAMBankBandwidth": 10,
                "SRAMBankNum": 10,
                "SRAMBankPort": 2,
            }.items()
        },
        "sparsity": {"SparsitySupport": False},
    }
    lines = []
    for section, entries in sections.items():
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in entries.items()), ""]
    return "\n".join(lines)


def parse(line: str, count: int) -> tuple[int, Measured]:
    """Read a line that the runner printed: index of the work, and what was measured.

    Raises
    ------
    PeerError
        If it is not one.
    """
    try:
        record = json.loads(line)
        index, cycles, seconds = record["index"], record["cycles"], record["cpu_seconds"]
    except (ValueError, KeyError, TypeError):
        raise PeerError(f"SCALE-Sim's runner printed {line.strip()!r}, which is no result") from None
    if not (isinstance(index, int) and 0 <= index < count and isinstance(cycles, int) and cycles > 0):
        raise PeerError(f"SCALE-Sim's runner printed {line.strip()!r}: no cycles of one of {count} layers")
    return index, Measured(cycles, float(seconds))


def check(python: Path) -> None:
    """Refuse an interpreter that does not exist with :class:`PeerError`."""
    if not python.is_file():
        raise PeerError(
            f"{python}: no such interpreter; nox -s bench-peers makes an environment with SCALE-Sim, or make one with "
            "'python -m venv DIR && DIR/bin/pip install scalesim==3.0.0 \"numpy<2.3\"' and pass --scalesim "
            "DIR/bin/python"
        )


def simulate(
    python: Path, items: Sequence[Work], rows: int, cols: int, progress: Callable[[int], None] = lambda done: None
) -> tuple[str, list[Measured]]:
    """Run SCALE-Sim.

    Parameters
    ----------
    python
        Interpreter of an environment with scalesim.
    items
        What to simulate, each once.
    rows, cols
        Array.
    progress
        Called with the number of items done.

    Returns
    -------
    tuple
        SCALE-Sim's version, and a measurement per item.

    Raises
    ------
    PeerError
        If it is not installed there, or fails.
    """
    check(python)
    with tempfile.TemporaryDirectory() as folder:
        files = {"scale.cfg": configuration(rows, cols), "topology.csv": topology(items), "layout.csv": layout(items)}
        for name, text in files.items():
            Path(folder, name).write_text(text)
        command = [str(python.absolute()), str(RUNNER), *(str(Path(folder, name)) for name in files), folder]
        complaints = Path(folder, "stderr.txt")  # a pipe that nobody reads would fill with progress bars
        with (
            complaints.open("w") as errors,
            Popen(command, stdout=PIPE, stderr=errors, text=True) as process,
        ):
            try:
                assert process.stdout is not None
                head = process.stdout.readline()
                found: dict[int, Measured] = {}
                for line in process.stdout:
                    index, measured = parse(line, len(items))
                    found[index] = measured
                    progress(len(found))
            except BaseException:
                process.kill()
                raise
        complaint = complaints.read_text().strip()
    if process.returncode or len(found) != len(items):
        last = complaint.splitlines()[-1] if complaint else f"{len(found)} of {len(items)} layers came back"
        raise PeerError(f"SCALE-Sim in {python} failed ({last}); make its environment anew with nox -s bench-peers")
    return str(json.loads(head)["version"]), [found[index] for index in range(len(items))]
