"""Where real pictures are found: ImageNet's, if the user has them, else the two that come with scikit-learn."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["VARIABLE", "imagenet_pictures", "sample_pictures"]

VARIABLE = "ROWCAST_IMAGENET"
"""Environment variable that names a tar or folder of labelled ImageNet pictures."""

_BESIDE = Path(__file__).parents[3] / "shared" / "data" / "imagenet_dev.tar"


def imagenet_pictures() -> Path:
    """Return the path in :data:`VARIABLE`, else ``../shared/data/imagenet_dev.tar``; whether it exists is not said."""
    return Path(os.environ.get(VARIABLE) or _BESIDE)


def sample_pictures() -> Path:
    """Return scikit-learn's folder of two photographs (a temple, a flower), without labels."""
    from sklearn import datasets  # slow to import

    return Path(datasets.__file__).parent / "images"
