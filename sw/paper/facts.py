"""All figures of docs/results.md as one JSON-able object; pages and pictures are made of nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sw.model.authors import layer_cycles
from sw.model.channels import Memory
from sw.model.shapes import LAYER_TYPES, LayerShape
from sw.paper.cells import Case, Cells, cases
from sw.paper.published import BASELINE, NETWORKS, PUBLISHED_SIZE, SIZES, SPEED_UPS, VARIANTS, network_name

__all__ = ["Facts", "authors_facts", "hardware_facts", "published_facts", "read_peers", "rtl_points"]

Facts = dict[str, Any]


def authors_facts(layers: dict[str, list[LayerShape]]) -> Facts:
    """Return cycles by the authors' closed form: network, variant, size; and there the cycles of each layer type.

    Parameters
    ----------
    layers
        Of the authors' networks (:func:`sw.nn.authors.authors_shapes`) by name.
    """
    found: Facts = {}
    for network in NETWORKS:
        for variant in (BASELINE, *VARIANTS):
            shapes = layers[network_name(network, variant)]
            rows = found.setdefault(network, {}).setdefault(variant, {})
            for size in SIZES:
                types = dict.fromkeys(LAYER_TYPES, 0)
                for shape in shapes:
                    types[shape.layer_type] += layer_cycles(shape, size, size)
                rows[str(size)] = {"cycles": sum(types.values()), "types": types}
    return found


def published_facts(authors: Facts) -> list[Facts]:
    """Return every cell of the published table beside the same speed-up computed."""
    found = []
    for network, row in SPEED_UPS.items():
        base = authors[network][BASELINE][str(PUBLISHED_SIZE)]["cycles"]
        for variant, published in row.items():
            computed = base / authors[network][variant][str(PUBLISHED_SIZE)]["cycles"]
            found.append(
                {
                    "network": network,
                    "variant": variant,
                    "published": published,
                    "computed": computed,
                    "deviation": computed / published - 1,
                }
            )
    return found


def hardware_facts(cells: Cells, rtl: list[Path]) -> Facts:
    """Return cycles on this hardware: network, variant (and ``im2col``), size; measured on RTL too where that exists.

    A measurement on RTL counts only for a program of as many instructions as today's; others are listed as ``stale``.
    """
    found: Facts = {}
    for case in cases():
        variant = case.variant if case.stos else "im2col"
        cell = asdict(cells.get(case)) | {"source": "model", "config_hash": case.config.hash_hex}
        found.setdefault(case.network, {}).setdefault(variant, {})[str(case.size)] = cell
    stale = []
    for path in rtl:
        for case, cycles, instructions in rtl_points(path):
            cell = found[case.network][case.variant][str(case.size)]
            if instructions == cell["instructions"]:
                cell["rtl"] = cycles
            else:
                stale.append({"case": str(case), "file": path.name, "cycles": cycles})
    return {
        "cells": found,
        "stale": stale,
        "memory": asdict(Memory()),
        "compile_seconds": sum(cell["seconds"] for row in found.values() for v in row.values() for cell in v.values()),
        "exports": cells.exports,
    }


def rtl_points(path: Path) -> Iterator[tuple[Case, int, int]]:
    """Yield what a file of measurements on RTL has of the paper's networks: case, cycles, instructions executed.

    Parameters
    ----------
    path
        JSON as ``python -m sim.whole_networks`` and ``nox -s bench`` keep it: an entry ``rows``, by
        ``network@preset``, each with ``cycles`` and ``counters``.

    Raises
    ------
    ValueError
        If the file is no such JSON.
    """
    try:
        rows = json.loads(path.read_text())["rows"]
        for name, row in rows.items():
            source, _, preset = name.partition("@")
            network, _, variant = source.partition(":")
            size = preset.removeprefix("edge")
            if network in NETWORKS and variant in ("", *VARIANTS) and size in map(str, SIZES):
                yield Case(network, variant or BASELINE, int(size)), row["cycles"], row["counters"]["INSTRUCTIONS"]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: holds no measurements on RTL ({type(error).__name__}: {error})") from None


def read_peers(path: Path) -> Facts | None:
    """Return what ``nox -s bench-peers`` measured, or None if it has not run.

    Raises
    ------
    ValueError
        If the file is of something else.
    """
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable ({error}); run nox -s bench-peers again") from None
    if not isinstance(document, dict) or document.get("kind") != "bench-peers":
        raise ValueError(f"{path}: is not what nox -s bench-peers writes; remove it or name another file with --peers")
    return document
