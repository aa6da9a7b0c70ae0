"""Readers of the official files of public data sets. No network, no pickle: the binary versions only.

Formats: CIFAR (https://www.cs.toronto.edu/~kriz/cifar.html), STL-10 (https://cs.stanford.edu/~acoates/stl10/), IDX
(http://yann.lecun.com/exdb/mnist/), SVHN (http://ufldl.stanford.edu/housenumbers/).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netpress.errors import DataError, MissingExtraError

_PIXELS = 3 * 32 * 32
_IDX_UINT8 = 0x08
_STL10_PIXELS = 3 * 96 * 96


def read_cifar(files: Sequence[Path], label_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """CIFAR binary batches: records of ``label_bytes`` labels (the last one counts) and 3 planes of 32 by 32 pixels.

    Args:
        files: In the order in which the images are wanted.
        label_bytes: 1 for CIFAR-10; 2 for CIFAR-100, whose first byte is the coarse class.

    Returns:
        (N, 32, 32, 3) uint8 and (N,) int64.

    Raises:
        DataError: A file that is not made of whole records.
    """
    record = label_bytes + _PIXELS
    parts = []
    for path in files:
        content = np.fromfile(path, dtype=np.uint8)
        if len(content) == 0 or len(content) % record:
            raise _damaged(path, f"{len(content)} bytes", f"a multiple of {record} bytes")
        parts.append(content.reshape(-1, record))
    images = np.empty((sum(len(part) for part in parts), 32, 32, 3), dtype=np.uint8)
    np.concatenate(
        [part[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for part in parts], out=images
    )  # (n, 3, 32, 32) -> (N, 32, 32, 3)
    labels = np.concatenate([part[:, label_bytes - 1] for part in parts]).astype(np.int64)
    return images, labels


def read_stl10(images_file: Path, labels_file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """STL-10 binary: 3 planes of 96 by 96 pixels, each stored column by column; labels 1 to 10.

    Returns:
        (N, 96, 96, 3) uint8 and (N,) int64 labels from 0.

    Raises:
        DataError: Not whole images, or not as many labels.
    """
    pixels = np.fromfile(images_file, dtype=np.uint8)
    if len(pixels) == 0 or len(pixels) % _STL10_PIXELS:
        raise _damaged(images_file, f"{len(pixels)} bytes", f"a multiple of {_STL10_PIXELS} bytes")
    labels = np.fromfile(labels_file, dtype=np.uint8).astype(np.int64) - 1
    images = pixels.reshape(-1, 3, 96, 96)  # (N, C, column, row)
    if len(labels) != len(images):
        raise _damaged(labels_file, f"{len(labels)} labels", f"{len(images)}, one an image")
    return np.ascontiguousarray(images.transpose(0, 3, 2, 1)), labels  # -> (N, row, column, C)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes, gzipped or plain: the numbers of MNIST and its relatives.

    The header is 0, 0, 8 (unsigned byte), the number of dimensions, and each dimension as a big-endian uint32.

    Raises:
        DataError: Another type, a header that is cut off, more or fewer bytes than the header says.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged(path, str(error), "a whole gzip file") from error
    if len(content) < 4 or content[:3] != bytes((0, 0, _IDX_UINT8)):
        raise _damaged(path, f"header {content[:4].hex(' ')}", "00 00 08 and the number of dimensions")
    dimensions = content[3]
    header = 4 + 4 * dimensions
    shape = tuple(int(v) for v in np.frombuffer(content[4:header], dtype=">u4"))
    if len(shape) != dimensions or len(content) - header != int(np.prod(shape)):
        raise _damaged(path, f"{len(content)} bytes", f"{header} and the product of the dimensions {shape}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape).copy()


def read_svhn(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """SVHN, cropped digits: a MATLAB v5 file with ``X`` (32, 32, 3, N) and ``y`` (N, 1), where 10 stands for digit 0.

    Returns:
        (N, 32, 32, 3) uint8 and (N,) int64.

    Raises:
        MissingExtraError: scipy is absent.
        DataError: Not a MATLAB file, or not these two arrays.
    """
    try:
        from scipy.io import loadmat  # heavy, and wanted for this data set only
    except ImportError as error:
        raise MissingExtraError("scipy", "data", "reading SVHN's MATLAB files") from error
    try:
        content = loadmat(path, variable_names=["X", "y"])
    except (ValueError, TypeError, OSError, NotImplementedError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error), "a MATLAB v5 file") from error
    images, labels = content.get("X"), content.get("y")
    if images is None or labels is None or images.ndim != 4 or images.dtype != np.uint8:
        raise _damaged(path, f"arrays {', '.join(sorted(k for k in content if k[0] != '_'))}", "X (32, 32, 3, N) and y")
    digits = labels.reshape(-1).astype(np.int64)  # (N, 1) -> (N,)
    if len(digits) != images.shape[3]:
        raise _damaged(path, f"{len(digits)} labels", f"{images.shape[3]}, one an image")
    digits[digits == 10] = 0
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), digits  # (H, W, C, N) -> (N, H, W, C)


def _damaged(path: Path, got: str, allowed: str) -> DataError:
    return DataError(f"{path} is damaged or of another kind", got=got, allowed=allowed, remedy="fetch the file again")
