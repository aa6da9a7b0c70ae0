"""A canonical Huffman code and its stream in blocks of rows: what the codecs ham and sham share.

Bytes: the code's packed lengths (``kernels/huffman.c``), the number of blocks (varint), the bytes of each block but the last
(varints), then the blocks. Rows are cut into blocks by their number alone (``_matrix.row_bounds``); each block begins with a whole
byte, so that threads begin with any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import _matrix
from netpress.codecs._palette import varint
from netpress.errors import FormatError
from netpress.kernels import _huffman

LONGEST = 24
BLOCK_BYTES = 4096
"""Of a stream, to each of which a block is granted: the offsets then cost less than a thousandth."""


@dataclass(frozen=True)
class Stream:
    """Symbols of consecutive rows, coded.

    Attributes:
        lengths: (k,) uint8, the bits of each symbol's word; 0: it never occurs; of an only symbol 1, which takes no bits.
        rows: (blocks + 1,) int64, the bounds of the blocks in rows.
        offsets: (blocks + 1,) int64, the bounds of the blocks in bytes of ``stream``.
        stream: uint8, the blocks.
    """

    lengths: NDArray[np.uint8]
    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]
    stream: NDArray[np.uint8]

    def pack(self) -> bytes:
        """The code, the sizes of the blocks, and the blocks."""
        sizes = np.diff(self.offsets).tolist()
        head = _huffman.pack_lengths(self.lengths) + varint(len(sizes)) + b"".join(varint(size) for size in sizes[:-1])
        return head + self.stream.tobytes()

    @property
    def extra_bytes(self) -> int:
        """What it keeps in memory besides the stream."""
        return self.lengths.nbytes + self.rows.nbytes + self.offsets.nbytes

    def shortest_bits(self) -> int:
        """The least that one symbol takes."""
        used = self.lengths[self.lengths > 0]
        return int(used.min()) if len(used) > 1 else 0

    def symbols(self, bounds: NDArray[np.int64]) -> NDArray[np.uint16]:
        """All symbols, where the blocks hold those between ``bounds`` (blocks + 1,).

        Raises:
            FormatError: the stream is too short for so many, or its blocks do not end where they should.
        """
        count = int(bounds[-1])
        if count * self.shortest_bits() > 8 * len(self.stream):
            raise FormatError("the stream is too short", got=f"{len(self.stream)} bytes", allowed=f"{count} symbols")
        symbols = np.empty(count, np.uint16)
        _matrix.checked(_huffman.decode, self.stream, self.lengths, bounds, np.diff(self.offsets), symbols)
        return symbols


def code_of(counts: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(k,) the lengths of an optimal code with words of at most ``LONGEST`` bits for symbols that occur so often."""
    lengths = np.zeros(len(counts), np.uint8)
    _huffman.lengths(counts, lengths, LONGEST)
    return lengths


def write(symbols: NDArray[np.uint16], k: int, rows: int, starts: NDArray[np.int64] | int) -> Stream:
    """Codes the symbols of a matrix.

    Args:
        symbols: (n,) below ``k``, at least one.
        rows: Of the matrix.
        starts: (rows + 1,) where the symbols of each row begin, or how many each row has.
    """
    counts = _matrix.counts_of(symbols, k)
    lengths = code_of(counts)
    bits = int((counts * lengths).sum()) if int((lengths > 0).sum()) > 1 else 0
    blocks = max(1, min(_matrix.MOST_BLOCKS, rows, bits // 8 // BLOCK_BYTES))
    bounds = _matrix.row_bounds(rows, blocks)
    places = bounds * starts if isinstance(starts, int) else starts[bounds]
    out, sizes = np.empty(bits // 8 + blocks + 8, np.uint8), np.empty(blocks, np.int64)
    wrote = _huffman.encode(symbols, lengths, places, out, sizes)
    return Stream(lengths, bounds, _offsets(sizes), out[:wrote])


def read(reader: _matrix.Reader, k: int, rows: int) -> Stream:
    """What `Stream.pack` wrote, up to the end of the payload; the blocks themselves are left to the decoders.

    Raises:
        FormatError: the lengths are no code, or the blocks do not fit the payload.
    """
    lengths = np.empty(k, np.uint8)
    reader.at += _matrix.checked(_huffman.unpack_lengths, reader.view[reader.at :], lengths)
    blocks = reader.varint(range(1, min(_matrix.MOST_BLOCKS, rows) + 1))
    sizes = [reader.varint(range(reader.left + 1)) for _ in range(blocks - 1)]
    stream: NDArray[Any] = reader.rest()
    last = len(stream) - sum(sizes)
    if last < 0:
        raise FormatError("the blocks are longer than the payload", got=sum(sizes), allowed=len(stream))
    return Stream(lengths, _matrix.row_bounds(rows, blocks), _offsets(np.array([*sizes, last], np.int64)), stream)


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
