"""The tools for boards, over a pseudo-terminal to a modelled board: results, and what goes wrong with ports."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import serial

from hw.spec.config import PRESETS
from hw.spec.isa import Region
from sim.board.link_model import LinkModel
from sim.board.pseudo_terminal import BoardThread, Noise
from sim.iss import IssBackend
from sim.run import main as sim_run
from sw.backends import find_backend
from sw.program_runner import ProgramRunner
from sw.runtime.__main__ import main
from sw.runtime.backend import PORT_VARIABLE, BoardBackend
from sw.runtime.serial_line import LineLostError, PortError, SerialLine
from tests.sw.random_networks import networks_for

TINY = PRESETS["tiny"]
SIZES = {"memory_bytes": 128 * 1024, "clock_hz": 50_000_000, "bit_clocks": 50}
(_, PROGRAM), *_ = networks_for(TINY, 1, macs=100_000)
(SPEC,), (SINK,) = PROGRAM.inputs, PROGRAM.outputs
VALUES = [np.random.default_rng(seed).integers(-128, 128, SPEC.shape, np.int8) for seed in range(3)]
EXPECTED = [IssBackend(TINY).run(PROGRAM, {SPEC.name: value}).outputs for value in VALUES]


@pytest.fixture
def board() -> Iterator[BoardThread]:
    with BoardThread(LinkModel(TINY, **SIZES)) as running:
        yield running
    assert running.error is None


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    PROGRAM.save(tmp_path / "prog")
    for index, value in enumerate(VALUES):
        np.save(tmp_path / f"x{index}.npy", value)
    return [str(tmp_path / "prog"), *(str(tmp_path / f"x{index}.npy") for index in range(len(VALUES)))]


def test_several_inputs_one_upload(
    board: BoardThread, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *inputs = files
    output = tmp_path / "y.npz"
    assert main([program, "--port", board.path, "--input", *inputs, "--output", str(output), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["upload_bytes"] == len(PROGRAM.image) and facts["repetitions"] == 0
    assert facts["board"]["clock_hz"] == 50_000_000 and facts["board"]["config_hash"] == TINY.hash_hex
    assert facts["upload_seconds_on_the_wire"] > 10 * len(PROGRAM.image) / 1e6
    with np.load(output) as found:
        for name in EXPECTED[0]:
            np.testing.assert_array_equal(found[name], [outputs[name] for outputs in EXPECTED])
    assert len(facts["runs"]) == len(VALUES)


def test_text(board: BoardThread, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([files[0], "--port", board.path, "--input", files[1]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{len(PROGRAM.image):,} bytes uploaded in") and "kbit/s" in lines[0]
    assert lines[2] == files[1] and any(line.startswith("board: ") for line in lines)


def test_without_a_program_the_board_is_described(board: BoardThread, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", board.path, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows"] == 4 and facts["stos"] == 1 and facts["memory_bytes"] == 128 * 1024
    assert main(["--port", board.path]) == 0
    assert f"config_hash: {TINY.hash_hex}" in capsys.readouterr().out


def test_sim_run_has_boards(board: BoardThread, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    digests = []
    for backend in (["iss"], ["board", "--port", board.path]):
        assert sim_run([files[0], "--input", files[1], "--json", "--backend", *backend]) == 0
        digests.append({k: v["sha256"] for k, v in json.loads(capsys.readouterr().out)["outputs"].items()})
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--backend", "iss", "--port", "x"], "--port: only boards have a port; choose --backend board"),
        (["--backend", "board", "--port", "x", "--latency", "3"], "--latency: a board's memory and wires are as they"),
        (["--backend", "board"], "no port is named: give --port DEV, or set ROWCAST_PORT"),
        (["--backend", "board", "--port", "/dev/no-such-port"], "/dev/no-such-port: no such port; there are"),
    ],
)
def test_sim_run_refuses(
    options: list[str], why: str, files: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PORT_VARIABLE, raising=False)
    assert sim_run([files[0], "--input", files[1], *options]) == 2
    assert why in capsys.readouterr().err


def test_the_backend_is_found_by_name_and_runs_for_the_other_tools(
    board: BoardThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PORT_VARIABLE, board.path)
    assert find_backend("board") is BoardBackend
    with ProgramRunner(PROGRAM, "board") as runner:
        found = list(runner.run(VALUES))
    for outputs, value in zip(EXPECTED, found, strict=True):
        np.testing.assert_array_equal(outputs[SINK.name].reshape(-1), value)


def test_an_accelerator_that_stops_is_status_1_and_the_board_goes_on(
    board: BoardThread, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    const, _, *others = PROGRAM.region_sizes
    small = replace(PROGRAM, region_sizes=(const, 0, *others), tensors=())
    small.save(tmp_path / "small")
    pc = next(pc for pc, word in enumerate(PROGRAM.instructions()) if word.values.get("region") == Region.WORK)
    (layer,) = (layer.name for layer in PROGRAM.layers if pc in layer.instructions)
    for program, status in (("small", 1), ("prog", 0)):
        assert main([str(tmp_path / program), "--port", board.path, "--input", files[1]]) == status
        shown = capsys.readouterr().err
        wanted = f"sw.runtime: instruction {pc}: DRAM_RANGE: a DRAM access beyond its region's size"
        assert (wanted in shown and f"layer {layer}" in shown) == bool(status)


def test_an_unplugged_board_is_noticed(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    board = BoardThread(LinkModel(TINY, **SIZES))
    with SerialLine(board.path, 1_000_000) as line:
        board.close()
        with pytest.raises(LineLostError, match=r"the port is gone \(.*unplugged"):
            line.write(b"x" * 100)
            line.read(0.0)
    assert main([files[0], "--port", board.path, "--input", files[1]]) == 2
    assert f"{board.path}: no such port" in capsys.readouterr().err


def test_a_board_unplugged_during_an_upload_is_status_1(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    model = LinkModel(TINY, **SIZES)
    board = BoardThread(model)
    exchange, seen = model.exchange, []

    def until_the_upload(data: bytes) -> bytes:
        seen.append(len(data))
        if sum(seen) > 3000:
            raise KeyboardInterrupt
        return exchange(data)

    model.exchange = until_the_upload
    assert main([files[0], "--port", board.path, "--input", files[1]]) == 1
    assert "the port is gone" in capsys.readouterr().err
    board.close()
    assert isinstance(board.error, KeyboardInterrupt)


def test_a_silent_port_is_no_board(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with BoardThread(LinkModel(TINY, **SIZES), Noise(0.999999)) as board:
        arguments = [files[0], "--port", board.path, "--input", files[1], "--timeout", "0.01"]
        assert main(arguments) == 2
    assert "no intact answer to PING" in capsys.readouterr().err


def test_another_configuration_is_status_2(
    board: BoardThread, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = PRESETS["edge8"]
    (_, program), *_ = networks_for(other, 1, macs=100_000)
    program.save(tmp_path / "other")
    spec = program.inputs[0]
    np.save(tmp_path / "z.npy", np.zeros(spec.shape, np.int8))
    assert main([str(tmp_path / "other"), "--port", board.path, "--input", str(tmp_path / "z.npy")]) == 2
    assert "rows: 8 / 4, cols: 8 / 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "no port is named"),
        (["{prog}", "--port", "x"], "no --input FILE is given"),
        (["{prog}", "--port", "x", "--input", "none.npy"], "none.npy: no such file"),
        (["nothing", "--port", "x"], "program.json: missing"),
        (["{prog}", "--port", "x", "--input", "{x}", "--output", "no/such/y.npz"], "its directory does not exist"),
        (["{prog}", "--port", "{prog}/program.json", "--input", "{x}"], "no serial port"),
        (["--port", "x", "--config", "none.json"], "none.json: no such manifest"),
    ],
)
def test_wrong_usage_is_status_2(
    arguments: list[str],
    why: str,
    files: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(PORT_VARIABLE, raising=False)
    assert main([argument.format(prog=files[0], x=files[1]) for argument in arguments]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (serial.SerialException(13, "denied"), "no permission: add yourself to the port's group"),
        (serial.SerialException(16, "busy"), "another program uses it"),
        (serial.SerialException(11, "Could not exclusively lock port"), "another program uses it"),
        (serial.SerialException(2, "none"), "no such port; there are"),
        (ValueError("Invalid baud rate: 77"), "77 bits per second: Invalid baud rate"),
    ],
)
def test_why_a_port_cannot_be_opened(error: Exception, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(PortError, match=why):
        SerialLine("/dev/ttyUSB0", 77)


def test_two_hosts_cannot_share_a_port(board: BoardThread) -> None:
    with SerialLine(board.path, 1_000_000), pytest.raises(PortError, match="another program uses it"):
        SerialLine(board.path, 1_000_000)
    with SerialLine(board.path, 1_000_000) as line:
        assert line.read(0.0) == b""


def test_the_simulated_board_is_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sim.board", "--preset", "tiny", "--backend", "iss", "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        path = process.stdout.readline().strip()
        assert stat.S_ISCHR(os.stat(path).st_mode)
        with BoardBackend(TINY, port=path) as backend:
            for value, expected in zip(VALUES, EXPECTED, strict=True):
                for name, array in backend.run(PROGRAM, {SPEC.name: value}).outputs.items():
                    np.testing.assert_array_equal(array, expected[name])
        process.terminate()
