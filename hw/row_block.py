"""A block of rows, between the whole array and a row: the wide chains from row to row are converted once per block."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from hw.layouts import Lanes, pixels
from hw.row import Row, sums
from hw.shared import shared

__all__ = ["RowBlock", "block_sizes"]


def block_sizes(rows: int) -> list[int]:
    """Split `rows` into equal blocks and perhaps a smaller last one, so that few blocks and rows are converted."""
    size = min(range(rows, 0, -1), key=lambda size: -(-rows // size) + size + rows % size)
    return [size] * (rows // size) + ([rows % size] if rows % size else [])


class RowBlock(Component):
    """`rows` rows, one below the other.

    Parameters
    ----------
    rows : int
        Rows of the block.
    cols, halo, stos, pipeline_mac
        As for :class:`~hw.row.Row`.

    Attributes
    ----------
    h_in, w_row_n : pixels(rows), in
        Per row.
    clear : cols bits per row, in
    used : rows bits, in
    v_in, v, d_in, d
        Chains, from the row above the block and to the one below it.
    v_en : rows bits, in
    go, halo_en, halo_out, use_taps, capture
        For all rows.
    """

    def __init__(self, rows: int, cols: int, halo: int, *, stos: bool, pipeline_mac: bool) -> None:
        self.rows, self.cols, self.halo, self.with_stos, self.pipeline_mac = rows, cols, halo, stos, pipeline_mac
        self.module_name = f"rowcast_rows{rows}"
        ports = {
            "h_in": In(pixels(rows)),
            "v_in": In(pixels(halo + cols)),
            "v": Out(pixels(halo + cols)),
            "clear": In(Lanes(cols, rows)),
            "used": In(rows),
            "go": In(cols),
            "d_in": In(sums(cols)),
            "d": Out(sums(cols)),
        }
        if stos:
            ports |= {"halo_en": In(halo), "halo_out": In(halo), "use_taps": In(cols)}
            ports |= {"w_row_n": In(Lanes(8, rows)), "capture": In(1), "v_en": In(rows)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        """Chain the rows."""
        m = Module()
        above, results = self.v_in, self.d_in
        for index in range(self.rows):
            row = shared(platform, Row, self.cols, self.halo, stos=self.with_stos, pipeline_mac=self.pipeline_mac)
            m.submodules[f"row{index}"] = row
            m.d.comb += [
                row.h_in.eq(self.h_in[index]),
                row.v_in.eq(above),
                row.clear.eq(self.clear[index]),
                row.used.eq(self.used[index]),
                row.go.eq(self.go),
                row.d_in.eq(results),
            ]
            if self.with_stos:
                m.d.comb += [
                    row.halo_en.eq(self.halo_en),
                    row.halo_out.eq(self.halo_out),
                    row.use_taps.eq(self.use_taps),
                    row.w_row_n.eq(self.w_row_n[index]),
                    row.capture.eq(self.capture),
                    row.v_en.eq(self.v_en[index]),
                ]
            above, results = row.v, row.d
        m.d.comb += [self.v.eq(above), self.d.eq(results)]
        return m
