"""Readers of official files, against files written here byte by byte from their published descriptions."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pytest
from official_files import cifar_bytes, idx_bytes, pixels, stl10_bytes

from netpress.data.official import read_cifar, read_idx, read_stl10, read_svhn
from netpress.errors import DataError, MissingExtraError


def test_cifar_by_hand(tmp_path) -> None:
    """The second record's label is byte 3073; its green value of row 1, column 2 lies 1 + 1024 + 34 bytes further."""
    content = np.zeros(2 * 3073, np.uint8)
    content[3073], content[3073 + 1 + 1024 + 34] = 7, 99
    (tmp_path / "batch.bin").write_bytes(content.tobytes())
    images, labels = read_cifar([tmp_path / "batch.bin"], 1)
    assert labels.tolist() == [0, 7]
    assert images[1, 1, 2].tolist() == [0, 99, 0]
    assert images.sum() == 99


def test_cifar_files_in_order(tmp_path) -> None:
    images, labels = pixels(0, 5, 32, 32, 3), np.array([3, 1, 4, 1, 5])
    (tmp_path / "a").write_bytes(cifar_bytes(images[:2], labels[:2]))
    (tmp_path / "b").write_bytes(cifar_bytes(images[2:], labels[2:]))
    read, read_labels = read_cifar([tmp_path / "a", tmp_path / "b"], 1)
    np.testing.assert_array_equal(read, images)
    assert read_labels.tolist() == labels.tolist()
    assert read.flags.c_contiguous


def test_cifar100_takes_the_fine_label(tmp_path) -> None:
    coarse, fine = np.array([19, 0]), np.array([99, 42])
    (tmp_path / "train.bin").write_bytes(cifar_bytes(pixels(0, 2, 32, 32, 3), coarse, fine))
    assert read_cifar([tmp_path / "train.bin"], 2)[1].tolist() == [99, 42]


@pytest.mark.parametrize("size", [0, 3072, 3074])
def test_cifar_of_broken_length(tmp_path, size: int) -> None:
    (tmp_path / "batch.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=f"batch.bin is damaged .*; got: {size} bytes; allowed: a multiple of 3073"):
        read_cifar([tmp_path / "batch.bin"], 1)


def test_stl10_planes_are_column_by_column(tmp_path) -> None:
    images = pixels(0, 3, 96, 96, 3)
    (tmp_path / "x").write_bytes(stl10_bytes(images))
    (tmp_path / "y").write_bytes(bytes((1, 10, 5)))
    read, labels = read_stl10(tmp_path / "x", tmp_path / "y")
    np.testing.assert_array_equal(read, images)
    assert labels.tolist() == [0, 9, 4]


def test_stl10_that_does_not_match(tmp_path) -> None:
    (tmp_path / "x").write_bytes(stl10_bytes(pixels(0, 1, 96, 96, 3)))
    (tmp_path / "y").write_bytes(bytes((1, 2)))
    with pytest.raises(DataError, match="got: 2 labels; allowed: 1, one an image"):
        read_stl10(tmp_path / "x", tmp_path / "y")
    (tmp_path / "x").write_bytes(bytes(27647))
    with pytest.raises(DataError, match="got: 27647 bytes; allowed: a multiple of 27648 bytes"):
        read_stl10(tmp_path / "x", tmp_path / "y")


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("shape", [(3, 28, 28), (5,)])
def test_idx(tmp_path, compress: bool, shape: tuple[int, ...]) -> None:
    array = pixels(0, *shape)
    content = idx_bytes(array)
    (tmp_path / "file").write_bytes(gzip.compress(content) if compress else content)
    read = read_idx(tmp_path / "file")
    np.testing.assert_array_equal(read, array)
    assert read.flags.writeable


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "header"),
        (b"\0\0\x0d\x01\0\0\0\x01" + bytes(4), "got: header 00 00 0d 01; allowed: 00 00 08"),
        (b"\0\0\x08\x01\0\0\0\x05" + bytes(4), "got: 12 bytes"),
        (b"\0\0\x08\x01\0\0\0\x03" + bytes(4), "got: 12 bytes"),
        (b"\0\0\x08\x03\0\0\0\x03", "got: 8 bytes"),
        (gzip.compress(idx_bytes(pixels(0, 50)))[:-9], "a whole gzip file"),
        (b"\x1f\x8bnonsense", "a whole gzip file"),
    ],
)
def test_broken_idx(tmp_path, content: bytes, text: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=text):
        read_idx(tmp_path / "file")


def test_svhn(tmp_path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    images = pixels(0, 4, 32, 32, 3)
    labels = np.array([[10], [1], [9], [10]], np.uint8)
    savemat(tmp_path / "train.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels})
    read, digits = read_svhn(tmp_path / "train.mat")
    np.testing.assert_array_equal(read, images)
    assert digits.tolist() == [0, 1, 9, 0]


def test_svhn_that_is_something_else(tmp_path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    savemat(tmp_path / "a.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8)})
    with pytest.raises(DataError, match=r"got: arrays X; allowed: X \(32, 32, 3, N\) and y"):
        read_svhn(tmp_path / "a.mat")
    savemat(tmp_path / "b.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((3, 1))})
    with pytest.raises(DataError, match="got: 3 labels; allowed: 2"):
        read_svhn(tmp_path / "b.mat")
    (tmp_path / "c.mat").write_bytes(b"not a matrix" * 50)
    with pytest.raises(DataError, match="a MATLAB v5 file"):
        read_svhn(tmp_path / "c.mat")


def test_svhn_without_scipy(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'scipy'.*pip install \"netpress\[data\]\""):
        read_svhn(tmp_path / "train.mat")
