"""Build simulation libraries from Verilog, and keep them: the same Verilog, harness and flags are compiled once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sim.build_cache import default_cache, locked, prune, touch
from sim.verilator.toolchain import Toolchain, ToolchainError, find_toolchain

__all__ = ["BuildOptions", "build_library", "build_seconds"]

HARNESS = Path(__file__).parent / "harness"
LIBRARY = "librowcast.so"
SECONDS = "seconds"  # file beside it: how long the build took
TOP = "rowcast"

_LEVEL = "-O1"
"""Measured on 4x4 and 16x16 arrays: -O2 takes a quarter longer to build and runs no faster."""


@dataclass(frozen=True)
class BuildOptions:
    """How to compile a model.

    Parameters
    ----------
    traced
        Compile waves in (the model runs slower even while none are written).
    jobs
        Parallel compilers.
    harness
        Folder with ``harness.cpp``, the test bench around the design.
    activity
        Instead of waves, compile in what counts the changes of every signal; waves files are SAIF then.
    quick
        Do not optimise: gate-level netlists take the compiler minutes, and their runs are short.

    Raises
    ------
    ValueError
        If both `traced` and `activity` are asked for.
    """

    traced: bool = False
    jobs: int = 2
    harness: Path = HARNESS
    activity: bool = False
    quick: bool = False

    def __post_init__(self) -> None:
        if self.traced and self.activity:
            raise ValueError("traced and activity exclude each other: waves are either FST or SAIF")

    @property
    def level(self) -> str:
        """The C++ compiler's optimisation level."""
        return "-O0" if self.quick else _LEVEL

    def verilator_flags(self) -> list[str]:
        """Return the flags for Verilator itself."""
        flags = [
            "--cc",
            "--exe",
            "--prefix",
            f"V{TOP}",
            "--top-module",
            TOP,
            "--x-assign",
            "fast",
            "--x-initial",
            "fast",
        ]
        flags += ["-O3", "--noassert", "--threads", "1", "-Wno-fatal", "-Wno-lint", "-Wno-style"]
        if self.activity:
            return [*flags, "--trace-saif", "--trace-underscore"]  # underscore: what synthesis named
        return [*flags, "--trace-fst"] if self.traced else flags

    def compiler_flags(self) -> list[str]:
        """Return the flags for the C++ compiler."""
        flags = ["-std=gnu++20", "-fPIC", self.level]
        if self.activity:
            return [*flags, "-DROWCAST_ACTIVITY"]
        return [*flags, "-DROWCAST_TRACED"] if self.traced else flags


def build_library(
    verilog: Sequence[Path],
    options: BuildOptions | None = None,
    *,
    cache: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Return the simulation library of a design with top module ``rowcast``, building it unless the cache has it.

    The cache keeps the :data:`~sim.build_cache.KEPT_BUILDS` libraries used last.

    Parameters
    ----------
    verilog
        Source files, in order.
    options
        How to compile; default :class:`BuildOptions`.
    cache
        Directory to keep libraries in; default :func:`default_cache`.
    quiet
        Print no progress line (printed on standard error when something has to be built).

    Raises
    ------
    ToolchainError
        If a program is missing or the build fails; the message ends with the tool's output.
    """
    options = options or BuildOptions()
    toolchain = find_toolchain()
    directory = (cache or default_cache()).resolve() / "verilator"  # the tools run in folders of their own
    key = _key(verilog, options, toolchain)
    target = directory / key / LIBRARY
    if target.is_file():
        touch(target)
        return target
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory, key):
        if target.is_file():  # another process has built it meanwhile
            return target
        started = time.monotonic()
        if not quiet:
            print(f"verilator: building {', '.join(p.name for p in verilog)} ({key}) ...", file=sys.stderr, flush=True)
        work = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=directory))
        try:
            library = _compile(verilog, options, toolchain, work, runtime=directory / "runtime")
            target.parent.mkdir(exist_ok=True)
            (target.parent / SECONDS).write_text(f"{time.monotonic() - started:.1f}")
            os.replace(library, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if not quiet:
            print(f"verilator: built in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    prune(directory, LIBRARY)
    return target


def build_seconds(library: Path) -> float | None:
    """Return how long it took to build a library of :func:`build_library`; None if that is not known any more."""
    try:
        return float((library.parent / SECONDS).read_text())
    except (OSError, ValueError):
        return None


def _key(verilog: Sequence[Path], options: BuildOptions, toolchain: Toolchain) -> str:
    """Hash everything that decides what the library does."""
    digest = hashlib.sha256()
    for source in (*verilog, *sorted(path for path in options.harness.rglob("*") if path.is_file())):
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    digest.update("\0".join((*_versions(toolchain), *options.verilator_flags(), *options.compiler_flags())).encode())
    return digest.hexdigest()[:20]


def _versions(toolchain: Toolchain) -> list[str]:
    commands = ([toolchain.verilator, "--version"], ["g++", "-dumpfullversion"])
    return [_call(command, toolchain, Path.cwd()) for command in commands]


def _compile(
    verilog: Sequence[Path], options: BuildOptions, toolchain: Toolchain, work: Path, *, runtime: Path
) -> Path:
    objects = work / "objects"
    command = [toolchain.verilator, *options.verilator_flags(), "--Mdir", str(objects), "-o", str(work / LIBRARY)]
    flags = [*options.compiler_flags(), f"-I{options.harness}"]
    libraries = _wave_libraries(toolchain, flags) if options.traced else []
    for flag in flags:
        command += ["-CFLAGS", flag]
    command += [str(HARNESS / "hierarchy.vlt"), *(str(path.resolve()) for path in verilog)]
    command.append(str(options.harness / "harness.cpp"))
    _call(command, toolchain, work)
    # Verilator's makefile adds OPT_FAST after CFLAGS (-Os by default), so the level is given there too.
    optimise = [f"OPT_FAST={options.level}", "OPT_SLOW=-O0", f"OPT_GLOBAL={options.level}"]
    kept = (
        runtime
        / hashlib.sha256("\0".join((*_versions(toolchain), *options.compiler_flags())).encode()).hexdigest()[:20]
    )
    for library_object in kept.glob("*.o"):
        shutil.copy(library_object, objects)
    make = ["make", "-s", "-C", str(objects), "-f", f"V{TOP}.mk", f"-j{options.jobs}", *optimise]
    _call([*make, " ".join(("LDLIBS=-shared -lm -lstdc++", *libraries))], toolchain, work)
    _keep_runtime(objects, kept)
    return work / LIBRARY


def _wave_libraries(toolchain: Toolchain, flags: list[str]) -> list[str]:
    """Return the linker flags of the FST writer; where liblz4 is not installed, add our stand-in to `flags`."""
    if not _has_header("zlib.h", toolchain):
        raise ToolchainError("zlib.h not found, needed for waves: install it, e.g. 'apt install zlib1g-dev'")
    if _has_header("lz4.h", toolchain):
        return ["-llz4", "-lz"]
    flags.append(f"-I{HARNESS / 'fallback'}")
    return ["-lz"]


def _has_header(name: str, toolchain: Toolchain) -> bool:
    result = subprocess.run(
        ["g++", "-E", "-x", "c++", "-"],
        input=f"#include <{name}>\n",
        env=dict(toolchain.env),
        capture_output=True,
        text=True,
    )
    return result.returncode == 0


def _keep_runtime(objects: Path, kept: Path) -> None:
    """Store the objects of Verilator's own library: they depend on no design and take longest in small builds."""
    kept.mkdir(parents=True, exist_ok=True)
    for path in objects.glob("verilated*.o"):
        if not (kept / path.name).exists():
            temporary = kept / f".{path.name}.{os.getpid()}"
            shutil.copy(path, temporary)
            os.replace(temporary, kept / path.name)


def _call(command: Sequence[str], toolchain: Toolchain, directory: Path) -> str:
    """Run a tool and return its output; raise :class:`ToolchainError` with the end of that output if it fails."""
    result = subprocess.run(
        command, cwd=directory, env=dict(toolchain.env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode:
        raise ToolchainError(f"{Path(command[0]).name} failed (exit {result.returncode}):\n{result.stdout[-4000:]}")
    return result.stdout
