"""Energies out of a small Liberty file, in fJ, fF and nW whatever units it has."""

from __future__ import annotations

import pytest

from hw.errors import RequestError
from hw.report.cell_energy import read_energies
from hw.report.liberty import Liberty

TEXT = """
library (small) {
  capacitive_load_unit (1, pf); leakage_power_unit : "1uW"; nom_voltage : 1.5;
  power_lut_template (out) { variable_1 : input_transition_time; variable_2 : total_output_net_capacitance;
    index_1 ("0.001, 0.02"); index_2 ("1, 2, 4"); }
  power_lut_template (in) { variable_1 : input_transition_time; index_1 ("0.001, 0.02"); }
  cell (INV) { area : 1; cell_leakage_power : 0.25;
    pin (A) { direction : input; capacitance : 0.002;
      internal_power () { rise_power (in) { values ("9, 0.001"); } fall_power (in) { values ("9, 0.003"); } } }
    pin (Y) { direction : output; function : "!A";
      internal_power () { related_pin : "A"; /* { */
        rise_power (out) { values ("9, 9, 9", \\
                                   "1, 2, 6"); }
        fall_power (out) { values ("9, 9, 9", "3, 4, 8"); } } }
  }
  cell (DFF) { area : 2; ff (IQ, IQN) { next_state : "D"; clocked_on : "C"; }
    pin (Q) { direction : output; function : "IQ"; } }
}
"""


def liberty(text: str = TEXT) -> Liberty:
    return Liberty.parse(text, "small.lib", "here")


def test_energies_are_means_at_the_slope() -> None:
    library = read_energies(liberty())
    cell = library.cells["INV"]
    assert library.volts == 1.5
    assert cell.leakage == pytest.approx(250)
    assert cell.capacitance == {"A": pytest.approx(2)}
    assert cell.hidden == {"A": pytest.approx(2)}
    assert [cell.per_change("Y", load) for load in (1000, 1500, 4000)] == pytest.approx([2000, 2500, 7000])
    assert library.cells["DFF"].per_change("Q", 7.0) == 0.0


def test_a_library_without_energies_is_refused() -> None:
    with pytest.raises(RequestError, match=r"small\.lib has no nom_voltage"):
        read_energies(liberty(TEXT.replace("nom_voltage : 1.5;", "")))
    with pytest.raises(RequestError, match="no internal_power tables"):
        read_energies(liberty(TEXT.replace("internal_power", "other")))
