"""Accuracy of the published networks in int8 on the ISS: what quantisation may cost.

Needs the 200 ImageNet pictures of :func:`sw.nn.dev_pictures.imagenet_pictures`; of these 64 calibrate.
They may not be passed on with the project, so where they are absent this says so and is left out.
"""

from __future__ import annotations

import json

import pytest

from sw.evaluate import main
from sw.nn.dev_pictures import VARIABLE, imagenet_pictures

PICTURES = imagenet_pictures()


@pytest.mark.slow
@pytest.mark.skipif(not PICTURES.exists(), reason=f"no pictures at {PICTURES}; set {VARIABLE}")
@pytest.mark.parametrize(
    ("name", "loss", "agreement"), [("mobilenet_v2", 1.0, 92.0), ("efficientnet_lite0", 0.5, 97.0)]
)
def test_int8_on_the_iss(name: str, loss: float, agreement: float, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = str(PICTURES)
    arguments = [name, "--pretrained", "--calib", pictures, "--data", pictures, "--backend", "iss", "--jobs", "2"]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    print(report)
    assert report["n"] == 200
    assert report["top1"] >= report["fp32_top1"] - loss
    assert report["agreement"] >= agreement
    assert report["images_per_s"] >= 0.1  # on two processors
