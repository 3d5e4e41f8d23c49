"""Networks of a search as ``.pt2`` files, which ``python -m sw.compile`` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from sw.frontends.files import META_FILE
from sw.quant import save
from sw.search.evaluation import Evaluator
from sw.search.space import Architecture
from sw.search.training import PictureFacts

__all__ = ["export_network"]


def export_network(evaluator: Evaluator, architecture: Architecture, path: Path, record: dict[str, Any]) -> None:
    """Write a network with its recalibrated weights.

    Parameters
    ----------
    evaluator
        Knows the supernet.
    architecture
        Of its space.
    path
        Of the file, ``.pt2``; it holds the floating-point network and how pictures become its inputs.
    record
        What else is to be said of it (JSON-able), under ``search`` in the program's `meta`.

    Raises
    ------
    sw.search.space.SpaceError
        If the network is not one of the space.
    OSError
        If the file cannot be written.
    """
    network = evaluator.network(architecture).cpu()
    about = PictureFacts.of(evaluator.supernet.space)
    with torch.no_grad():
        exported = torch.export.export(network, (torch.zeros(1, *about.input_shape),))
    meta = {"input": about.to_json(), "search": {"architecture": str(architecture), **record}}
    save(exported, path, meta={META_FILE: json.dumps(meta)})
