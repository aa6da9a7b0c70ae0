"""Nonzeros beside their columns: compressed sparse rows (the paper's CSC, which it makes of the transposed matrix).

Costs a column index and a value a nonzero, and a count a row. Values are written through a palette where that is shorter; a
single nonzero value takes no bytes but its palette's. For tensors with any number of distinct values.

Bytes: a head (bits 0-1: 0 raw values, 1 palette; bits 2-3: 0, 1, 2 for counts of 1, 2, 4 bytes), the palette (form 1), counts and
indices (``_nonzeros``), and the values: raw patterns, or numbers among the palette's nonzeros, of 0, 1 or 2 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import _matrix, _nonzeros, _palette
from netpress.codecs._nonzeros import WIDTHS, Nonzeros
from netpress.codecs._tensors import AnyType, Tensor, is_type, patterns_of, tensor_of
from netpress.errors import FormatError
from netpress.kernels import _sparse

CODE = 1
FAST = True
RAW, SHARED = 0, 1


def accepts(tensor: Tensor) -> bool:
    """Whether it is an ordinary tensor of a type that ``dense`` stores."""
    return _matrix.accepts(tensor)


def encode(tensor: Tensor) -> bytes:
    """The payload; see above."""
    rows, columns = _matrix.matrix_of(tuple(tensor.shape))
    found = _palette.symbols_of(tensor)
    if found is not None:
        palette, symbols = found
        table, known = _palette.pack(palette), len(_nonzeros.alphabet(palette))
        zeros = int(np.count_nonzero(symbols == palette.origin)) if palette.has_zero else 0
        saved = (len(symbols) - zeros) * (tensor.dtype.itemsize - _number_size(known))
        if len(table) < saved:
            zero = palette.origin if palette.has_zero else None
            places, kept = _nonzeros.split(symbols, zero, rows, columns)
            numbers = _nonzeros.numbered(kept, palette)
            values = _matrix.little(numbers.astype(_matrix.unsigned(known - 1))) if known > 1 else b""
            return _head(SHARED, places) + table + places.pack() + values
    places, kept = _nonzeros.split(patterns_of(tensor), 0, rows, columns)
    return _head(RAW, places) + places.pack() + _matrix.little(kept)


def decode(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The tensor of ``shape`` that `encode` stored.

    Raises:
        FormatError: the payload is not one that `encode` writes.
    """
    rows, columns = _matrix.matrix_of(shape)
    places, numbers, alphabet = _parse(_matrix.Reader(payload), dtype, rows, columns)
    if alphabet is None:
        kept = numbers
        allowed = 1 if is_type(dtype, "bool") else None
        if len(kept) and (int(kept.min()) == 0 or (allowed and int(kept.max()) > allowed)):
            raise FormatError("a nonzero's value is none", got=f"{kept.min()} to {kept.max()}")
    else:
        if len(numbers) and int(numbers.max()) >= len(alphabet):
            raise FormatError("a number lies beyond the palette", got=int(numbers.max()), allowed=len(alphabet) - 1)
        kept = alphabet[numbers]
    return tensor_of(places.merge(kept, rows * columns), dtype, shape)


def open(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> SparseRows:
    """The payload made ready for products.

    Raises:
        ConfigError: not a float32 matrix.
        FormatError: the payload is not one that `encode` writes.
    """
    rows, columns = _matrix.product_shape(dtype, shape)
    places, numbers, alphabet = _parse(_matrix.Reader(payload), dtype, rows, columns)
    bounds = _matrix.row_bounds(rows, min(rows, _matrix.MOST_BLOCKS))
    if alphabet is None:
        values, size = np.empty(0, np.float32), 0
    else:
        values, size = alphabet.view(np.float32), numbers.itemsize
    return SparseRows(rows, columns, len(payload), places, numbers, size, values, bounds, places.starts(bounds))


@dataclass(frozen=True)
class SparseRows:
    """An opened payload; see ``netpress.codecs.Coded``."""

    rows: int
    columns: int
    payload_bytes: int
    places: Nonzeros
    numbers: NDArray[Any]
    number_size: int
    values: NDArray[np.float32]
    bounds: NDArray[np.int64]
    starts: NDArray[np.int64]

    @property
    def memory_bytes(self) -> int:
        """The payload, the palette's values and where blocks of rows begin."""
        implied = self.numbers.nbytes if len(self.values) == 1 else 0
        return self.payload_bytes + self.values.nbytes + self.bounds.nbytes + self.starts.nbytes + implied

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """W x: (columns, N) float32 to (rows, N)."""

        def product(first: int, last: int, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
            counts = self.places.counts[self.bounds[first] : self.bounds[last]].astype(np.uint32)
            _sparse.product(
                counts,
                int(self.starts[first]),
                self.places.indices,
                self.places.indices.itemsize,
                self.numbers,
                self.number_size,
                self.values,
                self.columns,
                x.shape[1],
                x,
                y,
            )

        return _matrix.multiply(product, self.bounds, self.columns, x, threads)


def _number_size(known: int) -> int:
    return 0 if known < 2 else int(np.dtype(_matrix.unsigned(known - 1)).itemsize)


def _head(form: int, places: Nonzeros) -> bytes:
    return bytes([form | WIDTHS.index(places.counts.itemsize) << 2])


def _parse(
    reader: _matrix.Reader, dtype: AnyType, rows: int, columns: int
) -> tuple[Nonzeros, NDArray[Any], NDArray[Any] | None]:
    """Places, values, and the patterns they number; None: the values are patterns themselves."""
    head = reader.varint(range(12))
    form, width = head & 3, WIDTHS[head >> 2]
    if form not in (RAW, SHARED):
        raise FormatError("an unknown form of values", got=form, allowed="0 or 1")
    palette = reader.palette(dtype) if form == SHARED else None
    places = _nonzeros.read(reader, width, rows, columns)
    found = len(places.indices)
    if palette is None:
        numbers = reader.array({1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[dtype.itemsize], found)
        reader.finish()
        return places, numbers, None
    alphabet = _nonzeros.alphabet(palette)
    if found and not len(alphabet):
        raise FormatError("there are nonzeros, but the palette has none", got=found)
    size = _number_size(len(alphabet))
    numbers = reader.array(_matrix.unsigned(len(alphabet) - 1), found) if size else np.zeros(found, np.uint8)
    reader.finish()
    return places, numbers, alphabet
