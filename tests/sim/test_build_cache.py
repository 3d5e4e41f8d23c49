"""The cache of built models: where it is, its locks, and what is thrown away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sim.build_cache import default_cache, locked, prune, touch
from sim.verilator import build
from sim.verilator.build import LIBRARY, build_library


def entry(directory: Path, key: str, age: int) -> Path:
    """Make a model that was used `age` seconds ago."""
    library = directory / key / LIBRARY
    library.parent.mkdir(parents=True)
    library.write_text(key)
    (directory / f"{key}.lock").touch()
    now = library.stat().st_mtime
    os.utime(library, (now - age, now - age))
    return library


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROWCAST_CACHE", str(tmp_path / "a"))
    assert default_cache() == tmp_path / "a"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROWCAST_CACHE", "a")
    assert default_cache() == tmp_path / "a"
    monkeypatch.delenv("ROWCAST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert default_cache() == tmp_path / "b" / "rowcast"


def test_models_used_last_are_kept(tmp_path: Path) -> None:
    libraries = [entry(tmp_path, f"model{age}", age) for age in range(6)]
    (tmp_path / "runtime" / "objects").mkdir(parents=True)
    touch(libraries[5])
    prune(tmp_path, LIBRARY, keep=3)
    kept = {"model0", "model1", "model5"}
    assert names(tmp_path) == kept | {f"{key}.lock" for key in kept} | {"runtime"}
    prune(tmp_path, LIBRARY, keep=3)
    assert kept <= names(tmp_path)


def test_what_others_build_stays(tmp_path: Path) -> None:
    entry(tmp_path, "old", 10)
    entry(tmp_path, "new", 0)
    for work in (".old.at_work", ".new.killed", ".never.killed"):
        (tmp_path / work).mkdir()
        (tmp_path / work / "half.o").touch()
    with locked(tmp_path, "old") as mine:
        assert mine
        prune(tmp_path, LIBRARY, keep=1)
        assert names(tmp_path) == {"old", "old.lock", ".old.at_work", "new", "new.lock"}
    prune(tmp_path, LIBRARY, keep=1)
    assert names(tmp_path) == {"new", "new.lock"}


def test_lock_is_exclusive_and_survives_its_file(tmp_path: Path) -> None:
    with locked(tmp_path, "model"):
        with locked(tmp_path, "model", wait=False) as mine:
            assert not mine
        with locked(tmp_path, "other", wait=False) as mine:
            assert mine
        # Pruned by its owner: the next one locks a new file.
        (tmp_path / "model.lock").unlink()
    with locked(tmp_path, "model") as mine:
        assert mine
        assert (tmp_path / "model.lock").is_file()
        with locked(tmp_path, "model", wait=False) as second:
            assert not second


def test_building_prunes_and_using_counts_as_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fake(verilog: object, options: object, toolchain: object, work: Path, *, runtime: Path) -> Path:
        (work / LIBRARY).write_text("library")
        return work / LIBRARY

    monkeypatch.setattr(build, "_compile", fake)
    monkeypatch.setattr(build, "prune", lambda directory, made: prune(directory, made, keep=2))
    directory = tmp_path / "verilator"
    sources = []
    for index in range(3):
        source = tmp_path / f"{index}.v"
        source.write_text(f"// {index}")
        sources.append(source)
    first, second = (build_library([source], cache=tmp_path, quiet=True) for source in sources[:2])
    for library, age in ((first, 20), (second, 10)):
        os.utime(library, (library.stat().st_mtime - age,) * 2)
    assert build_library([sources[0]], cache=tmp_path, quiet=True) == first
    third = build_library([sources[2]], cache=tmp_path, quiet=True)
    assert 0 <= build.build_seconds(third) < 60 and build.build_seconds(tmp_path / "none") is None
    assert {path.parent.name for path in directory.glob(f"*/{LIBRARY}")} == {first.parent.name, third.parent.name}


def test_a_relative_cache_may_be_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fake(verilog: object, options: object, toolchain: object, work: Path, *, runtime: Path) -> Path:
        # the tools run elsewhere
        assert work.is_absolute() and runtime.is_absolute()
        (work / LIBRARY).write_text("library")
        return work / LIBRARY

    monkeypatch.setattr(build, "_compile", fake)
    monkeypatch.chdir(tmp_path)
    Path("x.v").write_text("//")
    library = build_library([Path("x.v")], cache=Path("models"), quiet=True)
    assert library.is_relative_to(tmp_path / "models")
