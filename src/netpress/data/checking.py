"""Whether a data set can be used: said before any training starts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.data.dataset import Data, Split
from netpress.errors import DataError

_ROWS_AT_ONCE = 1024


def check(data: Data) -> Data:
    """Returns ``data`` when it makes sense. Labels that are not numpy arrays are left alone.

    Raises:
        DataError: An empty split; as many labels as images not given; one class only in the training labels; labels
            out of range or not finite; NaN or infinite images; images of train and test that differ in shape or type.
    """
    for part, split in (("train", data.train), ("test", data.test)):
        _check_images(f"{data.name}: {part}", split)
        if isinstance(split.labels, np.ndarray):
            _check_labels(f"{data.name}: {part}", split, split.labels, data)
    _check_alike(data)
    labels = data.train.labels
    if data.task == "classification" and isinstance(labels, np.ndarray) and len(np.unique(labels)) < 2:
        raise DataError(
            f"{data.name}: the training labels are all of one class",
            got=f"class {int(labels[0])} only",
            allowed="two classes or more",
            remedy="choose other rows, or leave the labels out where only images are needed",
        )
    return data


def _check_images(where: str, split: Split) -> None:
    images = split.images
    if len(images) == 0:
        raise DataError(f"{where} is empty", allowed="one image or more", remedy="check the selection and the files")
    if len(images.shape) < 2 or images.dtype.kind not in "iufb":
        raise DataError(
            f"{where} does not hold inputs",
            got=f"{images.dtype} of shape {tuple(images.shape)}",
            allowed="numbers of shape (N, ...), two dimensions or more",
        )
    if 0 in images.shape:
        raise DataError(f"{where}: the images have no pixels", got=f"shape {tuple(images.shape)}")
    if images.dtype.kind == "f":
        for start in range(0, len(images), _ROWS_AT_ONCE):
            finite = np.isfinite(images[start : start + _ROWS_AT_ONCE]).reshape(-1, int(np.prod(images.shape[1:])))
            if not finite.all():
                row = start + int(np.flatnonzero(~finite.all(axis=1))[0])
                raise DataError(
                    f"{where}: images that are not finite",
                    got=f"NaN or infinity in row {row}",
                    allowed="finite numbers",
                )


def _check_labels(where: str, split: Split, labels: NDArray[Any], data: Data) -> None:
    if len(labels) != len(split):
        raise DataError(
            f"{where}: not one label an image", got=f"{len(split)} images, {len(labels)} labels", allowed="as many"
        )
    if data.task == "regression":
        if labels.dtype != np.float32 or labels.ndim > 2:
            raise DataError(
                f"{where}: these are no regression labels",
                got=f"{labels.dtype} of shape {labels.shape}",
                allowed="floating point, (N,) or (N, k), in train and in test",
            )
        if not np.isfinite(labels).all():
            row = int(np.flatnonzero(~np.isfinite(labels.reshape(len(labels), -1)).all(axis=1))[0])
            raise DataError(f"{where}: labels that are not finite", got=f"row {row}", allowed="finite numbers")
        return
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise DataError(
            f"{where}: these are no class labels",
            got=f"{labels.dtype} of shape {labels.shape}",
            allowed="integers, (N,), in train and in test",
            remedy="labels of a regression are floating point in both parts",
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= len(data.classes)))
    if len(wrong):
        raise DataError(
            f"{where}: labels out of range",
            got=f"label {labels[wrong[0]]} in row {wrong[0]} ({len(wrong)} such)",
            allowed=f"0 to {len(data.classes) - 1} for {len(data.classes)} classes",
            remedy="number the classes from 0 and leave out images without a class",
        )


def _check_alike(data: Data) -> None:
    train, test = data.train.images, data.test.images
    if tuple(train.shape[1:]) != tuple(test.shape[1:]):
        raise DataError(
            f"{data.name}: images of train and test differ in shape",
            got=f"{tuple(train.shape[1:])} and {tuple(test.shape[1:])}",
            allowed="one shape",
        )
    if train.dtype != test.dtype:
        raise DataError(
            f"{data.name}: images of train and test differ in type",
            got=f"{train.dtype} and {test.dtype}",
            allowed="one type, as both are preprocessed alike",
        )
