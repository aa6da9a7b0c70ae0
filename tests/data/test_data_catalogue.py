"""Known data sets, from small files in the layouts that people have on disk."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from official_files import (
    cifar10_files,
    cifar_bytes,
    mnist_files,
    pixels,
    stl10_bytes,
    write,
    write_tar,
)

from netpress.data import catalogue, open_data
from netpress.errors import DataError, MissingExtraError


@pytest.fixture(autouse=True)
def no_network(monkeypatch) -> list[str]:
    """Downloads are recorded and refused."""
    asked: list[str] = []

    def refuse(file, folder, *, progress=None) -> Path:
        asked.append(f"{file.name} to {folder.name}")
        raise DataError(f"could not download {file.name}")

    monkeypatch.setattr(catalogue, "fetch", refuse)
    return asked


@pytest.mark.parametrize("place", ["cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar10", "."])
def test_cifar10_wherever_it_lies(tmp_path, place: str, no_network) -> None:
    files, images, labels = cifar10_files()
    write(tmp_path / place, files)
    data = open_data("cifar10", root=tmp_path)
    np.testing.assert_array_equal(data.train.images, images[:20])
    np.testing.assert_array_equal(data.test.images, images[20:])
    assert data.train.labels.tolist() == labels[:20].tolist()
    assert data.classes[:2] == ("airplane", "automobile")
    assert data.preprocess.std == (0.2470, 0.2435, 0.2616)
    assert no_network == []


@pytest.mark.parametrize("place", [".", "cifar10"])
def test_cifar10_from_the_archive_beside(tmp_path, place: str) -> None:
    files, images, _ = cifar10_files()
    write_tar(tmp_path / place / "cifar-10-binary.tar.gz", files, "cifar-10-batches-bin")
    data = open_data("cifar10", root=tmp_path, download=False)
    np.testing.assert_array_equal(data.test.images, images[20:])
    assert (tmp_path / place / "cifar-10-batches-bin" / "test_batch.bin").is_file()
    (tmp_path / place / "cifar-10-binary.tar.gz").unlink()
    assert len(open_data("cifar10", root=tmp_path, download=False).train) == 20


@pytest.mark.parametrize("pickled", ["cifar-10-batches-py", "cifar-10-python.tar.gz"])
def test_the_pickled_version_is_never_read(tmp_path, pickled: str, no_network) -> None:
    (tmp_path / pickled).mkdir()
    with pytest.raises(
        DataError, match=r"only the Python version, which holds pickles.*put cifar-10-binary\.tar\.gz from"
    ):
        open_data("cifar10", root=tmp_path)
    assert no_network == []


def test_an_incomplete_folder_names_what_is_missing(tmp_path) -> None:
    files, _, _ = cifar10_files()
    del files["data_batch_3.bin"]
    write(tmp_path / "cifar-10-batches-bin", files)
    with pytest.raises(DataError, match=r"is incomplete; got: no data_batch_3\.bin"):
        open_data("cifar10", root=tmp_path)


def test_absent_files_are_downloaded_when_that_is_allowed(tmp_path, no_network) -> None:
    with pytest.raises(DataError, match=r"could not download cifar-10-binary\.tar\.gz"):
        open_data("cifar10", root=tmp_path)
    with pytest.raises(DataError, match=r"could not download train-images-idx3-ubyte\.gz"):
        open_data("mnist", root=tmp_path)
    assert no_network == [f"cifar-10-binary.tar.gz to {tmp_path.name}", "train-images-idx3-ubyte.gz to mnist"]
    with pytest.raises(
        DataError, match=r"cifar10: no files in .*remedy: put cifar-10-binary\.tar\.gz from https://www\.cs"
    ):
        open_data("cifar10", root=tmp_path, download=False)
    with pytest.raises(DataError, match=r"svhn: no train_32x32\.mat in .*remedy: put train_32x32\.mat from https://"):
        open_data("svhn", root=tmp_path, download=False)
    assert len(no_network) == 2


def test_a_download_is_extracted_and_used(tmp_path, monkeypatch) -> None:
    files, images, _ = cifar10_files()

    def fetch(file, folder, *, progress=None) -> Path:
        return write_tar(folder / file.name, files, "cifar-10-batches-bin")

    monkeypatch.setattr(catalogue, "fetch", fetch)
    np.testing.assert_array_equal(open_data("cifar10", root=tmp_path).test.images, images[20:])


def test_cifar100_has_fine_labels_and_their_names(tmp_path) -> None:
    fine = np.array([7, 99, 0])
    content = cifar_bytes(pixels(0, 3, 32, 32, 3), np.array([1, 2, 3]), fine)
    folder = write(tmp_path / "cifar-100-binary", {"train.bin": content, "test.bin": content})
    data = open_data("cifar100", root=tmp_path)
    assert data.train.labels.tolist() == [7, 99, 0]
    assert (len(data.classes), data.classes[99]) == (100, "99")
    (folder / "fine_label_names.txt").write_text("\n".join(f"name{k}" for k in range(100)) + "\n")
    assert open_data("cifar100", root=tmp_path).classes[99] == "name99"


def test_stl10(tmp_path) -> None:
    images = pixels(0, 4, 96, 96, 3)
    files = {"train_X.bin": stl10_bytes(images[:3]), "train_y.bin": bytes((1, 10, 3))}
    files |= {"test_X.bin": stl10_bytes(images[3:]), "test_y.bin": bytes((2,))}
    write_tar(tmp_path / "stl10_binary.tar.gz", files | {"unlabeled_X.bin": b"large"}, "stl10_binary")
    data = open_data("stl10", root=tmp_path)
    np.testing.assert_array_equal(data.train.images, images[:3])
    np.testing.assert_array_equal(data.test.images, images[3:])
    assert [data.classes[k] for k in data.train.labels] == ["airplane", "truck", "car"]
    assert not (tmp_path / "stl10_binary" / "unlabeled_X.bin").exists()


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("place", [".", "mnist", "MNIST/raw"])
def test_mnist(tmp_path, compress: bool, place: str) -> None:
    files, arrays = mnist_files(compress)
    write(tmp_path / place, files)
    data = open_data("mnist", root=tmp_path)
    np.testing.assert_array_equal(data.train.images, arrays["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.test.images, arrays["t10k-images-idx3-ubyte"])
    assert data.test.labels.tolist() == list(range(10))


def test_mnist_spelled_with_a_dot(tmp_path) -> None:
    files, _ = mnist_files(compress=False)
    write(tmp_path, {name.replace("-idx", ".idx"): content for name, content in files.items()})
    assert len(open_data("mnist", root=tmp_path).train) == 20


def test_svhn(tmp_path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    images = pixels(0, 3, 32, 32, 3)
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": np.array([[10], [5], [1]])})
    data = open_data("svhn", root=tmp_path)
    np.testing.assert_array_equal(data.test.images, images)
    assert data.train.labels.tolist() == [0, 5, 1]


def test_the_data_folder_can_come_from_the_environment(tmp_path, monkeypatch) -> None:
    files, _ = mnist_files(compress=False)
    write(tmp_path, files)
    monkeypatch.setenv("NETPRESS_DATA", str(tmp_path))
    assert len(open_data("mnist").train) == 20
    monkeypatch.delenv("NETPRESS_DATA")
    assert catalogue.default_root() == Path.home() / ".cache" / "netpress" / "data"


def test_digits_are_the_same_split_for_every_seed() -> None:
    pytest.importorskip("sklearn")
    first, second = open_data("digits", seed=0), open_data("digits", seed=1)
    assert (len(first.train), len(first.test)) == (1437, 360)
    assert first.test.fingerprint() == second.test.fingerprint()
    shares = np.bincount(first.test.labels) / np.bincount(np.concatenate([first.train.labels, first.test.labels]))
    assert shares.min() > 0.19
    assert shares.max() < 0.21
    x = first.preprocess(first.train.images)
    assert tuple(x.shape) == (1437, 1, 8, 8)
    assert abs(float(x.mean())) < 1e-3
    assert abs(float(x.std()) - 1) < 1e-3


def test_digits_without_scikit_learn(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"digits needs the package 'scikit-learn'.*netpress\[data\]"):
        open_data("digits")
