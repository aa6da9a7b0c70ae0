"""The nonzeros as a canonical Huffman stream, beside their columns: the sparse Huffman address map (Marino, Petrini, Malchiodi
and Frasca, Neurocomputing 520 (2023), section 4).

Costs a column index (in the narrowest type) and about the entropy of the nonzero values for each nonzero, and a count a row.

Bytes: the palette; the width of the counts (0, 1, 2 for 1, 2, 4 bytes); counts and indices (``_nonzeros``); then, unless there is no
nonzero, the stream of the nonzeros' numbers among the palette's nonzeros (``_huffman``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import _huffman, _matrix, _nonzeros, _palette
from netpress.codecs._nonzeros import WIDTHS, Nonzeros
from netpress.codecs._tensors import AnyType, Tensor, tensor_of
from netpress.errors import FormatError
from netpress.kernels import _huffman_product

CODE = 5


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
    places, kept = _nonzeros.split(symbols, palette.origin if palette.has_zero else None, rows, columns)
    head = _palette.pack(palette) + bytes([WIDTHS.index(places.counts.itemsize)]) + places.pack()
    if not len(kept):
        return head
    starts = places.starts(np.arange(rows + 2, dtype=np.int64))  # of each row, and where the last one ends
    known = len(_nonzeros.alphabet(palette))
    return head + _huffman.write(_nonzeros.numbered(kept, palette), known, rows, starts).pack()


def decode(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The tensor of ``shape`` that `encode` stored.

    Raises:
        FormatError: the payload is not one that `encode` writes.
    """
    rows, columns = _matrix.matrix_of(shape)
    places, alphabet, stream = _parse(_matrix.Reader(payload), dtype, rows, columns)
    kept = alphabet[:0]
    if stream is not None:
        starts = places.starts(np.arange(rows + 2, dtype=np.int64))
        kept = alphabet[stream.symbols(starts[stream.rows])]
    return tensor_of(places.merge(kept, rows * columns), dtype, shape)


def open(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> SparseHuffmanRows:
    """The payload made ready for products.

    Raises:
        ConfigError: not a float32 matrix.
        FormatError: the payload is not one that `encode` writes.
    """
    rows, columns = _matrix.product_shape(dtype, shape)
    places, alphabet, stream = _parse(_matrix.Reader(payload), dtype, rows, columns)
    starts = np.empty(0, np.int64) if stream is None else places.starts(stream.rows)
    return SparseHuffmanRows(rows, columns, len(payload), places, alphabet.view(np.float32), stream, starts)


@dataclass(frozen=True)
class SparseHuffmanRows:
    """An opened payload; see ``netpress.codecs.Coded``. ``stream`` is None where there is no nonzero."""

    rows: int
    columns: int
    payload_bytes: int
    places: Nonzeros
    values: NDArray[np.float32]
    stream: _huffman.Stream | None
    starts: NDArray[np.int64]

    @property
    def memory_bytes(self) -> int:
        """The payload, the code, the palette's values and where blocks of rows begin."""
        code = self.stream.extra_bytes if self.stream else 0
        return self.payload_bytes + self.values.nbytes + self.starts.nbytes + code

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """W x: (columns, N) float32 to (rows, N)."""
        stream, indices = self.stream, self.places.indices

        def product(first: int, last: int, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
            if stream is None:
                y[:] = 0
                return
            blocks = slice(first, last + 1)
            _huffman_product.sham(
                stream.stream,
                stream.lengths,
                self.values,
                stream.rows[blocks],
                stream.offsets[blocks],
                self.places.counts[stream.rows[first] : stream.rows[last]].astype(np.uint32),
                self.starts[first:last],
                indices,
                indices.itemsize,
                self.columns,
                x.shape[1],
                x,
                y,
            )

        bounds = _matrix.row_bounds(self.rows, 1) if stream is None else stream.rows
        return _matrix.multiply(product, bounds, self.columns, x, threads)


def _parse(
    reader: _matrix.Reader, dtype: AnyType, rows: int, columns: int
) -> tuple[Nonzeros, NDArray[Any], _huffman.Stream | None]:
    palette = reader.palette(dtype)
    _matrix.need_values(palette, rows * columns)
    places = _nonzeros.read(reader, WIDTHS[reader.varint(range(len(WIDTHS)))], rows, columns)
    alphabet = _nonzeros.alphabet(palette)
    if not len(places.indices):
        reader.finish()
        return places, alphabet[:0], None
    if not len(alphabet):
        raise FormatError("there are nonzeros, but the palette has none", got=len(places.indices))
    return places, alphabet, _huffman.read(reader, len(alphabet), rows)
