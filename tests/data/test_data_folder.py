"""Folders of image files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from netpress.data import ImageStream, open_data
from netpress.errors import DataError, MissingExtraError

Image = pytest.importorskip("PIL.Image")


def paint(path: Path, value: int, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> Path:
    """An image of one colour; ``size`` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255 - value)).save(path)
    return path


@pytest.fixture
def by_class(tmp_path) -> Path:
    for part, count in (("train", 10), ("test", 2)):
        for number, name in enumerate(("bird", "cat", "dog")):
            for k in range(count):
                paint(tmp_path / part / name / f"{k:02d}.png", 50 * number + k)
    return tmp_path


def test_train_and_test_by_class(by_class) -> None:
    data = open_data(f"folder:{by_class}")
    assert data.classes == ("bird", "cat", "dog")
    assert (data.train.images.shape, data.test.images.shape) == ((30, 5, 6, 3), (6, 5, 6, 3))
    assert data.train.labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    batch = data.train.images[np.array([12, 0])]
    assert batch.dtype == np.uint8
    assert batch[0, 2, 3].tolist() == [52, 0, 203]
    assert batch[1, 0, 0].tolist() == [0, 0, 255]
    np.testing.assert_array_equal(data.train.images[12], batch[0])
    assert data.train.images[:0].shape == (0, 5, 6, 3)
    assert data.preprocess.mean == (0.485, 0.456, 0.406)


def test_without_a_test_part_a_fifth_is_held_out_by_seed(by_class) -> None:
    specs = [(f"folder:{by_class / 'train'}", seed) for seed in (0, 0, 1)]
    first, again, other = (open_data(spec, seed=seed) for spec, seed in specs)
    assert (len(first.train), len(first.test)) == (24, 6)
    assert np.bincount(first.test.labels).tolist() == [2, 2, 2]
    assert first.test.fingerprint() == again.test.fingerprint() != other.test.fingerprint()
    pixels = np.concatenate([split.images[:][:, 0, 0, 0] for split in (first.train, first.test)])
    assert len(set(pixels.tolist())) == 30


def test_a_train_folder_alone_is_divided_too(by_class) -> None:
    (by_class / "test").rename(by_class / "elsewhere")
    assert len(open_data(f"folder:{by_class}").test) == 6
    (by_class / "elsewhere").rename(by_class / "val")
    data = open_data(f"folder:{by_class}")
    assert (len(data.train), len(data.test)) == (30, 6)


def test_loose_images_have_no_labels(tmp_path) -> None:
    for k in range(10):
        paint(tmp_path / f"{k}.png", k)
    data = open_data(f"folder:{tmp_path}")
    assert (len(data.train), len(data.test), data.train.labels, data.classes) == (8, 2, None, ())
    (_, y), *_ = ImageStream(data.train, data.preprocess, batch_size=4).batches(0)
    assert y is None


def test_other_sizes_are_covered_and_cut_in_the_middle(tmp_path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200  # the middle third
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for k in range(3):
        Image.fromarray(wide).save(tmp_path / "a" / f"{k}.png")
        Image.new("RGB", (8, 8), (7, 8, 9)).save(tmp_path / "b" / f"{k}.png")
    data = open_data(f"folder:{tmp_path}?size=10")
    assert data.train.images.shape[1:] == (10, 10, 3)
    middle, small = data.train.images[np.array([0, len(data.train) - 1])]
    assert (middle == 200).all()  # as high as it was: cut, not scaled
    assert (small == np.array([7, 8, 9])).all()
    assert open_data(f"folder:{tmp_path}").train.images.shape[1:] == (10, 30, 3)  # the first image's size


def test_grey_images(tmp_path) -> None:
    for name, value in (("a", 10), ("b", 200)):
        for k in range(3):
            paint(tmp_path / name / f"{k}.pgm", value, mode="L")
    data = open_data(f"folder:{tmp_path}?channels=1")
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.train.images[:].reshape(5, -1)[:, 0].tolist() == [10, 10, 200, 200, 200]
    assert tuple(data.preprocess(data.train.images[:]).shape) == (5, 1, 5, 6)
    assert open_data(f"folder:{tmp_path}").train.images.shape[3] == 3
    with pytest.raises(DataError, match=r"got: 2; allowed: 1 \(grey\) or 3"):
        open_data(f"folder:{tmp_path}?channels=2")


def test_photos_are_turned_upright_and_palettes_are_read(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter
    turned = np.zeros((4, 4, 3), np.uint8)
    turned[0] = 250
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(2):
            Image.fromarray(turned).save(tmp_path / name / f"{k}.png", exif=exif)
    palette = Image.fromarray(turned).quantize(4)
    palette.save(tmp_path / "b" / "2.png", transparency=b"\x00\xff")
    images = open_data(f"folder:{tmp_path}?train=train&test=test").train.images
    assert (images[0][:, 3] == 250).all()
    assert (images[0][:, :3] == 0).all()
    everything = np.concatenate([images[:], open_data(f"folder:{tmp_path}").test.images[:]])
    assert sum((image[0] == 250).all() for image in everything) == 1  # the palette image, which was not turned


def test_a_folder_trains_with_read_ahead_and_labels_aligned(by_class) -> None:
    data = open_data(f"folder:{by_class}?mean=0&std=1&scale=1")
    stream = ImageStream(data.train, data.preprocess, batch_size=7, shuffle=True, seed=4)
    seen = [(int(image[0, 0, 0]), int(label)) for x, y in stream.batches(0) for image, label in zip(x, y, strict=True)]
    assert sorted(seen) == [(50 * number + k, number) for number in range(3) for k in range(10)]
    assert seen != sorted(seen)


def test_the_fingerprint_follows_files_and_size(by_class) -> None:
    spec = f"folder:{by_class}"
    before = open_data(spec).train.fingerprint()
    assert open_data(spec).train.fingerprint() == before
    assert open_data(f"{spec}?size=4").train.fingerprint() != before
    os.utime(by_class / "train" / "cat" / "03.png", ns=(1, 1))
    assert open_data(spec).train.fingerprint() != before


def test_bad_folders(by_class, tmp_path_factory) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        open_data(f"folder:{by_class / 'absent'}")
    empty = tmp_path_factory.mktemp("empty")
    (empty / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"there are no images in .*; allowed: files ending in \.png"):
        open_data(f"folder:{empty}")
    with pytest.raises(DataError, match="training labels are all of one class"):
        open_data(f"folder:{by_class}?train=train[:10]")
    paint(by_class / "test" / "cow" / "0.png", 1)
    with pytest.raises(DataError, match="classes that train has not; got: cow"):
        open_data(f"folder:{by_class}")
    paint(by_class / "train" / "loose.png", 1)
    with pytest.raises(DataError, match=r"loose images beside class folders; got: 1 loose images, such as loose\.png"):
        open_data(f"folder:{by_class}")


def test_files_that_cannot_be_decoded_are_named(by_class) -> None:
    (by_class / "train" / "cat" / "03.png").write_bytes(b"\x89PNG and then nothing")
    Image.fromarray(np.zeros((5, 6), np.uint16)).save(by_class / "train" / "cat" / "04.png")
    images = open_data(f"folder:{by_class}").train.images
    with pytest.raises(DataError, match=r"cannot decode the image .*03\.png"):
        images[np.array([1, 13])]
    with pytest.raises(DataError, match=r"04\.png has more than 8 bits a channel; got: mode I;16"):
        images[14]
    (by_class / "train" / "bird" / "00.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot decode the image .*00\.png"):
        open_data(f"folder:{by_class}")


def test_without_pillow(by_class, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"reading image files needs the package 'pillow'.*netpress\[data\]"):
        open_data(f"folder:{by_class}")
