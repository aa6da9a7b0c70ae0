"""From a spec to a checked data set: names, selections, preprocessing."""

from __future__ import annotations

import numpy as np
import pytest

from netpress.data import ImageStream, Preprocess, open_data
from netpress.errors import ConfigError, DataError, UnknownNameError

X = np.arange(20, dtype=np.uint8).reshape(20, 1, 1).repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture
def npz(tmp_path) -> str:
    np.savez(tmp_path / "d.npz", x_train=X, y_train=np.arange(20) % 4, x_test=X[:6] + 100, y_test=np.arange(6) % 4)
    return f"npz:{tmp_path / 'd.npz'}"


def firsts(images: np.ndarray) -> list[int]:
    return images[:][:, 0, 0].tolist()


def test_selections_are_of_the_original_parts(npz: str) -> None:
    data = open_data(f"{npz}?train=train[:12]&test=train[12:]")
    assert firsts(data.train.images) == list(range(12))
    assert firsts(data.test.images) == list(range(12, 20))
    assert data.test.labels.tolist() == [k % 4 for k in range(12, 20)]
    assert data.name == "d.npz?train=train[:12]&test=train[12:]"
    assert data.classes == ("0", "1", "2", "3")
    swapped = open_data(f"{npz}?train=test&test=train[-3:]")
    assert (firsts(swapped.train.images), firsts(swapped.test.images)) == ([100, 101, 102, 103, 104, 105], [17, 18, 19])
    assert firsts(open_data(f"{npz}?test=test[:2]").test.images) == [100, 101]


@pytest.mark.parametrize(
    ("selection", "text"),
    [
        ("test=train[12:]", r"share rows of train; got: rows 12 to 19; .*remedy: such as train=train\[:12\]"),
        ("train=train[:10]&test=train[9:12]", "got: rows 9 to 9"),
        ("train=test", "share rows of test; got: rows 0 to 5"),
    ],
)
def test_training_rows_are_never_test_rows(npz: str, selection: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        open_data(f"{npz}?{selection}")


def test_selections_beyond_the_data(npz: str) -> None:
    with pytest.raises(
        DataError, match=r"the selection train\[:21\] goes beyond the data; got: 21; allowed: train has 20"
    ):
        open_data(f"{npz}?train=train[:21]")


def test_a_missing_test_part_can_be_selected(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x_train=X, y_train=np.arange(20) % 4)
    data = open_data(f"npz:{tmp_path / 'd.npz'}?train=train[:-5]&test=train[-5:]")
    assert (len(data.train), len(data.test)) == (15, 5)


def test_preprocessing_can_be_replaced(npz: str) -> None:
    assert open_data(npz).preprocess == Preprocess(1 / 255)
    assert open_data(f"{npz}?scale=1&mean=2&std=.5").preprocess == Preprocess(1.0, (2.0,), (0.5,))
    assert open_data(f"{npz}?mean=.1307&std=.3081").preprocess == Preprocess(1 / 255, (0.1307,), (0.3081,))
    with pytest.raises(ConfigError, match="std is out of range"):
        open_data(f"{npz}?std=0")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("cifar", "unknown data set; got: 'cifar'; .*did you mean 'cifar10'"),
        ("mnits", "did you mean 'mnist'"),
        ("c.npz", "did you mean 'npz:c.npz'"),
        ("folders:x", "FILE.py:CALLABLE"),
    ],
)
def test_unknown_names(spec: str, text: str) -> None:
    with pytest.raises(UnknownNameError, match=text):
        open_data(spec)


def test_a_folder_without_its_prefix_is_recognised(tmp_path) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean 'folder:{tmp_path}'"):
        open_data(str(tmp_path))


def test_real_cifar10_images(shared) -> None:
    data = open_data(
        f"npz:{shared / 'data' / 'cifar10' / 'cifar10_small.npz'}?mean=.4914,.4822,.4465&std=.2470,.2435,.2616"
    )
    assert (len(data.train), len(data.test)) == (2000, 500)
    assert np.bincount(data.train.labels).tolist() == [200] * 10
    x = data.preprocess(data.train.images)
    assert x.mean(dim=(0, 2, 3)).abs().max() < 0.05
    assert (x.std(dim=(0, 2, 3)) - 1).abs().max() < 0.05


def test_real_mnist_images_one_epoch(shared) -> None:
    data = open_data(f"npz:{shared / 'data' / 'mnist' / 'mnist_small.npz'}?mean=.1307&std=.3081")
    fit, held = data.train.hold_out(0.1)
    assert (len(fit), len(held)) == (4500, 500)
    stream = ImageStream(fit, data.preprocess, batch_size=128, shuffle=True, augment="crop_flip")
    labels = [label for x, y in stream.batches(0) for label in y.tolist() if x.shape[1:] == (1, 28, 28)]
    assert np.bincount(labels).tolist() == np.bincount(fit.labels).tolist()


def test_labels_can_be_left_out(npz: str) -> None:
    data = open_data(f"{npz}?train=train[:12]&test=train[12:]&labels=test")
    assert data.train.labels is None
    assert data.test.labels.tolist() == [k % 4 for k in range(12, 20)]
    assert data.name == "d.npz?train=train[:12]&test=train[12:]&labels=test"
    bare = open_data(f"{npz}?labels=none")
    assert (bare.train.labels, bare.test.labels, bare.name) == (None, None, "d.npz?labels=none")
    assert open_data(f"{npz}?labels=all").train.labels is not None
    with pytest.raises(ConfigError, match="cannot read the option labels; got: 'some'; allowed: all, test, none"):
        open_data(f"{npz}?labels=some")


def test_images_alone_need_no_test_part(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x_train=X)
    data = open_data(f"npz:{tmp_path / 'd.npz'}")
    assert (data.train.labels, data.test.labels, len(data.train)) == (None, None, 20)
