"""One row of the array: its PEs, and left of them the halo registers of the ST-OS window."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

from hw.layouts import Lanes, pixels
from hw.pe import PE
from hw.shared import shared
from hw.spec.numerics import NUMERICS

__all__ = ["Row", "sums"]


def sums(lanes: int) -> Lanes:
    """Return an array of `lanes` accumulator values."""
    return Lanes(signed(NUMERICS.acc_width), lanes)


class Row(Component):
    """A row of `cols` PEs with `halo` pixel registers (no multiplier) on its left.

    The halo is in no need of a second copy under the taps.  Its chain runs late instead: the register i places left of
    column 0 takes everything i cycles after the columns do, so i cycles after a capture, when its pixel enters column
    0, it holds what was to be captured, and a line that may be loaded from then on reaches it a cycle later.

    Parameters
    ----------
    cols, halo : int
        PEs, and halo registers (0 without ST-OS).
    stos, pipeline_mac : bool
        As for :class:`~hw.pe.PE`.

    Attributes
    ----------
    h_in : signed(8), in
        GEMM: this row's weight, already skewed.
    v_in, v : pixels(halo + cols), in/out
        Vertical chain, lane 0 the leftmost halo register; halo lane k comes halo - k cycles after the columns.
    clear : cols bits, in
        Per PE.
    used, w_row_n, capture, v_en
        For all PEs of the row, see :class:`~hw.pe.PE`.
    halo_en, halo_out : halo bits, in
        ST-OS only: shift enable of each halo register, and which of them column 0 takes a pixel from (``h_in`` is 0
        then); at most one.
    use_taps : cols bits, in
        Port `stos` of each PE.
    go : cols bits, in
        Per column.
    d_in, d : sums(cols), in/out
        Result chain.
    """

    def __init__(self, cols: int, halo: int, *, stos: bool, pipeline_mac: bool) -> None:
        if halo and not stos:
            raise ValueError(f"halo={halo} needs stos=True")
        self.cols, self.halo, self.with_stos, self.pipeline_mac = cols, halo, stos, pipeline_mac
        self.module_name = "rowcast_row"
        ports = {
            "h_in": In(signed(8)),
            "v_in": In(pixels(halo + cols)),
            "v": Out(pixels(halo + cols)),
            "clear": In(cols),
            "used": In(1),
            "go": In(cols),
            "d_in": In(sums(cols)),
            "d": Out(sums(cols)),
        }
        if stos:
            ports |= {"halo_en": In(halo), "halo_out": In(halo)}
            ports |= {"use_taps": In(cols), "w_row_n": In(8), "capture": In(1), "v_en": In(1)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        """Chain the halo and the PEs."""
        m = Module()
        left = self.h_in
        entering: Value = left  # column 0
        for index in range(self.halo):
            halo = Signal(signed(8), name=f"halo{index}", reset_less=True)
            with m.If(self.halo_en[index]):
                m.d.sync += halo.eq(self.v_in[index])
            m.d.comb += self.v[index].eq(halo)
            entering = entering | (halo & self.halo_out[index].replicate(8))
        if self.with_stos:
            left = Signal(signed(8), name="left")
            m.d.comb += left.eq(entering)
        for column in range(self.cols):
            pe = shared(platform, PE, stos=self.with_stos, pipeline_mac=self.pipeline_mac)
            m.submodules[f"pe{column}"] = pe
            m.d.comb += [
                pe.h_in.eq(left),
                pe.v_in.eq(self.v_in[self.halo + column]),
                self.v[self.halo + column].eq(pe.v),
                pe.clear.eq(self.clear[column]),
                pe.used.eq(self.used),
                pe.go.eq(self.go[column]),
                pe.d_in.eq(self.d_in[column]),
                self.d[column].eq(pe.d),
            ]
            if self.with_stos:
                m.d.comb += [
                    pe.stos.eq(self.use_taps[column]),
                    pe.w_row_n.eq(self.w_row_n),
                    pe.capture.eq(self.capture),
                    pe.v_en.eq(self.v_en),
                ]
            left = pe.h
        return m
