"""The harness's memory, protocol checks, events and waves, against a puppet master that can break every rule."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sim.verilator.build import BuildOptions, build_library
from sim.verilator.model import ControlPortError, Model, Outcome

ADDR, LEN, DATA, STROBE, VALID, READY, R_DATA, R_STATE = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x1C
TRACE, IRQ, SHAPE, R_DELAY = 0x20, 0x24, 0x28, 0x2C
AW, W, AR = 1, 2, 4
BASE = 0x10000


PUPPET = Path(__file__).with_name("axi_puppet.v")


@pytest.fixture(scope="module")
def plain() -> Path:
    return build_library([PUPPET])


@pytest.fixture(scope="module")
def traced() -> Path:
    return build_library([PUPPET], BuildOptions(traced=True))


@pytest.fixture
def model(plain: Path) -> Iterator[Model]:
    with Model(plain) as instance:
        instance.configure(read_latency=20, write_latency=20)
        yield instance


def send(model: Model, addr: int, valids: int, *, beats: int = 1) -> None:
    model.write_csr(ADDR, addr)
    model.write_csr(LEN, beats - 1)
    model.write_csr(READY, 3)
    model.write_csr(VALID, valids)


def test_write_then_read(model: Model) -> None:
    memory = model.map(BASE, 64)
    memory[:] = np.arange(64)
    model.write_csr(DATA, 0x44332211)
    model.write_csr(STROBE, 0x100 | 0x0F)  # WLAST, the low four lanes
    send(model, BASE + 8, AW | W)
    assert model.outstanding == 1
    assert memory[8] == 8, "memory must change only with the write response"
    model.step(60)
    assert model.outstanding == 0
    assert memory[8:16].tolist() == [0x11, 0x22, 0x33, 0x44, 12, 13, 14, 15]
    send(model, BASE + 8, AR)
    model.step(60)
    assert model.read_csr(R_DATA) == 0x44332211
    assert model.beats == (1, 1)
    assert not model.failures


def test_data_before_address(model: Model) -> None:
    memory = model.map(BASE, 64)
    model.write_csr(DATA, 0xA5A5A5A5)
    send(model, BASE, W)
    model.step(60)
    assert not memory.any()
    send(model, BASE, AW)
    model.step(60)
    assert memory[:4].tolist() == [0xA5] * 4
    assert not model.failures


@pytest.mark.parametrize("latency", [1, 7, 64])
def test_read_latency(model: Model, latency: int) -> None:
    model.configure(read_latency=latency)
    model.map(BASE, 256)
    send(model, BASE, AR, beats=4)
    model.step(100)
    assert model.read_csr(R_DELAY) == latency
    assert model.read_csr(R_STATE) >> 16 == 4


def test_burst_beats_follow_each_other(model: Model) -> None:
    model.map(BASE, 4096)
    send(model, BASE, AR, beats=256)
    before = model.now
    while model.outstanding:
        model.step(1)
    assert model.now - before <= 256 + 20


def test_error_responses(model: Model) -> None:
    model.map(BASE, 4096)
    model.fault(BASE + 0x100, 8, writes=False)
    for addr, response in ((BASE, 0), (BASE + 0x100, 2), (BASE + 0x108, 0), (BASE - 8, 3), (BASE + 4096, 3)):
        send(model, addr, AR)
        model.step(60)
        assert model.read_csr(R_STATE) & 3 == response, hex(addr)
    for addr, response in ((BASE + 0x100, 0), (BASE + 4096, 3)):
        send(model, addr, AW | W)
        model.step(60)
        assert model.read_csr(R_STATE) >> 2 & 3 == response, hex(addr)
    assert not model.failures  # an error response is no fault of the master


def test_write_fault_keeps_memory(model: Model) -> None:
    memory = model.map(BASE, 64)
    model.fault(BASE, 8, reads=False)
    model.write_csr(DATA, 0xFFFFFFFF)
    send(model, BASE, AW | W)
    model.step(60)
    assert not memory.any()


def test_stalls_are_seeded_and_slow(model: Model) -> None:
    model.map(BASE, 4096)
    spent = []
    for seed in (1, 1, 2):
        model.configure(read_latency=20, stall_probability=0.5, seed=seed)
        before, beats = model.now, model.beats[0]
        send(model, BASE, AR, beats=128)
        while model.beats[0] < beats + 128:
            model.step(1)
        spent.append(model.now - before)
    assert spent[0] == spent[1] != spent[2]
    assert min(spent) > 128 * 1.5
    assert not model.failures


@pytest.mark.parametrize(
    ("valids", "what"), [(AR, "ARVALID fell"), (AW, "AWVALID fell"), (W, "WVALID fell")], ids=["ar", "aw", "w"]
)
def test_valid_may_not_fall(model: Model, valids: int, what: str) -> None:
    model.map(BASE, 4096)
    model.configure(outstanding=0)  # no READY ever rises
    send(model, BASE, valids)
    model.step(3)
    model.write_csr(VALID, 0)
    assert model.run(10) is Outcome.VIOLATION
    assert what in model.failures
    model.clear_failures()
    assert not model.failures


@pytest.mark.parametrize(
    ("register", "value", "valids", "channel"),
    [(ADDR, BASE + 64, AR, "AR"), (LEN, 3, AW, "AW"), (DATA, 7, W, "W"), (STROBE, 1, W, "W")],
)
def test_payload_may_not_change(model: Model, register: int, value: int, valids: int, channel: str) -> None:
    model.configure(outstanding=0)
    send(model, BASE, valids)
    model.write_csr(register, value)
    model.step(2)
    assert f"{channel} payload changed" in model.failures


def test_boundary_crossing(model: Model) -> None:
    model.map(BASE, 8192)
    send(model, BASE + 4096 - 16, AR, beats=2)
    model.step(50)
    assert not model.failures
    send(model, BASE + 4096 - 16, AR, beats=3)
    model.step(50)
    assert "AR at 0x10ff0: 3 beats cross a 4 KiB boundary" in model.failures


@pytest.mark.parametrize("shape", [0b01_010, 0b00_011, 0b10_011], ids=["narrow", "fixed", "wrap"])
def test_burst_shape(model: Model, shape: int) -> None:
    model.map(BASE, 4096)
    model.write_csr(SHAPE, shape)
    send(model, BASE, AW)
    model.step(5)
    assert "full-width INCR is expected" in model.failures


@pytest.mark.parametrize(
    ("last", "beats", "shown"), [(0, 1, "WLAST is 0 at beat 1 of 1"), (1, 2, "WLAST is 1 at beat 1 of 2")]
)
def test_wlast(model: Model, last: int, beats: int, shown: str) -> None:
    model.map(BASE, 4096)
    model.write_csr(STROBE, last << 8 | 0xFF)
    send(model, BASE, AW | W, beats=beats)
    model.step(5)
    assert shown in model.failures


def test_control_error_is_raised(model: Model) -> None:
    with pytest.raises(ControlPortError, match="write of register 0x800: response 2"):
        model.write_csr(0x800, 1)


def test_run_ends_at_interrupt_or_limit(model: Model) -> None:
    before = model.now
    assert model.run(50) is Outcome.LIMIT
    assert model.now == before + 50
    model.write_csr(IRQ, 1)
    assert model.irq
    before = model.now
    assert model.run(50) is Outcome.INTERRUPT
    assert model.now == before + 1
    model.power_on()
    assert not model.irq


def test_events(model: Model) -> None:
    model.write_csr(LEN, 41)
    model.write_csr(TRACE, 0b000_001)
    model.write_csr(LEN, 42)
    model.write_csr(TRACE, 0b000_001)
    model.write_csr(LEN, 43)
    model.write_csr(TRACE, 0b001_100)  # the load unit ends its oldest while the store unit starts one
    events = model.events()
    assert [(int(e["unit"]), int(e["pc"]), int(e["kind"])) for e in events] == [
        (0, 41, 0),
        (0, 42, 0),
        (0, 41, 1),
        (2, 43, 0),
    ]
    assert (np.diff(events["cycle"].astype(int)) >= 0).all()
    model.clear_events()
    assert not len(model.events())


def test_waves_hold_the_window(traced: Path, tmp_path: Path) -> None:
    with Model(traced) as instance:
        sizes = []
        for length in (50, 5000):
            path = tmp_path / f"{length}.fst"
            instance.open_waves(path, instance.now, instance.now + length)
            for _ in range(100):  # control accesses, so that something toggles
                instance.write_csr(DATA, instance.now)
            instance.close_waves()
            sizes.append(path.stat().st_size)
        assert sizes[0] + 1000 < sizes[1]
    names = _hierarchy(path.read_bytes())
    assert b"rowcast" in names
    assert b"m_axi_araddr" in names


def _hierarchy(fst: bytes) -> bytes:
    """Return the uncompressed hierarchy of an FST file: block type 6, one LZ4 block."""
    at = 0
    while at < len(fst):
        kind, length = fst[at], int.from_bytes(fst[at + 1 : at + 9], "big")
        if kind == 6:
            return _lz4_block(fst[at + 17 : at + 1 + length])
        at += 1 + length
    raise AssertionError("no hierarchy block")


def _lz4_block(data: bytes) -> bytes:
    out, at = bytearray(), 0

    def length(nibble: int) -> int:
        nonlocal at
        total = nibble
        while nibble == 15:
            total, at = total + data[at], at + 1
            if data[at - 1] != 255:
                break
        return total

    while at < len(data):
        token, at = data[at], at + 1
        literals = length(token >> 4)
        out += data[at : at + literals]
        at += literals
        if at >= len(data):
            break
        offset, at = int.from_bytes(data[at : at + 2], "little"), at + 2
        for _ in range(length(token & 15) + 4):
            out.append(out[-offset])
    return bytes(out)


def test_waves_need_a_traced_library(plain: Path, tmp_path: Path) -> None:
    with Model(plain) as instance, pytest.raises(RuntimeError, match="cannot write waves"):
        instance.open_waves(tmp_path / "w.fst")


def test_waves_need_a_directory(traced: Path, tmp_path: Path) -> None:
    with Model(traced) as instance, pytest.raises(RuntimeError, match="cannot write waves"):
        instance.open_waves(tmp_path / "missing" / "w.fst")
