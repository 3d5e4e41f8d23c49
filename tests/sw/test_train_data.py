from __future__ import annotations

import pytest
import torch

from sw.frontends.calibration import PictureInput
from sw.nn.pictures import PictureError
from sw.preprocessing import Preprocessing
from sw.train.data import Share, open_pictures
from tests.sw.training_pictures import save_archive, save_folder

ABOUT = PictureInput((3, 16, 16), Preprocessing(crop=1.0))


def flat(batches):
    batches = list(batches)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


@pytest.fixture
def archive(tmp_path):
    return save_archive(tmp_path / "bars.npz")


@pytest.mark.parametrize("kind", ["archive", "files"])
def test_an_epoch_depends_on_seed_and_number_only(archive, tmp_path, kind):
    path = archive if kind == "archive" else save_folder(tmp_path / "bars")
    augmentation = "shift" if kind == "archive" else "imagenet"

    def images(seed, epoch):
        return flat(open_pictures(path, ABOUT, seed=seed, augmentation=augmentation).train.train(epoch, 8, Share()))[0]

    assert torch.equal(images(0, 3), images(0, 3))
    assert not torch.equal(images(0, 3), images(0, 4))
    assert not torch.equal(images(0, 3), images(1, 3))


@pytest.mark.parametrize("kind", ["archive", "files"])
def test_processes_share_every_batch(archive, tmp_path, kind):
    path = archive if kind == "archive" else save_folder(tmp_path / "bars")
    found = open_pictures(path, ABOUT)
    whole = [images for images, _ in found.train.train(0, 8, Share())]
    parts = [[images for images, _ in found.train.train(0, 8, Share(rank, 2))] for rank in (0, 1)]
    for step, images in enumerate(whole):
        assert len(images) == 8
        assert torch.equal(images[0::2], parts[0][step])
        assert torch.equal(images[1::2], parts[1][step])
    tested = [flat(found.test.test(3, Share(rank, 2)))[0] for rank in (0, 1)]
    everything = flat(found.test.test(100, Share()))[0]
    assert torch.equal(everything[0::2], tested[0])
    assert torch.equal(everything[1::2], tested[1])


def test_test_pictures_are_the_archives_own_and_unchanged(archive):
    found = open_pictures(archive, ABOUT, augmentation="shift")
    assert (len(found.train.labels), len(found.test.labels), found.classes) == (48, 16, 2)
    first, again = (flat(found.test.test(5, Share())) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert first[1].tolist() == [0, 1] * 8
    assert first[0].abs().max() < 3  # normalised


def test_worker_processes_give_the_same(tmp_path):
    path = save_folder(tmp_path / "bars")
    here, there = (
        flat(open_pictures(path, ABOUT, augmentation="imagenet", workers=workers).train.train(1, 4, Share()))
        for workers in (0, 2)
    )
    assert torch.equal(here[0], there[0])
    assert torch.equal(here[1], there[1])


def test_held_out_pictures_are_not_trained_with(archive):
    found = open_pictures(archive, ABOUT, holdout=0.25)
    assert (len(found.train.labels), len(found.test.labels)) == (36, 12)
    trained = {image.numpy().tobytes() for image in flat(found.train.train(0, 4, Share()))[0]}
    held = {image.numpy().tobytes() for image in flat(found.test.test(4, Share()))[0]}
    assert len(trained) == 36
    assert len(held) == 12
    assert not trained & held
    other = flat(open_pictures(archive, ABOUT, holdout=0.25, seed=1).test.test(12, Share()))[0]
    assert {image.numpy().tobytes() for image in other} != held


def test_holding_out_less_than_a_picture_is_refused(archive):
    """Else the test pictures would be measured with, which such a choice must not see."""
    with pytest.raises(PictureError, match=r"bars\.npz: --holdout 0\.01 of 48 pictures is none"):
        open_pictures(archive, ABOUT, holdout=0.01)


def test_a_limit_takes_pictures_of_all_classes(archive):
    found = open_pictures(archive, ABOUT, limit=9)
    assert len(found.train.labels) == 9
    assert set(found.train.labels.tolist()) == {0, 1}


def test_missing_things_are_named(tmp_path, archive):
    with pytest.raises(PictureError, match="absent"):
        open_pictures(tmp_path / "absent", ABOUT)
    folder = save_folder(tmp_path / "bars") / "train"
    with pytest.raises(PictureError, match="no test pictures; give --test, or --holdout"):
        open_pictures(folder, ABOUT)
    (folder / "class0" / "3.png").write_bytes(b"no picture")
    broken = open_pictures(folder, ABOUT, holdout=0.1, workers=1)
    with pytest.raises(PictureError, match=r"class0/3\.png cannot be decoded"):
        list(broken.train.train(0, 2, Share()))
    with pytest.raises(PictureError, match="class1 has no class|has no class"):
        open_pictures(folder / "class1", ABOUT, holdout=0.1)
