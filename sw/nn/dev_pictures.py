"""Where real pictures are found: ImageNet's and CIFAR-10's, if the user has them; two come with scikit-learn."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["CIFAR10_VARIABLE", "VARIABLE", "cifar10_pictures", "imagenet_pictures", "sample_pictures"]

VARIABLE = "ROWCAST_IMAGENET"
"""Environment variable that names a tar or folder of labelled ImageNet pictures."""

CIFAR10_VARIABLE = "ROWCAST_CIFAR10"
"""Environment variable that names CIFAR-10 as an ``.npz`` of encoded pictures, see :mod:`sw.nn.pictures`."""

# what the tests of trained networks need, if the variables are not set: ../shared beside the project
_BESIDE = Path(__file__).parents[3] / "shared" / "data"


def imagenet_pictures() -> Path:
    """Return the path in :data:`VARIABLE`, else of the pictures beside the tests; whether it exists is not said."""
    return Path(os.environ.get(VARIABLE) or _BESIDE / "imagenet_dev.tar")


def cifar10_pictures() -> Path:
    """Return the path in :data:`CIFAR10_VARIABLE`, else of the pictures beside the tests, existing or not."""
    return Path(os.environ.get(CIFAR10_VARIABLE) or _BESIDE / "cifar10_jpeg.npz")


def sample_pictures(folder: Path) -> Path:
    """Copy scikit-learn's two photographs (a temple, a flower) to `folder` and return it; they have no labels."""
    from sklearn import datasets  # slow to import

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("china.jpg", "flower.jpg"):
        shutil.copyfile(Path(datasets.__file__).parent / "images" / name, folder / name)
    return folder
