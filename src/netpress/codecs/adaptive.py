"""The smallest file: levels through a context-mixing arithmetic coder (`netpress.kernels.adaptive`).

Bytes: the palette (see `_palette`); then, unless one value or none makes the whole tensor, one byte of options, for bit 5 of it a
varint, and the stream:

- bit 0: lines are columns of the matrix, not rows;
- bit 1: columns of zeros alone are flagged; bit 2: lines are;
- bits 3 and 4: which learning rates;
- bit 5: a varint of 2 or more follows, how many columns make a group (see `adaptive.scan_of`; else: the kernel places);
- bits 6 and 7: zero.

The stream is the shortest that says the same; zero bytes fill the payload up to a byte for every 16,384 levels, so that a short
payload cannot ask for a long decoding. The encoder tries scans and rates and keeps the shortest. Decoding is sequential: a product
decodes group by group of lines into a small dense block, in every call anew, and never holds the whole matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import _palette
from netpress.codecs._palette import Palette
from netpress.codecs._tensors import AnyType, Tensor, is_plain, is_type
from netpress.dtypes import type_of
from netpress.errors import ConfigError, FormatError
from netpress.kernels import adaptive
from netpress.kernels.adaptive import Reader, Scan

CODE = 8

LEVELS_A_BYTE = 16384
BLOCK = 1 << 16
"""Levels that a product holds decoded at a time."""


def accepts(tensor: Tensor) -> bool:
    """Whether it is an ordinary (strided) tensor of at most 65,536 distinct values."""
    return is_plain(tensor) and (tensor.numel() <= _palette.MOST_VALUES or _palette.symbols_of(tensor) is not None)


def encode(tensor: Tensor) -> bytes:
    """The payload of ``tensor``, any shape and device.

    Raises:
        ConfigError: more than 65,536 distinct values.
    """
    found = _palette.symbols_of(tensor)
    if found is None:
        raise ConfigError(
            "the adaptive codec stores few values", got="more", allowed=f"{_palette.MOST_VALUES} distinct"
        )
    palette, symbols = found
    head = _palette.pack(palette)
    body = b""
    if len(palette) > 1:
        body = _shortest(symbols, tuple(tensor.shape), *_range(palette))
    return _padded(head + body, tensor.numel())


def decode(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The tensor that `encode` stored.

    Raises:
        FormatError: the payload is none that `encode` could have written for this type and shape.
    """
    palette, scan, stream = _parse(payload, dtype, shape)
    symbols = np.zeros(math.prod(shape), np.uint16)
    if scan is not None:
        try:
            Reader(stream, scan, *_range(palette)).read(symbols, scan.rows)
        except ValueError as error:
            raise FormatError(
                f"an adaptive payload of {dtype} {list(shape)} cannot be decoded", got=str(error)
            ) from error
    return palette.tensor(symbols, shape)


@dataclass(frozen=True)
class AdaptiveCoded:
    """A float32 matrix that stays a stream; see `netpress.codecs.Coded`."""

    rows: int
    columns: int
    payload: memoryview
    palette: Palette
    scan: Scan | None
    stream: memoryview

    @property
    def memory_bytes(self) -> int:
        """The payload, the values, and what one product takes while it runs: the model and a decoded block."""
        held = len(self.payload) + 2 * self.palette.patterns.nbytes
        if self.scan is None:
            return held
        block = self._lines * self.scan.columns
        return held + adaptive.reader_bytes(self.scan, *_range(self.palette)) + block * (2 + 4)

    @property
    def _lines(self) -> int:
        return 1 if self.scan is None else max(1, min(self.scan.rows, BLOCK // self.scan.columns))

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """W x, (columns, N) to (rows, N), decoding as it goes; one stream is one thread's work, whatever ``threads`` says.

        Raises:
            FormatError: the stream is not one that `encode` writes.
        """
        values = self.palette.values()
        product = np.zeros((self.rows, x.shape[1]), np.float32)
        scan = self.scan
        if scan is None:
            if self.columns and len(values):
                product += values[0] * x.sum(0, dtype=np.float32)
            return product
        try:
            reader = Reader(self.stream, scan, *_range(self.palette))
            for first in range(0, scan.rows, self._lines):
                lines = min(self._lines, scan.rows - first)
                symbols = np.empty(lines * scan.columns, np.uint16)
                reader.read(symbols, lines)
                if scan.transposed:
                    product += values[symbols.reshape(self.rows, lines)] @ x[first : first + lines]
                else:
                    product[first : first + lines] = values[symbols.reshape(lines, self.columns)] @ x
        except ValueError as error:
            raise FormatError("an adaptive stream cannot be decoded", got=str(error)) from error
        return product


def open(payload: memoryview, dtype: AnyType, shape: tuple[int, ...]) -> AdaptiveCoded:
    """The payload made ready for products; ``payload`` is kept, not copied.

    Raises:
        FormatError: the payload's head is wrong, or the tensor is not float32.
    """
    if not is_type(dtype, "float32"):
        raise FormatError("only float32 multiplies in its coded form", got=dtype, allowed="float32")
    view = memoryview(payload)
    palette, scan, stream = _parse(view, dtype, shape)
    rows = shape[0] if len(shape) > 1 else 1
    columns = math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)
    return AdaptiveCoded(rows, columns, view, palette, scan, stream)


def takes_more(symbols: NDArray[np.uint16], palette: Palette, most: int) -> bool:
    """Whether the stream of these symbols, some of a tensor's, is longer than so many bytes."""
    return adaptive.encode(symbols, adaptive.scan_of(symbols.shape), *_range(palette), most) is None


def _range(palette: Palette) -> tuple[int, int]:
    """Least and greatest level: zero is among them, even where no value is zero."""
    low = -min(palette.origin, len(palette) - 1)
    return low, len(palette) - 1 + low


def _padded(payload: bytes, levels: int) -> bytes:
    return payload + bytes(max(0, -(-levels // LEVELS_A_BYTE) - len(payload)))


def _parse(
    payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]
) -> tuple[Palette, Scan | None, memoryview]:
    """Palette, scan and stream; no scan where all places hold one value."""
    view = memoryview(payload)
    levels = math.prod(shape)
    least = -(-levels // LEVELS_A_BYTE)
    if len(view) < least:
        raise FormatError(
            f"an adaptive payload of {dtype} {list(shape)} is too short",
            got=f"{len(view)} bytes",
            allowed=f"{least} or more",
        )
    if type_of(dtype) is None:
        raise FormatError("an adaptive payload has a type that the codec does not store", got=dtype)
    palette, at = _palette.unpack(view, dtype)
    if not levels or len(palette) < 2:
        if bool(levels) != bool(len(palette)):
            raise FormatError(
                "an adaptive payload has another number of values", got=len(palette), allowed="as the shape"
            )
        if len(view) != max(at, least) or any(view[at:]):
            raise FormatError(
                "an adaptive payload goes on behind its end", got=f"{len(view)} bytes", allowed=max(at, least)
            )
        return palette, None, view[at:at]
    if at == len(view):
        raise FormatError("an adaptive payload has no options", got=f"{at} bytes")
    options, at = view[at], at + 1
    period = None
    if options & 32:
        period, at = _palette.read_varint(view, at)
    scan = adaptive.scan_of(
        shape, transposed=bool(options & 1), flags=options >> 1 & 3, profile=options >> 3 & 3, period=period
    )
    group = max(scan.period, scan.row_period)
    if options > 63 or (period is not None and not 2 <= period <= (scan.rows if scan.transposed else scan.columns)):
        raise FormatError("an adaptive payload has options that cannot be", got=f"{options}, groups of {group}")
    stream = view[at:]
    if len(view) == least:
        stream = memoryview(bytes(stream).rstrip(b"\0"))
    return palette, scan, stream


def _shortest(symbols: NDArray[np.uint16], shape: tuple[int, ...], low: int, high: int) -> bytes:
    """Options and stream."""
    scan, stream = adaptive.choose_scan(symbols, shape, low, high)
    group = scan.row_period if scan.transposed else scan.period
    given = group != math.prod(shape[2:])
    options = scan.transposed | scan.flags << 1 | scan.profile << 3 | given << 5
    return bytes([options]) + (_palette.varint(group) if given else b"") + stream
