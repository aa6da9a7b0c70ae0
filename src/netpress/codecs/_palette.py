"""The distinct values of a tensor, and each place's number among them: what all sharing codecs begin with.

A palette is sorted by value, so that a symbol's distance from the symbol of zero says on which side of zero it lies and how far
out: ``level = symbol - origin``. Values are told apart by bit pattern: -0.0 and NaN payloads survive.

Bytes of a palette: one byte for the form, a varint for the number of values, then

- form 0, *listed*: the patterns, little-endian;
- form 1, *grid* (float32): the step (4 bytes) and the lowest level (zigzag varint); value = float32(level) * step;
- form 2, *sorted* (float32): Elias-Fano code of the order-preserving integers, about 2 + log2(range / k) bits a value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs._tensors import UNSIGNED, AnyType, Tensor, is_type, patterns_of, tensor_of, values_at
from netpress.dtypes import FLOAT32, type_of
from netpress.errors import FormatError
from netpress.kernels import _distinct

MOST_VALUES = 65536
LISTED, GRID, SORTED = 0, 1, 2


@dataclass(frozen=True)
class Palette:
    """Distinct values in ascending order.

    Attributes:
        dtype: Of the tensor.
        patterns: (k,) bit patterns, unsigned of the type's width, in ascending order of the values they stand for.
        origin: The symbol of +0.0 (or 0, False) if it is there; else how many values lie below it.
        step: The grid's step where the values are multiples of one; absent levels then stand in ``patterns``, too.
    """

    dtype: AnyType
    patterns: NDArray[Any]
    origin: int
    step: float | None = None

    def __len__(self) -> int:
        return len(self.patterns)

    @property
    def has_zero(self) -> bool:
        """Whether the pattern of all zero bits is one of the values; its symbol is ``origin``."""
        return self.origin < len(self.patterns) and int(self.patterns[self.origin]) == 0

    def values(self) -> NDArray[np.float32]:
        """(k,) the values, for float32."""
        return self.patterns.view(np.float32)

    def tensor(self, symbols: NDArray[Any], shape: tuple[int, ...]) -> Any:
        """The tensor whose places hold these symbols; the symbols must be below ``len(self)``."""
        return tensor_of(values_at(self.patterns, symbols), self.dtype, shape)


_remembered: ContextVar[dict[tuple[int, int], tuple[Palette, NDArray[np.uint16]] | None] | None] = ContextVar(
    "remembered", default=None
)


@contextmanager
def remembering() -> Iterator[None]:
    """Within, `symbols_of` looks at each tensor once: every codec asks of the same tensor, twice.

    The tensors must neither change nor go meanwhile.
    """
    token = _remembered.set({})
    try:
        yield
    finally:
        _remembered.reset(token)


def symbols_of(tensor: Tensor, most: int = MOST_VALUES) -> tuple[Palette, NDArray[np.uint16]] | None:
    """The palette of a tensor and the symbol of each place, or None when it has more than ``most`` distinct values.

    Args:
        tensor: Any shape and device, strided.

    Returns:
        The palette and (numel,) uint16 symbols in row-major order; not to be written to.
    """
    memory = _remembered.get()
    if memory is None:
        return _found(tensor, most)
    key = (id(tensor), most)
    if key not in memory:
        memory[key] = _found(tensor, most)
    return memory[key]


def _found(tensor: Tensor, most: int) -> tuple[Palette, NDArray[np.uint16]] | None:
    bits = patterns_of(tensor)
    if bits.dtype == np.uint32:
        seen, numbers = np.empty(most, np.uint32), np.empty(len(bits), np.uint16)
        found = _distinct.distinct(bits, seen, numbers)
        if found < 0:
            return None
        values = seen[:found]
    else:
        values, inverse = np.unique(bits, return_inverse=True)
        if len(values) > most:
            return None
        numbers = inverse.astype(np.uint16)
    order = np.argsort(_keys(values, tensor.dtype), kind="stable")
    rank = np.empty(len(values), np.uint16)
    rank[order] = np.arange(len(values), dtype=np.uint16)
    palette = _palette(values[order], tensor.dtype)
    symbols = rank[numbers] if len(values) else numbers
    gridded = _gridded(palette)
    if gridded is None:
        return palette, symbols
    grid, places = gridded
    return grid, places[symbols] if len(values) else symbols


def pack(palette: Palette) -> bytes:
    """The bytes of a palette: the shortest of its forms."""
    k = len(palette)
    head = varint(k)
    forms = [bytes([LISTED]) + head + _little(palette.patterns)]
    if palette.step is not None:
        forms.append(bytes([GRID]) + head + _little(np.array([palette.step], np.float32)) + varint(2 * palette.origin))
    if is_type(palette.dtype, "float32") and k > 1:
        forms.append(bytes([SORTED]) + head + _elias_fano(_keys(palette.patterns, FLOAT32)))
    return min(forms, key=len)


def unpack(payload: memoryview | bytes, dtype: AnyType) -> tuple[Palette, int]:
    """The palette at the start of ``payload``, and how many bytes it took.

    Raises:
        FormatError: the bytes are not a palette of ``dtype`` in ascending order.
    """
    view = memoryview(payload)
    if not len(view):
        raise FormatError("a palette is missing", got="0 bytes")
    form = view[0]
    k, at = read_varint(view, 1)
    if k > MOST_VALUES:
        raise FormatError("a palette has too many values", got=k, allowed=f"at most {MOST_VALUES}")
    step: float | None = None
    if form == LISTED:
        patterns = _read(view, at, k, UNSIGNED[dtype.itemsize])
        at += k * dtype.itemsize
    elif form == GRID and is_type(dtype, "float32"):
        step32 = _read(view, at, 1, np.float32)[0]
        double, at = read_varint(view, at + 4)
        if double % 2 or double // 2 > MOST_VALUES or not np.isfinite(step32) or step32 <= 0:
            raise FormatError("a palette's grid is none", got=f"step {step32}, origin {double / 2}")
        step = float(step32)
        with np.errstate(over="ignore"):
            patterns = (np.arange(k, dtype=np.float32) - np.float32(double // 2)) * step32
        if not np.isfinite(patterns).all():
            raise FormatError("a palette's grid overflows", got=f"step {step32}, {k} levels")
        patterns = (patterns + np.float32(0)).view(np.uint32)  # -0.0 + 0.0 is 0.0
    elif form == SORTED and is_type(dtype, "float32"):
        keys, at = _read_elias_fano(view, at, k)
        patterns = np.where(keys & 0x80000000, keys ^ 0x80000000, ~keys).astype(np.uint32)
    else:
        raise FormatError("a palette has an unknown form", got=f"{form} for {dtype}", allowed="0, 1, 2")
    if is_type(dtype, "bool") and k and int(patterns.max()) > 1:
        raise FormatError("a palette of bools holds another value", got=int(patterns.max()), allowed="0 and 1")
    keys = _keys(patterns, dtype)
    if k > 1 and not bool((keys[1:] > keys[:-1]).all()):
        raise FormatError("a palette is not in ascending order")
    palette = _palette(patterns, dtype)
    return Palette(dtype, palette.patterns, palette.origin, step), at


def varint(value: int) -> bytes:
    """A number >= 0, seven bits a byte, the lowest first; the top bit says that more follow."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(payload: memoryview | bytes, at: int) -> tuple[int, int]:
    """The number at byte ``at`` and the place behind it.

    Raises:
        FormatError: the bytes end, the number takes more than 63 bits, or it is written longer than it needs.
    """
    value = shift = 0
    while True:
        if at >= len(payload):
            raise FormatError("the payload ends within a number", got=f"{len(payload)} bytes")
        byte = payload[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            if byte == 0 and shift > 7:
                raise FormatError("a number is written longer than it needs")
            return value, at
        if shift > 56:
            raise FormatError("a number of the payload is too long", allowed="63 bits")


def _keys(patterns: NDArray[Any], dtype: AnyType) -> NDArray[Any]:
    """Unsigned integers in the order of the values: negative floats by falling pattern, then positive ones."""
    top = patterns.dtype.type(1 << (8 * dtype.itemsize - 1))
    known = type_of(dtype)
    if known is not None and known.is_floating_point:
        return np.where(patterns & top, ~patterns, patterns | top)
    return patterns ^ top if known is not None and known.is_signed else patterns


def _palette(patterns: NDArray[Any], dtype: AnyType) -> Palette:
    keys = _keys(patterns, dtype)
    zero = _keys(np.zeros(1, patterns.dtype), dtype)
    return Palette(dtype, np.ascontiguousarray(patterns), int(np.searchsorted(keys, zero[0])))


def _gridded(palette: Palette) -> tuple[Palette, NDArray[np.uint16]] | None:
    """The same values as multiples of one step, where they are, with the new symbol of each old one."""
    k = len(palette)
    if not is_type(palette.dtype, "float32") or k < 2:
        return None
    values = palette.values()
    if not np.isfinite(values).all() or (palette.patterns == 0x80000000).any():
        return None
    sizes = np.unique(np.abs(values[values != 0]))
    # The step: the greatest common divisor where the values are exact multiples; else a small part of the smallest value.
    for parts in (1, 2, 3, 4, 5, 6, 8):
        step = np.float32(sizes[0] / np.float32(parts))
        if step <= 0:
            return None
        with np.errstate(over="ignore", under="ignore"):
            nearby = (step, np.nextafter(step, np.float32(0)), np.nextafter(step, np.float32(np.inf)))
        for nudged in nearby:
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                levels = np.rint(values.astype(np.float64) / np.float64(nudged))
                low, high = min(0.0, levels.min()), max(0.0, levels.max())
                if high - low + 1 > min(MOST_VALUES, 2 * k + 16):
                    continue
                if not np.array_equal(levels.astype(np.float32) * nudged, values):
                    continue
            whole = (np.arange(low, high + 1).astype(np.float32) * nudged + np.float32(0)).view(np.uint32)
            places = (levels - low).astype(np.uint16)
            grid = Palette(palette.dtype, whole, int(-low), float(nudged))
            keys = _keys(whole, FLOAT32)
            return (grid, places) if bool((keys[1:] > keys[:-1]).all()) else None
    return None


def _little(array: NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _read(view: memoryview, at: int, count: int, dtype: Any) -> NDArray[Any]:
    size = np.dtype(dtype).itemsize * count
    if len(view) - at < size:
        raise FormatError("the payload ends within its palette", got=f"{len(view) - at} bytes", allowed=f"{size}")
    return np.frombuffer(view[at : at + size], np.dtype(dtype).newbyteorder("<")).astype(dtype)


def _elias_fano(keys: NDArray[Any]) -> bytes:
    """Ascending integers: their low bits as they are, their high parts as unary differences (Elias 1974, Fano 1971)."""
    first, rest = int(keys[0]), (keys - keys[0]).astype(np.uint64)
    width = max(0, int(math.log2(max(1, int(rest[-1]) / len(keys)))))
    low = (rest[:, None] >> np.arange(width, dtype=np.uint64)) & np.uint64(1)  # (k, width) bits
    places = (rest >> np.uint64(width)).astype(np.int64) + np.arange(len(keys))  # where the ones of the unary part lie
    high = np.zeros(int(places[-1]) + 1, np.uint8)
    high[places] = 1
    bits = np.concatenate([low.astype(np.uint8).reshape(-1), high])
    return (
        first.to_bytes(4, "little")
        + bytes([width])
        + varint(len(high))
        + np.packbits(bits, bitorder="little").tobytes()
    )


def _read_elias_fano(view: memoryview, at: int, k: int) -> tuple[NDArray[Any], int]:
    first = int(_read(view, at, 1, np.uint32)[0])
    width = int(_read(view, at + 4, 1, np.uint8)[0])
    unary, at = read_varint(view, at + 5)
    if width > 32 or k < 1 or not k <= unary <= 4 * k + 64:
        raise FormatError("a palette's code has lengths that cannot be", got=f"{width} and {unary} bits for {k} values")
    total = k * width + unary
    packed = _read(view, at, -(-total // 8), np.uint8)
    bits = np.unpackbits(packed, bitorder="little")
    if bits[total:].any():
        raise FormatError("a palette's padding is not zero")
    low = (bits[: k * width].reshape(k, width).astype(np.uint64) << np.arange(width, dtype=np.uint64)).sum(1)
    places = np.flatnonzero(bits[k * width : total])
    if len(places) != k or not bits[total - 1]:
        raise FormatError("a palette's code has another number of values", got=len(places), allowed=k)
    keys = first + low.astype(np.int64) + ((places - np.arange(k)) << width)
    if k and int(keys[-1]) > 0xFFFFFFFF:
        raise FormatError("a palette's code overflows")
    return keys.astype(np.uint32), at + len(packed)
