"""Splits and data sets: images beside labels, whatever holds them.

An *array-like* of images has ``shape``, ``dtype``, ``len()`` and answers an array of row numbers with a numpy array of
those rows. Numpy arrays (memory-mapped ones too) are array-likes; so are folders of files that are decoded on demand.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from netpress.data.preprocess import Preprocess
from netpress.errors import ConfigError, DataError

_CHUNK_BYTES = 1 << 24
IN_MEMORY_BYTES = 2 * 10**9  # rows chosen from a memory map are copied below this, and read on demand above
TASKS = ("classification", "regression")


@runtime_checkable
class Images(Protocol):
    """What a split asks of its images. Rows are numbered from 0."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


@runtime_checkable
class Identified(Protocol):
    """Images that can say what they are without being read: ``identity`` changes when their content may have."""

    def identity(self) -> bytes: ...


class Rows:
    """A choice of rows of images that are read on demand; nothing is copied.

    Args:
        base: The images chosen from.
        rows: (n,) int64 row numbers of ``base``.
    """

    def __init__(self, base: Images, rows: NDArray[np.int64]) -> None:
        self.base: Images = base
        self.rows = rows
        if isinstance(base, Rows):  # one step to the data, however often rows are chosen from rows
            self.base, self.rows = base.base, base.rows[rows]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.base.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.base.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        return self.base[self.rows[rows]]

    def identity(self) -> bytes:
        return _digest(self.base).digest() + self.rows.tobytes()


class LabelRows:
    """A choice of rows of labels that are not looked at before somebody asks for them.

    Args:
        base: Anything numpy can make an array of.
        rows: (n,) int64 row numbers of ``base``.
    """

    def __init__(self, base: ArrayLike, rows: NDArray[np.int64]) -> None:
        self.base, self.rows = base, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.base, dtype=dtype)[self.rows]


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Numpy labels are kept as int64 (integers: classes) or float32 (floating point: regression); a tensor becomes a numpy
    array. Anything else is kept untouched and is not looked at before somebody asks for labels.

    Attributes:
        images: (N, ...) array-like, as stored: not scaled, not normalised.
        labels: (N,) int64, or (N,) or (N, k) float32, or None when there are none.
    """

    images: Images
    labels: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.images, Tensor):
            object.__setattr__(self, "images", self.images.detach().cpu().numpy())
        if isinstance(self.labels, Tensor | list | tuple):
            labels = self.labels.detach().cpu().numpy() if isinstance(self.labels, Tensor) else np.asarray(self.labels)
            object.__setattr__(self, "labels", labels)
        if isinstance(self.labels, np.ndarray):
            object.__setattr__(self, "labels", canonical_labels(self.labels))

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: NDArray[np.int64] | list[int] | range) -> Split:
        """The rows ``indices``, in that order. A run of rows, and rows of files or huge memory maps, are not copied.

        Raises:
            DataError: An index outside ``[0, len)`` or not a whole number.
        """
        rows = np.asarray(indices)
        if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
            raise DataError(
                "cannot take these rows", got=f"{rows.dtype} of shape {rows.shape}", allowed="row numbers, (n,)"
            )
        rows = rows.astype(np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise DataError(
                "cannot take these rows", got=f"rows {rows.min()} to {rows.max()}", allowed=f"0 to {len(self) - 1}"
            )
        if self.labels is None or isinstance(self.labels, np.ndarray):
            return Split(_rows(self.images, rows), None if self.labels is None else self.labels[rows])
        return Split(_rows(self.images, rows), LabelRows(self.labels, rows))

    def without_labels(self) -> Split:
        """The same images; the labels are not touched, so this works even where reading them fails."""
        return Split(self.images, None)

    def hold_out(self, amount: int | float, seed: int = 0) -> tuple[Split, Split]:
        """Sets part of the split aside: ``(fit, held)``, disjoint, each in the original order.

        Class by class in proportion (largest remainders) where labels are classes; every class keeps at least one
        image in ``fit``. Plainly random for regression and without labels.

        Args:
            amount: A count (int), or a share of the split (float, above 0 and below 1).
            seed: The same seed always sets the same rows aside.

        Raises:
            ConfigError: An amount that leaves one side, or a class in ``fit``, empty.
        """
        rng = np.random.default_rng(seed % 2**64)
        labels = self.labels if isinstance(self.labels, np.ndarray) and self.labels.dtype == np.int64 else None
        groups = [np.arange(len(self))] if labels is None else [np.flatnonzero(labels == c) for c in np.unique(labels)]
        counts = held_counts([len(group) for group in groups], _held_count(amount, len(self)))
        mask = np.zeros(len(self), dtype=bool)
        for group, count in zip(groups, counts, strict=True):
            mask[rng.permutation(group)[:count]] = True
        return self.take(np.flatnonzero(~mask)), self.take(np.flatnonzero(mask))

    def fingerprint(self, *, labels: bool = True) -> str:
        """16 hex digits of what decides results: types, shapes and content of images and labels.

        Arrays are read whole (about 1 GB a second); a folder answers with its files' names, sizes and times.

        Args:
            labels: False leaves the labels out, for streams that never read them.
        """
        digest = _digest(self.images)
        if labels and self.labels is not None:
            digest.update(_digest(np.asarray(self.labels)).digest())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Data:
    """A data set ready for use; :func:`netpress.data.check` says whether it makes sense.

    Attributes:
        name: What it is called in reports.
        train: What networks may be trained on.
        test: What the final figures are measured on; never selected on.
        classes: Names of the classes, by label; empty for regression and without labels.
        task: ``classification`` or ``regression``.
        preprocess: From stored images to network input, the data set's customary one.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...] = ()
    task: str = "classification"
    preprocess: Preprocess = field(default_factory=Preprocess)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ConfigError("unknown task of a data set", got=repr(self.task), allowed=", ".join(TASKS))


def held_counts(sizes: list[int], count: int) -> list[int]:
    """How many to hold out of each class: in proportion, largest remainders first, at least one of each left.

    Sizes 50, 30, 20 and 9 held: shares 4.5, 2.7, 1.8, so 4, 2, 1 and two more to the largest remainders: 4, 3, 2.

    Raises:
        ConfigError: ``count`` would leave a class (or the whole) with nothing.
    """
    total, most = sum(sizes), [size - 1 for size in sizes]
    if not 0 < count <= sum(most):
        raise ConfigError(
            f"cannot hold out {count} of {total} images",
            allowed=f"1 to {max(sum(most), 1)}, so that each class keeps one" if sum(most) else "nothing",
            remedy="give a smaller share or more images",
        )
    counts = [min(count * size // total, cap) for size, cap in zip(sizes, most, strict=True)]
    by_remainder = sorted(range(len(sizes)), key=lambda k: (-(count * sizes[k] % total), k))
    while (left := count - sum(counts)) > 0:  # more than one round only where small classes are at their cap
        for k in [k for k in by_remainder if counts[k] < most[k]][:left]:
            counts[k] += 1
    return counts


def _held_count(amount: int | float, total: int) -> int:
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise ConfigError("hold_out needs an amount", got=repr(amount), allowed="a count (int) or a share (float)")
    if isinstance(amount, int):
        return amount
    if not 0 < amount < 1:
        raise ConfigError("the share to hold out is out of range", got=amount, allowed="above 0 and below 1")
    return max(1, round(amount * total))


def canonical_labels(labels: NDArray[Any]) -> NDArray[Any]:
    """Integers as int64, floating point as float32, a single column as a vector; DataError for anything else."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]  # (N, 1) -> (N,)
    if labels.dtype.kind in "iub":
        return labels.astype(np.int64, copy=False)
    if labels.dtype.kind == "f":
        return labels.astype(np.float32, copy=False)
    raise DataError(
        "labels are neither classes nor numbers",
        got=f"dtype {labels.dtype}",
        allowed="integers (classes) or floating point (regression)",
        remedy="number the classes from 0",
    )


def _rows(images: Images, rows: NDArray[np.int64]) -> Images:
    """Rows of images: a view where they run on, a copy of an array, a lazy choice of what does not fit in memory."""
    if isinstance(images, np.ndarray):
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return images[rows[0] : rows[0] + len(rows)]
        if not isinstance(images, np.memmap) or len(rows) * images[:1].nbytes < IN_MEMORY_BYTES:
            return images[rows]
    return Rows(images, rows)


def _digest(images: Images) -> hashlib.blake2b:
    digest = hashlib.blake2b(f"{images.dtype.str}{tuple(images.shape)}".encode(), digest_size=8)
    if isinstance(images, Identified):
        digest.update(images.identity())
        return digest
    row_bytes = images.dtype.itemsize * int(np.prod(images.shape[1:], dtype=np.int64))
    step = max(1, _CHUNK_BYTES // max(1, row_bytes))
    for start in range(0, len(images), step):
        digest.update(np.ascontiguousarray(images[start : start + step]).data)
    return digest


def file_identity(paths: list[Path], root: Path) -> bytes:
    """What ``paths`` are, without reading them: names below ``root``, sizes and times of change."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.relative_to(root).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.digest()
