"""The proof that GEMM mode is the plain array: it holds, and it fails for modes and hardware that are not."""

from __future__ import annotations

import json

import pytest
from amaranth.hdl import Module

from hw import equivalence
from hw.equivalence import GEMM, prove, prove_all
from hw.pe import PE
from hw.row import Row
from hw.spec.config import PRESETS


class WeightLeaks(PE):
    """An ST-OS PE whose weight changes the result in one case of 256, before it is multiplied."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        with m.If(self.h_in == -77):
            m.d.comb += self.d[0].eq(0)
        return m


def test_every_pe_and_row_of_a_preset() -> None:
    proofs = prove_all(PRESETS["tiny"])
    assert [proof.name.split(",")[0] for proof in proofs] == ["PE", "row of 4 PEs"] * 2
    assert all(proof.holds and not proof.differing for proof in proofs)
    # at least every bit of h, v, accumulator, d and held; d and v leave a row
    assert all(proof.points >= 81 * (4 if "row" in proof.name else 1) for proof in proofs)


@pytest.mark.parametrize(
    ("tied", "signal"),
    [({"stos": 1}, "product"), ({"w_row_n": 0}, "product"), ({"capture": 1}, "h"), ({"v_en": 0}, "v")],
)
def test_other_modes_differ(tied: dict[str, int], signal: str) -> None:
    proof = prove(PE(stos=False), PE(), "PE", tied={**GEMM, **tied})
    assert not proof.holds
    assert signal in proof.differing


def test_a_row_that_takes_its_halo_differs() -> None:
    plain, stos = Row(2, 0, stos=False, pipeline_mac=False), Row(2, 2, stos=True, pipeline_mac=False)
    proof = prove(plain, stos, "row", tied={**GEMM, "halo_out": 1})
    assert not proof.holds
    assert "pe0.h" in proof.differing


def test_broken_hardware_is_refuted() -> None:
    proof = prove(PE(stos=False), WeightLeaks(), "PE")
    assert not proof.holds
    assert 0 < proof.proven < proof.points
    assert proof.differing == ("d",)


def test_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert equivalence.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert all(proof["holds"] and proof["proven"] == proof["points"] for proof in report["proofs"])
    monkeypatch.setattr(equivalence, "PE", lambda stos, pipeline_mac: (WeightLeaks if stos else PE)(stos=stos))
    assert equivalence.main([]) == 1
    assert "NOT PROVEN: d" in capsys.readouterr().out
