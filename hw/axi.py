"""AXI4 and AXI4-Lite signatures with the standard signal names, and the register slice that decouples a handshake."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import enum, stream
from amaranth.lib.wiring import Component, In, Out, Signature

__all__ = ["AXI4LiteSignature", "AXI4ReadSignature", "AXI4WriteSignature", "Burst", "Cache", "RegisterSlice", "Resp"]


class Resp(enum.Enum, shape=2):
    """RRESP and BRESP."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


class Burst(enum.Enum, shape=2):
    """AxBURST."""

    FIXED = 0
    INCR = 1
    WRAP = 2


class Cache(enum.Enum, shape=4):
    """The AxCACHE values in use."""

    NORMAL_BUFFERABLE = 0b0011
    """Normal memory, not cacheable, bufferable: what a DMA engine asks of DRAM."""


def _check_widths(data_width: int, id_width: int) -> None:
    if data_width not in (8, 16, 32, 64, 128, 256, 512, 1024):
        raise ValueError(f"data_width={data_width!r}: AXI4 data buses are 8 to 1024 bits wide, a power of two")
    if id_width < 1:
        raise ValueError(f"id_width={id_width!r} must be at least 1")


def _address_channel(prefix: str, addr_width: int, id_width: int) -> dict[str, In | Out]:
    return {
        f"{prefix}id": Out(id_width),
        f"{prefix}addr": Out(addr_width),
        f"{prefix}len": Out(8),
        f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2),
        f"{prefix}lock": Out(1),
        f"{prefix}cache": Out(4),
        f"{prefix}prot": Out(3),
        f"{prefix}qos": Out(4),
        f"{prefix}region": Out(4),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


class AXI4ReadSignature(Signature):
    """AXI4 read address and read data channels, seen from the manager.

    Parameters
    ----------
    addr_width, data_width, id_width : int
        Bits of ARADDR, RDATA and ARID/RID.

    Raises
    ------
    ValueError
        If a width is not one AXI4 knows.
    """

    def __init__(self, addr_width: int, data_width: int, id_width: int = 1) -> None:
        _check_widths(data_width, id_width)
        self.addr_width, self.data_width, self.id_width = addr_width, data_width, id_width
        super().__init__(
            {
                **_address_channel("ar", addr_width, id_width),
                "rid": In(id_width),
                "rdata": In(data_width),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class AXI4WriteSignature(Signature):
    """AXI4 write address, write data and write response channels, seen from the manager.

    Parameters
    ----------
    addr_width, data_width, id_width : int
        Bits of AWADDR, WDATA and AWID/BID.

    Raises
    ------
    ValueError
        If a width is not one AXI4 knows.
    """

    def __init__(self, addr_width: int, data_width: int, id_width: int = 1) -> None:
        _check_widths(data_width, id_width)
        self.addr_width, self.data_width, self.id_width = addr_width, data_width, id_width
        super().__init__(
            {
                **_address_channel("aw", addr_width, id_width),
                "wdata": Out(data_width),
                "wstrb": Out(data_width // 8),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bid": In(id_width),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )


class AXI4LiteSignature(Signature):
    """AXI4-Lite, all five channels, seen from the manager.

    Parameters
    ----------
    addr_width : int
        Bits of the addresses.
    data_width : int
        32 or 64.

    Raises
    ------
    ValueError
        If `data_width` is neither.
    """

    def __init__(self, addr_width: int, data_width: int = 32) -> None:
        if data_width not in (32, 64):
            raise ValueError(f"data_width={data_width!r}: AXI4-Lite data buses are 32 or 64 bits wide")
        self.addr_width, self.data_width = addr_width, data_width
        super().__init__(
            {
                "awaddr": Out(addr_width),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(data_width),
                "wstrb": Out(data_width // 8),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(addr_width),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(data_width),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class RegisterSlice(Component):
    """Two-place buffer that cuts every combinational path between two halves of a stream.

    One item per cycle; latency 1 cycle from ``i`` to ``o``.  ``o.valid``, ``o.payload`` and ``i.ready`` come straight
    from registers.  Reset empties it.

    Parameters
    ----------
    shape : ShapeLike
        Payload.

    Members
    -------
    i : In(stream)
    o : Out(stream)
    """

    def __init__(self, shape: ShapeLike) -> None:
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        payload = Signal(self.shape)
        valid = Signal()
        spare = Signal(self.shape)
        full = Signal()
        m.d.comb += [self.o.valid.eq(valid), self.o.payload.eq(payload), self.i.ready.eq(~full)]
        with m.If(~valid | self.o.ready):
            m.d.sync += [valid.eq(full | self.i.valid), full.eq(0)]
            with m.If(full):
                m.d.sync += payload.eq(spare)
            with m.Else():
                m.d.sync += payload.eq(self.i.payload)
        with m.Elif(~full):
            m.d.sync += [full.eq(self.i.valid), spare.eq(self.i.payload)]
        return m
