"""npz files and the user's own callables."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from netpress.data import Preprocess, open_data
from netpress.data.arrays import data_of
from netpress.errors import DataError, UnknownNameError

X = np.random.default_rng(0).integers(0, 256, (10, 6, 6, 3), dtype=np.uint8)
Y = np.arange(10) % 3


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_both_kinds_of_npz(tmp_path, save) -> None:
    save(tmp_path / "d.npz", x_train=X, y_train=Y.astype(np.uint8), x_test=np.asfortranarray(X[:4]), y_test=Y[:4])
    data = open_data(f"npz:{tmp_path / 'd.npz'}")
    np.testing.assert_array_equal(data.train.images, X)
    np.testing.assert_array_equal(data.test.images, X[:4])
    assert data.train.labels.dtype == np.int64
    assert data.train.labels.tolist() == Y.tolist()
    assert (data.name, data.classes, data.task) == ("d.npz", ("0", "1", "2"), "classification")
    assert data.preprocess == Preprocess(1 / 255)
    assert isinstance(data.train.images, np.memmap) is (save is np.savez)


def test_rows_of_a_memory_map(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x_train=X, y_train=Y, x_test=X, y_test=Y)
    train = open_data(f"npz:{tmp_path / 'd.npz'}").train
    np.testing.assert_array_equal(train.take([3, 1]).images, X[[3, 1]])
    np.testing.assert_array_equal(train.take(range(2, 5)).images, X[2:5])
    with pytest.raises(ValueError, match="read-only"):
        train.images[0] = 0


def test_what_the_arrays_are_decides_task_and_preprocessing() -> None:
    tokens = data_of({"x_train": np.zeros((4, 9), np.int32), "y_train": np.array([5.0, 5.1, 7, 8])}, "dta")
    assert (tokens.task, tokens.classes, tokens.preprocess) == ("regression", (), Preprocess(indices=True))
    floats = data_of({"x_train": np.zeros((4, 9)), "classes": np.array(["a", "b"])}, "f")
    assert (floats.preprocess, floats.classes, floats.train.labels) == (Preprocess(), ("a", "b"), None)
    assert len(floats.test) == 0


def test_arrays_of_other_names_are_not_read_from_a_file_and_refused_from_code(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x_train=X, y_train=Y, x_test=X, y_test=Y, rows=np.array([{}], dtype=object))
    assert len(open_data(f"npz:{tmp_path / 'd.npz'}").train) == 10
    with pytest.raises(DataError, match="unknown arrays; got: rows; allowed: x_train"):
        data_of({"x_train": X, "rows": Y}, "code")


def test_labels_may_be_left_out(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x_train=X, x_test=X)
    data = open_data(f"npz:{tmp_path / 'd.npz'}")
    assert (data.train.labels, data.test.labels, data.classes) == (None, None, ())


def test_pickled_arrays_are_refused(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x_train=X, y_train=np.array([{}] * 10, dtype=object), x_test=X)
    with pytest.raises(DataError, match=r"cannot read .*d\.npz.*no pickled objects.*write it with np\.savez"):
        open_data(f"npz:{tmp_path / 'd.npz'}")
    np.savez(tmp_path / "d.npz", x_train=np.array([{}] * 10, dtype=object), x_test=X)
    with pytest.raises(DataError, match="cannot read"):
        open_data(f"npz:{tmp_path / 'd.npz'}")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x": X}, "there is no x_train; got: nothing; allowed: x_train"),
        ({"x_train": X, "Y_train": Y, "x_test": X}, "misspelled arrays; got: Y_train; allowed: x_train, y_train"),
        ({"x_test": X}, "there is no x_train; got: x_test"),
        ({"x_train": X, "y_train": Y[:9], "x_test": X}, "train: not one label an image; got: 10 images, 9 labels"),
        ({"x_train": X, "y_train": Y - 1, "x_test": X}, "labels out of range; got: label -1"),
        ({"x_train": X, "y_train": Y + 10**9, "x_test": X}, "labels out of range; got: label 1000000002"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, "classes": np.array(["a"])}, "for 1 classes"),
        (
            {"x_train": X, "y_train": Y},
            r"d\.npz has no test part; .*remedy: such as npz:.*d\.npz\?train=train\[:-100\]",
        ),
        ({"x_train": X[:0], "y_train": Y[:0], "x_test": X}, "train is empty"),
        ({"x_train": X.astype(str), "x_test": X}, "train does not hold inputs"),
    ],
)
def test_bad_npz(tmp_path, arrays: dict, text: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=text):
        open_data(f"npz:{tmp_path / 'd.npz'}")


def test_files_that_are_no_npz(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no such data file; got: .*absent\.npz"):
        open_data(f"npz:{tmp_path / 'absent.npz'}")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match=r"cannot read .*text\.npz"):
        open_data(f"npz:{tmp_path / 'text.npz'}")
    buffer = io.BytesIO()
    np.savez(buffer, x_train=X, x_test=X)
    (tmp_path / "cut.npz").write_bytes(buffer.getvalue()[:900])
    with pytest.raises(DataError, match=r"cannot read .*cut\.npz"):
        open_data(f"npz:{tmp_path / 'cut.npz'}")
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("x_train.npy", b"not an array")
    with pytest.raises(DataError, match=r"cannot read .*zip\.npz"):
        open_data(f"npz:{tmp_path / 'zip.npz'}")


SOURCE = """
import numpy as np
from netpress.data import Data, Split

x, y = np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2

def as_dict():
    return {"x_train": x, "y_train": y, "x_test": x[:2], "y_test": y[:2], "classes": ["no", "yes"]}

def as_tuple():
    return x, y, x[:2], y[:2]

def as_lists():
    return x.tolist(), y.tolist(), x.tolist(), None

def as_data():
    return Data("mine", Split(x, y), Split(x, y), ("no", "yes"))

def wrong():
    return x, y

def fails():
    raise KeyError("nothing here")

number = 3
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "mydata.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize(
    ("name", "title", "classes"),
    [
        ("as_dict", "mydata.py:as_dict", ("no", "yes")),
        ("as_tuple", "mydata.py:as_tuple", ("0", "1")),
        ("as_lists", "mydata.py:as_lists", ("0", "1")),
        ("as_data", "mine", ("no", "yes")),
    ],
)
def test_callables(source, name: str, title: str, classes: tuple[str, ...]) -> None:
    data = open_data(f"{source}:{name}")
    assert (data.name, data.classes, len(data.train)) == (title, classes, 6)


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("wrong", DataError, "returned something else than data; got: tuple of 2; allowed: netpress.data.Data, a dict"),
        ("fails", DataError, "mydata.py:fails failed; got: KeyError: 'nothing here'"),
        ("as_dic", UnknownNameError, "unknown callable in mydata.py; got: 'as_dic'; .*did you mean 'as_dict'"),
        ("number", UnknownNameError, "unknown callable"),
    ],
)
def test_bad_callables(source, name: str, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        open_data(f"{source}:{name}")


def test_python_files_that_do_not_work(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no such Python file; got: .*absent\.py"):
        open_data(f"{tmp_path / 'absent.py'}:load")
    (tmp_path / "broken.py").write_text("def load(:\n")
    with pytest.raises(DataError, match=r"broken\.py failed; got: SyntaxError"):
        open_data(f"{tmp_path / 'broken.py'}:load")
