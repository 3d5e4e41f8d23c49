"""Shared modules: one conversion per configuration, the same behaviour as plain submodules."""

import pytest
from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Fragment, Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from hw.shared import Emitter, SharedInstance, ShareError, convert, shared


class Cell(wiring.Component):
    """Multiply-accumulate of `width` bits with a stream beside it."""

    latency = 1

    def __init__(self, width: int) -> None:
        self.width = width
        self.built = Cell.count = getattr(Cell, "count", 0) + 1
        super().__init__(
            {
                "a": In(signed(width)),
                "acc": Out(signed(2 * width)),
                "source": Out(stream.Signature(width)),
                "sink": In(stream.Signature(width)),
            }
        )
        self.loose = Signal(3)

    @property
    def module_name(self) -> str:
        return f"cell{self.width}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.acc.eq(self.acc + self.a * self.a)
        connect(m, wiring.flipped(self.sink), wiring.flipped(self.source))
        return m


class Inverter(wiring.Component):
    """Combinational: it has neither clock nor reset."""

    i: In(4)
    o: Out(4)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(~self.i)
        return m


class Line(wiring.Component):
    """A row of cells, itself shared."""

    def __init__(self, cols: int, width: int) -> None:
        self.cols, self.width = cols, width
        super().__init__({"a": In(signed(width)), "total": Out(signed(2 * width + 4)), "o": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cells = [shared(platform, Cell, self.width) for _ in range(self.cols)]
        for index, cell in enumerate(cells):
            m.submodules[f"cell{index}"] = cell
            m.d.comb += cell.a.eq(self.a)
            if index:
                connect(m, cells[index - 1].source, cell.sink)
        m.d.comb += [cells[0].sink.valid.eq(1), cells[-1].source.ready.eq(1)]
        m.submodules.inverter = inverter = shared(platform, Inverter)
        m.d.comb += [self.total.eq(sum(cell.acc for cell in cells)), inverter.i.eq(self.a), self.o.eq(inverter.o)]
        return m


def test_simulator_gets_the_component_itself() -> None:
    cell = shared(None, Cell, 8)
    assert isinstance(cell, Cell)
    convert(cell, "cell", None)


def test_each_configuration_is_built_and_converted_once() -> None:
    platform = Emitter()
    before = getattr(Cell, "count", 0)
    top = convert(Line(12, 8), "top", platform)
    assert Cell.count - before == 1
    assert [module.name for module in platform.modules.values()] == ["cell8", "rowcast_inverter"]
    assert top.count("cell \\cell8 ") == 12
    assert "\\cell3" in top and "$add" in platform.modules[(Cell, (8,), ())].text


def test_modules_nest_children_first() -> None:
    class Grid(wiring.Component):
        a: In(signed(8))

        def elaborate(self, platform: object) -> Module:
            m = Module()
            for index in range(3):
                m.submodules[f"line{index}"] = line = shared(platform, Line, 2, width=8)
                m.d.comb += line.a.eq(self.a)
            return m

    platform = Emitter()
    convert(Grid(), "top", platform)
    assert [module.name for module in platform.modules.values()] == ["cell8", "rowcast_inverter", "rowcast_line"]


def test_clock_and_reset_only_where_they_exist() -> None:
    platform = Emitter()
    convert(Line(2, 8), "top", platform)
    ports = {module.name: module.ports for module in platform.modules.values()}
    assert ports["rowcast_inverter"] == {"i": 4, "o": 4}
    assert {"clk", "rst"} < set(ports["cell8"])
    assert ports["cell8"]["acc"] == 16 and ports["cell8"]["source__payload"] == 8


def test_domain_renamer_reaches_the_instance() -> None:
    class Top(wiring.Component):
        a: In(8)

        def elaborate(self, platform: object) -> Module:
            m = Module()
            m.domains.core = core = ClockDomain()
            m.d.comb += [core.clk.eq(ClockSignal()), core.rst.eq(self.a[7])]
            m.submodules.cell = DomainRenamer("core")(shared(platform, Cell, 8))
            return m

    assert "connect \\rst \\a [7]" in convert(Top(), "top", Emitter())


def test_attributes_pass_but_inner_signals_do_not() -> None:
    platform = Emitter()
    cell = shared(platform, Cell, 8)
    assert isinstance(cell, SharedInstance)
    assert (cell.latency, cell.width, cell.module_name) == (1, 8, "cell8")
    with pytest.raises(AttributeError, match="loose is inside shared module cell8"):
        _ = cell.loose
    with pytest.raises(AttributeError, match="nothing"):
        _ = cell.nothing
    Fragment.get(cell, platform)


def test_name_clash_is_refused() -> None:
    class Clash(Inverter):
        module_name = "same"

        def __init__(self, option: int) -> None:
            super().__init__()

    platform = Emitter()
    Fragment.get(shared(platform, Clash, 1), platform)
    with pytest.raises(ShareError, match="already module same"):
        shared(platform, Clash, 2)


def test_unhashable_arguments_are_refused() -> None:
    with pytest.raises(ShareError, match="hashable"):
        shared(Emitter(), Cell, [8])


def test_second_clock_domain_is_refused() -> None:
    class Foreign(wiring.Component):
        o: Out(1)

        def elaborate(self, platform: object) -> Module:
            m = Module()
            m.d.other += self.o.eq(~self.o)
            return m

    with pytest.raises(ShareError, match="other_clk"):
        shared(Emitter(), Foreign)


def test_sharing_can_be_switched_off() -> None:
    platform = Emitter(share=False)
    text = convert(Line(3, 8), "top", platform)
    assert not platform.modules and text.count("$add") >= 3
