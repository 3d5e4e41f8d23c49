"""The link's rules, on the model of a board and on its RTL; then random frames, good and bad, on both."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator

import pytest

from hw.spec.config import preset
from hw.spec.csr import MAGIC, address
from hw.spec.link import (
    CSR_BASE,
    GAP_BITS,
    ID_BASE,
    ID_BYTES,
    MAX_PAYLOAD,
    REQUEST_HEADER,
    REQUEST_SYNC,
    Command,
    Request,
    Response,
    Status,
    identity,
)
from sim.board.link_model import LinkModel
from sim.board.soc_model import SocModel

CONFIG = preset("tiny")
SIZES = {"memory_bytes": 128 * 1024, "clock_hz": 100_000_000, "bit_clocks": 4}
GAP_CYCLES = (GAP_BITS + 20) * SIZES["bit_clocks"]


class Wire:
    """Frames to a board, with its answers; `rest` lets the time pass after which half a frame is forgotten."""

    def __init__(self, exchange: Callable[[bytes], bytes], rest: Callable[[], None]) -> None:
        self.exchange, self.rest = exchange, rest

    def ask(self, request: Request) -> Response:
        return Response.decode(self.exchange(request.encode()))


def model_wire() -> Wire:
    seconds = 0.0

    def rest() -> None:
        nonlocal seconds
        seconds += 2 * GAP_CYCLES / SIZES["clock_hz"]

    return Wire(LinkModel(CONFIG, **SIZES, clock=lambda: seconds).exchange, rest)


def rtl_wire(model: SocModel) -> Wire:
    def exchange(data: bytes) -> bytes:
        # all bits there and back, and some hundred cycles for what is asked
        return model.exchange(data, (len(data) + 64) * 10 * SIZES["bit_clocks"] + 4 * MAX_PAYLOAD) + answer(b"")

    def answer(found: bytes) -> bytes:
        while not model.silent:
            found += model.exchange(b"", 1000)
        return found

    return Wire(exchange, lambda: model.exchange(b"", GAP_CYCLES) and None)


@pytest.fixture(scope="module")
def rtl() -> Iterator[SocModel]:
    model = SocModel(CONFIG, **SIZES)
    yield model
    assert not model.framing_errors
    model.close()


@pytest.fixture(params=["model", "rtl"])
def wire(request: pytest.FixtureRequest) -> Wire:
    made = model_wire() if request.param == "model" else rtl_wire(request.getfixturevalue("rtl"))
    assert made.ask(Request(Command.PING, 0)) == Response(Status.OK, 0)
    return made


def test_identity_and_registers(wire: Wire) -> None:
    words = b"".join(word.to_bytes(4, "little") for word in identity(**SIZES).values())
    assert wire.ask(Request(Command.READ, 1, ID_BASE, ID_BYTES)) == Response(Status.OK, 1, words)
    magic = MAGIC.to_bytes(4, "little")
    assert wire.ask(Request(Command.READ, 2, CSR_BASE + address("MAGIC"), 4)) == Response(Status.OK, 2, magic)
    hashed = CONFIG.hash.to_bytes(8, "little")
    assert wire.ask(Request(Command.READ, 3, CSR_BASE + address("HASH_LO"), 8)) == Response(Status.OK, 3, hashed)


def test_the_longest_frame_and_the_memorys_ends(wire: Wire) -> None:
    data = random.Random(0).randbytes(MAX_PAYLOAD)
    for sequence, place in enumerate((0, SIZES["memory_bytes"] - MAX_PAYLOAD)):
        assert wire.ask(Request(Command.WRITE, sequence, place, MAX_PAYLOAD, data)).status == Status.OK
        assert wire.ask(Request(Command.READ, 9, place, MAX_PAYLOAD)).payload == data


def test_a_damaged_write_leaves_nothing(wire: Wire) -> None:
    wire.ask(Request(Command.WRITE, 1, 64, 8, b"original"))
    frame = bytearray(Request(Command.WRITE, 2, 64, 8, b"replaced").encode())
    frame[-6] ^= 0x10
    assert Response.decode(wire.exchange(bytes(frame))) == Response(Status.BAD_CRC, 2)
    assert wire.ask(Request(Command.READ, 3, 64, 8)).payload == b"original"


def test_a_repeated_write_is_not_carried_out_again(wire: Wire) -> None:
    write = Request(Command.WRITE, 5, 128, 4, b"once")
    assert wire.ask(write).status == Status.OK
    damaged = bytearray(write.encode())
    damaged[-1] ^= 1
    assert Response.decode(wire.exchange(bytes(damaged))).status == Status.BAD_CRC
    assert wire.ask(Request(Command.WRITE, 5, 128, 4, b"more")) == Response(Status.OK, 5)
    assert wire.ask(Request(Command.READ, 6, 128, 4)).payload == b"once"
    # and a ping forgets
    assert wire.ask(Request(Command.WRITE, 7, 128, 4, b"then")).status == Status.OK
    wire.ask(Request(Command.PING, 7))
    assert wire.ask(Request(Command.WRITE, 7, 128, 4, b"this")).status == Status.OK
    assert wire.ask(Request(Command.READ, 8, 128, 4)).payload == b"this"


def test_half_a_frame_is_forgotten(wire: Wire) -> None:
    frame = Request(Command.WRITE, 1, 0, 64, bytes(64)).encode()
    for length in (1, 2, 5, 30, len(frame) - 1):
        assert wire.exchange(frame[:length]) == b""
        wire.rest()
        assert wire.ask(Request(Command.PING, length)) == Response(Status.OK, length)


def test_what_is_no_frame_is_ignored(wire: Wire) -> None:
    assert wire.exchange(bytes(value for value in range(256) if value != REQUEST_SYNC)) == b""
    assert wire.ask(Request(Command.PING, 77)) == Response(Status.OK, 77)


@pytest.mark.parametrize(
    ("command", "place", "length", "status"),
    [
        (9, 0, 4, Status.BAD_COMMAND),
        (Command.READ, 0, 0, Status.BAD_LENGTH),
        (Command.READ, 0, MAX_PAYLOAD + 4, Status.BAD_LENGTH),
        (Command.READ, 0, 7, Status.BAD_LENGTH),
        (Command.READ, 2, 4, Status.BAD_ADDRESS),
        (Command.READ, SIZES["memory_bytes"] - 4, 8, Status.BAD_ADDRESS),
        (Command.READ, SIZES["memory_bytes"], 4, Status.BAD_ADDRESS),
        (Command.READ, 0x4000_0000, 4, Status.BAD_ADDRESS),
        (Command.READ, 0xFFFF_FFFC, 4, Status.BAD_ADDRESS),
        (Command.WRITE, ID_BASE, 4, Status.BAD_ADDRESS),
        (Command.WRITE, CSR_BASE + address("MAGIC"), 4, Status.BUS_ERROR),
        (Command.READ, CSR_BASE + 0xFF0, 4, Status.BUS_ERROR),
        (Command.READ, CSR_BASE + 0xFF0, 32, Status.BAD_ADDRESS),
    ],
)
def test_refusals(wire: Wire, command: int, place: int, length: int, status: Status) -> None:
    payload = b"\xa5" * length if command == Command.WRITE else b""
    assert wire.ask(Request(command, 42, place, length, payload)) == Response(status, 42)


def random_frame(rng: random.Random, sequence: int) -> bytes:
    """A frame with a good header or a bad one, with the last sequence number or a new one, damaged or not."""
    command = rng.choice([Command.PING, Command.READ, Command.READ, Command.WRITE, Command.WRITE, Command.WRITE, 7])
    length = rng.choice([4, 8, 12, 64, MAX_PAYLOAD, 0, 5, MAX_PAYLOAD + 4])
    place = rng.choice([0, 4, 16, 100, SIZES["memory_bytes"] - 8, SIZES["memory_bytes"], ID_BASE, CSR_BASE, 3])
    if command == Command.WRITE and place == CSR_BASE:
        place += address("REGION0_BASE_LO")
    legal = 4 <= length <= MAX_PAYLOAD and length % 4 == 0
    covered = REQUEST_HEADER.pack(command, sequence, place, length)
    if command == Command.WRITE and legal:
        covered += rng.randbytes(length)
    frame = bytearray(bytes([REQUEST_SYNC]) + covered + zlib.crc32(covered).to_bytes(4, "little"))
    if rng.random() < 0.2:
        frame[rng.randrange(9, len(frame))] ^= 1 << rng.randrange(8)
    return bytes(frame)


def test_the_model_answers_as_the_rtl(rtl: SocModel) -> None:
    rng = random.Random(1)
    wires = model_wire(), rtl_wire(rtl)
    data = rng.randbytes(MAX_PAYLOAD)
    for wire in wires:
        wire.ask(Request(Command.PING, 0))
        for place in (0, SIZES["memory_bytes"] - MAX_PAYLOAD):
            wire.ask(Request(Command.PING, 0))
            wire.ask(Request(Command.WRITE, 0, place, MAX_PAYLOAD, data))
    sequence, seen = 0, set()
    for _ in range(120):
        sequence = (sequence + rng.choice([0, 1])) % 256
        frame = random_frame(rng, sequence)
        model, real = (wire.exchange(frame) for wire in wires)
        assert model == real, frame[:12].hex()
        seen.add(Response.decode(model).status)
    assert seen == set(Status)
