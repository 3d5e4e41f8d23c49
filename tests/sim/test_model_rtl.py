# amaranth: UnusedElaboratable=no
"""The cycle model against the generated Verilog: exact to the cycle unless an EXEC's own operand reads collide."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from hw import burst, fetch, store_unit, token_queue
from hw.array import Array
from hw.exec_unit import operand_latency
from hw.load_unit import LoadUnit
from hw.output_stage import OutputStage
from hw.pooled_bytes import PooledBytes
from hw.pooling import Pooling
from hw.ports import WriteSignature
from hw.result_writer import ResultWriter
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Activation, Queue, ResidualOp
from hw.spec.program import Program
from sim import model_accuracy, random_runs
from sim.backend import Int8Array
from sim.random_draw import Draw
from sim.verilator.backend import VerilatorBackend
from sim.verilator.model import LATENCY
from sw.compiler import compile_graph
from sw.compiler.ir import Graph
from sw.model import bursts, channels, exec_unit, execute
from sw.model import timeline as timelines
from sw.model.channels import Memory
from sw.model.timeline import timeline
from tests.sim import rtl_configs
from tests.sw.ir_graphs import Builder
from tests.sw.random_networks import networks_for

CONFIGS = {name: rtl_configs.CONFIGS[name] for name in ("tiny", "4x24", "plain")}
COUNT = 6
LATE = 8, 0.01
"""By how much the model, which knows these collisions on average only, may be late: cycles, or a share of them."""
NEAR = 1
"""Cycles that an end may be off where loads wait: which burst of those held up asked first is not always right."""


@pytest.fixture(scope="module", params=CONFIGS)
def backend(request: pytest.FixtureRequest) -> Iterator[VerilatorBackend]:
    with VerilatorBackend(CONFIGS[request.param]) as instance:
        yield instance


@cache
def programs(config: AcceleratorConfig) -> list[tuple[Program, dict[str, Int8Array]]]:
    """Return random networks, every second one storing all its tensors."""
    found = networks_for(config, COUNT, macs=400_000)
    return [
        (dumped if number % 2 else compile_graph(network.graph, config), network.inputs)
        for number, (network, dumped) in enumerate(found)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("latency", [64, 3, 200])
@pytest.mark.parametrize("number", range(COUNT))
def test_random_networks(backend: VerilatorBackend, number: int, latency: int) -> None:
    program, inputs = programs(backend.config)[number]
    backend.set_memory(latency=latency)
    measured = backend.run(program, inputs)
    predicted = timeline(program, Memory(latency=latency))
    conflicts = measured.counters["EXEC_PORT"]
    if conflicts:
        assert -max(LATE[0], LATE[1] * conflicts) <= measured.cycles - predicted.cycles <= conflicts
    else:
        near = NEAR if measured.counters["LOAD_PORT"] else 0
        assert abs(predicted.cycles - measured.cycles) <= near
        real, model = ({event.pc: event for event in trace} for trace in (measured.trace, predicted.trace))
        assert real.keys() == model.keys()
        assert all(abs(event.done - real[pc].done) <= near for pc, event in model.items())
        execs = [pc for pc, event in real.items() if event.queue == Queue.EXEC]
        assert near or [model[pc] for pc in execs] == [real[pc] for pc in execs]


@pytest.mark.slow
def test_digits_within_the_limits() -> None:
    """A network that is too large for the scratchpad; the tool's status says that all layers are near enough."""
    assert model_accuracy.main(["digits@tiny"]) == 0


def real_layers() -> Graph:
    """Layers of MobileNetV2 and V3 as converted: strides, a residual, a gate with h-swish, 7 x 7 maps, classifier."""
    build = Builder(0, "layers")
    x = build.conv(build.input((3, 56, 56)), 16, (3, 3), (2, 2))
    for hidden, cout, kernel, stride, gate in ((48, 12, 3, 2, 0), (72, 12, 3, 1, 0), (72, 20, 5, 2, 24)):
        y = build.fuse(build.conv(x, hidden, clamp=(-128, 100)), kernel, (stride, stride))
        y = build.conv(build.gate(y, gate, curve="hswish") if gate else y, cout)
        x = build.add(x, y) if build.tensors[x].shape == build.tensors[y].shape else y
    return build.graph(build.linear(build.pool(build.conv(x, 96)), 40))


@pytest.mark.slow
def test_real_layers(backend: VerilatorBackend) -> None:
    program = compile_graph(real_layers(), backend.config)
    rng = np.random.default_rng(0)
    inputs = {spec.name: rng.integers(-128, 128, spec.shape, dtype=np.int8) for spec in program.inputs}
    backend.set_memory(latency=64)
    found = model_accuracy.compare(program, backend.run(program, inputs))
    assert found.good, (found.error, found.worst)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_execs_back_to_back(backend: VerilatorBackend, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every start and end, in all changes of mode; without second operands, whose reads take the operands' bank."""
    draw_operation = random_runs.random_operation

    def without_second(draw: Draw) -> tuple[ResidualOp, Activation, int]:
        res, act, gap = draw_operation(draw)
        return ResidualOp.NONE if res.reads else res, act, gap

    monkeypatch.setattr(random_runs, "random_operation", without_second)
    program = random_runs.random_run(backend.config, seed)
    backend.set_memory(latency=64)
    traces = [backend.run(program, {}).trace, timeline(program, Memory(latency=64)).trace]
    times = [[(e.pc, e.start, e.done) for e in trace if e.queue == Queue.EXEC] for trace in traces]
    origins = [mine[0][1] for mine in times]
    real, model = (
        [(pc, start - origin, done - origin) for pc, start, done in mine]
        for mine, origin in zip(times, origins, strict=True)
    )
    assert model == real


@pytest.mark.slow
def test_some_networks_show_each_kind_of_run(backend: VerilatorBackend) -> None:
    """Otherwise the test above would compare little: runs without a conflict, and with stores that wait."""
    backend.set_memory()
    counters = [backend.run(program, inputs).counters for program, inputs in programs(backend.config)]
    exact = [found for found in counters if not found["EXEC_PORT"]]
    assert any(not found["LOAD_PORT"] + found["STORE_PORT"] for found in exact)
    assert any(found["STORE_PORT"] for found in exact)


@pytest.mark.parametrize("pipelined", [False, True])
def test_latencies_are_those_of_the_hardware(pipelined: bool) -> None:
    config = AcceleratorConfig(pipeline_mac=pipelined)
    extra = int(pipelined)
    assert execute.OPERAND + extra == operand_latency(config)
    assert exec_unit.NEXT_INSTRUCTION == ResultWriter.NEXT_INSTRUCTION
    array, mac = Array(config), 1 + 3 * extra
    assert (mac + config.rows, mac + config.rows + config.cols) == (array.LATENCY_STOS, array.LATENCY_GEMM)
    assert execute.OUTPUT + 9 * extra == OutputStage(config.cols, pipeline=pipelined).LATENCY
    for cols in (4, 16, 64, 65):
        pooling = Pooling(cols, config.rows, pipeline=pipelined)
        assert pooling.latency == execute.lane_sum_stages(cols) + execute.POOLING + 3 * extra
    assert execute.COLLECT + 1 == PooledBytes.LATENCY
    assert 1 + WriteSignature.WRITE_LATENCY == execute.VISIBLE
    assert 1 + execute.VISIBLE == execute.WRITE


def test_depths_are_those_of_the_hardware() -> None:
    assert Memory().latency == LATENCY
    assert timelines.QUEUE_DEPTH == token_queue.QUEUE_DEPTH
    assert timelines.IN_FLIGHT == token_queue.IN_FLIGHT_DEPTH
    assert timelines.PREFETCH == fetch.PREFETCH
    assert (bursts.MAX_BURST_BEATS, bursts.PAGE_BYTES) == (burst.MAX_BURST_BEATS, burst.PAGE_BYTES)
    assert channels.BUFFERED_BEATS == store_unit.DATA_BEATS
    # what the model leaves out never limits
    unit = LoadUnit(AcceleratorConfig())
    assert unit.outstanding > Memory().outstanding
    assert unit.instructions > token_queue.IN_FLIGHT_DEPTH
