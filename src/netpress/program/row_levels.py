"""Matrices whose rows are whole numbers of one step each: found in the numbers alone, by numpy alone.

Codecs store such matrices, and who writes integers for other runtimes takes them from here; `netpress.maths.row_grids` makes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_LEVEL = 32767


def rows_on_grids(matrix: NDArray[np.float32], most: int) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """Steps and levels of a matrix: ``steps[row] * levels[row]`` is the row, to the bit.

    A step is the greatest of which all of the row are multiples; a row of zeros has step 1.

    Args:
        matrix: (rows, columns), C-contiguous, one row and column at least.
        most: Largest level.

    Returns:
        (rows,) steps and (rows, columns) levels; None where a row is not on such a grid.
    """
    if _found(matrix[:1], most) is None:  # most matrices that are on no grid are known by their first row
        return None
    return _found(matrix, most)


def _found(matrix: NDArray[np.float32], most: int) -> tuple[NDArray[np.float32], NDArray[Any]] | None:
    """(rows,) float32 steps and (rows, columns) int64 levels."""
    signed = matrix.view(np.int32)
    exponents = signed >> 23 & 255
    zero = signed == 0
    if not bool((zero | ((exponents > 0) & (exponents < 255))).all()):  # -0.0, denormal, infinite, or NaN
        return None
    # In units of the last bit of a row's smallest weight; a largest weight of more bits is too many levels for any step.
    lowest = np.where(zero, 255, exponents).min(1, keepdims=True).astype(np.int64)  # (rows, 1)
    highest = exponents.max(1, keepdims=True)
    if bool((highest - lowest > most.bit_length()).any()):
        return None
    units = np.ldexp(matrix.astype(np.float64), 150 - np.minimum(lowest, 254)).astype(np.int64)
    common = np.gcd.reduce(units, axis=1, keepdims=True)  # (rows, 1), 0 for a row of zeros
    levels = units // np.maximum(common, 1)
    if bool((np.abs(levels) > most).any()):
        return None
    steps = np.where(common > 0, np.ldexp(common.astype(np.float64), lowest - 150), 1.0).astype(np.float32)
    return (steps[:, 0], levels) if bool((steps >= np.finfo(np.float32).tiny).all()) else None
