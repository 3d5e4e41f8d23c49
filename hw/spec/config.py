"""Accelerator configuration: one immutable object that every other part derives its sizes from."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hw.spec.isa import EXEC, ISA_VERSION

__all__ = ["LIMITS", "PRESETS", "AcceleratorConfig", "ConfigError", "Limit", "preset"]

SUB_BANKS = 4
"""Memories that share one line of the activation scratchpad; an unaligned access touches each at most once."""


class ConfigError(ValueError):
    """A configuration that cannot be built; the message names the field, the value and the limit."""


@dataclass(frozen=True)
class Limit:
    """Legal values of a number: `low` to `high`, or the powers of two among them."""

    low: int
    high: int
    pow2: bool = False

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high and not (self.pow2 and value & (value - 1))

    def __str__(self) -> str:
        return f"{'a power of two ' if self.pow2 else ''}from {self.low} to {self.high}"


LIMITS: dict[str, Limit] = {
    "rows": Limit(1, 256),
    "cols": Limit(2, 256),
    "max_kernel": Limit(1, 15),
    "act_kib": Limit(1, 8192, pow2=True),
    "act_banks": Limit(1, 16, pow2=True),
    "weight_kib": Limit(1, 4096, pow2=True),
    "param_entries": Limit(16, 65536, pow2=True),
    "axi_data_width": Limit(64, 1024, pow2=True),
    "axi_addr_width": Limit(32, 64),
}
"""Legal values of the fields that are numbers, whatever the others are."""


def _pow2ceil(value: int) -> int:
    return 1 << (value - 1).bit_length()


@dataclass(frozen=True)
class AcceleratorConfig:
    """Shape, memories and options of one accelerator.

    Parameters
    ----------
    rows
        Rows of PEs: output channels, or lines, of a tile.
    cols
        Columns of PEs: output pixels of a tile.
    stos
        Build the row broadcast, capture and halo registers of the ST-OS dataflow.
    max_kernel
        Largest kernel extent (taps along a row, or lines) an instruction may ask for.
    act_kib
        Activation scratchpad in KiB.
    act_banks
        Independent banks of the activation scratchpad, split by high address bits.
    weight_kib
        Weight scratchpad in KiB.
    param_entries
        Per-output-channel parameter sets (bias, multiplier, shift) on chip.
    axi_data_width
        AXI4 data width in bits.
    axi_addr_width
        AXI4 address width in bits.
    pipeline_mac
        Pipeline for a higher clock: registers before every PE's multiplier and behind it, and more of them before the
        array's rows, in scratchpad reads, operand requests and the output stage.
    reset_low
        Name the top's reset ``aresetn``, active low, instead of ``rst``.

    Raises
    ------
    ConfigError
        If a field is out of range or two fields contradict each other.
    """

    rows: int = 16
    cols: int = 16
    stos: bool = True
    max_kernel: int = 7
    act_kib: int = 256
    act_banks: int = 4
    weight_kib: int = 128
    param_entries: int = 2048
    axi_data_width: int = 128
    axi_addr_width: int = 40
    pipeline_mac: bool = False
    reset_low: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            want = bool if field.type == "bool" else int
            if type(value) is not want:
                raise ConfigError(f"{field.name} must be {want.__name__}, not {value!r}")
        for name, limit in LIMITS.items():
            if getattr(self, name) not in limit:
                raise ConfigError(f"{name}={getattr(self, name)} is out of range: it must be {limit}")
        if self.stos and self.max_kernel > 2 * self.cols:
            raise ConfigError(
                f"max_kernel={self.max_kernel} with cols={self.cols}: the halo would be wider than the array; "
                f"use max_kernel <= {2 * self.cols} or --no-stos"
            )
        if self.act_bank_lines < 4:
            raise ConfigError(
                f"act_kib={self.act_kib} over act_banks={self.act_banks} leaves {self.act_bank_lines} lines of "
                f"{self.line_bytes} bytes per bank; at least 4 are needed: raise act_kib or lower act_banks"
            )
        if self.axi_bytes > self.line_bytes - self.sub_bytes + 1:
            raise ConfigError(
                f"axi_data_width={self.axi_data_width} moves {self.axi_bytes} bytes a beat, but an unaligned access "
                f"to this scratchpad spans at most {self.line_bytes - self.sub_bytes + 1}: "
                f"lower axi_data_width or raise cols"
            )
        if self.weight_words < 2 * self.max_kernel:
            raise ConfigError(
                f"weight_kib={self.weight_kib} holds {self.weight_words} words of {self.weight_word_bytes} bytes; "
                f"at least {2 * self.max_kernel} are needed: raise weight_kib"
            )
        addressable = next(field for field in EXEC.fields if field.name == "w_base").maximum + 1
        if self.weight_words > addressable:
            raise ConfigError(
                f"weight_kib={self.weight_kib} with rows={self.rows} holds {self.weight_words} words, but instructions "
                f"address only {addressable}: lower weight_kib"
            )

    # --- derived sizes -------------------------------------------------------------------------------------------

    @property
    def halo(self) -> int:
        """Registers left of column 0 that hold the rest of a 1-D window: ``max_kernel - 1``, 0 without ST-OS."""
        return self.max_kernel - 1 if self.stos else 0

    @property
    def read_lanes(self) -> int:
        """Pixels one array read moves: ``cols + halo``."""
        return self.cols + self.halo

    @property
    def read_span(self) -> int:
        """Bytes that one array read spans at most.

        ``cols + halo`` consecutive pixels, or every second one of ``2 * cols - 1`` (stride 2).
        """
        return max(self.read_lanes, 2 * self.cols - 1)

    @cached_property
    def sub_bytes(self) -> int:
        """Width of one sub-bank memory in bytes, a power of two.

        Four sub-banks of ``w`` bytes serve any unaligned access of ``L`` bytes when ``4 w >= L + w - 1``.
        """
        span = max(self.read_span, 8)
        return max(4, _pow2ceil(-(-(span - 1) // (SUB_BANKS - 1))))

    @property
    def line_bytes(self) -> int:
        """Bytes in one line across the sub-banks of a bank."""
        return SUB_BANKS * self.sub_bytes

    @property
    def act_bytes(self) -> int:
        """Activation scratchpad size in bytes."""
        return self.act_kib * 1024

    @property
    def act_bank_bytes(self) -> int:
        """Bytes per activation bank."""
        return self.act_bytes // self.act_banks

    @property
    def act_bank_lines(self) -> int:
        """Lines per activation bank."""
        return self.act_bank_bytes // self.line_bytes

    @property
    def weight_word_bytes(self) -> int:
        """Bytes of one weight word as stored: one lane per row, rounded up to a power of two."""
        return _pow2ceil(self.rows)

    @property
    def weight_bytes(self) -> int:
        """Weight scratchpad size in bytes."""
        return self.weight_kib * 1024

    @property
    def weight_words(self) -> int:
        """Weight words on chip."""
        return self.weight_bytes // self.weight_word_bytes

    @property
    def param_bytes(self) -> int:
        """Parameter memory size in bytes: 8 per entry."""
        return self.param_entries * 8

    @property
    def axi_bytes(self) -> int:
        """Bytes per AXI beat."""
        return self.axi_data_width // 8

    @classmethod
    def field_help(cls) -> dict[str, str]:
        """Return what each field means, in a line, out of the class's documentation."""
        section = inspect.cleandoc(cls.__doc__ or "").split("Parameters\n----------\n")[1].split("\n\nRaises")[0]
        entries = re.findall(r"^(\w+)\n((?:    .*\n?)+)", section, re.MULTILINE)
        return {name: " ".join(text.split()).replace("``", "`") for name, text in entries}

    # --- identity ------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dictionary, in declaration order."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AcceleratorConfig:
        """Build a configuration from :meth:`to_dict`'s output.

        Raises
        ------
        ConfigError
            If a field is unknown, missing or invalid.
        """
        if not isinstance(data, dict):
            raise ConfigError(f"a configuration is a dictionary of fields, not {data!r}")
        names = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(data) - names):
            raise ConfigError(f"unknown configuration field(s): {', '.join(unknown)}")
        if missing := sorted(names - set(data)):
            raise ConfigError(f"missing configuration field(s): {', '.join(missing)}")
        return cls(**data)

    @classmethod
    def from_manifest(cls, path: str | Path) -> AcceleratorConfig:
        """Read the configuration out of a generator's ``manifest.json``.

        Raises
        ------
        ConfigError
            If the file is missing or unreadable, is no manifest, or its hash is not that of its configuration.
        """
        path = Path(path)
        try:
            manifest = json.loads(path.read_text())
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such manifest; make one with 'python -m hw.generate'") from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not a readable manifest ({error})") from None
        if not isinstance(manifest, dict) or "config" not in manifest or "config_hash" not in manifest:
            raise ConfigError(f"{path}: not a rowcast manifest (fields 'config' and 'config_hash' are expected)")
        config = cls.from_dict(manifest["config"])
        if manifest["config_hash"] != config.hash_hex:
            raise ConfigError(
                f"{path}: hash {manifest['config_hash']} is not that of its configuration ({config.hash_hex}, "
                f"ISA version {ISA_VERSION}); generate the hardware again"
            )
        return config

    @cached_property
    def hash(self) -> int:
        """64-bit identity of configuration and ISA version; the same number is readable in the CSRs."""
        text = json.dumps({"isa": ISA_VERSION, **self.to_dict()}, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    @property
    def hash_hex(self) -> str:
        """:attr:`hash` as 16 hexadecimal digits."""
        return f"{self.hash:016x}"

    def difference(self, other: AcceleratorConfig) -> str:
        """Describe in one line the fields in which two configurations differ (empty if none do)."""
        mine, theirs = self.to_dict(), other.to_dict()
        return ", ".join(f"{name}: {mine[name]} / {theirs[name]}" for name in mine if mine[name] != theirs[name])

    def twin(self, **changes: Any) -> AcceleratorConfig:
        """Return this configuration with some fields replaced, e.g. ``twin(stos=False)``."""
        return dataclasses.replace(self, **changes)


PRESETS: dict[str, AcceleratorConfig] = {
    "tiny": AcceleratorConfig(
        rows=4, cols=4, act_kib=16, act_banks=2, weight_kib=4, param_entries=256, axi_data_width=64
    ),
    "edge8": AcceleratorConfig(rows=8, cols=8, act_kib=128, weight_kib=64, param_entries=1024, axi_data_width=64),
    "edge16": AcceleratorConfig(),
    "edge32": AcceleratorConfig(rows=32, cols=32, act_kib=512, weight_kib=256, axi_data_width=256),
    "edge64": AcceleratorConfig(rows=64, cols=64, act_kib=1024, weight_kib=512, axi_data_width=512),
}
"""Named configurations, smallest first."""


def preset(name: str) -> AcceleratorConfig:
    """Return a named configuration.

    Raises
    ------
    ConfigError
        If there is no preset of that name.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}") from None
