"""Pictures of the design show what it has, and the committed files show it as it is."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hw.spec.config import SUB_BANKS, AcceleratorConfig, preset
from hw.spec.isa import Opcode
from sim.pictures import blocks_picture
from sim.pictures.__main__ import main
from sim.pictures.array_facts import array_facts
from sim.pictures.array_picture import array_figure
from sim.pictures.blocks_picture import ROUTES, blocks_figure
from sim.pictures.catalogue import PICTURES
from sim.pictures.examples import ARRAY, TIMING, row_filters
from sim.pictures.timing import Chart, timing_figure

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
facts = cache(lambda name: PICTURES[name].facts())


@pytest.mark.parametrize("name", PICTURES)
def test_committed_files_show_the_design_as_it_is(name: str) -> None:
    shown = PICTURES[name]
    same = type(shown)(shown.title, lambda: facts(name), shown.draw)
    assert same.is_shown_by((FOLDER / f"{name}.svg").read_bytes()), f"python -m sim.pictures --only {name}"


# --- the array

CONFIGS = {
    "drawn": ARRAY,
    "plain": ARRAY.twin(stos=False),
    "3x5": ARRAY.twin(rows=3, cols=5, max_kernel=4, pipeline_mac=True),
    "1x2": ARRAY.twin(rows=1, cols=2, axi_data_width=64),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_array_has_all_pes_and_links(config: AcceleratorConfig) -> None:
    found = array_facts(config)
    rows, cols, halo = config.rows, config.cols, config.halo
    assert found.pes == tuple(np.ndindex(rows, cols))
    assert found.halo == tuple((row, column) for row in range(rows) for column in range(-halo, 0))
    links = {
        "h": rows * cols + rows * halo,  # from the left neighbour or the weight; the halo's into column 0
        "v": rows * (cols + halo) + (cols - 1) * config.stos,  # to the top row both skewed and directly
        "d": (rows - 1) * cols,
        "w_row": rows * cols * config.stos,
        "out": cols + (cols - 1) * config.stos,
    }
    assert found.count() == Counter({kind: count for kind, count in links.items() if count})
    by = {kind: [link for link in found.links if link.kind == kind] for kind in links}
    assert {(link.target, link.lane) for link in by["w_row"]} == {(pe, pe[0]) for pe in found.pes if config.stos}
    edge = int(config.pipeline_mac)  # register before the rows
    edges = {(link.lane, link.registers) for link in by["h"] if link.source is None}
    assert edges == {(row, edge + row) for row in range(rows)}  # GEMM's skew
    late = {(link.target[1], link.registers) for link in by["v"] if link.source is None and link.target[1] < 0}
    assert late == {(-distance, edge + distance) for distance in range(1, halo + 1)}
    skewed = {(link.lane, link.registers) for link in by["out"] if link.registers}
    assert skewed == {(column, cols - 1 - column) for column in range(cols - 1)}
    for link in found.links:
        if link.source is not None and link.target is not None:
            step = tuple(np.subtract(link.target, link.source))
            across = max(1, -link.source[1])  # from any halo register to column 0
            assert step == {"h": (0, across), "v": (1, 0), "d": (1, 0)}[link.kind]


def test_the_drawing_of_the_array_has_a_box_for_each_of_its_registers() -> None:
    found = facts("array")
    figure = array_figure(found)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts].count("v") == len(found.halo)
    assert {text.get_text() for text in axes.texts} >= {f"PE\n{row},{column}" for row, column in found.pes}
    registers = sum(link.registers for link in found.links)
    assert len(axes.patches) == len(found.pes) + len(found.halo) + registers


# --- the blocks


def test_buses_have_the_widths_of_the_configuration() -> None:
    found, config = facts("accelerator"), preset("tiny")
    widths = {(bus.source, bus.target): bus.widths[0] for bus in found.buses}
    assert set(widths) == set(ROUTES)
    assert widths["weights", "array"] == 8 * config.rows
    assert widths["scratchpad", "array"] == 8 * config.read_lanes
    assert widths["array", "writer"] == 32 * config.cols
    assert widths["load", "weights"] == widths["store", "m_axi write"] == config.axi_data_width
    assert found.blocks["exec"] == found.inside and set(found.inside) < set(found.blocks)
    assert found.blocks["scratchpad"].count("bank1_sub3") == 1
    figure = blocks_figure(found)
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert labels >= {"+".join(map(str, bus.widths)) for bus in found.buses}


@pytest.mark.parametrize("place", ["ROUTES", "BLOCKS"])
def test_a_design_with_more_than_the_picture_is_refused(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = dict(getattr(blocks_picture, place))
    del shown[next(key for key in shown if "load" in key)]
    monkeypatch.setattr(blocks_picture, place, shown)
    with pytest.raises(ValueError, match="of the design and of the picture differ: .*load"):
        blocks_figure(facts("accelerator"))


# --- cycles


def work(chart: Chart) -> Counter[tuple[int, str]]:
    """How often each tile has each step in a PE."""
    return Counter((event.tile, event.text) for line in chart.pes for event in line.events if event.tile is not None)


@pytest.mark.parametrize("name", ["timing-gemm", "timing-rows", "timing-columns"])
def test_each_product_is_in_one_pe_once(name: str) -> None:
    chart = facts(name)
    pes = TIMING.rows * TIMING.cols
    assert len(chart.pes) == pes
    for line in chart.pes:
        cycles = [event.cycle for event in line.events]
        assert len(set(cycles)) == len(cycles) and max(cycles) < chart.done
        for tile in {event.tile for event in line.events} - {None}:
            steps = [event.text for event in line.events if event.tile == tile]
            assert len(set(steps)) == len(steps)
    leaving, writes = chart.results
    assert len(leaving.events) == len(writes.events)
    assert all(row.cycle < write.cycle for row, write in zip(leaving.events, writes.events, strict=True))


def test_a_matrix_products_tiles_follow_each_other_every_k_cycles() -> None:
    chart = facts("timing-gemm")
    assert [after - before for before, after in pairwise(chart.tile_ends)] == [5, 5]
    assert set(work(chart).values()) == {12} and len(work(chart)) == 3 * 5
    first = {line.label: line.events[0].cycle for line in chart.pes}
    assert all(first[f"PE {i},{j}"] == first["PE 0,0"] + i + j for i in range(3) for j in range(4))  # the skew


def test_row_filters_work_in_every_cycle() -> None:
    chart = facts("timing-rows")
    assert {after - before for before, after in pairwise(chart.tile_ends)} == {3}
    # a line of 8 pixels in two tiles of 4 columns: at its ends a tap meets padding in each of the 3 rows
    steps = {"even": Counter({"0": 9, "1": 12, "2": 12}), "odd": Counter({"0": 12, "1": 12, "2": 9})}
    for tile in range(6):
        found = Counter({text: count for (which, text), count in work(chart).items() if which == tile})
        assert found == steps["odd" if tile % 2 else "even"]
    loads = next(line for line in chart.control if line.label.startswith("line loaded"))
    assert [event.text for event in loads.events[:6]] == ["0,0", "1,0", "2,0"] * 2


def test_column_filters_take_n_plus_k_minus_1_cycles() -> None:
    chart = facts("timing-columns")
    assert [after - before for before, after in pairwise(chart.tile_ends)] == [4, 5] * 2 + [4]
    assert [event.text for event in chart.results[0].events] == ["0", "1", "2", "3", "4"] * 3
    unused = [event for line in chart.pes for event in line.events if event.tile is None]
    assert unused and all(line.label.startswith("PE 2") for line in chart.pes if set(line.events) & set(unused))


def test_the_drawing_of_cycles_has_a_mark_for_each_event() -> None:
    chart = facts("timing-columns")
    figure = timing_figure(chart)
    events = [event for group in (chart.control, chart.pes, chart.results) for line in group for event in line.events]
    assert len(figure.axes[0].patches) == len(events)


# --- bytes


def test_the_layout_is_the_programs() -> None:
    found, program = facts("layout"), row_filters(7).program()
    config = program.config
    (image,), (result,) = program.inputs, program.outputs
    assert set(found.image.values()) == set(np.ndindex(image.shape)) and found.image[0] == (0, 0, 0)
    assert set(found.result.values()) == set(np.ndindex(result.shape))
    assert not set(found.image) & set(found.result)
    moved = [pc for pc, one in enumerate(program.instructions()) if one.opcode in (Opcode.LOAD, Opcode.STORE)]
    assert [move.pc for move in found.moves] == moved
    assert found.instructions == 64 * program.instruction_count <= min(move.dram[0] for move in found.moves[:2])
    assert [word[: config.rows] for word in found.weights] == [((2, k), (1, k), (0, k)) for k in (2, 1, 0)]
    lines: dict[int, set[int]] = {}
    for line, bank in found.sub_banks():
        lines.setdefault(bank, set()).add(line)
    assert all(len(touched) == 1 for touched in lines.values()) and len(lines) <= SUB_BANKS
    assert len({line for line, _ in found.sub_banks()}) == 2


# --- files and command line


def test_files_are_the_same_every_time() -> None:
    shown = PICTURES["array"]
    once = type(shown)(shown.title, lambda: facts("array"), shown.draw).svg()
    assert once == shown.svg()
    assert b"<text" in once and b"matplotlib" not in once.lower().split(b"-->")[-1]


def test_command_line_draws_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pictures"
    chosen = ["--out", str(out), "--only", "array-plain"]
    assert main(["--check", *chosen]) == 1 and not out.exists()
    assert "array-plain.svg: not the design as it is" in capsys.readouterr().err
    assert main(["--quiet", *chosen]) == 0
    assert [path.name for path in out.iterdir()] == ["array-plain.svg"]
    assert main(["--check", *chosen]) == 0
    path = out / "array-plain.svg"
    path.write_bytes(path.read_bytes().replace(b"facts ", b"facts 0"))
    assert main(["--check", *chosen]) == 1


def test_errors_have_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file"), "--only", "array"]) == 2
    assert "sim.pictures: cannot use" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["--only", "no-such"])
    assert stopped.value.code == 2
