"""What the codecs share that see a tensor as a matrix: its rows and columns, reading a payload, products over blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import _palette
from netpress.codecs._palette import Palette
from netpress.codecs._tensors import AnyType, Tensor, is_plain, is_type
from netpress.errors import ConfigError, FormatError
from netpress.kernels import _sparse
from netpress.kernels.threads import run_all

MOST_ELEMENTS = 2**32
MOST_BLOCKS = 64
"""Blocks of rows that a matrix is cut into at most: what several threads share."""


def accepts(tensor: Tensor) -> bool:
    """Whether it is an ordinary tensor of one of the ten types, with at most ``MOST_ELEMENTS`` values."""
    return is_plain(tensor) and tensor.numel() <= MOST_ELEMENTS


def accepts_shared(tensor: Tensor) -> bool:
    """Whether it also has at most 65,536 distinct values."""
    return accepts(tensor) and _palette.symbols_of(tensor) is not None


def shared(tensor: Tensor) -> tuple[Palette, NDArray[np.uint16]]:
    """Its palette and symbols.

    Raises:
        ConfigError: more than 65,536 distinct values.
    """
    found = _palette.symbols_of(tensor)
    if found is None:
        raise ConfigError(
            "the tensor has too many distinct values",
            allowed=f"at most {_palette.MOST_VALUES}",
            remedy="share or quantize its values first, or store it with the codec csc or dense",
        )
    return found


def matrix_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns: the first axis, and all others together; a vector or a single number is one row, no value is none.

    Raises:
        FormatError: more than ``MOST_ELEMENTS`` values.
    """
    if math.prod(max(size, 1) for size in shape) > MOST_ELEMENTS:
        raise FormatError("the shape is too large", got=f"{shape!r:.80}", allowed=f"{MOST_ELEMENTS} values")
    if math.prod(shape) == 0:
        return 0, 0
    if len(shape) < 2:
        return 1, math.prod(shape)
    return shape[0], math.prod(shape[1:])


def product_shape(dtype: AnyType, shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor that is to be opened for products.

    Raises:
        ConfigError: not float32, fewer than two axes, or empty.
        FormatError: as `matrix_of`.
    """
    if not is_type(dtype, "float32") or len(shape) < 2 or math.prod(shape) == 0:
        raise ConfigError(
            "a product with the coded form needs a float32 matrix",
            got=f"{dtype}, shape {shape}",
            allowed="float32, at least two axes, at least one value",
            remedy="decode it and multiply the dense tensor",
        )
    return matrix_of(shape)


def unsigned(most: int) -> Any:
    """The narrowest unsigned type that holds ``most``: 1, 2 or 4 bytes."""
    return np.uint8 if most < 1 << 8 else np.uint16 if most < 1 << 16 else np.uint32


def little(array: NDArray[Any]) -> bytes:
    """The bytes of an array, lowest first."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def counts_of(symbols: NDArray[np.uint16], k: int) -> NDArray[np.uint64]:
    """(k,) how often each symbol occurs."""
    counts = np.empty(k, np.uint64)
    _sparse.count(symbols, counts)
    return counts


def checked(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """What the kernel gives.

    Raises:
        FormatError: what it refuses, since all its arguments but the stream are known to be right.
    """
    try:
        return kernel(*arguments)
    except ValueError as error:
        raise FormatError(f"the payload is not one of its codec: {error}") from error


class Reader:
    """Reads a payload from its start; whatever is not there raises `FormatError`."""

    def __init__(self, payload: memoryview | bytes) -> None:
        self.view = memoryview(payload)
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes that have not been read."""
        return len(self.view) - self.at

    def varint(self, allowed: range) -> int:
        """A number of that range."""
        value, self.at = _palette.read_varint(self.view, self.at)
        if value not in allowed:
            raise FormatError("a number of the payload cannot be", got=value, allowed=f"{allowed}")
        return value

    def palette(self, dtype: AnyType) -> Palette:
        """A palette of that type."""
        palette, length = _palette.unpack(self.view[self.at :], dtype)
        self.at += length
        return palette

    def array(self, dtype: Any, count: int) -> NDArray[Any]:
        """(count,) numbers; on a little-endian machine a view of the payload."""
        size = np.dtype(dtype).itemsize * count
        if size > self.left:
            raise FormatError("the payload is too short", got=f"{self.left} bytes", allowed=f"{size} bytes")
        part = self.view[self.at : self.at + size]
        self.at += size
        return np.frombuffer(part, np.dtype(dtype).newbyteorder("<")).astype(dtype, copy=False)

    def rest(self) -> NDArray[np.uint8]:
        """All bytes that are left."""
        return self.array(np.uint8, self.left)

    def finish(self) -> None:
        """Checks that nothing is left."""
        if self.left:
            raise FormatError("bytes follow the end of the payload", got=self.left)


def need_values(palette: Palette, elements: int) -> None:
    """Checks that a tensor has values exactly where it has places.

    Raises:
        FormatError: a palette without values for a tensor with places, or the other way round.
    """
    if (len(palette) == 0) != (elements == 0):
        raise FormatError("the palette does not fit the shape", got=f"{len(palette)} values for {elements} places")


def row_bounds(rows: int, blocks: int) -> NDArray[np.int64]:
    """(blocks + 1,) where blocks of about equally many rows begin and end."""
    return np.arange(blocks + 1, dtype=np.int64) * rows // blocks


def multiply(
    product: Callable[[int, int, NDArray[np.float32], NDArray[np.float32]], None],
    bounds: NDArray[np.int64],
    columns: int,
    x: NDArray[np.float32],
    threads: int,
) -> NDArray[np.float32]:
    """W x, threads sharing the blocks of rows.

    Args:
        product: ``(first block, last block + 1, x, y)``; fills y (rows of those blocks, N).
        bounds: As `row_bounds` gives.
        x: (columns, N) float32, C-contiguous.

    Raises:
        ConfigError: x has another shape, type or order.
        FormatError: the stream breaks its codec's rules.
    """
    if x.dtype != np.float32 or x.ndim != 2 or x.shape[0] != columns or not x.flags.c_contiguous:
        raise ConfigError(
            "the other factor of a coded product has the wrong form",
            got=f"{x.dtype} {x.shape}",
            allowed=f"float32 ({columns}, N), C-contiguous",
        )
    y = np.empty((int(bounds[-1]), x.shape[1]), np.float32)
    if not y.size:
        return y
    blocks = len(bounds) - 1
    tasks = max(1, min(threads, blocks))
    cuts = [blocks * task // tasks for task in range(tasks + 1)]

    def part(first: int, last: int) -> Callable[[], None]:
        rows = slice(int(bounds[first]), int(bounds[last]))
        return lambda: checked(product, first, last, x, y[rows])

    run_all([part(first, last) for first, last in pairwise(cuts)], threads)
    return y
