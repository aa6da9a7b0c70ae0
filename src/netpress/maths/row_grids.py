"""Weights on row grids: every row of a matrix, first axis by all others, is whole numbers of one step.

This is what integer kernels multiply with: q levels of a few bits, one scale for each output channel. Steps have 8 significant
bits and levels at most 15, so that every product is exact in float32, and steps and levels can be found again in the weights alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from netpress.errors import ConfigError
from netpress.program.row_levels import MOST_LEVEL, rows_on_grids

#: Significant bits of a step: it is off by 1/512 at most, which no clipping notices, and two bytes hold it.
STEP_BITS = 8
SMALLEST_STEP = 2.0**-100  # levels times steps stay far from denormal numbers, which some processors take for 0
#: Shares of a row's largest weight at which it is clipped, to choose from.
CLIPS = tuple(2.0 ** (-k / 16) for k in range(33))


def grid_steps(weight: Tensor, most: int, *, per_row: bool = True) -> Tensor:
    """The step of each row with the least squared error, levels being -``most`` to ``most``; larger weights are clipped.

    Args:
        weight: (rows, ...) float32.
        per_row: One step a row; else one for all.

    Returns:
        (rows, 1, ...) float32, of `STEP_BITS` significant bits; 1 for a row of zeros.

    Raises:
        ConfigError: ``most`` is out of range.
    """
    if not 1 <= most <= MOST_LEVEL:
        raise ConfigError("the largest level is out of range", got=most, allowed=f"1 to {MOST_LEVEL}")
    flat = weight.detach().reshape(len(weight) if per_row else 1, -1)  # (rows, columns)
    largest = flat.abs().amax(1, keepdim=True)  # (rows, 1)
    best, least = largest, torch.full_like(largest, torch.inf)
    for clip in CLIPS:
        step = _rounded(largest * (clip / most)).clamp_min(SMALLEST_STEP)
        error = (flat - on_grid(flat, step, most)).square().sum(1, keepdim=True)
        better = error < least
        best, least = torch.where(better, step, best), torch.where(better, error, least)
    best = torch.where(largest > 0, best, 1.0)
    return best.expand(len(weight), 1).reshape(-1, *[1] * (weight.dim() - 1)).contiguous()


def on_grid(weight: Tensor, step: Tensor, most: int) -> Tensor:
    """Each weight as the nearest of the multiples -``most`` to ``most`` of its row's step; no -0.0."""
    return (weight / step).round().clamp(-most, most) * step + 0.0


def row_steps(weight: Tensor, most: int = 127) -> tuple[Tensor, Tensor] | None:
    """Steps and levels of weights on row grids: ``steps[row] * levels[row]`` is the row, to the bit.

    The inverse of `on_grid`, for those who write integers: of a layer that was quantized they are the int8 weights and the scales
    of its output channels. A step is the greatest of which all of the row are multiples, so that levels may have fewer bits than were
    allowed; a row of zeros has step 1. A row that is one step times whole numbers within rounding only has none.

    Args:
        weight: (rows, ...) float32 on any device.
        most: Largest level.

    Returns:
        (rows,) float32 steps and levels in the shape of the weights, int8 where ``most`` fits, else int16; on the CPU.
        None where a row is not on such a grid.

    Raises:
        ConfigError: ``most`` is out of range.
    """
    if not 1 <= most <= MOST_LEVEL:
        raise ConfigError("the largest level is out of range", got=most, allowed=f"1 to {MOST_LEVEL}")
    if weight.dtype is not torch.float32 or weight.dim() < 1 or not weight.numel():
        return None
    matrix = weight.detach().cpu().reshape(len(weight), -1).contiguous().numpy()  # (rows, columns)
    found = rows_on_grids(matrix, most)
    if found is None:
        return None
    steps, levels = found
    kind = np.int8 if most <= 127 else np.int16
    return torch.from_numpy(steps), torch.from_numpy(levels.astype(kind)).reshape(weight.shape)


def _rounded(step: Tensor) -> Tensor:
    """To `STEP_BITS` significant bits."""
    mantissa, exponent = torch.frexp(step)
    return torch.ldexp((mantissa * 2**STEP_BITS).round() / 2**STEP_BITS, exponent)
