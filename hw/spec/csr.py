"""Control and status registers on AXI4-Lite: addresses, access, fields, error causes, counters."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hw.spec.fields import Field, FieldTable

__all__ = [
    "COUNTERS",
    "CSR_ADDR_WIDTH",
    "MAGIC",
    "REGION_COUNT",
    "REGISTERS",
    "REGION_ALIGN",
    "WATCHDOG_DEFAULT",
    "Access",
    "Counter",
    "ErrorCause",
    "Register",
    "address",
]

MAGIC = int.from_bytes(b"ROWC", "little")
CSR_ADDR_WIDTH = 12
REGION_COUNT = 4
REGION_ALIGN = 1 << 12
WATCHDOG_DEFAULT = 1 << 20
COUNTER_BASE = 0x100
COUNTER_WIDTH = 48


class Access(enum.Enum):
    """What the bus may do with a register."""

    RO = "read only"
    RW = "read and write; writes are ignored (SLVERR) while busy or while a transfer is still open after an error"
    WO = "write only, reads as 0"
    W1C = "read; write 1 to clear"


class ErrorCause(enum.IntEnum):
    """Why the accelerator stopped (register ERR_CAUSE)."""

    NONE = 0
    BAD_OPCODE = 1
    BAD_FIELD = 2
    MISALIGNED = 3
    MEM_RANGE = 4
    DRAM_RANGE = 5
    AXI_READ = 6
    AXI_WRITE = 7
    TRUNCATED = 8
    HASH_MISMATCH = 9
    NO_HEADER = 10
    DEADLOCK = 11
    TOKEN_OVERFLOW = 12
    WATCHDOG = 13


ERROR_HELP: dict[ErrorCause, str] = {
    ErrorCause.NONE: "no error",
    ErrorCause.BAD_OPCODE: "unknown opcode",
    ErrorCause.BAD_FIELD: "a field's value is illegal or needs a feature that this configuration lacks",
    ErrorCause.MISALIGNED: "a WEIGHT or PARAM load whose address, stride or length is no multiple of the AXI beat, "
    "a region's base no multiple of 4 KiB, or PROG_OFFSET none of 64",
    ErrorCause.MEM_RANGE: "an on-chip address beyond the memory's end",
    ErrorCause.DRAM_RANGE: "a DRAM access beyond its region's size, or a region beyond the address space",
    ErrorCause.AXI_READ: "error response on a read",
    ErrorCause.AXI_WRITE: "error response on a write",
    ErrorCause.TRUNCATED: "the program's count ran out before HALT",
    ErrorCause.HASH_MISMATCH: "the program was compiled for another configuration or ISA version",
    ErrorCause.NO_HEADER: "the first instruction is no HEADER",
    ErrorCause.DEADLOCK: "every queue waits for a token and nothing is in flight",
    ErrorCause.TOKEN_OVERFLOW: "a token counter would exceed its maximum",
    ErrorCause.WATCHDOG: "busy, but nothing moved for WATCHDOG cycles",
}
"""One line per cause, for documents and error messages."""


class Counter(enum.IntEnum):
    """Performance counters, 48 bits each, cleared by start; index into the counter bank."""

    CYCLES = 0
    INSTRUCTIONS = 1
    LOAD_BUSY = 2
    LOAD_TOKEN = 3
    LOAD_DRAM = 4
    LOAD_PORT = 5
    EXEC_GEMM = 6
    EXEC_STOS = 7
    EXEC_VEC = 8
    EXEC_TOKEN = 9
    EXEC_PORT = 10
    EXEC_DRAIN = 11
    STORE_BUSY = 12
    STORE_TOKEN = 13
    STORE_DRAM = 14
    STORE_PORT = 15
    LOAD_BYTES = 16
    STORE_BYTES = 17
    FETCH_DRAM = 18


COUNTERS: dict[Counter, str] = {
    Counter.CYCLES: "cycles from start to done or error",
    Counter.INSTRUCTIONS: "instructions completed, HEADER and HALT included",
    Counter.LOAD_BUSY: "cycles the load queue had an instruction in progress",
    Counter.LOAD_TOKEN: "cycles it had none in progress and the next one waited for a token",
    Counter.LOAD_DRAM: "busy cycles in which it could have written but no read data was there",
    Counter.LOAD_PORT: "cycles read data waited for an on-chip write port",
    Counter.EXEC_GEMM: "cycles an EXEC was in progress, the newest of them a GEMM",
    Counter.EXEC_STOS: "cycles an EXEC was in progress, the newest of them a STOS_CH or STOS_LN",
    Counter.EXEC_VEC: "cycles an EXEC was in progress, the newest of them a VEC or MAX",
    Counter.EXEC_TOKEN: "cycles no EXEC was in progress and the next one waited for a token",
    Counter.EXEC_PORT: "cycles an operand read lost arbitration for its scratchpad bank",
    Counter.EXEC_DRAIN: "cycles the newest EXEC's next step waited for earlier tiles or EXECs to drain, or it had none",
    Counter.STORE_BUSY: "cycles the store queue had an instruction in progress",
    Counter.STORE_TOKEN: "cycles it had none in progress and the next one waited for a token",
    Counter.STORE_DRAM: "cycles write data waited for the bus",
    Counter.STORE_PORT: "cycles a read for a store lost arbitration for its scratchpad bank",
    Counter.LOAD_BYTES: "bytes moved from DRAM by LOAD (whole beats)",
    Counter.STORE_BYTES: "bytes written to DRAM by STORE (strobed bytes)",
    Counter.FETCH_DRAM: "cycles a queue was empty while the fetcher waited for DRAM",
}
"""Counter to meaning."""


@dataclass(frozen=True)
class Register:
    """One 32-bit register."""

    name: str
    addr: int
    access: Access
    doc: str
    fields: FieldTable | None = None


def _fields(name: str, *fields: Field) -> FieldTable:
    return FieldTable(name, 32, fields)


def _registers() -> list[Register]:
    regs = [
        Register("MAGIC", 0x000, Access.RO, "the letters ROWC"),
        Register("ISA_VERSION", 0x004, Access.RO, "instruction set version"),
        Register("HASH_LO", 0x008, Access.RO, "configuration hash, bits 31:0"),
        Register("HASH_HI", 0x00C, Access.RO, "configuration hash, bits 63:32"),
        Register(
            "SHAPE",
            0x010,
            Access.RO,
            "array shape",
            _fields("SHAPE", Field("rows", 16, "array rows"), Field("cols", 16, "array columns")),
        ),
        Register(
            "FEATURES",
            0x014,
            Access.RO,
            "options built in",
            _fields(
                "FEATURES",
                Field("stos", 1, "ST-OS modes"),
                Field("pipeline_mac", 1, "registers before and behind the multipliers, and elsewhere"),
                Field("max_kernel", 4, "largest kernel extent"),
            ),
        ),
        Register(
            "CTRL",
            0x020,
            Access.WO,
            "commands",
            _fields(
                "CTRL",
                Field("start", 1, "run the program (ignored unless idle and without error)"),
                Field("soft_reset", 1, "finish open bus transfers, then return to idle and clear the error"),
            ),
        ),
        Register(
            "STATUS",
            0x024,
            Access.RO,
            "state",
            _fields(
                "STATUS",
                Field("busy", 1, "a program runs"),
                Field("done", 1, "the last program ran to HALT"),
                Field("error", 1, "stopped by an error; soft reset recovers"),
                Field("resetting", 1, "a soft reset is in progress"),
            ),
        ),
        Register(
            "IRQ_ENABLE",
            0x028,
            Access.RW,
            "interrupt enables",
            _fields("IRQ_ENABLE", Field("done", 1, "on done"), Field("error", 1, "on error")),
        ),
        Register(
            "IRQ_STATUS",
            0x02C,
            Access.W1C,
            "interrupts pending",
            _fields("IRQ_STATUS", Field("done", 1, "done"), Field("error", 1, "error")),
        ),
        Register("ERR_CAUSE", 0x030, Access.RO, "ErrorCause of the first error"),
        Register("ERR_PC", 0x034, Access.RO, "index of the instruction that failed"),
        Register("ERR_INFO", 0x038, Access.RO, "offending address or value, low 32 bits"),
        Register("WATCHDOG", 0x03C, Access.RW, "cycles without any progress until an error; 0 switches it off"),
        Register("PROG_OFFSET", 0x040, Access.RW, "first instruction in region CONST, a multiple of 64"),
        Register("PROG_COUNT", 0x044, Access.RW, "instructions that may be fetched"),
    ]
    for index in range(REGION_COUNT):
        base = 0x050 + 16 * index
        regs += [
            Register(f"REGION{index}_BASE_LO", base, Access.RW, f"region {index}: base, bits 31:0, 4 KiB aligned"),
            Register(f"REGION{index}_BASE_HI", base + 4, Access.RW, f"region {index}: base, bits 63:32"),
            Register(f"REGION{index}_SIZE", base + 8, Access.RW, f"region {index}: size in bytes"),
        ]
    for counter, doc in COUNTERS.items():
        base = COUNTER_BASE + 8 * counter
        regs += [
            Register(f"{counter.name}_LO", base, Access.RO, f"{doc}: bits 31:0 (reading latches the rest)"),
            Register(f"{counter.name}_HI", base + 4, Access.RO, f"{doc}: bits 47:32, as latched"),
        ]
    return regs


REGISTERS: dict[str, Register] = {register.name: register for register in _registers()}
"""Name to register."""


def address(name: str) -> int:
    """Return a register's byte address; raise KeyError if there is none of that name."""
    return REGISTERS[name].addr
