"""What a host does with the control port: check identity, set regions, start, read results.  Any transport will do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.csr import COUNTERS, MAGIC, REGION_COUNT, REGISTERS, ErrorCause, address
from hw.spec.isa import ISA_VERSION
from hw.spec.program import ProgramError

__all__ = ["ControlPort"]


def bits(register: str, **values: int) -> int:
    """Return a register's word with some fields set."""
    table = REGISTERS[register].fields
    assert table is not None, f"{register} has no fields"
    return table.encode(values)


class ControlPort:
    """Register accesses by name over a read and a write function.

    Parameters
    ----------
    read, write
        Access to one 32-bit register by byte address.
    """

    def __init__(self, read: Callable[[int], int], write: Callable[[int, int], None]) -> None:
        self._read, self._write = read, write

    def read(self, register: str) -> int:
        """Return a register's value."""
        return self._read(address(register))

    def write(self, register: str, value: int) -> None:
        """Write a register."""
        self._write(address(register), value)

    def fields(self, register: str) -> dict[str, int]:
        """Return a register's fields by name."""
        table = REGISTERS[register].fields
        assert table is not None, f"{register} has no fields"
        return {field.name: field.unpack(self.read(register) >> table.offsets[field.name]) for field in table.fields}

    def check_identity(self, config: AcceleratorConfig) -> None:
        """Refuse hardware that was not generated for `config`.

        Raises
        ------
        ProgramError
            With both identities, and what differs.
        """
        if (magic := self.read("MAGIC")) != MAGIC:
            raise ProgramError(f"no accelerator behind the control port: MAGIC reads 0x{magic:08x}, not 0x{MAGIC:08x}")
        hardware = self.read("HASH_HI") << 32 | self.read("HASH_LO")
        if hardware != config.hash:
            known = next((other for other in PRESETS.values() if other.hash == hardware), None)
            differences = self._differences(config) if known is None else config.difference(known)
            raise ProgramError(
                f"the hardware is configuration {hardware:016x}, expected is {config.hash_hex}; they differ in "
                f"{differences or 'what no register tells'} (expected / hardware): compile the program again with the "
                f"hardware's manifest (--config), or generate the hardware again"
            )

    def _differences(self, config: AcceleratorConfig) -> str:
        """Describe how the hardware differs from a configuration, as far as its registers tell."""
        found = {"isa_version": self.read("ISA_VERSION"), **self.fields("SHAPE"), **self.fields("FEATURES")}
        expected = {"isa_version": ISA_VERSION, **config.to_dict()}
        return ", ".join(
            f"{name}: {expected[name]} / {type(expected[name])(value)}"
            for name, value in found.items()
            if expected[name] != value
        )

    def set_regions(self, bases: Sequence[int], sizes: Sequence[int]) -> None:
        """Set every DRAM region's base address (4 KiB aligned) and size in bytes."""
        for index in range(REGION_COUNT):
            self.write(f"REGION{index}_BASE_LO", bases[index] & 0xFFFF_FFFF)
            self.write(f"REGION{index}_BASE_HI", bases[index] >> 32)
            self.write(f"REGION{index}_SIZE", sizes[index])

    def start(self, instruction_count: int, *, offset: int = 0) -> None:
        """Enable both interrupts and start the program at `offset` of region CONST."""
        self.write("IRQ_ENABLE", bits("IRQ_ENABLE", done=1, error=1))
        self.write("PROG_OFFSET", offset)
        self.write("PROG_COUNT", instruction_count)
        self.write("CTRL", bits("CTRL", start=1))

    def acknowledge(self) -> None:
        """Clear both pending interrupts."""
        self.write("IRQ_STATUS", bits("IRQ_STATUS", done=1, error=1))

    def soft_reset(self) -> bool:
        """Request a soft reset and wait for its end; False if it does not end."""
        self.write("CTRL", bits("CTRL", soft_reset=1))
        return self.wait_ready()

    def wait_ready(self, *, polls: int = 10000) -> bool:
        """Wait until no reset is in progress; False if one still is after `polls` reads of STATUS."""
        return any(not self.fields("STATUS")["resetting"] for _ in range(polls))

    def error(self) -> tuple[ErrorCause, int, int]:
        """Return cause, index of the failing instruction, and info."""
        return ErrorCause(self.read("ERR_CAUSE")), self.read("ERR_PC"), self.read("ERR_INFO")

    def counters(self) -> dict[str, int]:
        """Return every performance counter by name."""
        return {
            counter.name: self.read(f"{counter.name}_LO") | self.read(f"{counter.name}_HI") << 32
            for counter in COUNTERS
        }
