"""Every value in full: row-major, little-endian, nothing between the values.

Costs ``numel * itemsize`` bytes, whatever the values are.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from torch import Tensor

from netpress.errors import FormatError

CODE = 0

DTYPES = frozenset(
    {
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    }
)


def accepts(tensor: Tensor) -> bool:
    """Whether it is an ordinary (strided) tensor of a type in ``DTYPES``."""
    return tensor.layout is torch.strided and tensor.dtype in DTYPES


def encode(tensor: Tensor) -> bytes:
    """The values of ``tensor`` (any shape, any device) as ``numel * itemsize`` bytes."""
    values = tensor.detach().cpu().contiguous().reshape(-1)  # [...] -> [numel]
    return _little_endian(values.view(torch.uint8).numpy(), tensor.dtype).tobytes()  # [numel * itemsize]


def decode(payload: memoryview | bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
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
    if dtype is torch.bool and stored.size and int(stored.max()) > 1:
        raise FormatError("dense payload of bools holds another value", got=int(stored.max()), allowed="0 and 1")
    tensor = torch.empty(shape, dtype=dtype)
    raw = tensor.reshape(-1).view(torch.uint8).numpy()  # shares memory with `tensor`: [numel * itemsize]
    raw[:] = _little_endian(stored, dtype)
    return tensor


def _little_endian(raw: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Turns bytes ``[numel * itemsize]`` from the machine's order to little-endian, or back."""
    if sys.byteorder == "little":
        return raw
    return raw.reshape(-1, dtype.itemsize)[:, ::-1].reshape(-1)
