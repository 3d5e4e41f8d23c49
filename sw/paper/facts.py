"""All figures of docs/results.md as one JSON-able object; pages and pictures are made of nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sw.model.authors import layer_cycles
from sw.model.channels import Memory
from sw.model.shapes import LAYER_TYPES, LayerShape
from sw.paper.cells import Case, Cells, cases
from sw.paper.published import BASELINE, MACS, NETWORKS, PUBLISHED_SIZE, SIZES, SPEED_UPS, VARIANTS, network_name
from sw.rtl_identity import hardware_key

__all__ = ["Facts", "RtlPoint", "authors_facts", "hardware_facts", "published_facts", "read_peers", "rtl_points"]

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
                macs = sum(shape.macs for shape in shapes)
                rows[str(size)] = {"cycles": sum(types.values()), "types": types, "macs": macs}
    return found


def published_facts(authors: Facts) -> list[Facts]:
    """Return every cell of the published table beside the same speed-up computed.

    Where multiply-accumulates are published too, ``macs`` has them and those computed: of the depthwise network and of
    the variant.
    """
    found = []
    for network, row in SPEED_UPS.items():
        base = authors[network][BASELINE][str(PUBLISHED_SIZE)]
        for variant, published in row.items():
            mine = authors[network][variant][str(PUBLISHED_SIZE)]
            computed = base["cycles"] / mine["cycles"]
            macs = MACS.get(network, {})
            found.append(
                {
                    "network": network,
                    "variant": variant,
                    "published": published,
                    "computed": computed,
                    "deviation": computed / published - 1,
                    "macs": {
                        "computed": [base["macs"], mine["macs"]],
                        "published": [1_000_000 * macs[BASELINE], 1_000_000 * macs[variant]],
                    }
                    if variant in macs
                    else None,
                }
            )
    return found


def hardware_facts(cells: Cells, rtl: list[Path]) -> Facts:
    """Return cycles on this hardware: network, variant (and ``im2col``), size; measured on RTL too where that exists.

    A measurement on RTL counts only if it is of today's hardware and of the very instructions of today's program, and
    if the RTL's bytes were the ISS's; others are listed as ``dropped``, with the reason.
    """
    found: Facts = {}
    for case in cases():
        variant = case.variant if case.stos else "im2col"
        cell = asdict(cells.get(case)) | {"source": "model", "config_hash": case.config.hash_hex}
        found.setdefault(case.network, {}).setdefault(variant, {})[str(case.size)] = cell
    dropped = []
    for path in rtl:
        for point in rtl_points(path):
            cell = found[point.case.network][point.case.variant][str(point.case.size)]
            if reason := _objection(point, cell):
                dropped.append({"case": str(point.case), "file": path.as_posix(), "reason": reason})
            else:
                cell["rtl"] = point.cycles
    return {
        "cells": found,
        "dropped": dropped,
        "memory": asdict(Memory()),
        "compile_seconds": sum(cell["seconds"] for row in found.values() for v in row.values() for cell in v.values()),
        "exports": cells.exports(dict.fromkeys(case.source for case in cases())),
    }


@dataclass(frozen=True)
class RtlPoint:
    """A measurement on RTL.

    Parameters
    ----------
    case
        What was measured.
    cycles
        From start to done.
    schedule, config_hash, hardware
        The program's :func:`~sw.rtl_identity.schedule_key`, its configuration, and the
        :func:`~sw.rtl_identity.hardware_key`; None in files of older versions.
    differences
        Where the RTL's bytes were not the ISS's.
    """

    case: Case
    cycles: int
    schedule: str | None
    config_hash: str | None
    hardware: str | None
    differences: list[str]


def _objection(point: RtlPoint, cell: Facts) -> str | None:
    """Return why a measurement is not one of today's program on today's hardware."""
    if point.differences:
        return "RTL and ISS differed"
    if point.config_hash != cell["config_hash"]:
        return "another configuration"
    if point.schedule != cell["schedule"]:
        return "another program"
    return None if point.hardware == hardware_key() else "another hardware"


def rtl_points(path: Path) -> Iterator[RtlPoint]:
    """Yield what a file of measurements on RTL has of the paper's networks.

    Parameters
    ----------
    path
        JSON as ``python -m sim.whole_networks`` and ``nox -s bench`` keep it: an entry ``rows``, by
        ``network@preset``, each with ``cycles``, ``differences`` and what identifies program and hardware.

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
                case = Case(network, variant or BASELINE, int(size))
                keys = (row.get(key) for key in ("schedule", "config_hash", "hardware"))
                yield RtlPoint(case, row["cycles"], *keys, row["differences"])
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
