"""Every value in full: row-major, little-endian, nothing between the values.

Costs ``numel * itemsize`` bytes, whatever the values are.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import _palette, adaptive
from netpress.codecs._tensors import UNSIGNED, AnyType, Tensor, is_plain, is_type, patterns_of, tensor_of
from netpress.errors import FormatError

CODE = 0

SAMPLE = 4096  # symbols, along the rows and across them
ONE_OF_A_KIND = 0.9  # of all values, to be asked
LATER = 0.95  # of what a sample's symbol takes, the least that one takes later, when the coder has learned

accepts = is_plain


def spares(tensor: Tensor) -> tuple[str, ...]:
    """`adaptive`, where nearly every value is one of a kind, and its palette and what samples of the stream take are longer."""
    found = _palette.symbols_of(tensor)
    if found is None or len(found[1]) <= SAMPLE or len(found[0]) < ONE_OF_A_KIND * len(found[1]):
        return ()
    palette, symbols = found
    a_symbol = (tensor.nbytes - len(_palette.pack(palette))) / len(symbols)  # bytes that are left for it
    most = max(0, int(SAMPLE * a_symbol / LATER))
    across = symbols.reshape(len(tensor), -1).T[: 1 + SAMPLE // len(tensor)].reshape(-1)
    ways = (symbols[:SAMPLE], np.ascontiguousarray(across[:SAMPLE]))
    return ("adaptive",) if all(adaptive.takes_more(way, palette, most) for way in ways) else ()


def encode(tensor: Tensor) -> bytes:
    """The values of ``tensor`` (any shape, any device) as ``numel * itemsize`` bytes."""
    return _little_endian(patterns_of(tensor).view(np.uint8), tensor.dtype).tobytes()  # [numel * itemsize]


def decode(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The tensor of ``shape`` that `encode` stored; a copy, so that ``payload`` may go.

    Raises:
        FormatError: the payload's length is not ``numel * itemsize``, or a bool is neither 0 nor 1.
    """
    expected = math.prod(shape) * dtype.itemsize
    if len(payload) != expected:
        raise FormatError(
            f"dense payload of {dtype} {list(shape)} has the wrong length",
            got=f"{len(payload)} bytes",
            allowed=f"{expected} bytes",
        )
    stored = np.frombuffer(payload, dtype=np.uint8)
    if is_type(dtype, "bool") and stored.size and int(stored.max()) > 1:
        raise FormatError("dense payload of bools holds another value", got=int(stored.max()), allowed="0 and 1")
    patterns = np.empty(math.prod(shape), UNSIGNED[dtype.itemsize])  # of its own memory, aligned as its type wants it
    patterns.view(np.uint8)[:] = _little_endian(stored, dtype)
    return tensor_of(patterns, dtype, shape)


def _little_endian(raw: NDArray[np.uint8], dtype: AnyType) -> NDArray[np.uint8]:
    """Turns bytes ``[numel * itemsize]`` from the machine's order to little-endian, or back."""
    if sys.byteorder == "little":
        return raw
    return raw.reshape(-1, dtype.itemsize)[:, ::-1].reshape(-1)
