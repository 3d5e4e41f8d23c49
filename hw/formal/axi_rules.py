"""What AXI4 asks of a manager, and what a manager may ask of the memory it talks to."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import PureInterface

from hw.axi import Burst
from hw.formal.harness import implies, reach, require, require_held, suppose, suppose_held

__all__ = ["ReadRules", "WriteRules"]

PAGE = 12
_ADDRESS = ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos", "region")


def _address_rules(m: Module, bus: PureInterface, prefix: str, beat_bytes: int) -> None:
    """Assert what holds of AR and AW: stable, INCR, whole beats, within 4 KiB."""
    port = {name: getattr(bus, f"{prefix}{name}") for name in (*_ADDRESS, "valid", "ready")}
    require_held(m, f"{prefix}_waits", port["valid"], port["ready"], *(port[name] for name in _ADDRESS))
    bits = (beat_bytes - 1).bit_length()
    last = (port["addr"][:PAGE] >> bits) + port["len"]
    require(m, f"{prefix}_inside_4k", implies(port["valid"], last < (1 << (PAGE - bits))))
    aligned = (port["addr"][:bits] == 0) & (port["burst"] == Burst.INCR) & (port["size"] == bits)
    require(m, f"{prefix}_whole_beats", implies(port["valid"], aligned))


class ReadRules:
    """A read manager and its memory.

    Assumes: data comes in the order of the addresses, only for addresses taken in an earlier cycle, RLAST on the
    burst's last beat and only there, VALID and payload wait for READY.

    Parameters
    ----------
    m
        The harness.
    bus
        The port, seen from the manager.
    beat_bytes
        What ARSIZE must say.
    open_max
        Bursts the manager may have open.

    Attributes
    ----------
    open : Signal
        Bursts taken on AR whose last beat has not been taken.
    beat, last : Value
        A beat is taken; it is a burst's last.
    """

    def __init__(self, m: Module, bus: PureInterface, *, beat_bytes: int, open_max: int) -> None:
        _address_rules(m, bus, "ar", beat_bytes)
        # Lengths of open bursts, oldest first.
        self.open = Signal(range(open_max + 2))
        lengths = [Signal(8, name=f"open_length{place}") for place in range(open_max + 1)]
        done = Signal(8)
        self.beat = bus.rvalid & bus.rready
        self.last = self.beat & bus.rlast
        taken = bus.arvalid & bus.arready
        m.d.sync += self.open.eq(self.open + taken - self.last)
        where = self.open - self.last
        for place, length in enumerate(lengths):
            with m.If(taken & (where == place)):
                m.d.sync += length.eq(bus.arlen)
            with m.Elif(self.last & (place + 1 < len(lengths))):
                m.d.sync += length.eq(lengths[min(place + 1, len(lengths) - 1)])
        with m.If(self.beat):
            m.d.sync += done.eq(done + 1)
            with m.If(bus.rlast):
                m.d.sync += done.eq(0)
        suppose(m, "r_only_for_open_bursts", implies(bus.rvalid, self.open != 0))
        suppose(m, "rlast_in_its_place", implies(bus.rvalid, bus.rlast == (done == lengths[0])))
        suppose_held(m, "r_waits", bus.rvalid, bus.rready, bus.rdata, bus.rresp, bus.rlast, bus.rid)
        require(m, "at_most_so_many_open", self.open <= open_max)
        reach(m, "burst_completed", self.last)
        reach(m, "two_bursts_open", self.open == 2)


class WriteRules:
    """A write manager and its memory.

    Assumes: a response comes only for a burst whose address and data were taken in earlier cycles, and waits for
    READY.

    Attributes
    ----------
    open : Signal
        Bursts begun on AW and not answered.
    owed : Value
        The memory has address and data of a burst that it has not answered.
    """

    def __init__(self, m: Module, bus: PureInterface, *, beat_bytes: int, open_max: int) -> None:
        _address_rules(m, bus, "aw", beat_bytes)
        require_held(m, "w_waits", bus.wvalid, bus.wready, bus.wdata, bus.wstrb, bus.wlast)
        address, beat = bus.awvalid & bus.awready, bus.wvalid & bus.wready
        answer = bus.bvalid & bus.bready
        # Data may run ahead of a waiting address: bursts are counted from AWVALID's rise.
        waited = Signal()
        m.d.sync += waited.eq(bus.awvalid & ~bus.awready)
        begun = bus.awvalid & ~waited
        width = range(open_max + 3)
        self.open, unsent = Signal(width), Signal(width)
        lengths = [Signal(8, name=f"burst_length{place}") for place in range(open_max + 1)]
        done = Signal(8)
        last = beat & bus.wlast
        # `unsent`: bursts begun whose last data beat has not gone, without the one that begins in this cycle.
        m.d.sync += [
            self.open.eq(self.open + begun - answer),
            unsent.eq(unsent + begun - last),
        ]
        where = unsent - last
        for place, length in enumerate(lengths):
            with m.If(begun & (where == place)):
                m.d.sync += length.eq(bus.awlen)
            with m.Elif(last & (place + 1 < len(lengths))):
                m.d.sync += length.eq(lengths[min(place + 1, len(lengths) - 1)])
        with m.If(beat):
            m.d.sync += done.eq(done + 1)
            with m.If(bus.wlast):
                m.d.sync += done.eq(0)
        require(m, "no_beat_without_a_burst", implies(bus.wvalid, unsent != 0))
        require(m, "wlast_in_its_place", implies(bus.wvalid & (unsent != 0), bus.wlast == (done == lengths[0])))
        require(m, "at_most_so_many_open", self.open <= open_max)
        addressed, sent = Signal(width), Signal(width)
        m.d.sync += [addressed.eq(addressed + address - answer), sent.eq(sent + last - answer)]
        self.owed = (addressed != 0) & (sent != 0)
        suppose(m, "b_only_for_sent_bursts", implies(bus.bvalid, self.owed))
        suppose_held(m, "b_waits", bus.bvalid, bus.bready, bus.bresp, bus.bid)
        require(m, "b_is_taken", implies(bus.bvalid, bus.bready))
        reach(m, "burst_completed", answer)
        reach(m, "long_burst_completed", last & (done == 2))


def inside_regions(regions: Value, bus_bits: int) -> Value:
    """Return that all regions are as fetch has checked them: 4 KiB aligned, within the address space."""
    return Cat(
        (region.base[:PAGE] == 0) & (region.base + region.size <= (1 << bus_bits)) for region in regions
    ).all()
