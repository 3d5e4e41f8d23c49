"""Groups of kernels that run strip by strip: what their windows hold, and the bytes they compute."""

from __future__ import annotations

import os

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Opcode, Region, Target
from sim.iss import IssBackend
from sw.compiler import compile_graph, optimise
from sw.compiler.fusion import Fuser
from sw.compiler.ir import Graph
from sw.compiler.lower import Kernel, lower
from sw.compiler.memory import Fit
from sw.compiler.plan import GroupPlan, Groups, Plan, Plans, _DoesNotFit, _Planner, plan
from sw.compiler.storage import Storage
from sw.compiler.tiling import input_lines
from sw.compiler.traffic import traffic
from sw.compiler.windows import Schedule, line_views, progress, schedule
from sw.frontends.networks import quantised_network
from sw.frontends.torch_export import import_program
from sw.regions import read_tensor
from tests.sw.ir_graphs import Builder
from tests.sw.ir_reference import run_integer
from tests.sw.random_networks import CONFIGS, compile_in_smallest, random_network

COUNT = int(os.environ.get("ROWCAST_NETWORKS", "20"))

SMALL = AcceleratorConfig(rows=4, cols=4, act_kib=8, act_banks=2, weight_kib=4, param_entries=256, axi_data_width=64)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> list[GroupPlan]:
    """Make the compiler form groups wherever it can, thin ones first; return those it then makes."""
    made: list[GroupPlan] = []
    fit = Fuser.choices

    def remember(self: Fuser, *arguments: object) -> list:
        found = fit(self, *arguments)
        made.extend(found)
        return found

    monkeypatch.setattr(Fuser, "_cost", lambda *_: 0.0)
    monkeypatch.setattr(Fuser, "regions", lambda self: [(0, len(self.kernels))])
    monkeypatch.setattr(Fuser, "choices", remember)
    return made


def turns_back(self: Fuser | None, kernels: object, windows: object, plan: Schedule) -> float:
    """A cost by which groups whose first kernel runs ahead of the last one are the best."""
    strips = [item.strip for item in plan.items if item.opcode == Opcode.EXEC]
    return -sum(after < before for before, after in zip(strips, strips[1:], strict=False))


def two_blocks(seed: int = 0) -> tuple[Builder, Graph]:
    """Two inverted residuals with FuSe filters, the first one at stride 2, the second one with a shortcut."""
    build = Builder(seed)
    x = build.conv(build.input((3, 65, 50)), 8, (3, 3), (2, 2), (1, 1, 1, 1))
    x = build.conv(build.fuse(build.conv(x, 24), 3, (2, 2)), 12)
    y = build.conv(build.fuse(build.conv(x, 36), 5), 12)
    return build, build.graph(build.conv(build.add(x, y), 4))


def planned(graph: Graph, config: AcceleratorConfig) -> Plan:
    graph = optimise(graph, config)
    kernels, views = lower(graph, config)
    return plan(graph, kernels, views, config)


def groups(made: Plan) -> list[GroupPlan]:
    return [item for item in made.kernels if isinstance(item, GroupPlan)]


def check_window_bytes(group: GroupPlan) -> None:
    """Follow what every byte of the windows holds: reads find the channel and line they want, lines are made once."""
    windows = group.choice.schedule.windows
    holds: dict[int, tuple[str, int, int]] = {}
    computed: dict[tuple[int, int], int] = {}

    def span(name: str, strip: int, channel: int, line: int) -> range:
        first = windows[name].address(group.windows[name], strip, channel, line)
        bases, size = group.windows[name], windows[name].size
        assert any(base <= first and first + windows[name].shape[2] <= base + size for base in bases)
        return range(first, first + windows[name].shape[2])

    for item in group.choice.schedule.items:
        kernel: Kernel = group.kernels[item.kernel]
        if item.opcode == Opcode.EXEC:
            for view in line_views(kernel):
                lines = input_lines(kernel, *item.lines) if view is kernel.source else item.lines
                channels = range(view.offset // view.plane, view.offset // view.plane + view.shape[0])
                for channel in channels if view.storage in windows else ():
                    for line in range(*lines):
                        bytes_ = span(view.storage, item.strip, channel, line)
                        assert {holds.get(byte) for byte in bytes_} == {(view.storage, channel, line)}
            computed |= {(item.kernel, line): computed.get((item.kernel, line), 0) + 1 for line in range(*item.lines)}
        if item.opcode != Opcode.STORE and item.storage in windows:
            count = windows[item.storage].shape[0]
            first = kernel.target.offset // kernel.target.plane if item.opcode == Opcode.EXEC else 0
            for channel in range(first, first + (kernel.map_shape[0] if item.opcode == Opcode.EXEC else count)):
                for line in range(*item.lines):
                    for byte in span(item.storage, item.strip, channel, line):
                        holds[byte] = (item.storage, channel, line)
    assert set(computed.values()) == {1}
    for index, kernel in enumerate(group.kernels):
        assert sum(1 for number, _ in computed if number == index) == kernel.map_shape[1]


@pytest.mark.parametrize("ahead", [False, True])
def test_windows_hold_what_is_read_and_every_line_is_computed_once(
    eager: list[GroupPlan], monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    """With windows that slide, and with strips that take turns; with the first kernel a strip ahead or not."""
    if ahead:
        monkeypatch.setattr(Fuser, "_cost", turns_back)
    _, graph = two_blocks()
    found = groups(planned(graph, SMALL))
    assert found
    assert any(turns_back(None, None, None, group.choice.schedule) < 0 for group in found) == ahead
    windows = [window for group in found for window in group.choice.schedule.windows.values()]
    assert {bool(window.starts) for window in windows} == {False, True}
    for group in found:
        check_window_bytes(group)


def test_a_window_is_as_high_as_what_is_alive() -> None:
    """A strip's six lines, two more under a kernel of three lines; where none are kept, strips take turns."""
    build = Builder(1)
    x = build.conv(build.input((4, 24, 8)), 16)
    x = build.conv(x, 0, (3, 3), depthwise=True)
    graph = build.graph(build.conv(x, 4))
    kernels, _ = lower(graph, SMALL)
    pieces = progress(kernels, 6)
    assert pieces[0] == [(0, 7), (7, 13), (13, 19), (19, 24)]
    assert pieces[1] == pieces[2] == [(0, 6), (6, 12), (12, 18), (18, 24)]
    first, middle, last = (kernel.target.storage for kernel in kernels)
    shapes = {name: graph[name].shape for name in ("x", first, middle, last)}
    windows = schedule(kernels, shapes, ["x"], [last], pieces).windows
    assert {name: (window.lines, window.copies) for name, window in windows.items()} == {
        "x": (7, 2),  # one that is read, and one that is loaded
        first: (8, 1),
        middle: (6, 1),
        last: (6, 2),
    }
    assert [name for name, window in windows.items() if not window.starts] == [first]
    assert windows[first].size == 15 * 8 * 8 + 24 * 8


def test_the_first_strip_may_be_the_short_one() -> None:
    build = Builder(1)
    x = build.conv(build.input((4, 23, 8)), 16)
    x = build.conv(x, 0, (3, 3), depthwise=True)
    kernels, _ = lower(build.graph(build.conv(x, 4)), SMALL)
    pieces = progress(kernels, 6, short_first=True)
    assert pieces[0] == [(0, 6), (6, 12), (12, 18), (18, 23)]
    assert pieces[1] == pieces[2] == [(0, 5), (5, 11), (11, 17), (17, 23)]
    assert progress(kernels, 6)[2] == [(0, 6), (6, 12), (12, 18), (18, 23)]


def test_a_group_that_loads_its_input_begins_with_its_short_strip() -> None:
    """Nothing runs beside the first load."""
    _, graph = two_blocks()
    (group,) = groups(planned(graph, SMALL))
    items, last = group.choice.schedule.items, len(group.kernels) - 1
    assert items[0].opcode == Opcode.LOAD
    heights = [item.lines[1] - item.lines[0] for item in items if item.opcode == Opcode.EXEC and item.kernel == last]
    assert heights[0] < min(heights[1:])


def test_a_group_keeps_what_is_between_its_kernels_off_dram(eager: list[GroupPlan]) -> None:
    build, graph = two_blocks()
    whole = compile_graph(graph, SMALL, fusion=False)
    fused = compile_graph(graph, SMALL)
    assert fused.region_sizes[Region.WORK] < whole.region_sizes[Region.WORK] / 4
    stored = [
        sum(i["rows"] * i["row_bytes"] for i in program.instructions() if i.opcode == Opcode.STORE)
        for program in (whole, fused)
    ]
    assert stored[1] < stored[0] / 4
    inputs = build.values()
    want = run_integer(optimise(graph, SMALL), SMALL, inputs)
    for program in (whole, fused):
        got = IssBackend(SMALL).run(program, inputs).outputs
        for name in graph.outputs:
            np.testing.assert_array_equal(got[name], want[name])


def test_constants_of_a_group_are_loaded_once() -> None:
    _, graph = two_blocks()
    (group,) = groups(planned(graph, SMALL))
    assert len(group.kernels) > 1 and len({item.strip for item in group.choice.schedule.items}) > 1
    program = compile_graph(graph, SMALL)
    loads = [i for i in program.instructions() if i.opcode == Opcode.LOAD and i["target"] != Target.ACT]
    assert len({i["dram_offset"] for i in loads}) == len(loads)


def test_where_a_kernel_beside_the_groups_does_not_fit_all_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _, graph = two_blocks()
    assert groups(planned(graph, SMALL))
    place, refused = _Planner._place, []

    def refuse(self: _Planner, storages: dict[str, Storage], groups: Groups, fits: dict[str, Fit]) -> Plans:
        if not groups:
            return place(self, storages, groups, fits)
        for storage in storages.values():
            storage.resident = False  # nothing is left to send to DRAM
        refused.append(next(i for i in range(len(self.kernels)) if not any(low <= i < high for low, high in groups)))
        raise _DoesNotFit(refused[-1], 1, ())

    monkeypatch.setattr(_Planner, "_place", refuse)
    assert len(planned(graph, SMALL).kernels) == len(lower(optimise(graph, SMALL), SMALL)[0])
    assert len(refused) == 1


@pytest.mark.slow
def test_no_wide_map_of_mobilenet_v2_reaches_dram() -> None:
    """With 256 KiB only narrow maps between blocks do, with 512 KiB and more nothing but the result."""
    found = quantised_network("mobilenet_v2:fuse_half", random_weights=True)
    graph = import_program(found.exported, name=found.name, meta=found.meta)
    moved = {
        (name, fusion): traffic(compile_graph(graph, PRESETS[name], fusion=fusion))
        for name in ("edge16", "edge32", "edge64")
        for fusion in (False, True)
    }
    for name in ("edge16", "edge32", "edge64"):
        assert moved[name, True].total("stored") < moved[name, False].total("stored") / 8
        assert moved[name, True].total("activations") < moved[name, False].total("activations") / 3
    assert moved["edge32", True].stored == moved["edge64", True].stored == 1000
    program = compile_graph(graph, PRESETS["edge16"])
    wide = {
        layer.name for layer in program.layers if layer.kind in ("fuse_row", "fuse_col") or layer.name[-4:] == ".0.0"
    }
    layers = zip(program.layers, moved["edge16", True].layers, strict=True)
    assert [layer.name for layer, bytes_ in layers if bytes_.output != "on chip" and layer.name in wide] == []


@pytest.mark.parametrize("seed", range(COUNT))
def test_random_networks_in_groups(seed: int, eager: list[GroupPlan], monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups wherever possible, with every tensor stored and without, on the simulator that checks tokens."""
    if seed % 2:
        monkeypatch.setattr(Fuser, "_cost", turns_back)
    network, configs = random_network(1000 + seed), list(CONFIGS.values())
    for dump in (False, True):
        program = compile_in_smallest(network.graph, configs[seed % len(configs)], dump_tensors=dump)
        want = run_integer(optimise(network.graph, program.config), program.config, network.inputs)
        result = IssBackend(program.config).run(program, network.inputs)
        for spec in program.tensors:
            np.testing.assert_array_equal(read_tensor(result.regions, spec), want[spec.name], err_msg=spec.name)


def test_random_networks_do_form_groups(eager: list[GroupPlan]) -> None:
    found = []
    for seed in range(1000, 1020):
        found += groups(planned(random_network(seed).graph, PRESETS["edge8"]))
    assert len(found) >= 5
    assert max(len(group.kernels) for group in found) >= 4
    for group in found[:3]:
        check_window_bytes(group)


def _bytes_are_right(build: Builder, graph: Graph, config: AcceleratorConfig) -> None:
    inputs = {name: array for name, array in build.values().items() if name in graph.inputs}
    want = run_integer(optimise(graph, config), config, inputs)
    result = IssBackend(config).run(compile_graph(graph, config), inputs)
    for name in graph.outputs:
        np.testing.assert_array_equal(result.outputs[name], want[name])


TIGHT = {"rows": 4, "cols": 8, "act_banks": 2, "weight_kib": 8, "param_entries": 256, "axi_data_width": 64}


def test_a_strip_without_work_for_the_first_kernels_loads_nonetheless() -> None:
    """A branch of half the height and one that is not: in some strips only the last kernel computes."""
    build = Builder(1)
    x = build.input((3, 30, 80))
    low = build.conv(build.conv(x, 8, (3, 3), (2, 2), (1, 1, 1, 1)), 12)
    graph = build.graph(low, build.conv(x, 16, (3, 3), (1, 1), (1, 1, 1, 1)))
    _bytes_are_right(build, graph, AcceleratorConfig(act_kib=8, **TIGHT))


@pytest.mark.parametrize(("act_kib", "last"), [(4, ()), (8, ((3, 3),))])
def test_lines_that_are_padding_only(act_kib: int, last: tuple[tuple[int, int], ...]) -> None:
    """Padding as wide as the kernel: the first and the last strip read no line at all."""
    build = Builder(2)
    x = build.conv(build.input((3, 40, 40)), 12, (3, 3))
    x = build.conv(build.conv(x, 24), 4, (1, 1), (1, 1), (1, 1, 1, 1))
    for kernel in last:
        x = build.conv(x, 4, kernel)
    _bytes_are_right(build, build.graph(x), AcceleratorConfig(act_kib=act_kib, **TIGHT))


def test_padding_only_in_groups_that_turn_back(monkeypatch: pytest.MonkeyPatch, eager: list[GroupPlan]) -> None:
    monkeypatch.setattr(Fuser, "_cost", turns_back)
    build = Builder(3)
    x = build.conv(build.input((3, 40, 40)), 12, (3, 3))
    x = build.conv(build.conv(build.conv(x, 24), 12), 4, (1, 1), (1, 1), (1, 1, 1, 1))
    _bytes_are_right(build, build.graph(x), AcceleratorConfig(act_kib=4, **TIGHT))
    assert eager
