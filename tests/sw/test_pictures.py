"""Pictures from folders and tars."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sw.nn import zoo
from sw.nn.pictures import Entry, PictureError, Pictures
from sw.preprocessing import preprocess

ABOUT = zoo.metadata("mobilenet_v2", resolution=32)
LITE = zoo.metadata("efficientnet_lite0", resolution=32)


def png(colour: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return three pictures of two classes, one of them not square, and a text."""
    for name, colour, size in (("cat/b.png", 10, (32, 32)), ("cat/a.PNG", 20, (90, 50)), ("dog/c.png", 30, (32, 32))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png((colour, 0, 255), size))
    (tmp_path / "cat" / "readme.txt").write_text("no picture")
    return tmp_path


def test_folder_of_classes(folder: Path) -> None:
    pictures = Pictures(folder)
    assert pictures.entries == [Entry("cat/a.PNG", 0), Entry("cat/b.png", 0), Entry("dog/c.png", 1)]
    assert Pictures(folder / "cat").entries == [Entry("a.PNG", None), Entry("b.png", None)]
    assert pictures.image(pictures.entries[0]).getpixel((3, 3)) == (20, 0, 255)


@pytest.mark.parametrize("prefix", ["", "./"])
def test_tar_in_the_order_of_its_labels(tmp_path: Path, prefix: str) -> None:
    labels = b"file,class_index,wnid\nb.png,7,n0\na.png,3,n1\n"
    files = {"labels.csv": labels, "a.png": png((1, 2, 3)), "b.png": png((4, 5, 6)), "extra.png": b""}
    pictures = Pictures(tar(tmp_path / "set.tar", {prefix + name: data for name, data in files.items()}))
    assert [entry.label for entry in pictures.entries] == [7, 3] and len(pictures) == 2
    assert pictures.image(pictures.entries[0]).getpixel((0, 0)) == (4, 5, 6)


def test_preprocessing_resizes_crops_and_normalises() -> None:
    picture = Image.new("RGB", (80, 40), (255, 0, 51))
    picture.paste((0, 0, 0), (0, 0, 10, 40))  # the left eighth, which the crop removes
    found = preprocess(picture, ABOUT.input_shape, ABOUT.preprocessing)
    assert found.shape == (3, 32, 32) and found.dtype == np.float32
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(found, np.broadcast_to(np.reshape(expected, (3, 1, 1)), found.shape), atol=1e-5)
    lite = preprocess(picture, (3, 32, 32), LITE.preprocessing)
    np.testing.assert_allclose(lite[:, 9, 9], [1, -127 / 128, (51 - 127) / 128], atol=1e-5)


def test_a_picture_of_the_inputs_size_is_not_resampled() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    found = preprocess(Image.fromarray(pixels), (3, 32, 32), LITE.preprocessing)
    np.testing.assert_array_equal(found * 128 + 127, pixels.transpose(2, 0, 1))


def test_corrupt_pictures_are_named(folder: Path) -> None:
    whole = (folder / "dog" / "c.png").read_bytes()
    for data, reason in ((b"", "in no format"), (b"text", "in no format"), (whole[: len(whole) // 2], "trunca|incomp")):
        (folder / "dog" / "c.png").write_bytes(data)
        pictures = Pictures(folder)
        with pytest.raises(PictureError, match=rf"dog/c\.png cannot be decoded \(.*({reason})"):
            pictures.image(pictures.entries[-1])


def test_a_tar_without_list_is_unlabelled(tmp_path: Path) -> None:
    tar(tmp_path / "bare.tar", {"b/a.PNG": png((1, 2, 3)), "a.png": png((4, 5, 6)), "readme.txt": b"text"})
    pictures = Pictures(tmp_path / "bare.tar")
    assert [(entry.name, entry.label) for entry in pictures.entries] == [("a.png", None), ("b/a.PNG", None)]
    assert pictures.image(pictures.entries[1]).getpixel((0, 0)) == (1, 2, 3)


def test_refuses_what_is_no_set(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar").write_text("no tar")
    picture = png((0, 0, 0))
    cases = {
        "absent": "no such folder or tar",
        "empty": "holds no pictures",
        "text.tar": "neither a folder nor a readable tar",
        tar(tmp_path / "bare.tar", {"a.txt": b"text"}): "holds no pictures",
        tar(tmp_path / "none.tar", {"labels.csv": b"file,class_index\n"}): "holds no pictures",
        tar(
            tmp_path / "name.tar", {"labels.csv": b"file,class_index\nb.png,1\n"}
        ): "line 2 must name a file of the tar",
        tar(tmp_path / "class.tar", {"labels.csv": b"file,class_index\na.png,x\n", "a.png": picture}): "'x'",
        tar(tmp_path / "column.tar", {"labels.csv": b"name,label\na.png,1\n", "a.png": picture}): "not None and ''",
    }
    for name, message in cases.items():
        with pytest.raises(PictureError, match=message):
            Pictures(tmp_path / name)


def archive(path: Path, files: list[bytes], **changes: np.ndarray) -> Path:
    """Write files as an archive, every third of them a test picture, with classes 0, 1, ..."""
    count = len(files)
    arrays = {
        "blob": np.frombuffer(b"".join(files), np.uint8),
        "offset": np.cumsum([0, *map(len, files)]).astype(np.uint32),
        "label": np.arange(count, dtype=np.uint8),
        "test": np.arange(count) % 3 == 0,
    }
    np.savez(path, **{**arrays, **changes})
    return path


def test_archive_of_encoded_pictures(tmp_path: Path) -> None:
    path = archive(tmp_path / "set.npz", [png((index, 0, 0), (8 + index, 8)) for index in range(5)])
    test, train = Pictures(path), Pictures(path, split="train")
    assert [entry.label for entry in test.entries] == [0, 3] and [entry.label for entry in train.entries] == [1, 2, 4]
    for pictures in (test, train):
        for entry in pictures.entries:
            image = pictures.image(entry)
            assert image.size == (8 + (entry.label or 0), 8) and image.getpixel((0, 0)) == (entry.label, 0, 0)
    assert [entry.label for entry in train.spread(2)] == [1, 2] and train.spread(None) == train.entries
    assert train.entries[-1].name == "train picture 4"


def test_refuses_wrong_archives(tmp_path: Path) -> None:
    files = [png((index, 0, 0)) for index in range(4)]
    (tmp_path / "text.npz").write_text("text")
    cases = {
        tmp_path / "text.npz": "not a readable .npz",
        archive(tmp_path / "a.npz", files, blob=np.zeros(3)): "vectors blob, offset, label, test; blob is none",
        archive(tmp_path / "b.npz", files, offset=np.array([0, 1, 2, 3])): "offset must rise",
        archive(tmp_path / "c.npz", files, offset=np.array([0, 9, 2, 3, 4])): "offset must rise",
        archive(tmp_path / "d.npz", files, offset=np.array([0, 1, 2, 3, 10**6])): "offset must rise to at most",
        archive(tmp_path / "e.npz", files, test=np.zeros(4, bool)): "holds no test pictures",
    }
    for path, message in cases.items():
        with pytest.raises(PictureError, match=message):
            Pictures(path)
    np.savez(tmp_path / "f.npz", x=np.zeros(3))
    with pytest.raises(PictureError, match="the .npz must hold vectors"):
        Pictures(tmp_path / "f.npz")
    damaged = archive(tmp_path / "g.npz", [b"no picture", *files])
    with pytest.raises(PictureError, match="test picture 0 cannot be decoded"):
        Pictures(damaged).image(Pictures(damaged).entries[0])
