from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hw.spec.config import PRESETS
from hw.spec.isa import Mode, Region, Target
from hw.spec.program import PARAM_DTYPE, Layer, Program, TensorSpec
from sim.backend import Result
from sim.broken_programs import broken_programs
from sim.program_builder import ProgramBuilder
from sim.run import main
from sw.run_report import report

TINY = PRESETS["tiny"]
ROOT = Path(__file__).resolve().parents[2]


def _copy_program(shape: tuple[int, int, int], scale: float = 0.1, **meta: object) -> Program:
    """A network that hands its input back."""
    channels, height, width = shape
    plane = height * width
    builder = ProgramBuilder(TINY)
    tensor = {"mem_addr": 0, "rows": 1, "row_bytes": channels * plane}
    builder.load(Target.ACT, Region.INPUT, **tensor)
    builder.load_const(Target.PARAM, 0, np.array([(0, 1, 0, 0)] * channels, PARAM_DTYPE).tobytes())
    pc = builder.exec(
        mode=Mode.VEC, in_cs=plane, in_pitch=width, in_w=width, in_h=height,
        out_base=2000, out_cs=plane, out_pitch=width, out_w=width,
        out_h=height, kh=1, kw=1, sy=1, sx=1, cout=channels, q_lo=-128, q_hi=127,
    )  # fmt: skip
    builder.layers.append(Layer("copy", "vec", 100, (pc,), shape))
    builder.store(Region.OUTPUT, **{**tensor, "mem_addr": 2000})
    source = TensorSpec("x", Region.INPUT, 0, shape, plane, scale, 0)
    sink = replace(source, name="y", region=Region.OUTPUT)
    return replace(builder.finish(inputs=(source,), outputs=(sink,)), meta=meta)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    _copy_program((4, 1, 1), classes=["ant", "bee", "cat"]).save(tmp_path / "prog")
    return tmp_path / "prog"


def test_int8_input_and_class_names(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.array([3, -4, 90, 8], np.int8).reshape(4, 1, 1))
    assert main([str(scores), "--input", str(tmp_path / "x.npy"), "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "y: 4x1x1, min -0.4, max 9, mean 2.425"
    assert [line.split() for line in lines[1:4]] == [
        ["1.", "cat", "9.0000"], ["2.", "class", "3", "0.8000"], ["3.", "ant", "0.3000"],
    ]  # fmt: skip
    assert "no clock" in lines[4]


def test_float_input_json_and_output_file(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.array([[0.3, -0.42, 99, 0.8]], np.float32).reshape(1, 4, 1, 1))
    out = tmp_path / "out.npz"
    assert main([str(scores), "--input", f"x={tmp_path / 'x.npy'}", "--json", "--output", str(out)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["outputs"]["y"]["top"][0] == {"class": 2, "name": "cat", "score": pytest.approx(12.7)}
    assert (facts["cycles"], facts["utilisation"], facts["macs"], facts["backend"]) == (None, None, 100, "iss")
    with np.load(out) as arrays:
        assert arrays["y"].ravel().tolist() == [3, -4, 127, 8]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npz", "prog", "x.npy"]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (3, "RGBA")])
def test_pictures(tmp_path: Path, suffix: str, channels: int, mode: str) -> None:
    if (suffix, mode) == ("jpg", "RGBA"):
        mode = "CMYK"
    mean, std = [0.5, 0.4, 0.3][:channels], [0.25, 0.5, 1.0][:channels]
    program = _copy_program((channels, 8, 6), 0.05, input={"range": [-1.0, 1.0], "mean": mean, "std": std})
    program.save(tmp_path / "prog")
    # Grey in the middle, white at the sides, which the centre crop removes.
    pixels = np.full((16, 40), 255, np.uint8)
    pixels[:, 10:30] = 51
    Image.fromarray(pixels).convert(mode).save(tmp_path / f"x.{suffix}")
    out = tmp_path / "out.npz"
    assert main([str(tmp_path / "prog"), "--input", str(tmp_path / f"x.{suffix}"), "--output", str(out)]) == 0
    with np.load(out) as arrays:
        got = arrays["y"].astype(int)
    want = np.clip(np.rint((-0.6 - np.array(mean)) / np.array(std) / 0.05), -128, 127)
    assert np.abs(got - want[:, None, None]).max() <= (1 if suffix == "jpg" else 0)


def test_picture_needs_preprocessing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _copy_program((3, 4, 4)).save(tmp_path / "prog")
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    assert main([str(tmp_path / "prog"), "--input", str(tmp_path / "x.png")]) == 2
    assert "meta.input" in capsys.readouterr().err


def test_damaged_and_deep_pictures_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _copy_program((1, 4, 4), input={"range": [0.0, 1.0], "mean": [0.0], "std": [1.0]}).save(tmp_path / "prog")
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("L", (8, 8)).save(tmp_path / "vast.bmp")
    data = bytearray((tmp_path / "vast.bmp").read_bytes())
    data[18:26] = bytes.fromhex("ffffff00ffffff00")  # width and height
    (tmp_path / "vast.bmp").write_bytes(data)
    for name, message in (("deep.png", "more than 8 bits per value"), ("vast.bmp", "unreadable (Image size")):
        assert main([str(tmp_path / "prog"), "--input", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def _save(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


def test_user_errors_have_status_2_and_one_line(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = _save(tmp_path / "good.npy", np.zeros((4, 1, 1), np.int8))
    (tmp_path / "bad.npy").write_bytes(b"nonsense")
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    (tmp_path / "empty.npy").touch()
    np.savez(tmp_path / "archive.npz", np.zeros((4, 1, 1)))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    header = bytearray((tmp_path / "good.npy").read_bytes())
    header[20] = ord('"')
    (tmp_path / "header.npy").write_bytes(header)
    manifest = tmp_path / "manifest.json"
    other = TINY.twin(rows=6)
    manifest.write_text(json.dumps({"config": other.to_dict(), "config_hash": other.hash_hex}))
    cases = [
        ([], "input(s) missing: x; the program takes x (4, 1, 1)"),
        (["--input", str(tmp_path / "none.npy")], "none.npy: no such file"),
        (["--input", str(tmp_path / "bad.npy")], "bad.npy: unreadable"),
        (["--input", str(tmp_path / "empty.npy")], "empty.npy: unreadable"),
        (["--input", str(tmp_path / "archive.npy")], "archive.npy: unreadable"),
        (["--input", str(tmp_path / "header.npy")], "header.npy: unreadable"),
        (["--input", str(tmp_path / "x.tiff")], ".tiff is unknown; give .npy"),
        (
            ["--input", _save(tmp_path / "s.npy", np.zeros((4, 2, 1), np.int8))],
            "shape (4, 2, 1); input x takes (4, 1, 1)",
        ),
        (["--input", _save(tmp_path / "t.npy", np.zeros((4, 1, 1), np.int64))], "type int64"),
        (["--input", _save(tmp_path / "n.npy", np.full((4, 1, 1), np.nan))], "not finite"),
        (["--input", good, "--input", f"x={good}"], "given twice"),
        (["--input", good, "--config", str(manifest)], "they differ in rows: 4 / 6"),
        (["--input", good, "--config", str(tmp_path / "none.json")], "no such manifest"),
        (["--input", good, "--trace", "t.json"], "--trace: the ISS has no clock"),
        (["--input", good, "--latency", "3", "--waves-stop", "9"], "--waves-stop, --latency: the ISS has no clock"),
        (["--input", good, "--output", str(tmp_path / "no" / "o.npz")], "its directory does not exist"),
        (["--input", good, "--backend", "verilator", "--waves-start", "3"], "--waves-start without --waves"),
        (["--input", good, "--backend", "verilator", "--stalls", "1"], "a probability from 0 to below 1"),
    ]
    for arguments, message in cases:
        assert main([str(scores), *arguments]) == 2, arguments
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""
    (scores / "program.bin").write_bytes(b"")
    assert main([str(scores), "--input", good]) == 2
    assert "truncated?" in capsys.readouterr().err


def test_an_accelerator_error_has_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = next(case for case in broken_programs(TINY) if case.name == "exec_kh_8")
    case.program.save(tmp_path)
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"sim.run: instruction {case.pc}: BAD_FIELD: ")


def test_inputs_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = _copy_program((4, 1, 1))
    second = replace(program.inputs[0], name="z", offset=64)
    program = replace(program, inputs=(*program.inputs, second), region_sizes=(*program.region_sizes[:2], 128, 128))
    program.save(tmp_path / "prog")
    file = _save(tmp_path / "a.npy", np.zeros((4, 1, 1), np.int8))
    assert main([str(tmp_path / "prog"), "--input", f"x={file}", "--input", f"z={file}"]) == 0
    capsys.readouterr()
    assert main([str(tmp_path / "prog"), "--input", file]) == 2
    assert "say NAME=FILE; inputs are x, z" in capsys.readouterr().err


def test_utilisation_is_macs_per_pe_and_cycle() -> None:
    program = _copy_program((4, 1, 1))
    value = np.zeros((4, 1, 1), np.int8)
    facts = report(program, Result({"y": value}, [], {"CYCLES": 50}, 50), backend="verilator", seconds=1.0)
    assert facts["utilisation"] == 100 / (50 * 4 * 4)
    assert facts["counters"] == {"CYCLES": 50}


def test_as_a_command(scores: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 1, 1), np.int8))
    (scores / "x.npy").write_bytes(buffer.getvalue())
    command = [sys.executable, "-m", "sim.run", str(scores)]
    done = subprocess.run(
        [*command, "--input", scores / "x.npy"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "y: 4x1x1" in done.stdout
    wrong = subprocess.run([*command, "--backend", "abacus"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "invalid choice: 'abacus'" in wrong.stderr
    assert "Traceback" not in done.stderr + wrong.stderr


@pytest.mark.slow
def test_waves_of_a_window_on_rtl(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is whole when the command ends, and a window's is smaller than the whole run's."""
    np.save(tmp_path / "x.npy", np.array([3, -4, 90, 8], np.int8).reshape(4, 1, 1))
    command = [str(scores), "--backend", "verilator", "--input", str(tmp_path / "x.npy"), "--json"]
    whole, window = tmp_path / "whole.fst", tmp_path / "window.fst"
    assert main([*command, "--waves", str(whole)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["cycles"] > 0
    assert main([*command, "--waves", str(window), "--waves-start", "100", "--waves-stop", "120"]) == 0
    assert json.loads(capsys.readouterr().out)["cycles"] == facts["cycles"]
    assert 0 < window.stat().st_size < whole.stat().st_size
