"""The nonzeros of a matrix, row by row: how many, and in which columns; what the codecs csc and sham share.

"Zero" is the value of all zero bits; -0.0 is a nonzero.

Bytes, with the widths that the codec's head gives: nonzeros of each row (1, 2 or 4 bytes each), column of each nonzero (the
narrowest type that holds ``columns - 1``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import _matrix
from netpress.codecs._palette import Palette
from netpress.errors import FormatError
from netpress.kernels import _sparse

WIDTHS = (1, 2, 4)


@dataclass(frozen=True)
class Nonzeros:
    """Where the nonzeros of a matrix (rows, columns) stand.

    Attributes:
        counts: (rows,) unsigned, the nonzeros of each row.
        indices: (nonzeros,) unsigned, their columns, ascending within each row.
        columns: Of the matrix.
    """

    counts: NDArray[Any]
    indices: NDArray[Any]
    columns: int

    def pack(self) -> bytes:
        """Counts and indices."""
        return _matrix.little(self.counts) + _matrix.little(self.indices)

    def starts(self, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
        """(blocks,) the first nonzero of each block of rows."""
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts, dtype=np.int64)])
        return before[bounds[:-1]]

    def merge(self, kept: NDArray[Any], places: int) -> NDArray[Any]:
        """(places,) zeros with the kept items among them.

        Raises:
            FormatError: counts that do not add up, or columns that do not ascend or are beyond the matrix.
        """
        whole = np.zeros(places, kept.dtype)
        if places:
            counts = self.counts.astype(np.uint32)
            size, kept_size = self.indices.dtype.itemsize, kept.dtype.itemsize
            _matrix.checked(_sparse.merge, counts, self.indices, size, kept, kept_size, self.columns, whole)
        return whole


def split(items: NDArray[Any], zero: int | None, rows: int, columns: int) -> tuple[Nonzeros, NDArray[Any]]:
    """The nonzeros of (rows * columns,) items and their items; ``zero`` None: none is zero."""
    found = len(items) if zero is None else int(np.count_nonzero(items != items.dtype.type(zero)))
    index_type = _matrix.unsigned(max(columns, 1) - 1)
    counts, indices = np.zeros(rows, np.uint32), np.empty(found, index_type)
    if zero is None:
        counts[:] = columns
        indices[:] = np.tile(np.arange(columns, dtype=index_type), rows)
        kept = items
    else:
        kept = np.empty(found, items.dtype)
        if len(items):
            _sparse.split(items, items.itemsize, zero, columns, counts, indices, indices.itemsize, kept)
    return Nonzeros(counts.astype(_matrix.unsigned(int(counts.max(initial=0)))), indices, columns), kept


def read(reader: _matrix.Reader, width: int, rows: int, columns: int) -> Nonzeros:
    """What `Nonzeros.pack` wrote; the order of the columns is left to `Nonzeros.merge` and to the products.

    Raises:
        FormatError: the payload is too short, or the width is not the narrowest.
    """
    if rows * width > reader.left:
        raise FormatError("the payload is too short for its rows", got=f"{reader.left} bytes", allowed=rows * width)
    counts = reader.array({1: np.uint8, 2: np.uint16, 4: np.uint32}[width], rows)
    most = int(counts.max(initial=0))
    if np.dtype(_matrix.unsigned(most)).itemsize != width or most > columns:
        raise FormatError(
            "the nonzeros of a row cannot be so many", got=most, allowed=f"{columns}, in the narrowest type"
        )
    found = int(counts.sum(dtype=np.int64))
    return Nonzeros(counts, reader.array(_matrix.unsigned(max(columns, 1) - 1), found), columns)


def alphabet(palette: Palette) -> NDArray[Any]:
    """(k or k - 1,) the patterns of the palette without zero: what a nonzero can be."""
    return np.delete(palette.patterns, palette.origin) if palette.has_zero else palette.patterns


def numbered(symbols: NDArray[np.uint16], palette: Palette) -> NDArray[np.uint16]:
    """The symbols of nonzeros as numbers in `alphabet`."""
    return symbols - (symbols > palette.origin) if palette.has_zero else symbols
