"""Output stage: bias, requantisation, residual addition and clamp of a drained row of accumulators."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Shape, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.delay import delayed
from hw.layouts import PARAM_LAYOUT, Lanes, pixels, table_layout
from hw.requantise import Requantise, RoundShift, ZeroPointClamp
from hw.shared import shared
from hw.spec.isa import EXEC
from hw.spec.numerics import NUMERICS, Numerics

__all__ = ["OutputLane", "OutputStage", "output_config"]

_EXEC = table_layout(EXEC)


def output_config() -> data.StructLayout:
    """Return the per-vector settings: EXEC's fields of the same names, and ``res``, 1 to add the residual operand."""
    names = ("out_zp", "q_lo", "q_hi", "post_shift", "res", "res_zp", "res_mult")
    return data.StructLayout({name: Shape(1) if name == "res" else _EXEC[name].shape for name in names})


class OutputLane(wiring.Component):
    """One lane of the output stage: ``numerics.output`` of one accumulator, one per cycle.

    Everything but the accumulator and the residual byte is common to the lanes of a vector, so it is registered
    outside and handed in at the stage that uses it.  With the accumulator sampled in cycle t, and L = LATENCY:

    =========  ========================================  ====================================
    cycle      work                                      inputs sampled
    =========  ========================================  ====================================
    t          add the bias                              acc, bias
    t + 1      multiply (pipelined: two cycles)          mult
    t + L - 3  shift, round, saturate                    shift
    t + 3      multiply the residual                     residual, res_zp, res_mult
    t + L - 2  add the residual (plain: the same cycle)
    t + L - 1  post shift, zero point, clamp             post_shift, out_zp, q_lo, q_hi
    =========  ========================================  ====================================

    ``q`` is valid in cycle t + LATENCY.  Registers have no reset.

    Parameters
    ----------
    numerics
        Widths.
    pipeline
        Spend a cycle more, so that no multiplier is followed by a wide adder in the same cycle.

    Attributes
    ----------
    LATENCY : int
        5, and 1 more if pipelined.

    Members
    -------
    acc, bias, mult, shift, residual, res_zp, res_mult, post_shift, out_zp, q_lo, q_hi : In
        Without residual res_mult must be 0; q_lo <= q_hi.
    q : Out(signed(8))
    """

    RESIDUAL_STAGE = 3
    LATENCY: int = 5

    def __init__(self, numerics: Numerics = NUMERICS, *, pipeline: bool = False) -> None:
        self.numerics, self.pipeline = numerics, pipeline
        self.LATENCY = OutputLane.LATENCY + pipeline
        settings = {name: In(member.shape) for name, member in output_config() if name != "res"}
        super().__init__(
            {
                "acc": In(signed(numerics.acc_width)),
                "bias": In(signed(numerics.bias_width)),
                "mult": In(numerics.mult_width),
                "shift": In(numerics.shift_width),
                "residual": In(signed(8)),
                **settings,
                "q": Out(signed(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the stages."""
        m = Module()
        total = Signal(signed(self.numerics.acc_width), reset_less=True)
        m.d.sync += total.eq(self.acc + self.bias)

        m.submodules.requantise = requantise = Requantise(self.numerics, pipeline=self.pipeline)
        m.d.comb += [
            requantise.value.eq(total),
            requantise.mult.eq(self.mult),
            requantise.shift.eq(self.shift),
        ]

        product = (self.residual - self.res_zp) * self.res_mult
        addend = delayed(m, product, int(self.pipeline), name="addend")[-1]
        summed = Signal((requantise.mid + addend).shape(), reset_less=True)
        m.d.sync += summed.eq(requantise.mid + addend)

        # An activation function (isa.Activation) is a stage here, on `summed`: it sees the real-valued sum with
        # post_shift fraction bits, before zero point and clamp.

        m.submodules.post = post = RoundShift(len(summed), self.numerics.post_width)
        m.submodules.clamp = clamp = ZeroPointClamp(len(summed))
        q = Signal(signed(8), reset_less=True)
        m.d.comb += [
            post.value.eq(summed),
            post.shift.eq(self.post_shift),
            clamp.value.eq(post.floor),
            clamp.up.eq(post.up),
            clamp.zero_point.eq(self.out_zp),
            clamp.lo.eq(self.q_lo),
            clamp.hi.eq(self.q_hi),
            self.q.eq(q),
        ]
        m.d.sync += q.eq(clamp.q)
        return m


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
        5, and 1 more if pipelined.

    Members
    -------
    valid : In(1)
        A vector is on the inputs; ``acc``, ``param`` and ``cfg`` are sampled with it.
    acc : In, `lanes` signed accumulators
    param : In(PARAM_LAYOUT)
        The channel's bias, multiplier and shift.
    cfg : In(output_config())
    residual : In, `lanes` signed bytes
        Second operand, sampled RESIDUAL_STAGE cycles after ``valid``; ignored if ``cfg.res`` is 0.
    out_valid : Out(1)
        ``valid``, LATENCY cycles later; cleared by reset.
    q : Out, `lanes` signed bytes
        Result, with ``out_valid``.  Data registers have no reset.
    """

    RESIDUAL_STAGE = OutputLane.RESIDUAL_STAGE
    LATENCY: int = OutputLane.LATENCY

    def __init__(self, lanes: int, numerics: Numerics = NUMERICS, *, pipeline: bool = False) -> None:
        if lanes < 1:
            raise ValueError(f"an output stage has at least 1 lane, not {lanes}")
        self.lanes, self.numerics, self.pipeline = lanes, numerics, pipeline
        self.LATENCY = OutputLane.LATENCY + pipeline
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

        # Two rules of the arithmetic cost nothing here and a gate per lane there.
        gain = Mux(self.cfg.res, self.cfg.res_mult, 0)
        lowest = Mux(self.cfg.q_lo < self.cfg.q_hi, self.cfg.q_lo, self.cfg.q_hi)
        carried = {
            "bias": (self.param.bias, 0),
            "mult": (self.param.mult, 1),
            "shift": (self.param.shift, self.LATENCY - 3),
            "res_zp": (self.cfg.res_zp, self.RESIDUAL_STAGE),
            "res_mult": (gain, self.RESIDUAL_STAGE),
            "post_shift": (self.cfg.post_shift, self.LATENCY - 1),
            "out_zp": (self.cfg.out_zp, self.LATENCY - 1),
            "q_lo": (lowest, self.LATENCY - 1),
            "q_hi": (self.cfg.q_hi, self.LATENCY - 1),
        }
        common = {name: delayed(m, value, stage, name=name)[stage] for name, (value, stage) in carried.items()}
        for index in range(self.lanes):
            m.submodules[f"lane{index}"] = lane = shared(platform, OutputLane, self.numerics, pipeline=self.pipeline)
            m.d.comb += [getattr(lane, name).eq(value) for name, value in common.items()]
            m.d.comb += [
                lane.acc.eq(self.acc[index]),
                lane.residual.eq(self.residual[index]),
                self.q[index].eq(lane.q),
            ]
        return m
