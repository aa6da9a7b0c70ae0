"""Matrices whose rows are whole numbers of one step each, such as int8 weights with a scale for each output channel.

Bytes: one byte, how many of the four bytes of a step are stored (1 to 4: the highest ones, the others of all steps being zero); so
many bytes for each row, steps in order, each lowest byte first; then the levels as float32 numbers, stored by the codec
`adaptive`. The value at a place is the level there times its row's step, which is exact: steps are the greatest that divide their
rows, levels whole numbers of at most 32,767, and rows of zeros have step 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import _palette, adaptive
from netpress.codecs._tensors import AnyType, Tensor, is_plain, is_type, patterns_of, tensor_of
from netpress.codecs.adaptive import AdaptiveCoded
from netpress.dtypes import FLOAT32
from netpress.errors import ConfigError, FormatError
from netpress.program.row_levels import MOST_LEVEL, rows_on_grids

CODE = 9

LEAST_STEP = np.finfo(np.float32).tiny
MORE_VALUES = 4
"""Values of all rows for one level, above which each row has a step of its own that `adaptive` cannot use."""


def accepts(tensor: Tensor) -> bool:
    """Whether it is a float32 tensor of two axes or more whose rows are on grids; most that are not are known by one row."""
    return _analysed(tensor) is not None


def spares(tensor: Tensor) -> tuple[str, ...]:
    """`adaptive`, where all rows together have several times as many values as levels: it codes the same numbers, but knows less."""
    found = _analysed(tensor)
    values = _palette.symbols_of(tensor)
    if found is None or values is None:
        return ()
    levels = int(found[1].max()) - int(found[1].min()) + 1
    return ("adaptive",) if len(values[0]) > MORE_VALUES * levels else ()


def encode(tensor: Tensor) -> bytes:
    """The payload of ``tensor``, on any device.

    Raises:
        ConfigError: `accepts` says no.
    """
    found = _analysed(tensor)
    if found is None:
        raise ConfigError(
            "the tensor's rows are not whole numbers of one step each",
            got=f"{tensor.dtype}, shape {tuple(tensor.shape)}",
            remedy="store it with another codec",
        )
    import torch

    steps, levels = found
    patterns = steps.view(np.uint32)
    width = _width(patterns)
    packed = patterns.astype("<u4").view(np.uint8).reshape(-1, 4)[:, 4 - width :].tobytes()  # (rows, width)
    whole = torch.from_numpy(levels.astype(np.float32)).reshape(tensor.shape)
    with _palette.remembering():  # a memory of its own: these levels go when the payload is made
        return bytes([width]) + packed + adaptive.encode(whole)


def decode(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The tensor that `encode` stored.

    Raises:
        FormatError: the payload is none that `encode` could have written for this type and shape.
    """
    steps, rest = _parse(payload, dtype, shape)
    _check_levels(adaptive.open(rest, FLOAT32, shape))
    values = adaptive.decode(rest, FLOAT32, shape).reshape(shape[0], -1)
    with np.errstate(over="ignore"):
        values = values * steps[:, None]
    if not bool(np.isfinite(values).all()):
        raise FormatError("a payload of row grids overflows")
    return tensor_of(values.reshape(-1).view(np.uint32), dtype, shape)


def _analysed(tensor: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """(rows,) steps and (rows, columns) levels."""
    if not is_plain(tensor) or not is_type(tensor.dtype, "float32") or tensor.dim() < 2 or not tensor.numel():
        return None
    return rows_on_grids(patterns_of(tensor).view(np.float32).reshape(len(tensor), -1), MOST_LEVEL)


@dataclass(frozen=True)
class RowGridCoded:
    """A float32 matrix that stays steps and a stream; see `netpress.codecs.Coded`."""

    steps: NDArray[np.float32]
    levels: AdaptiveCoded

    @property
    def rows(self) -> int:
        return self.levels.rows

    @property
    def columns(self) -> int:
        return self.levels.columns

    @property
    def memory_bytes(self) -> int:
        """What the stream takes, and the steps."""
        return self.levels.memory_bytes + self.steps.nbytes

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """W x, (columns, N) to (rows, N): the levels' product, each row times its step.

        Raises:
            FormatError: the stream is not one that `encode` writes.
        """
        product = self.levels.multiply(x, threads)
        product *= self.steps[:, None]
        return product


def open(payload: memoryview, dtype: AnyType, shape: tuple[int, ...]) -> RowGridCoded:
    """The payload made ready for products; ``payload`` is kept, not copied.

    Raises:
        FormatError: the payload's head is wrong, or the tensor is not float32.
    """
    steps, rest = _parse(payload, dtype, shape)
    levels = adaptive.open(rest, dtype, shape)
    _check_levels(levels)
    return RowGridCoded(steps, levels)


def _parse(
    payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], memoryview]:
    """Steps, and the payload of the levels."""
    view = memoryview(payload)
    if not is_type(dtype, "float32") or len(shape) < 2 or not math.prod(shape):
        raise FormatError(
            "a payload of row grids is of a float32 matrix",
            got=f"{dtype}, shape {shape!r:.80}",
            allowed="two axes or more",
        )
    if not len(view) or not 1 <= view[0] <= 4:
        raise FormatError("a payload of row grids has no width", got=view[0] if len(view) else None, allowed="1 to 4")
    width, rows = view[0], shape[0]
    end = 1 + rows * width
    if len(view) <= end:
        raise FormatError("a payload of row grids is too short", got=f"{len(view)} bytes", allowed=f"more than {end}")
    whole = np.zeros((rows, 4), np.uint8)
    whole[:, 4 - width :] = np.frombuffer(view[1:end], np.uint8).reshape(rows, width)
    patterns = whole.reshape(-1).view("<u4").astype(np.uint32)
    steps = patterns.view(np.float32)
    if _width(patterns) != width or not bool(((steps >= LEAST_STEP) & np.isfinite(steps)).all()):
        raise FormatError("a payload of row grids has steps that cannot be")
    return steps, view[end:]


def _width(patterns: NDArray[np.uint32]) -> int:
    """How many of the highest bytes hold all that is not zero."""
    every = int(np.bitwise_or.reduce(patterns))
    return next(width for width in (1, 2, 3, 4) if not every & (0xFFFFFFFF >> 8 * width))


def _check_levels(coded: AdaptiveCoded) -> None:
    levels = coded.palette.values()
    with np.errstate(invalid="ignore"):
        whole = bool(((np.abs(levels) <= MOST_LEVEL) & (levels == np.rint(levels))).all())
    if not whole or bool((coded.palette.patterns == 0x80000000).any()):
        raise FormatError("a payload of row grids has levels that are not whole numbers up to 32,767")
