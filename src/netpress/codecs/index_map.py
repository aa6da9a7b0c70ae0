"""A palette and a matrix of indices into it, each in ceil(log2 k) bits (the paper's IM, which takes whole bytes).

One value alone takes no bits. Bytes: the palette; then the indices in row-major order, the first in the lowest bits of the first
byte, without gaps between rows; the last byte's unused bits are 0.
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
from netpress.kernels import _index_map

CODE = 2


def accepts(tensor: Tensor) -> bool:
    """Whether it is an ordinary tensor with at most 65,536 distinct values."""
    return _matrix.accepts_shared(tensor)


def encode(tensor: Tensor) -> bytes:
    """The payload; see above.

    Raises:
        ConfigError: more than 65,536 distinct values.
    """
    palette, symbols = _matrix.shared(tensor)
    width = _width(palette)
    packed = np.empty((len(symbols) * width + 7) // 8, np.uint8)
    if width:
        _index_map.pack(symbols, width, packed)
    return _palette.pack(palette) + packed.tobytes()


def decode(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The tensor of ``shape`` that `encode` stored.

    Raises:
        FormatError: the payload is not one that `encode` writes.
    """
    rows, columns = _matrix.matrix_of(shape)
    palette, width, packed = _parse(_matrix.Reader(payload), dtype, rows * columns)
    if not width:
        return tensor_of(np.repeat(palette.patterns, rows * columns), dtype, shape)
    symbols = np.empty(rows * columns, np.uint16)
    _matrix.checked(_index_map.unpack, packed, width, len(palette), symbols)
    return tensor_of(values_at(palette.patterns, symbols), dtype, shape)


def open(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> IndexMap:
    """The payload made ready for products.

    Raises:
        ConfigError: not a float32 matrix.
        FormatError: the payload is not one that `encode` writes.
    """
    rows, columns = _matrix.product_shape(dtype, shape)
    palette, width, packed = _parse(_matrix.Reader(payload), dtype, rows * columns)
    bounds = _matrix.row_bounds(rows, min(rows, _matrix.MOST_BLOCKS))
    return IndexMap(rows, columns, len(payload), width, palette.values(), packed, bounds)


@dataclass(frozen=True)
class IndexMap:
    """An opened payload; see ``netpress.codecs.Coded``."""

    rows: int
    columns: int
    payload_bytes: int
    width: int
    values: NDArray[np.float32]
    packed: NDArray[np.uint8]
    bounds: NDArray[np.int64]

    @property
    def memory_bytes(self) -> int:
        """The payload and the palette's values."""
        return self.payload_bytes + self.values.nbytes + self.bounds.nbytes

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """W x: (columns, N) float32 to (rows, N)."""

        def product(first: int, last: int, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
            if not self.width:
                with np.errstate(over="ignore", invalid="ignore"):  # infinite weights give what a dense product gives
                    y[:] = self.values[0] * x.sum(0, dtype=np.float64)
                return
            row = int(self.bounds[first])
            _index_map.product(
                self.packed, self.width, self.values, row, len(y), self.rows, self.columns, x.shape[1], x, y
            )

        return _matrix.multiply(product, self.bounds, self.columns, x, threads)


def _width(palette: Palette) -> int:
    return max(0, len(palette) - 1).bit_length()


def _parse(reader: _matrix.Reader, dtype: AnyType, elements: int) -> tuple[Palette, int, NDArray[np.uint8]]:
    palette = reader.palette(dtype)
    _matrix.need_values(palette, elements)
    width, packed = _width(palette), reader.rest()
    if len(packed) != (elements * width + 7) // 8:
        raise FormatError(
            "the index matrix has another length", got=f"{len(packed)} bytes", allowed=(elements * width + 7) // 8
        )
    return palette, width, packed
