"""Where codecs meet tensors. Everything behind this file works on numpy arrays of bit patterns and needs no torch.

What is encoded is a torch tensor. What is decoded is a torch tensor where the type that was asked for is torch's, and a numpy array
where it is one of `netpress.dtypes`: so a file can be read where there is no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netpress.dtypes import AnyType, Type, type_of

__all__ = ["UNSIGNED", "AnyType", "Tensor", "is_plain", "is_type", "patterns_of", "tensor_of", "values_at"]

if TYPE_CHECKING:
    import torch

Tensor: TypeAlias = "torch.Tensor"

UNSIGNED: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


_PIECE = 1 << 15


def is_plain(tensor: Tensor) -> bool:
    """Whether it is an ordinary (strided) tensor of one of the ten types."""
    import torch

    return tensor.layout is torch.strided and type_of(tensor.dtype) is not None


def is_type(dtype: AnyType, name: str) -> bool:
    """Whether ``dtype`` is the type of that name."""
    found = type_of(dtype)
    return found is not None and found.name == name


def patterns_of(tensor: Tensor) -> NDArray[Any]:
    """The bit patterns of all values, (numel,), row-major, unsigned."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().view(UNSIGNED[tensor.dtype.itemsize])


def tensor_of(patterns: NDArray[Any], dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The inverse of `patterns_of`, sharing the array's memory: a torch tensor, or of a `Type` a numpy array (see above)."""
    if isinstance(dtype, Type):
        return patterns.view(dtype.numpy).reshape(shape)
    import torch

    if not patterns.size:
        return torch.empty(
            shape, dtype=dtype
        )  # numpy gives empty arrays strides that torch cannot view as another type
    return torch.from_numpy(patterns).view(dtype).reshape(shape)


def values_at(patterns: NDArray[Any], symbols: NDArray[Any]) -> NDArray[Any]:
    """``patterns[symbols]``, piece by piece: numpy makes numbers of 8 bytes of the symbols, which had better stay in the cache."""
    out = np.empty(len(symbols), patterns.dtype)
    for start in range(0, len(symbols), _PIECE):
        piece = slice(start, start + _PIECE)
        out[piece] = patterns[symbols[piece]]
    return out
