"""The area model: parts add up, follow the configuration, and take figures from a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hw.spec.config import preset
from sw.model.area import PARTS, AreaTable, area
from sw.model.figures import FigureError, read_figures

EDGE16 = preset("edge16")


def test_parts_of_a_preset() -> None:
    found = area(EDGE16, AreaTable(pe=1000.0, halo=100.0, flipflop=4.0, memory_bit=0.5))
    assert tuple(found) == PARTS
    assert found["PEs"] == 256 * 1000
    assert found["halo"] == 16 * 6 * 100
    assert found["skew"] == 120 * (8 + 8 + 32) * 4
    assert found["memories"] == 8 * (256 * 1024 + 128 * 1024 + 2048 * 8 + 2048) * 0.5


def test_without_stos_the_array_is_smaller() -> None:
    plain = area(EDGE16.twin(stos=False))
    assert plain["halo"] == 0
    assert plain["PEs"] < area(EDGE16)["PEs"]
    assert plain["control"] < area(EDGE16)["control"]


@pytest.mark.parametrize("stos", [True, False])
def test_registers_of_a_pipelined_pe(stos: bool) -> None:
    plain = EDGE16.twin(stos=stos)
    deep = plain.twin(pipeline_mac=True)
    table = AreaTable(flipflop=5.0)
    changed = {part: area(deep, table)[part] - area(plain, table)[part] for part in PARTS}
    assert changed == {**dict.fromkeys(PARTS, 0.0), "PEs": 256 * 32 * 5.0}


@pytest.mark.parametrize(("field", "part"), [("rows", "PEs"), ("cols", "columns"), ("act_kib", "memories")])
def test_more_of_something_takes_more(field: str, part: str) -> None:
    larger = EDGE16.twin(**{field: 2 * getattr(EDGE16, field)})
    assert area(larger)[part] > 1.5 * area(EDGE16)[part]


def test_figures_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "area.json"
    path.write_text(json.dumps({"pe": 500}))
    assert read_figures(AreaTable, path) == AreaTable(pe=500)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a readable JSON file"),
        ("[1]", "a JSON object with some of pe, pe_plain"),
        ('{"pes": 1}', "unknown key 'pes'; there are pe, pe_plain"),
        ('{"pe": -1}', "pe=-1 is no area"),
        ('{"lane": "big"}', "lane='big' is no area"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "area.json"
    path.write_text(text)
    with pytest.raises(FigureError, match=message):
        read_figures(AreaTable, path)
    with pytest.raises(FigureError, match="no_such"):
        read_figures(AreaTable, tmp_path / "no_such.json")
