"""All entries as one canonical Huffman stream, zeros included: the Huffman address map (Marino, Petrini, Malchiodi and Frasca,
Neurocomputing 520 (2023), section 4).

The stream follows our rows, which are the paper's columns. It costs between H0 and H0 + 1 bits an entry, at least one, where the
tensor has more than one value. Bytes: the palette; then, unless it has fewer than two values, the stream (``_huffman``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import _huffman, _matrix, _palette
from netpress.codecs._palette import Palette
from netpress.codecs._tensors import AnyType, Tensor, tensor_of, values_at
from netpress.kernels import _huffman_product

CODE = 4


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
    if len(palette) < 2:
        return _palette.pack(palette)
    return _palette.pack(palette) + _huffman.write(symbols, len(palette), rows, columns).pack()


def decode(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The tensor of ``shape`` that `encode` stored.

    Raises:
        FormatError: the payload is not one that `encode` writes.
    """
    rows, columns = _matrix.matrix_of(shape)
    palette, stream = _parse(_matrix.Reader(payload), dtype, rows, columns)
    if stream is None:
        return tensor_of(np.repeat(palette.patterns, rows * columns), dtype, shape)
    return tensor_of(values_at(palette.patterns, stream.symbols(stream.rows * columns)), dtype, shape)


def open(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> HuffmanRows:
    """The payload made ready for products.

    Raises:
        ConfigError: not a float32 matrix.
        FormatError: the payload is not one that `encode` writes.
    """
    rows, columns = _matrix.product_shape(dtype, shape)
    palette, stream = _parse(_matrix.Reader(payload), dtype, rows, columns)
    zero = palette.origin if palette.has_zero else -1
    return HuffmanRows(rows, columns, len(payload), palette.values(), zero, stream)


@dataclass(frozen=True)
class HuffmanRows:
    """An opened payload; see ``netpress.codecs.Coded``. ``stream`` is None where there is one value alone."""

    rows: int
    columns: int
    payload_bytes: int
    values: NDArray[np.float32]
    zero: int
    stream: _huffman.Stream | None

    @property
    def memory_bytes(self) -> int:
        """The payload, the code and the palette's values."""
        return self.payload_bytes + self.values.nbytes + (self.stream.extra_bytes if self.stream else 0)

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """W x: (columns, N) float32 to (rows, N)."""
        stream = self.stream

        def product(first: int, last: int, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
            if stream is None:
                y[:] = self.values[0] * x.sum(0, dtype=np.float64)
                return
            blocks = slice(first, last + 1)
            _huffman_product.ham(
                stream.stream,
                stream.lengths,
                self.values,
                stream.rows[blocks],
                stream.offsets[blocks],
                self.columns,
                x.shape[1],
                self.zero,
                x,
                y,
            )

        bounds = _matrix.row_bounds(self.rows, 1) if stream is None else stream.rows
        return _matrix.multiply(product, bounds, self.columns, x, threads)


def _parse(reader: _matrix.Reader, dtype: AnyType, rows: int, columns: int) -> tuple[Palette, _huffman.Stream | None]:
    palette = reader.palette(dtype)
    _matrix.need_values(palette, rows * columns)
    if len(palette) < 2:
        reader.finish()
        return palette, None
    return palette, _huffman.read(reader, len(palette), rows)
