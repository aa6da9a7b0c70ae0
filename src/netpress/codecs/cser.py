"""Entries grouped by value within each row: compressed shared elements rows (Wiedemann, Mueller and Samek 2018,
"Compact and computationally efficient representation of deep neural networks", arXiv 1805.10692, section III).

The most frequent value of the matrix is implicit. A product takes one multiplication a group: the columns' entries of x are
summed first. Costs a column index for each entry that is not implicit, and a value and a size for each group.

Bytes: the palette; the number of the implicit value (varint); a head (bits 0-1, 2-3, 4-5: 0, 1, 2 for 1, 2, 4 bytes of a row's
groups, of a group's size, of its value's number); groups of each row; the number of each group's value, ascending within a row;
the size of each group; the columns of each group's entries, ascending, in the narrowest type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import _matrix, _palette
from netpress.codecs._palette import Palette
from netpress.codecs._tensors import AnyType, Tensor, tensor_of, values_at
from netpress.errors import FormatError
from netpress.kernels import _shared_rows

CODE = 3
_TYPES: tuple[Any, ...] = (np.uint8, np.uint16, np.uint32)


def accepts(tensor: Tensor) -> bool:
    """Whether it is an ordinary tensor with at most 65,536 distinct values."""
    return _matrix.accepts_shared(tensor)


def encode(tensor: Tensor) -> bytes:
    """The payload; see above.

    Raises:
        ConfigError: more than 65,536 distinct values.
    """
    rows, columns = _matrix.matrix_of(tuple(tensor.shape))
    palette, symbols = _matrix.shared(tensor)
    if not len(symbols):
        return _palette.pack(palette)
    counts = _matrix.counts_of(symbols, len(palette))
    implicit = int(counts.argmax())
    entries = len(symbols) - int(counts[implicit])
    groups = np.empty(rows, np.uint32)
    numbers, sizes = np.empty(entries, np.uint16), np.empty(entries, np.uint32)
    indices = np.empty(entries, np.uint32)
    found = _shared_rows.group(symbols, columns, len(palette), implicit, groups, numbers, sizes, indices)
    parts: tuple[NDArray[Any], ...] = (groups, numbers[:found], sizes[:found])
    narrow = [part.astype(_matrix.unsigned(int(part.max(initial=0)))) for part in parts]
    head = sum(_TYPES.index(part.dtype.type) << 2 * place for place, part in enumerate(narrow))
    narrow.append(indices.astype(_matrix.unsigned(columns - 1)))
    start = _palette.pack(palette) + _palette.varint(implicit) + bytes([head])
    return start + b"".join(_matrix.little(part) for part in narrow)


def decode(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The tensor of ``shape`` that `encode` stored.

    Raises:
        FormatError: the payload is not one that `encode` writes.
    """
    rows, columns = _matrix.matrix_of(shape)
    palette, implicit, parts = _parse(_matrix.Reader(payload), dtype, rows, columns)
    symbols = np.empty(rows * columns, np.uint16)
    if len(symbols):
        groups, numbers, sizes, indices = parts
        _matrix.checked(
            _shared_rows.ungroup,
            groups.astype(np.uint32),
            numbers,
            numbers.itemsize,
            sizes,
            sizes.itemsize,
            indices,
            indices.itemsize,
            columns,
            len(palette),
            implicit,
            symbols,
        )
    return tensor_of(values_at(palette.patterns, symbols), dtype, shape)


def open(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> SharedRows:
    """The payload made ready for products.

    Raises:
        ConfigError: not a float32 matrix.
        FormatError: the payload is not one that `encode` writes.
    """
    rows, columns = _matrix.product_shape(dtype, shape)
    palette, implicit, (groups, numbers, sizes, indices) = _parse(_matrix.Reader(payload), dtype, rows, columns)
    bounds = _matrix.row_bounds(rows, min(rows, _matrix.MOST_BLOCKS))
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(groups, dtype=np.int64)])
    first_groups = before[bounds]
    first_entries = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])[first_groups]
    return SharedRows(
        rows,
        columns,
        len(payload),
        palette.values(),
        implicit,
        groups,
        numbers,
        sizes,
        indices,
        bounds,
        first_groups,
        first_entries,
    )


@dataclass(frozen=True)
class SharedRows:
    """An opened payload; see ``netpress.codecs.Coded``."""

    rows: int
    columns: int
    payload_bytes: int
    values: NDArray[np.float32]
    implicit: int
    groups: NDArray[Any]
    numbers: NDArray[Any]
    sizes: NDArray[Any]
    indices: NDArray[Any]
    bounds: NDArray[np.int64]
    first_groups: NDArray[np.int64]
    first_entries: NDArray[np.int64]

    @property
    def memory_bytes(self) -> int:
        """The payload, the palette's values and where blocks of rows begin."""
        return self.payload_bytes + self.values.nbytes + 3 * self.bounds.nbytes

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """W x: (columns, N) float32 to (rows, N)."""
        totals: NDArray[np.float64] | None = None

        def product(first: int, last: int, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
            # Views of this block's groups and entries alone, so that the kernel's checks do not read the whole payload.
            own_groups = slice(int(self.first_groups[first]), int(self.first_groups[last]))
            own_entries = slice(int(self.first_entries[first]), int(self.first_entries[last]))
            _shared_rows.product(
                self.groups[self.bounds[first] : self.bounds[last]].astype(np.uint32),
                0,
                0,
                self.numbers[own_groups],
                self.numbers.itemsize,
                self.sizes[own_groups],
                self.sizes.itemsize,
                self.indices[own_entries],
                self.indices.itemsize,
                self.values,
                self.implicit,
                self.columns,
                x.shape[1],
                totals,
                x,
                y,
            )

        if x.ndim == 2:
            plain = self.values[self.implicit] == 0  # then no column counts but those of the groups
            totals = np.zeros(x.shape[1]) if plain else x.sum(0, dtype=np.float64)
        return _matrix.multiply(product, self.bounds, self.columns, x, threads)


def _parse(
    reader: _matrix.Reader, dtype: AnyType, rows: int, columns: int
) -> tuple[Palette, int, tuple[NDArray[Any], ...]]:
    """The palette, the implicit number, and groups, numbers, sizes, indices; what they hold is left to the kernels."""
    palette = reader.palette(dtype)
    _matrix.need_values(palette, rows * columns)
    if not rows * columns:
        reader.finish()
        return palette, 0, ()
    implicit = reader.varint(range(len(palette)))
    head = int(reader.array(np.uint8, 1)[0])
    widths = [head >> 2 * place & 3 for place in range(3)]
    if head >> 6 or max(widths) > 2:
        raise FormatError("a head that cannot be", got=head)
    groups = reader.array(_TYPES[widths[0]], rows)
    found = int(groups.sum(dtype=np.int64))
    numbers = reader.array(_TYPES[widths[1]], found)
    sizes = reader.array(_TYPES[widths[2]], found)
    indices = reader.array(_matrix.unsigned(columns - 1), int(sizes.sum(dtype=np.int64)))
    reader.finish()
    for part, width in zip((groups, numbers, sizes), widths, strict=True):
        if _matrix.unsigned(int(part.max(initial=0))) is not _TYPES[width]:
            raise FormatError("numbers are not in the narrowest type", got=int(part.max(initial=0)), allowed=part.dtype)
    return palette, implicit, (groups, numbers, sizes, indices)
