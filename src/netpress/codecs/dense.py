"""Every value in full: row-major, little-endian, nothing between the values.

Costs ``numel * itemsize`` bytes, whatever the values are.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs._tensors import UNSIGNED, AnyType, Tensor, is_plain, is_type, patterns_of, tensor_of
from netpress.errors import FormatError

CODE = 0

accepts = is_plain


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
