"""Programs that each provoke one error, with the cause and place every backend must report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import (
    EXEC,
    INSTRUCTION_BYTES,
    TOKEN_MAX,
    Instruction,
    Mode,
    Opcode,
    Queue,
    Region,
    ResidualOp,
    Target,
    decode,
    encode,
)
from hw.spec.program import PARAM_DTYPE, Program, TensorSpec
from sim.program_builder import ProgramBuilder, align

__all__ = ["BrokenProgram", "broken_programs", "sound_program"]

_CHANNELS, _SIDE = 2, 4
_PLANE = _SIDE * _SIDE
_OUT = 512
_MAXIMUM = {field.name: field.maximum for field in EXEC.fields}
_BIG = (1 << 24) - 1
"""An address beyond every on-chip memory that the fields can name."""


@dataclass(frozen=True)
class BrokenProgram:
    """A program, and the error that stops it: ERR_CAUSE and ERR_PC."""

    name: str
    program: Program
    cause: ErrorCause
    pc: int


@dataclass(frozen=True)
class _Sound:
    """A program that runs, and where its instructions stand."""

    program: Program
    act: int
    weight: int
    param: int
    exec: int
    store: int

    @property
    def halt(self) -> int:
        return self.program.instruction_count - 1

    def field(self, pc: int, **values: int) -> Program:
        """Return the program with some fields of one instruction changed."""
        old = self.word(pc)
        return self.patch(pc, encode(replace(old, values={**old.values, **values})))

    def word(self, pc: int) -> Instruction:
        return decode(self.program.image[pc * INSTRUCTION_BYTES :][:INSTRUCTION_BYTES])

    def patch(self, pc: int, word: bytes) -> Program:
        """Return the program with the bytes of one instruction exchanged."""
        start = pc * INSTRUCTION_BYTES
        image = self.program.image[:start] + word + self.program.image[start + len(word) :]
        return replace(self.program, image=image)


def sound_program(config: AcceleratorConfig) -> Program:
    """Return the small program that the broken ones are made of: load, one 1x1 convolution, store."""
    return _sound(config).program


def _sound(config: AcceleratorConfig) -> _Sound:
    builder = ProgramBuilder(config)
    beat = config.axi_bytes
    act = builder.load_const(Target.ACT, 0, bytes(range(_CHANNELS * _PLANE)))
    weight_bytes = align(_CHANNELS * config.weight_word_bytes, beat)
    weight = builder.load_const(Target.WEIGHT, 0, b"\x01" * weight_bytes)
    entries = np.zeros(align(_CHANNELS * PARAM_DTYPE.itemsize, beat) // PARAM_DTYPE.itemsize, PARAM_DTYPE)
    entries["mult"], entries["shift"] = 1, 2
    param = builder.load_const(Target.PARAM, 0, entries.tobytes())
    execute = builder.exec(
        mode=Mode.GEMM, in_cs=_PLANE, in_pitch=_SIDE, in_w=_SIDE, in_h=_SIDE, out_base=_OUT, out_cs=_PLANE,
        out_pitch=_SIDE, out_w=_SIDE, out_h=_SIDE, kh=1, kw=1, sy=1, sx=1, cin=_CHANNELS, cout=_CHANNELS,
        q_lo=-128, q_hi=127,
    )  # fmt: skip
    store = builder.store(Region.OUTPUT, mem_addr=_OUT, rows=1, row_bytes=_CHANNELS * _PLANE)
    output = TensorSpec("out", Region.OUTPUT, 0, (_CHANNELS, _SIDE, _SIDE), _PLANE, 1.0, 0)
    return _Sound(builder.finish(outputs=(output,)), act, weight, param, execute, store)


def broken_programs(config: AcceleratorConfig) -> list[BrokenProgram]:
    """Return programs for every cause that a program alone can provoke on a configuration, with unique names."""
    sound = _sound(config)
    programs: list[BrokenProgram] = []
    for family in (_frame, _fields, _segments, _ranges, _alignment, _tokens):
        programs += family(config, sound)
    return programs


def _frame(config: AcceleratorConfig, sound: _Sound) -> Iterator[BrokenProgram]:
    """Opcodes, header, length."""
    program, header = sound.program, sound.word(0)
    for code in (0, *range(max(Opcode) + 1, 16)):
        word = bytes([code]) + bytes(INSTRUCTION_BYTES - 1)
        yield BrokenProgram(f"opcode_{code}", sound.patch(sound.store, word), ErrorCause.BAD_OPCODE, sound.store)
    second = sound.patch(sound.store, encode(header))
    yield BrokenProgram("second_header", second, ErrorCause.BAD_OPCODE, sound.store)
    no_header = sound.patch(0, encode(Instruction(Opcode.HALT)))
    yield BrokenProgram("no_header", no_header, ErrorCause.NO_HEADER, 0)
    for name, value in (("config_hash", config.hash ^ 1), ("isa_version", header["isa_version"] + 1)):
        yield BrokenProgram(f"other_{name}", sound.field(0, **{name: value}), ErrorCause.HASH_MISMATCH, 0)
    yield BrokenProgram("short_header_count", sound.field(0, count=sound.halt), ErrorCause.TRUNCATED, sound.halt)
    short = replace(program, instruction_count=sound.halt)
    yield BrokenProgram("short_program_count", short, ErrorCause.TRUNCATED, sound.halt)
    byte = Instruction(Opcode.LOAD, {"rows": 1, "row_bytes": 1})
    cut = encode(replace(header, values={**header.values, "count": 3})) + encode(byte)
    beyond = replace(program, image=cut, instruction_count=3, region_sizes=(len(cut), *program.region_sizes[1:]))
    yield BrokenProgram("stream_beyond_region", beyond, ErrorCause.DRAM_RANGE, 2)


def _fields(config: AcceleratorConfig, sound: _Sound) -> Iterator[BrokenProgram]:
    """Values that no configuration, or not this one, accepts."""
    illegal: list[tuple[int, dict[str, int]]] = [
        *((sound.exec, {name: 0}) for name in ("kh", "kw", "sy", "sx", "cin", "cout", "out_w", "out_h")),
        *((sound.exec, {"sy": value}) for value in (5, 6, 7)),
        (sound.exec, {"sx": 3}),
        *((sound.exec, {"mode": value}) for value in (5, 6, 7)),
        *((sound.exec, {"mode": mode, "depthwise": 1}) for mode in (Mode.VEC, Mode.MAX, 7)),
        *((sound.exec, {"act": value}) for value in (2, 3)),
        (sound.exec, {"res": ResidualOp.POOL}),
        *((sound.exec, {"mode": Mode.MAX, name: 0}) for name in ("kh", "kw")),
        *((pc, {name: 0}) for pc in (sound.act, sound.store) for name in ("rows", "row_bytes")),
        (sound.act, {"target": 3}),
        (0, {"wait": 1}),
        (sound.halt, {"signal": 1 << Queue.STORE}),
        (sound.exec, {"wait": sound.word(sound.exec)["wait"] | 1 << Queue.EXEC}),
        (sound.act, {"signal": 1 << Queue.LOAD}),
    ]
    if config.max_kernel < 15:
        for name in ("kh", "kw"):
            illegal += [(sound.exec, mode | {name: config.max_kernel + 1}) for mode in ({}, {"mode": Mode.MAX})]
    if config.max_kernel > 1:
        illegal += [(sound.exec, {"mode": Mode.VEC, name: 2}) for name in ("kh", "kw")]
    if not config.stos:
        illegal += [(sound.exec, {"mode": mode}) for mode in (Mode.STOS_CH, Mode.STOS_LN)]
    for pc, values in illegal:
        yield _illegal(sound, pc, values)
    for pc in (0, sound.act, sound.store, sound.halt):  # EXEC uses all its bits
        word = bytearray(encode(sound.word(pc)))
        word[-1] |= 0x80
        name = f"{sound.word(pc).opcode.name.lower()}_reserved_bit"
        yield BrokenProgram(name, sound.patch(pc, bytes(word)), ErrorCause.BAD_FIELD, pc)


def _illegal(sound: _Sound, pc: int, values: dict[str, int]) -> BrokenProgram:
    label = "_".join(f"{name}_{int(value)}" for name, value in values.items())
    name = f"{sound.word(pc).opcode.name.lower()}_{label}"
    return BrokenProgram(name, sound.field(pc, **values), ErrorCause.BAD_FIELD, pc)


def _segments(config: AcceleratorConfig, sound: _Sound) -> Iterator[BrokenProgram]:
    """Fields of packed lines, one wrong, or several of which the first counts."""
    long = {"seg": 2, "out_w": config.cols + 1}
    illegal: list[dict[str, int]] = [
        *({name: value} for name in ("fold", "seg_gap", "seg_missing") for value in sorted({1, _MAXIMUM[name]})),
        {"fold": 1, "seg_gap": 2, "seg_missing": 3},
        {"seg_gap": 2, "seg_missing": 3},
        *({"mode": mode, "seg": 2, "fold": 1} for mode in (Mode.GEMM, Mode.VEC, Mode.MAX)),
        {"seg": 2, "seg_gap": 1, "sx": 2},
        {"seg": 2, "seg_missing": 1, "fold": 1, "sx": 2},
        {**long, "seg_gap": 1, "sx": 2},
        {**long, "seg_missing": 1},
        {"seg": config.cols + 2, "seg_gap": 1, "out_w": config.cols + 1},
        {"seg": 3, "seg_gap": 1, "out_w": 2},
        {"seg": 3, "seg_gap": 3, "out_w": 2},
        *({"seg": 2, "seg_gap": gap, "out_w": 2} for gap in (2, _MAXIMUM["seg_gap"])),
        {"seg": 2, "seg_gap": 2, "seg_missing": 5, "out_w": 2},
        {"seg": 2, "seg_gap": 2, "out_w": 2, "res": ResidualOp.POOL},
        *({"seg": 2, "seg_missing": lines, "out_w": 2} for lines in (_SIDE + 1, _MAXIMUM["seg_missing"])),
    ]
    for values in illegal:
        yield _illegal(sound, sound.exec, values)


def _ranges(config: AcceleratorConfig, sound: _Sound) -> Iterator[BrokenProgram]:
    """On-chip and DRAM addresses."""
    beat = config.axi_bytes
    plane = _CHANNELS * _PLANE
    pool = {"res": ResidualOp.POOL, "gap": 1, "gap_shift": 1}
    outside: list[tuple[str, int, dict[str, int]]] = [
        ("load_act", sound.act, {"mem_addr": config.act_bytes - plane + 1}),
        ("load_act_far", sound.act, {"mem_addr": _BIG}),
        ("load_weight", sound.weight, {"mem_addr": config.weight_bytes - sound.word(sound.weight)["row_bytes"] + beat}),
        ("load_param", sound.param, {"mem_addr": config.param_bytes - sound.word(sound.param)["row_bytes"] + beat}),
        ("load_act_second_row", sound.act, {"rows": 2, "row_bytes": 1, "mem_stride": config.act_bytes}),
        ("store_act", sound.store, {"mem_addr": config.act_bytes - plane + 1}),
        ("exec_input", sound.exec, {"in_base": config.act_bytes - plane + 1}),
        ("exec_input_far", sound.exec, {"in_base": _BIG}),
        ("exec_input_channel", sound.exec, {"in_cs": _BIG}),
        ("exec_output", sound.exec, {"out_base": config.act_bytes - plane + 1}),
        ("exec_output_channel", sound.exec, {"out_cs": _BIG}),
        ("exec_residual", sound.exec, {"res": ResidualOp.ADD, "res_base": config.act_bytes - plane + 1}),
        ("exec_gate", sound.exec, {"res": ResidualOp.SCALE, "res_base": config.act_bytes - _CHANNELS + 1}),
        ("exec_pooled", sound.exec, pool | {"res_base": config.act_bytes - _CHANNELS + 1}),
        ("exec_pooled_map", sound.exec, pool | {"out_base": config.act_bytes - plane + 1}),
        ("exec_weights", sound.exec, {"w_base": config.weight_words - _CHANNELS * (-(-_CHANNELS // config.rows)) + 1}),
        ("exec_params", sound.exec, {"p_base": config.param_entries - _CHANNELS + 1}),
    ]
    fields = {"exec_params": 16, "exec_weights": 20}
    for name, pc, values in outside:
        # Where a memory is as large as its address field, nothing the field can hold lies outside.
        if max(values.values()) >> fields.get(name, 24) == 0:
            yield BrokenProgram(f"range_{name}", sound.field(pc, **values), ErrorCause.MEM_RANGE, pc)
    sizes = sound.program.region_sizes
    for name, pc, values in (
        ("load", sound.act, {"dram_offset": sizes[Region.CONST] - plane + 1}),
        ("load_far", sound.act, {"dram_offset": (1 << 40) - 1}),
        ("load_second_row", sound.act, {"rows": 2, "row_bytes": 1, "dram_stride": (1 << 32) - 1}),
        ("load_empty_region", sound.act, {"region": Region.INPUT, "dram_offset": 0}),
        ("store", sound.store, {"dram_offset": sizes[Region.OUTPUT] - plane + 1}),
        ("store_empty_region", sound.store, {"region": Region.WORK}),
    ):
        yield BrokenProgram(f"dram_{name}", sound.field(pc, **values), ErrorCause.DRAM_RANGE, pc)


def _alignment(config: AcceleratorConfig, sound: _Sound) -> Iterator[BrokenProgram]:
    """Break whole beats in loads of weights and parameters."""
    beat = config.axi_bytes
    for label, pc in (("weight", sound.weight), ("param", sound.param)):
        word = sound.word(pc)
        for values in (
            {"dram_offset": word["dram_offset"] + 1},
            {"mem_addr": beat // 2},
            {"row_bytes": word["row_bytes"] - 1},
            {"rows": 2, "row_bytes": beat, "dram_stride": 0, "mem_stride": beat + 1},
            {"rows": 2, "row_bytes": beat, "dram_stride": beat // 2, "mem_stride": beat},
        ):
            name = (
                f"misaligned_{label}_{list(values)[0 if len(values) == 1 else 2 + (values['mem_stride'] % beat > 0)]}"
            )
            yield BrokenProgram(name, sound.field(pc, **values), ErrorCause.MISALIGNED, pc)


def _tokens(config: AcceleratorConfig, sound: _Sound) -> Iterator[BrokenProgram]:
    """Tokens that never come, or never go."""
    exec_wait = sound.word(sound.exec)["wait"]
    for name, pc, wait in (
        ("load_waits_for_exec", sound.act, 1 << Queue.EXEC),
        ("exec_waits_for_store", sound.exec, exec_wait | 1 << Queue.STORE),
        ("store_waits_for_load", sound.store, sound.word(sound.store)["wait"] | 1 << Queue.LOAD),
    ):
        yield BrokenProgram(f"deadlock_{name}", sound.field(pc, wait=wait), ErrorCause.DEADLOCK, pc)
    builder = ProgramBuilder(config)
    pcs = [builder.load_const(Target.ACT, 0, b"\x01") for _ in range(TOKEN_MAX + 1)]
    for pc in pcs:
        load = builder.instructions[pc]
        builder.instructions[pc] = replace(load, values={**load.values, "signal": 1 << Queue.STORE})
    yield BrokenProgram("token_overflow", builder.finish(), ErrorCause.TOKEN_OVERFLOW, pcs[-1])
