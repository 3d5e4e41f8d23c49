"""Output stage: bias, requantisation, residual, h-swish or gate, and clamp of a drained row of accumulators."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.delay import delayed
from hw.layouts import PARAM_LAYOUT, Lanes, pixels, table_layout
from hw.requantise import Requantise, RoundShift, ZeroPointClamp
from hw.shared import shared
from hw.spec.isa import EXEC, Activation, ResidualOp
from hw.spec.numerics import NUMERICS, Numerics

__all__ = ["OutputLane", "OutputStage", "output_config"]

_EXEC = table_layout(EXEC)
_FIELDS = (
    *("out_zp", "q_lo", "q_hi", "post_shift"),
    *("act", "act_offset", "act_limit"),
    *("res", "res_zp", "res_mult"),
)


def output_config() -> data.StructLayout:
    """Return the per-vector settings: EXEC's fields of the same names."""
    return data.StructLayout({name: _EXEC[name].shape for name in _FIELDS})


class OutputLane(wiring.Component):
    """One lane of the output stage: ``numerics.output`` of one accumulator, one per cycle.

    Everything but the accumulator and the residual byte is common to the lanes of a vector, so it is registered
    outside and handed in at the stage that uses it.  With the accumulator sampled in cycle t:

    ======  =========  ========================================  ============================
    plain   pipelined  work                                      inputs sampled
    ======  =========  ========================================  ============================
    t       t          add the bias                              acc, bias
    t + 1   t + 1, 2   multiply                                  mult
    t + 2   t + 3, 4   shift                                     shift
    t + 2   t + 5      round, saturate to mid_width
    t + 3   t + 4      subtract the residual's zero point        residual, res_zp
    t + 3   t + 6      choose its factor                         res_mult, gated, half
    t + 3   t + 7, 8   multiply the residual
    t + 3   t + 9      add the residual
    t + 4   t + 10     round or saturate to factor_width         curved, halved
    t + 4   t + 11     second factor                             offset, limit, margin, fixed
    t + 5   t + 12     multiply the two factors, or pass
    t + 6   t + 13,14  post shift                                post_shift
    t + 6   t + 15     zero point, clamp                         out_zp, q_lo, q_hi
    ======  =========  ========================================  ============================

    ``q`` is valid in cycle t + LATENCY.  Registers have no reset.

    Residual and channel gate share a multiplier, the sum's or the sum's place being its other factor.  H-swish has one
    of its own: with u the sum after the residual, or the product with the gate, the result before the post shift is

    * ``curved`` = 0: u
    * ``curved`` = 1: w * clamp(w + offset, 0, limit), where w is u rounded by gate_bits if ``halved``, else saturated

    Parameters
    ----------
    numerics
        Widths.
    pipeline
        Spend more cycles, so that nothing stands behind a multiplier or a wide shifter in the same cycle.

    Attributes
    ----------
    LATENCY : int
        7, and 9 more if pipelined.
    STAGES : dict
        Cycles from the accumulator to other inputs.

    Members
    -------
    acc, bias, mult, shift, residual, res_zp, res_mult, post_shift, out_zp, q_lo, q_hi : In
        As in isa.EXEC.  Without residual res_mult must be 0; q_lo <= q_hi.
    gated : In(1)
        The residual is a gate: the sum, saturated to factor_width, is its factor, and nothing is added.
    curved, half, halved, fixed : In(1)
        H-swish; of a gated sum (the product then needs half of its new unit added, and is shifted); no h-swish (with
        a limit of 0 that keeps the multiplier still).
    offset : In(numerics.offset_width)
    limit : In(numerics.limit_width)
    margin : In(signed(max(numerics.limit_width, numerics.offset_width) + 1))
        The limit less the offset.
    q : Out(signed(8))
    """

    RESIDUAL_STAGE: int = 3
    LATENCY: int = 7

    def __init__(self, numerics: Numerics = NUMERICS, *, pipeline: bool = False) -> None:
        self.numerics, self.pipeline = numerics, pipeline
        self.LATENCY = OutputLane.LATENCY + 9 * pipeline
        self.RESIDUAL_STAGE = OutputLane.RESIDUAL_STAGE + pipeline
        self.STAGES = {
            "bias": 0,
            "mult": 1,
            "res_zp": self.RESIDUAL_STAGE,
            **dict.fromkeys(("res_mult", "gated", "half"), 6 if pipeline else 3),
            "shift": 3 if pipeline else 2,
            **dict.fromkeys(("curved", "halved"), 10 if pipeline else 4),
            **dict.fromkeys(("offset", "limit", "margin", "fixed"), 11 if pipeline else 4),
            "post_shift": 13 if pipeline else 6,
            **dict.fromkeys(("out_zp", "q_lo", "q_hi"), self.LATENCY - 1),
        }
        settings = ("res_zp", "res_mult", "post_shift", "out_zp", "q_lo", "q_hi")
        super().__init__(
            {
                "acc": In(signed(numerics.acc_width)),
                "bias": In(signed(numerics.bias_width)),
                "mult": In(numerics.mult_width),
                "shift": In(numerics.shift_width),
                "residual": In(signed(8)),
                "offset": In(numerics.offset_width),
                "limit": In(numerics.limit_width),
                "margin": In(signed(max(numerics.limit_width, numerics.offset_width) + 1)),
                **dict.fromkeys(("gated", "curved", "half", "halved", "fixed"), In(1)),
                **{name: In(_EXEC[name].shape) for name in settings},
                "q": Out(signed(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the stages."""
        m = Module()
        numerics = self.numerics
        total = Signal(signed(numerics.acc_width), reset_less=True)
        m.d.sync += total.eq(self.acc + self.bias)

        m.submodules.requantise = requantise = Requantise(numerics, pipeline=self.pipeline)
        m.d.comb += [
            requantise.value.eq(total),
            requantise.mult.eq(self.mult),
            requantise.shift.eq(self.shift),
        ]

        # --- residual: added, or a gate, multiplied; its product is then to be rounded if h-swish follows
        stage = int(self.pipeline)
        width, point = numerics.factor_width, numerics.gate_bits
        difference = delayed(m, self.residual - self.res_zp, 3 * stage, name="difference")[-1]
        chosen = Mux(self.gated, _saturate(m, requantise.mid, width, "sum"), self.res_mult)
        other = delayed(m, chosen, stage, name="other")[-1]
        addend = delayed(m, difference * other, 2 * stage, name="addend")[-1]
        place = Mux(self.gated, self.half << (point - 1), requantise.mid)
        base = delayed(m, place, 3 * stage, name="base")[-1]  # as late as the residual
        summed = Signal(signed(1 + max(9 + numerics.mult_width, numerics.mid_width)), reset_less=True)
        m.d.sync += summed.eq(base + addend)

        # --- two factors; the first one's register holds the whole sum if it only passes
        tie = ~summed[:point].any()
        rounded = Cat(summed[point] & ~tie, summed[point + 1 : point + width]).as_signed()
        argument = Signal(signed(width))
        m.d.comb += argument.eq(Mux(self.halved, rounded, _saturate(m, summed, width, "total")))
        passed = delayed(m, Mux(self.curved, argument, summed), stage, name="passed")[-1]
        curved = delayed(m, self.curved, 1 + stage, name="curved")[-1]
        if self.pipeline:
            argument = passed[:width].as_signed()
        moved = Signal((argument + self.offset).shape())
        above = Signal()
        m.d.comb += [moved.eq(argument + self.offset), above.eq(self.fixed | (argument > self.margin))]
        first = Signal(summed.shape(), reset_less=True)
        second = Signal(self.limit.shape(), reset_less=True)
        m.d.sync += [first.eq(passed), second.eq(Mux(above, self.limit, Mux(moved < 0, 0, moved)))]
        value = Signal(signed(width + numerics.limit_width), reset_less=True)
        m.d.sync += value.eq(Mux(curved, first[:width].as_signed() * second, first))

        m.submodules.post = post = RoundShift(len(value), numerics.post_width, pipeline=self.pipeline)
        m.submodules.clamp = clamp = ZeroPointClamp(len(value))
        q = Signal(signed(8), reset_less=True)
        m.d.comb += [
            post.value.eq(value),
            post.shift.eq(self.post_shift),
            clamp.value.eq(delayed(m, post.floor, stage, name="floor")[-1]),
            clamp.up.eq(delayed(m, post.up, stage, name="up")[-1]),
            clamp.zero_point.eq(self.out_zp),
            clamp.lo.eq(self.q_lo),
            clamp.hi.eq(self.q_hi),
            self.q.eq(q),
        ]
        m.d.sync += q.eq(clamp.q)
        return m


def _saturate(m: Module, value: Signal, width: int, name: str) -> Signal:
    """Return a signed value clamped to `width` bits."""
    saturated, overflow = Signal(signed(width), name=name), Signal(name=f"{name}_overflow")
    largest = (1 << (width - 1)) - 1
    top = value[width - 1 :]
    m.d.comb += [
        overflow.eq(~top.all() & top.any()),
        saturated.eq(Mux(overflow, Mux(value[-1], -largest - 1, largest), value)),
    ]
    return saturated


class OutputStage(wiring.Component):
    """Turn a vector of accumulators of one channel into int8 pixels, one vector per cycle, never stalling.

    Bit-exact with :meth:`Numerics.output <hw.spec.numerics.Numerics.output>` as long as acc + bias fits the
    accumulator.

    Parameters
    ----------
    lanes
        Accumulators per vector.
    numerics
        Widths.
    pipeline
        As for :class:`OutputLane`.

    Attributes
    ----------
    LATENCY : int
        7, and 9 more if pipelined.

    Members
    -------
    valid : In(1)
        A vector is on the inputs; ``acc``, ``param`` and ``cfg`` are sampled with it.
    acc : In, `lanes` signed accumulators
    param : In(PARAM_LAYOUT)
        The channel's bias, multiplier and shift.
    cfg : In(output_config())
    residual : In, `lanes` signed bytes
        Second operand, sampled RESIDUAL_STAGE cycles after ``valid``; SCALE takes lane 0 for all lanes, NONE none.
    out_valid : Out(1)
        ``valid``, LATENCY cycles later; cleared by reset.
    q : Out, `lanes` signed bytes
        Result, with ``out_valid``.  Data registers have no reset.
    """

    RESIDUAL_STAGE: int = OutputLane.RESIDUAL_STAGE
    LATENCY: int = OutputLane.LATENCY

    def __init__(self, lanes: int, numerics: Numerics = NUMERICS, *, pipeline: bool = False) -> None:
        if lanes < 1:
            raise ValueError(f"an output stage has at least 1 lane, not {lanes}")
        self.lanes, self.numerics, self.pipeline = lanes, numerics, pipeline
        self.RESIDUAL_STAGE = OutputLane.RESIDUAL_STAGE + pipeline
        self.LATENCY = OutputLane.LATENCY + 9 * pipeline
        super().__init__(
            {
                "valid": In(1),
                "acc": In(Lanes(signed(numerics.acc_width), lanes)),
                "param": In(PARAM_LAYOUT),
                "cfg": In(output_config()),
                "residual": In(pixels(lanes)),
                "out_valid": Out(1),
                "q": Out(pixels(lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the lanes and carry what they share."""
        m = Module()
        m.d.comb += self.out_valid.eq(
            delayed(m, self.valid, self.LATENCY, name="valid", reset_less=False)[self.LATENCY]
        )

        # Choices common to the lanes are made here; there they would cost gates in each.
        cfg = self.cfg
        lanes = [shared(platform, OutputLane, self.numerics, pipeline=self.pipeline) for _ in range(self.lanes)]
        stages = lanes[0].STAGES
        hswish, scale, both = Signal(), Signal(), Signal()
        m.d.comb += [
            hswish.eq(cfg.act == Activation.HSWISH),
            scale.eq(cfg.res == ResidualOp.SCALE),
            both.eq(hswish & scale),
        ]
        carried = {
            "bias": self.param.bias,
            "mult": self.param.mult,
            "shift": self.param.shift,
            "res_zp": cfg.res_zp,
            "res_mult": Mux(cfg.res == ResidualOp.ADD, cfg.res_mult, 0),
            "gated": scale,
            "half": both,
            "halved": both,
            "curved": hswish,
            "offset": cfg.act_offset,
            "limit": Mux(hswish, cfg.act_limit, 0),
            "fixed": ~hswish,
            "post_shift": cfg.post_shift,
            "out_zp": cfg.out_zp,
            "q_lo": Mux(cfg.q_lo < cfg.q_hi, cfg.q_lo, cfg.q_hi),
            "q_hi": cfg.q_hi,
        }
        chains = {name: delayed(m, value, stages[name], name=name) for name, value in carried.items()}
        common = {name: chain[-1] for name, chain in chains.items()}
        margin = Signal(lanes[0].margin.shape(), reset_less=True)
        m.d.sync += margin.eq(chains["limit"][-2] - chains["offset"][-2])
        common["margin"] = margin

        gate = chains["gated"][self.RESIDUAL_STAGE]
        for index, lane in enumerate(lanes):
            m.submodules[f"lane{index}"] = lane
            m.d.comb += [getattr(lane, name).eq(value) for name, value in common.items()]
            m.d.comb += [
                lane.acc.eq(self.acc[index]),
                lane.residual.eq(Mux(gate, self.residual[0], self.residual[index])),
                self.q[index].eq(lane.q),
            ]
        return m
