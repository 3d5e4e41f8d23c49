"""Even blocks of channels: when layers have them, that they cost less, and that the bytes stay the same."""

from __future__ import annotations

import pytest

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Opcode
from hw.spec.program import Program
from sw.compiler import optimise
from sw.compiler.cost import exec_cycles
from sw.compiler.ir import Graph
from sw.compiler.lower import Kernel, lower
from sw.compiler.spread import kernel_cycles
from tests.sw.compiled import check
from tests.sw.ir_graphs import Builder

_SMALL = {"act_kib": 256, "act_banks": 2, "weight_kib": 64, "param_entries": 256, "axi_data_width": 64}
CONFIG = AcceleratorConfig(rows=8, cols=32, **_SMALL)


def layer(cin: int, cout: int, size: int = 60, kernel: int = 1) -> Kernel:
    build = Builder(0)
    graph = optimise(build.graph(build.conv(build.input((cin, size, size)), cout, (kernel, kernel))), CONFIG)
    (found,) = lower(graph, CONFIG)[0]
    return found


def couts(program: Program, name: str) -> set[int]:
    """Return the channels of a layer's EXECs."""
    stream = program.instructions()
    (found,) = (layer for layer in program.layers if layer.name == name)
    return {stream[pc]["cout"] for pc in found.instructions if stream[pc].opcode == Opcode.EXEC}


@pytest.mark.parametrize(
    ("kernel", "want"),
    [
        (layer(5, 9), 5),  # 8 + 5 cycles per tile, 5 + 5 in even blocks
        (layer(6, 18), 6),  # 8 + 8 + 6 and 6 + 6 + 6
        (layer(5, 16), 8),  # full blocks
        (layer(8, 9), 8),  # as many taps as rows
        (layer(1, 9, kernel=3), 8),
        (layer(5, 7), 8),  # one block
        (layer(5, 9, size=12), 8),  # too few tiles
    ],
)
def test_blocks_are_even_where_that_saves_cycles(kernel: Kernel, want: int) -> None:
    cout, lines, _ = kernel.map_shape
    assert kernel.block(cout, CONFIG) == want
    plain = exec_cycles(CONFIG, kernel.mode, False, kernel.extent(cout, lines))
    assert (kernel_cycles(CONFIG, kernel, cout, lines) < plain) == (want < CONFIG.rows)


def residual(build: Builder) -> tuple[Graph, list[str]]:
    """Layers of 5 to 9 channels and back, the last one with a map to add."""
    x = build.input((5, 60, 60))
    wide = build.conv(x, 9)
    back = build.conv(build.conv(wide, 5), 9)
    graph = build.graph(build.conv(build.add(wide, back), 3))
    return graph, [op.name for op in optimise(graph, CONFIG).ops if op.output in (wide, graph.ops[-2].output)]


@pytest.mark.parametrize("act_kib", [256, 16])
def test_blocks_compute_the_same(act_kib: int) -> None:
    """On chip as a whole, and in strips and groups."""
    build = Builder(1)
    graph, names = residual(build)
    program = check(graph, CONFIG.twin(act_kib=act_kib), build.values())
    assert len(names) == 2
    for name in names:
        assert couts(program, name) == {5, 4}
