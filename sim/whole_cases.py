"""Whole networks to measure on RTL: where weights and a real input come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hw.spec.config import AcceleratorConfig, preset
from sw.defaults import ZOO_WIDTH

if TYPE_CHECKING:
    from sw.compiler.ir import Graph

__all__ = ["CASES", "OCR", "Case", "Subject", "parse_case", "subject"]

OCR = "ppocr_classifier"
OCR_SHAPE = (3, 48, 192)
_WORDS = (
    "int8 Rowcast Ausgang 24 systolic array rows columns weights 1997 street Main convolution price 3.50 hello world"
)


@dataclass(frozen=True)
class Case:
    """A network on a preset configuration."""

    network: str
    preset: str

    def __str__(self) -> str:
        return f"{self.network}@{self.preset}"

    @property
    def config(self) -> AcceleratorConfig:
        """The configuration."""
        return preset(self.preset)


CASES = (
    Case("mobilenet_v2", "edge16"),
    Case("mobilenet_v2:fuse_half", "edge16"),
    Case("mobilenet_v3_large:fuse_half", "edge16"),
    Case("efficientnet_lite0", "edge16"),
    Case(OCR, "edge16"),
    Case("mobilenet_v2", "edge32"),
)
"""What ``python -m sim.whole_networks`` runs if not told otherwise."""


@dataclass(frozen=True)
class Subject:
    """A network ready to be compiled, with a real input.

    Parameters
    ----------
    graph
        Quantised network.
    weights
        ``trained`` or ``random``.
    input_file
        A picture or ``.npy``, as ``python -m sim.run --input`` takes it.
    source
        What the input shows and where it is from.
    label
        Its class, if known.
    """

    graph: Graph
    weights: str
    input_file: Path
    source: str
    label: int | None


def parse_case(text: str) -> Case:
    """Read ``NETWORK[@PRESET]``; the preset is edge16 where it is left out.

    Raises
    ------
    hw.spec.config.ConfigError
        If there is no such preset.
    """
    network, _, name = text.partition("@")
    case = Case(network, name or "edge16")
    preset(case.preset)
    return case


def subject(network: str, pictures: Path, folder: Path, *, progress: Callable[[str], None]) -> Subject:
    """Return a network, quantised on real data, with an input.

    Parameters
    ----------
    network
        Of the zoo (trained weights where a package has them, else random ones), :data:`OCR`, or a digits network.
    pictures
        For networks of the zoo, see :class:`sw.nn.pictures.Pictures`: calibration, and the first one is the input.
    folder
        Where files may be written.
    progress
        Called with what is done next.

    Raises
    ------
    ValueError
        If the network is unknown, or weights or pictures cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if network == OCR:
        return _ocr(folder, progress)
    if network.partition(":")[0] == "digits":
        return _digits(network, folder, progress)
    return _zoo(network, pictures, folder, progress)


def _zoo(network: str, pictures: Path, folder: Path, progress: Callable[[str], None]) -> Subject:
    from sw.nn import zoo
    from sw.nn.pictures import Pictures
    from sw.nn.pretrained import PRETRAINED, pretrained, pretrained_facts
    from sw.nn.untrained import save_untrained

    zoo.metadata(network)  # says what there is, before files are written
    trained = network in PRETRAINED
    source = Pictures(pictures)
    entry = source.entries[0]
    file = folder / "picture.png"
    source.image(entry).save(file)
    weights = pretrained(network) if trained else folder / "random.npz"
    if not trained:
        save_untrained(network, pictures, weights)
    width = pretrained_facts(network).get("width", ZOO_WIDTH)
    graph = _graph(network, progress, weights=weights, calibration=pictures, width=width)
    label = entry.label if trained else None
    return Subject(graph, "trained" if trained else "random", file, f"{pictures.name}: {entry.name}", label)


def _ocr(folder: Path, progress: Callable[[str], None]) -> Subject:
    from sw.nn.pretrained import pretrained

    words = _WORDS.split()
    crops = [_crop(f"{words[i % len(words)]} {i}", upright=i % 2 == 0) for i in range(32)]
    calibration, file = folder / "crops.npy", folder / "crop.npy"
    np.save(calibration, np.stack(crops))
    text = "Rowcast 2021"
    np.save(file, _crop(text, upright=True))
    graph = _graph(str(pretrained(OCR)), progress, calibration=calibration, input_shape=OCR_SHAPE)
    return Subject(graph, "trained", file, f"the text {text!r}, upright", 0)


def _crop(text: str, *, upright: bool) -> npt.NDArray[np.float32]:
    """Return a line of black text on white as the classifier takes it: values -1 to 1, class 0 upright, 1 turned."""
    from PIL import Image, ImageDraw, ImageFont

    _, height, width = OCR_SHAPE
    image = Image.new("RGB", (width, height), "white")
    centre = (width / 2, height / 2)
    ImageDraw.Draw(image).text(centre, text, font=ImageFont.load_default(size=28), fill="black", anchor="mm")
    pixels = np.asarray(image if upright else image.rotate(180), np.float32)
    return np.ascontiguousarray((pixels / 127.5 - 1).transpose(2, 0, 1))


def _digits(network: str, folder: Path, progress: Callable[[str], None]) -> Subject:
    from sw.nn.digits import digits_data

    _, _, images, labels = digits_data()
    file = folder / "digit.npy"
    np.save(file, images[0])
    return Subject(_graph(network, progress), "trained", file, "scikit-learn's digits: a test picture", int(labels[0]))


def _graph(network: str, progress: Callable[[str], None], **options: object) -> Graph:
    from sw.frontends.networks import quantised_network
    from sw.frontends.torch_export import import_program

    def calibrated(done: int, total: int | None) -> None:
        progress(f"calibrating: batch {done} of {total}" if total else f"calibrating: batch {done}")

    found = quantised_network(network, progress=calibrated, **options)
    return import_program(found.exported, name=found.name, meta=found.meta)
