"""Where a program's cycles go: layer by layer, with what bounds each, what it moves and what energy that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode, Opcode, ResidualOp
from hw.spec.program import Layer, Program
from sw.compiler.traffic import LayerTraffic, traffic
from sw.model.channels import Memory
from sw.model.energy import PARTS, EnergyTable, energy
from sw.model.events import count_events
from sw.model.execute import ExecCycles, exec_costs
from sw.model.layers import LayerCycles, layer_cycles
from sw.model.timeline import Timeline, timeline

__all__ = ["LayerProfile", "Profile", "profile"]


@dataclass(frozen=True)
class LayerProfile:
    """A layer's share of a run.

    Parameters
    ----------
    name, kind, macs
        As in :class:`hw.spec.program.Layer`.
    mode
        Of its EXECs.
    cycles, busy
        As in :class:`sw.model.layers.LayerCycles`.
    limits
        Least cycles that each resource would take: ``compute`` (MACs over PEs), ``input`` and ``output`` (pixels of
        images over columns), ``weight port`` (weights over rows), ``DRAM`` (beats of the busier direction).
    loaded, stored
        DRAM bytes.
    read, written
        Bytes that its EXECs read and write in the activation scratchpad, padding and the second operand left out.
    energy
        Estimate in pJ, by :data:`~sw.model.energy.PARTS`.
    """

    name: str
    kind: str
    mode: str
    macs: int
    cycles: int
    busy: int
    limits: dict[str, int]
    loaded: int
    stored: int
    read: int
    written: int
    energy: dict[str, float]

    @property
    def bound(self) -> str:
        """The resource with the highest limit."""
        return max(self.limits, key=lambda name: self.limits[name])

    def utilisation(self, config: AcceleratorConfig) -> float:
        """Multiply-accumulates per PE and cycle."""
        return self.macs / (self.cycles * config.rows * config.cols) if self.cycles else 0.0

    def to_json(self, config: AcceleratorConfig) -> dict[str, Any]:
        """Return all of it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "mode": self.mode,
            "macs": self.macs,
            "cycles": self.cycles,
            "busy": self.busy,
            "utilisation": self.utilisation(config),
            "bound": self.bound,
            "limits": self.limits,
            "dram_loaded": self.loaded,
            "dram_stored": self.stored,
            "chip_read": self.read,
            "chip_written": self.written,
            "energy_pj": {**self.energy, "total": sum(self.energy.values())},
        }


@dataclass(frozen=True)
class Profile:
    """A program's run, predicted or measured.

    Parameters
    ----------
    program
        It.
    timeline
        When each instruction runs.
    layers
        In order; :attr:`rest` more cycles follow the last one's end.
    rest
        Cycles until the last results are in DRAM.
    energy
        Of the whole run in pJ, by part: that of the layers, of :attr:`rest`, and of fetching HEADER and HALT.
    """

    program: Program
    timeline: Timeline
    layers: list[LayerProfile]
    rest: int
    energy: dict[str, float]

    @property
    def utilisation(self) -> float:
        """Multiply-accumulates per PE and cycle."""
        config = self.program.config
        return self.program.macs / (self.timeline.cycles * config.rows * config.cols)

    @property
    def limit(self) -> int:
        """What the ports of an array of this size allow: sum of the highest limits, of layers that multiply.

        DRAM is left out, and so are passes over pixels that another design could fuse or do without (pooling and gates
        of squeeze-and-excite, relayouts).
        """
        return sum(max(n for name, n in layer.limits.items() if name != "DRAM") for layer in self.layers if layer.macs)


def profile(
    program: Program,
    memory: Memory | None = None,
    *,
    measured: Timeline | None = None,
    energies: EnergyTable | None = None,
) -> Profile:
    """Split a run over the layers.

    Parameters
    ----------
    program
        What runs.
    memory
        Behind the bus, for a prediction.
    measured
        A run on hardware, instead of a prediction.
    energies
        Per event; default :class:`EnergyTable`.
    """
    config, stream = program.config, program.instructions()
    costs = exec_costs(config, stream)
    run = timeline(program, memory, costs) if measured is None else measured
    table = energies or EnergyTable()
    *shares, rest = layer_cycles(program, run.trace, run.cycles)
    layers = []
    for layer, share, moved in zip(program.layers, shares, traffic(program).layers, strict=True):
        mine = [stream[pc] for pc in layer.instructions]
        execs = [costs[pc] for pc in layer.instructions if pc in costs]
        layers.append(_layer(config, layer, mine, execs, share, moved, table))
    owned = {pc for layer in program.layers for pc in layer.instructions}
    others = count_events(config, [instruction for pc, instruction in enumerate(stream) if pc not in owned])
    parts = [*(layer.energy for layer in layers), energy(config, others, rest.cycles, table)]
    total = {name: sum(part[name] for part in parts) for name in PARTS}
    return Profile(program, run, layers, rest.cycles, total)


def _layer(
    config: AcceleratorConfig,
    layer: Layer,
    instructions: Sequence[Instruction],
    costs: Sequence[ExecCycles],
    share: LayerCycles,
    moved: LayerTraffic,
    table: EnergyTable,
) -> LayerProfile:
    execs = [instruction for instruction in instructions if instruction.opcode == Opcode.EXEC]
    dense = execs[0]["mode"] == Mode.GEMM and not execs[0]["depthwise"]
    outputs = sum(item["cout"] * _useful(item, item["out_h"], item["out_w"]) for item in execs)
    # Every group of output channels reads the whole input, every strip of lines all weights of its group.
    groups = layer.output_shape[0] * len(execs) / sum(item["cout"] for item in execs)
    strips = len(execs) / groups
    inputs = sum((item["cin"] if dense else item["cout"]) * _inputs(item) for item in execs)
    lanes = config.read_lanes if execs[0]["mode"] in (Mode.STOS_CH, Mode.STOS_LN) else config.cols
    limits = {
        "compute": layer.macs / (config.rows * config.cols),
        "input": inputs / (groups if dense else 1) / config.cols,
        "output": outputs / config.cols,
        "weight port": sum(map(_weights, execs)) / config.rows / strips,
        "DRAM": max(moved.loaded, moved.stored) / config.axi_bytes,
    }
    return LayerProfile(
        name=layer.name,
        kind=layer.kind,
        mode=Mode(execs[0]["mode"]).name + (" (depthwise)" if execs[0]["depthwise"] else ""),
        macs=layer.macs,
        cycles=share.cycles,
        busy=share.busy,
        limits={name: round(value) for name, value in limits.items()},
        loaded=moved.loaded,
        stored=moved.stored,
        read=sum(cost.reads for cost in costs) * lanes,
        written=sum(map(_written, execs)),
        energy=energy(config, count_events(config, instructions, layer.macs, costs), share.cycles, table),
    )


def _written(item: Instruction) -> int:
    """Return the bytes an EXEC writes."""
    beside = item["res"] == ResidualOp.POOL
    pixels = item["out_h"] * item["out_w"] if beside or not item["gap"] else 0
    return item["cout"] * (pixels + item["gap"])


def _inputs(item: Instruction) -> int:
    """Return the input pixels of a channel that an EXEC needs: a stride may skip lines and pixels."""
    lines = min(item["in_h"], item["out_h"] * min(item["kh"], item["sy"]))
    return _useful(item, lines, min(item["in_w"], item["out_w"] * min(item["kw"], item["sx"])))


def _useful(item: Instruction, lines: int, pixels: int) -> int:
    """Return how many of a channel's pixels are of the image: of segments neither gaps nor missing lines are."""
    if not (item["seg_gap"] or item["seg_missing"]):
        return lines * pixels
    return (-(-pixels // item["seg"]) * lines - item["seg_missing"]) * (item["seg"] - item["seg_gap"])


def _weights(item: Instruction) -> int:
    """Return the weights of an EXEC."""
    if item["mode"] in (Mode.VEC, Mode.MAX):
        return 0
    depth = 1 if item["depthwise"] or item["mode"] != Mode.GEMM else item["cin"]
    return item["cout"] * item["kh"] * item["kw"] * depth
