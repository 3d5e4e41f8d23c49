"""Clock generators: the dividers of a PLL or MMCM that come nearest to a frequency, and their Verilog."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from hw.errors import RequestError

__all__ = ["Dividers", "ecp5_pll", "ecp5_verilog", "xc7_mmcm", "xc7_verilog"]

_TOLERANCE = 0.01


@dataclass(frozen=True)
class Dividers:
    """Dividers of reference, feedback and output; the frequency they make, and the oscillator's, in MHz."""

    reference: int
    feedback: int
    output: int
    mhz: float
    vco_mhz: float


def _best(given: float, wanted: float, candidates: list[Dividers], name: str) -> Dividers:
    middle = sum(item.vco_mhz for item in candidates) / max(len(candidates), 1)

    def cost(item: Dividers) -> tuple[float, ...]:
        return abs(item.mhz - wanted), item.reference, abs(item.vco_mhz - middle)

    best = min(candidates, key=cost, default=None)
    if best is None or abs(best.mhz / wanted - 1) > _TOLERANCE:
        raise RequestError(
            f"clock {wanted:g} MHz cannot be made of {given:g} MHz by {name}"
            + (f"; the nearest is {best.mhz:g} MHz" if best else "")
            + ": choose another --clock-mhz"
        )
    return best


@cache
def ecp5_pll(given: float, wanted: float) -> Dividers:
    """Return the dividers of an EHXPLLL with feedback from its output (oscillator 400 to 800 MHz).

    Raises
    ------
    RequestError
        If no setting comes within 1 %.
    """
    candidates = [
        Dividers(reference, feedback, output, mhz, mhz * output)
        for reference in range(1, 129)
        if given / reference >= 3.125
        for feedback in range(1, 81)
        if 10 <= (mhz := given / reference * feedback) <= 400
        for output in range(1, 129)
        if 400 <= mhz * output <= 800
    ]
    return _best(given, wanted, candidates, "the ECP5's PLL")


@cache
def xc7_mmcm(given: float, wanted: float) -> Dividers:
    """Return the dividers of an MMCME2_BASE (oscillator 600 to 1200 MHz, as every speed grade allows).

    Raises
    ------
    RequestError
        If no setting comes within 1 %.
    """
    candidates = [
        Dividers(reference, feedback, output, vco / output, vco)
        for reference in range(1, 9)
        if given / reference >= 10
        for feedback in range(2, 65)
        if 600 <= (vco := given / reference * feedback) <= 1200
        for output in range(1, 129)
    ]
    return _best(given, wanted, candidates, "the MMCM")


def ecp5_verilog(given: float, dividers: Dividers) -> str:
    """Return the instance of the PLL from wire ``clk_in`` to ``clk`` and ``locked``.

    The analog settings are those of Project Trellis' ecppll.
    """
    return f"""\
  (* FREQUENCY_PIN_CLKI = "{given:g}", FREQUENCY_PIN_CLKOP = "{dividers.mhz:g}" *)
  (* ICP_CURRENT = "12", LPF_RESISTOR = "8", MFG_ENABLE_FILTEROPAMP = "1", MFG_GMCREF_SEL = "2" *)
  EHXPLLL #(
    .CLKI_DIV({dividers.reference}), .CLKFB_DIV({dividers.feedback}), .CLKOP_DIV({dividers.output}),
    .CLKOP_CPHASE({(dividers.output - 1) // 2}), .CLKOP_FPHASE(0), .CLKOP_ENABLE("ENABLED"), .FEEDBK_PATH("CLKOP"),
    .PLLRST_ENA("DISABLED"), .INTFB_WAKE("DISABLED"), .STDBY_ENABLE("DISABLED"), .DPHASE_SOURCE("DISABLED"),
    .OUTDIVIDER_MUXA("DIVA"), .OUTDIVIDER_MUXB("DIVB"), .OUTDIVIDER_MUXC("DIVC"), .OUTDIVIDER_MUXD("DIVD")
  ) pll (
    .CLKI(clk_in), .CLKOP(clk), .CLKFB(clk), .LOCK(locked), .RST(1'b0), .STDBY(1'b0), .PLLWAKESYNC(1'b0),
    .PHASESEL0(1'b0), .PHASESEL1(1'b0), .PHASEDIR(1'b1), .PHASESTEP(1'b1), .PHASELOADREG(1'b1), .ENCLKOP(1'b0)
  );
"""


def xc7_verilog(given: float, dividers: Dividers) -> str:
    """Return the instance of the MMCM from wire ``clk_in`` to ``clk`` and ``locked``."""
    return f"""\
  wire feedback, made;
  MMCME2_BASE #(
    .CLKIN1_PERIOD({1000 / given:g}), .DIVCLK_DIVIDE({dividers.reference}), .CLKFBOUT_MULT_F({dividers.feedback}.0),
    .CLKOUT0_DIVIDE_F({dividers.output}.0)
  ) mmcm (
    .CLKIN1(clk_in), .CLKFBIN(feedback), .CLKFBOUT(feedback), .CLKOUT0(made), .LOCKED(locked), .RST(1'b0),
    .PWRDWN(1'b0)
  );
  BUFG buffer (.I(made), .O(clk));
"""
