"""Grids for quantized tensors: steps whose multiples are exact, and steps that fit a rate-distortion trade-off."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MANTISSA_BITS = 11


def grid_step(step: float) -> float:
    """The number nearest to ``step`` with at most 11 mantissa bits: times levels of 13 bits it is exact in float32."""
    mantissa, exponent = math.frexp(step)
    rounded = math.ldexp(round(mantissa * 2**MANTISSA_BITS), exponent - MANTISSA_BITS)
    return min(max(rounded, 2.0**-100), 2.0**100)


def fine_step(sensitivity: float, tradeoff: float) -> float:
    """The step at which one bit more a value would gain just what it costs.

    A uniform quantizer of step d errs by d²/12 in the mean square and spends one bit more when d is halved, so that the distortion
    s·d²/12 falls by 2·ln 2·s·d²/12 a bit (Gish and Pierce 1968): d = √(6·tradeoff / (ln 2·s)).

    Args:
        sensitivity: s, what a squared error of one value costs.
        tradeoff: What a bit may cost.
    """
    return math.sqrt(6 * tradeoff / (math.log(2) * max(sensitivity, 1e-30)))


def on_grid(levels: NDArray[np.int32], step: float) -> NDArray[np.float32]:
    """levels · step as float32, exact and without -0.0."""
    return (levels.astype(np.float32) * np.float32(step)) + np.float32(0)
