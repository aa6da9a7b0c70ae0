"""What makes a data set unusable is said before training."""

from __future__ import annotations

import numpy as np
import pytest

from netpress.data import Data, Split, check
from netpress.errors import DataError

IMAGES = np.zeros((4, 5, 5, 3), np.uint8)
LABELS = np.array([0, 1, 0, 1])


def data(train: Split | None = None, test: Split | None = None, task: str = "classification") -> Data:
    good = Split(IMAGES, LABELS)
    classes = ("a", "b") if task == "classification" else ()
    return Data("toy", good if train is None else train, good if test is None else test, classes, task)


def bad_floats() -> np.ndarray:
    images = np.zeros((2000, 2), np.float32)
    images[1500, 1] = np.inf
    return images


def test_good_data_pass_through() -> None:
    good = data()
    assert check(good) is good
    regression = Split(IMAGES, np.array([0.5, 0.5, 0.5, 0.5]))
    assert check(data(regression, regression, "regression")).task == "regression"
    unlabelled = data(Split(IMAGES), Split(IMAGES))
    assert check(unlabelled) is unlabelled


@pytest.mark.parametrize(
    ("train", "test", "text"),
    [
        (Split(IMAGES[:0], LABELS[:0]), None, "toy: train is empty"),
        (None, Split(IMAGES[:0], LABELS[:0]), "toy: test is empty"),
        (Split(IMAGES, LABELS[:3]), None, "not one label an image; got: 4 images, 3 labels"),
        (Split(IMAGES, LABELS * 0), None, "training labels are all of one class; got: class 0 only"),
        (Split(IMAGES, LABELS - 1), None, r"labels out of range; got: label -1 in row 0 \(2 such\); allowed: 0 to 1"),
        (None, Split(IMAGES, LABELS + 1), "toy: test: labels out of range; got: label 2 in row 1"),
        (Split(IMAGES, LABELS * 0.5), None, "no class labels; got: float32"),
        (Split(IMAGES, np.stack([LABELS, LABELS], 1)), None, r"no class labels; got: int64 of shape \(4, 2\)"),
        (Split(bad_floats()), Split(bad_floats()), "not finite; got: NaN or infinity in row 1500"),
        (None, Split(IMAGES[:, :4], LABELS), r"differ in shape; got: \(5, 5, 3\) and \(4, 5, 3\)"),
        (None, Split(IMAGES.astype(np.float32), LABELS), "differ in type; got: uint8 and float32"),
        (Split(np.zeros(4)), None, r"does not hold inputs; got: float64 of shape \(4,\)"),
        (Split(np.array([["a"]] * 4)), None, "does not hold inputs"),
        (Split(np.zeros((4, 0, 3))), None, "no pixels"),
    ],
)
def test_bad_classification_data(train: Split | None, test: Split | None, text: str) -> None:
    with pytest.raises(DataError, match=text):
        check(data(train, test))


def test_bad_regression_labels() -> None:
    good = Split(IMAGES, np.array([0.5, 1, 2, 3]))
    with pytest.raises(DataError, match="labels that are not finite; got: row 2"):
        check(data(Split(IMAGES, np.array([0.5, 1, np.nan, 3])), good, "regression"))
    with pytest.raises(DataError, match="no regression labels; got: int64"):
        check(data(good, Split(IMAGES, LABELS), "regression"))


def test_a_test_set_of_one_class_is_fine() -> None:
    check(data(test=Split(IMAGES, LABELS * 0)))
