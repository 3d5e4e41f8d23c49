"""Processing element: one multiply-accumulate cell of the output-stationary array."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

from hw.delay import delayed
from hw.spec.numerics import NUMERICS

__all__ = ["PE", "mac_latency"]


def mac_latency(pipeline_mac: bool) -> int:
    """Cycles from operands in ``h``/``v`` (or on ``w_row_n``) to their sum in the accumulator."""
    return 3 if pipeline_mac else 1


class PE(Component):
    """Multiply-accumulate cell with a double-buffered result (architecture B1).

    ``h`` moves left to right, ``v`` and ``d`` move top to bottom.  GEMM multiplies ``h`` (weight) by ``v``
    (activation); ST-OS multiplies ``h`` (activation window) by the row's broadcast tap.

    ST-OS costs three gates per bit: the operand (OR-AND-invert; hence the tap is broadcast as its complement and is 0
    in GEMM mode, and the register of ``v`` holds the complement), and two multiplexers, ``capture`` and ``v_en``.

    No register has a reset: the array is flushed instead (``clear`` and ``go`` high while zeros are fed).

    Parameters
    ----------
    stos : bool
        Build the ST-OS operand mux, capture and load enable.
    pipeline_mac : bool
        Register what is multiplied, and the product.

    Attributes
    ----------
    h_in, v_in : signed(8), in
        Left and upper neighbour's operand.
    h, v : signed(8), out
        Operand registers.
    clear : in
        The accumulator holds a finished sum: start the next one with this cycle's product.
    used : in
        With ``clear``: take the finished sum into ``d`` and hold it there until ``go``.
    go : in
        Let the held sum move down.
    d_in : signed(32), in
        Upper neighbour's result.
    d : signed(32), out
        Result chain; without a held sum it follows ``d_in`` every cycle.
    stos, w_row_n, capture, v_en
        ST-OS only: mode, complement of the tap (all ones unless `stos`), ``h <= v`` instead of shifting, and shift
        enable of ``v`` (GEMM: held high).
    """

    def __init__(self, *, stos: bool = True, pipeline_mac: bool = False) -> None:
        self.with_stos, self.pipeline_mac = stos, pipeline_mac
        self.module_name = "rowcast_pe"
        acc = signed(NUMERICS.acc_width)
        ports = {
            "h_in": In(signed(8)),
            "v_in": In(signed(8)),
            "h": Out(signed(8)),
            "v": Out(signed(8)),
            "clear": In(1),
            "used": In(1),
            "go": In(1),
            "d_in": In(acc),
            "d": Out(acc),
        }
        if stos:
            ports |= {"stos": In(1), "w_row_n": In(8), "capture": In(1), "v_en": In(1)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        """Return the cell's logic."""
        m = Module()
        h = Signal(signed(8), reset_less=True)
        v = Signal(signed(8), reset_less=True)
        acc = Signal(signed(NUMERICS.acc_width), reset_less=True)
        d = Signal(signed(NUMERICS.acc_width), reset_less=True)
        held = Signal(reset_less=True)
        m.d.comb += [self.h.eq(h), self.v.eq(v), self.d.eq(d)]

        operand: Value = v
        if self.with_stos:
            v_n = Signal(8, init=0xFF, reset_less=True)  # with `v` beside it one gate per bit selects the operand
            m.d.comb += v.eq(~v_n)
            operand = (~((v_n | self.stos.replicate(8)) & self.w_row_n)).as_signed()
            m.d.sync += h.eq(Mux(self.capture, v, self.h_in))
            with m.If(self.v_en):
                m.d.sync += v_n.eq(~self.v_in)
        else:
            m.d.sync += [h.eq(self.h_in), v.eq(self.v_in)]

        stages = int(self.pipeline_mac)  # an FPGA's multiplier block holds these registers
        first = delayed(m, operand, stages, name="factor_v")[-1]
        second = delayed(m, h, stages, name="factor_h")[-1]
        # Booth recodes the second factor: the one that comes straight from its register, not by way of the gate above.
        product = Signal(signed(16))
        m.d.comb += product.eq(first * second)
        summand = delayed(m, product, stages, name="product")[-1]
        m.d.sync += acc.eq(Mux(self.clear, 0, acc) + summand)

        take, keep = Signal(), Signal()
        m.d.comb += [take.eq(self.clear & self.used), keep.eq(held & ~self.go)]
        m.d.sync += held.eq(take | keep)
        with m.If(take):
            m.d.sync += d.eq(acc)
        with m.Elif(~keep):
            m.d.sync += d.eq(self.d_in)
        return m
