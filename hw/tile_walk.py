"""The outer loops that all dataflows have in common: channel blocks, output lines, tiles along a line."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hw.layouts import table_layout
from hw.operand_request import POINTER_WIDTH, WEIGHT_POINTER_WIDTH
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC
from hw.window import X_WIDTH

__all__ = ["LINE_WIDTH", "TileWalk", "answer_layout", "place_layout", "walk_layout"]

LINE_WIDTH = 20
"""Bits of a signed input line's index: 16 bits of output lines, four times at the largest stride, and overhang."""


def walk_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return what a sequencer tells the walk.

    ``begin``: take the first tile.  ``advance``: a step is taken, and with it the pointer of the innermost loop
    ``moves``, or that of the next one too (``inner``, only with ``moves``), or the ``tile`` ends (only with both).
    ``by_pitch``, ``by_channel``, ``by_line``: how far, unless the tile ends: a line, a channel or an output line on.
    ``first_x``: where the first tile of a line begins.  ``factor``: of the product.  ``next_weight``: where the next
    block of weights begins.  ``offset``: the step's line behind the tile's first one.
    ``single``: blocks of one channel.  ``own_inputs``: every block has an input of its own.
    ST-OS only: ``lines``, a tile's rows are output lines; ``halved``, tiles of half the columns.
    """
    stos = {"by_line": 1, "lines": 1, "halved": 1} if config.stos else {}
    # Factors are pad_y and sy; in ST-OS also in_h, in halves.
    factor = {"factor": signed(9 if config.stos else 6)}
    flags = ("begin", "advance", "moves", "inner", "tile", "by_pitch", "by_channel", "single", "own_inputs")
    # A tap's line, less than 16; in ST-OS behind it that of a row, at the largest stride.
    offset = {"offset": range(4 * config.rows + 16 if config.stos else 16)}
    wide = {"first_x": signed(8), "next_weight": WEIGHT_POINTER_WIDTH, **offset}
    return data.StructLayout({**dict.fromkeys(flags, 1), **wide, **factor, **stos})


def place_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return where the walk is, all of it registers.

    ``base``: pointer of the innermost loop.  ``x``: position of the tile, counted from ``first_x``.  ``weight``: first
    word of the block's weights.  ``lane``: of the block's first channel in a weight word.  ``rows`` of the tile.  ST-OS
    only: ``product``, of in_pitch and the factor a cycle before.
    """
    stos = {"product": signed(POINTER_WIDTH + 1)}
    return data.StructLayout(
        {
            "base": signed(POINTER_WIDTH),
            "x": signed(X_WIDTH),
            "weight": WEIGHT_POINTER_WIDTH,
            "lane": range(config.rows),
            "rows": range(config.rows + 1),
            **(stos if config.stos else {}),
        }
    )


def answer_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return what follows in the same cycle from what the walk is told.

    ``line``: the step's input line, and ``inside``, whether there is one.  If the tile ends now, ``weights_end``: its
    block's weights are used up, and ``finish``: it is the last one.  ST-OS only: ``next_one_row``, the tile, the next
    one if it ends now, has one row only.
    """
    flags = ("inside", "weights_end", "finish", *(("next_one_row",) if config.stos else ()))
    return data.StructLayout({"line": signed(LINE_WIDTH), **dict.fromkeys(flags, 1)})


class TileWalk(Component):
    """Registers and adders of the loops over channel blocks, output lines and tiles, for one sequencer at a time.

    Every loop has a pointer to where it began, and one adder moves them all: when a loop goes on, its pointer and those
    of the loops within it take the sum.  What the next tile depends on is kept one tile ahead, so that no comparison
    follows an adder.

    The cycle before ``begin`` is the last one in which ``factor`` is that of the lines above line 0 (pad_y); without
    ST-OS it is sy from then on.

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    cfg : struct of isa.EXEC, in
        The instruction; stable from two cycles before ``begin`` until the last tile's end.
    walk : walk_layout, in
        ``single``, ``lines``, ``halved`` and ``first_x`` are stable from the cycle before ``begin`` on.
    place : place_layout, out
    answer : answer_layout, out
        From the cycle after ``begin`` on.  Registers have no reset.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "cfg": In(table_layout(EXEC)),
                "walk": In(walk_layout(config)),
                "place": Out(place_layout(config)),
                "answer": Out(answer_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the loops from the outside in, then the pointers of all."""
        m = Module()
        config, cfg, walk, place, answer = self.config, self.cfg, self.walk, self.place, self.answer
        rows, cols = config.rows, config.cols
        begin, single = walk.begin, walk.single
        by_line, lines, halved = (walk.by_line, walk.lines, walk.halved) if config.stos else (Const(0),) * 3
        register = partial(Signal, reset_less=True)  # for what is set before it is used

        last_tile, last_line, last_block, block_used = register(), register(), register(), register()
        line_ends, block_ends = Signal(), Signal()
        line_begins, block_begins = Signal(), Signal()
        m.d.comb += [
            line_ends.eq(walk.tile & last_tile),
            block_ends.eq(line_ends & last_line),
            answer.weights_end.eq(block_ends & block_used),
            answer.finish.eq(block_ends & last_block),
            line_begins.eq(begin | (walk.advance & line_ends)),
            block_begins.eq(begin | (walk.advance & block_ends)),
        ]

        # --- blocks of channels, lines; what is left behind the last one is never used
        channels_behind, lines_behind = register(16), register(16)
        channels_left, lines_left, left = Signal(16), Signal(16), Signal(16)
        block, line_unit = Mux(single, 1, rows), Mux(lines, rows, 1)
        fresh = begin | block_used  # weights
        m.d.comb += [
            channels_left.eq(Mux(begin, cfg.cout, channels_behind)),
            lines_left.eq(Mux(begin | block_ends, cfg.out_h, lines_behind)),
            left.eq(Mux(lines, lines_left, channels_left)),
        ]
        with m.If(block_begins):
            first_lane = Mux(channels_left < rows, channels_left - 1, rows - 1)
            m.d.sync += [
                channels_behind.eq(channels_left - block),
                last_block.eq(channels_left <= block),
                place.lane.eq(Mux(fresh, first_lane, place.lane - 1)),
                block_used.eq(~single | Mux(fresh, (rows == 1) | (channels_left == 1), place.lane == 1)),
            ]
            with m.If(fresh):
                m.d.sync += place.weight.eq(Mux(begin, cfg.w_base, walk.next_weight))
        with m.If(line_begins):
            m.d.sync += [lines_behind.eq(lines_left - line_unit), last_line.eq(lines_left <= line_unit)]
        with m.If(Mux(lines, line_begins, block_begins)):
            m.d.sync += place.rows.eq(Mux(single & ~lines, 1, Mux(left < rows, left, rows)))

        first_line = register(signed(LINE_WIDTH))  # under the first tap of the tile's first output line
        with m.If(line_begins):
            next_line = first_line + Mux(lines, rows * cfg.sy, cfg.sy)
            m.d.sync += first_line.eq(Mux(begin | block_ends, -cfg.pad_y, next_line))
        m.d.comb += [
            answer.line.eq(first_line + walk.offset),
            answer.inside.eq((answer.line >= 0) & (answer.line < cfg.in_h)),
        ]

        # --- tiles: with stride 2 a tile is twice as wide as it has pixels
        double = cfg.sx == 2
        tile_step = Mux(halved, cols & ~1, Mux(double, 2 * cols, cols))
        limit_x, one_tile = register(signed(X_WIDTH)), register()  # beyond this the next tile is the line's last one
        before_limit = Mux(double, -2, -1) - (tile_step << 1)
        m.d.sync += [
            limit_x.eq(Mux(double, cfg.out_w << 1, cfg.out_w) + (before_limit + walk.first_x)),
            one_tile.eq(cfg.out_w <= Mux(halved, cols // 2, cols)),
        ]
        with m.If(line_begins):
            m.d.sync += [place.x.eq(walk.first_x), last_tile.eq(one_tile)]
        with m.Elif(walk.advance & walk.tile):
            m.d.sync += [place.x.eq(place.x + tile_step), last_tile.eq(place.x > limit_x)]

        # --- pointers: bytes of a line's steps, then what the loops add
        product = register(signed(POINTER_WIDTH + config.stos))
        m.d.sync += product.eq(walk.factor * cfg.in_pitch)
        line_step: Value = product
        if config.stos:
            line_step = register(len(cfg.in_pitch) + 2)
            pitch, sy = cfg.in_pitch, cfg.sy  # 1 to 4
            m.d.sync += line_step.eq(Mux(sy[0], pitch, 0) + Mux(sy[2], pitch << 2, Mux(sy[1], pitch << 1, 0)))
            one_row = register()
            m.d.comb += [place.product.eq(product), answer.next_one_row.eq(one_row)]
            with m.If(begin | Mux(lines, line_ends, block_ends)):
                m.d.comb += answer.next_one_row.eq((rows == 1) | (left == 1))
            with m.If(Mux(lines, line_begins, block_begins)):
                m.d.sync += one_row.eq(answer.next_one_row)
        step, scaled = Signal(signed(POINTER_WIDTH)), Signal(signed(POINTER_WIDTH))
        m.d.comb += step.eq(
            Mux(~walk.tile & walk.by_pitch, cfg.in_pitch, 0)
            | Mux(Mux(walk.tile, block_ends & walk.own_inputs, walk.by_channel), cfg.in_cs, 0)
            | Mux(Mux(walk.tile, line_ends & ~block_ends, by_line), line_step, 0)
        )
        m.d.comb += scaled.eq(step)
        if config.stos:  # tiles of several channels, or lines
            with m.If(line_ends & Mux(block_ends, ~single, lines)):
                m.d.comb += scaled.eq(rows * step)
        pointers = {
            name: register(signed(POINTER_WIDTH), name=f"{name}_base") for name in ("within", "inner", "line", "block")
        }
        within, inner, line, block_base = pointers.values()
        base = Mux(block_ends, block_base, Mux(walk.tile, line, Mux(walk.inner, inner, within)))
        moved = (Cat(begin, Mux(begin, cfg.in_base, base)) + Cat(begin, Mux(begin, ~product, scaled)))[1:]
        m.d.comb += place.base.eq(within)
        moves = {"within": walk.moves, "inner": walk.inner, "line": walk.tile, "block": block_ends}
        for name, pointer in pointers.items():
            with m.If(begin | (walk.advance & moves[name])):
                m.d.sync += pointer.eq(moved)
        return m
