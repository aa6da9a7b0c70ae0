"""Levels of a weight matrix by rate and distortion, where an error of one weight can be made good by others.

What an error matrix D (rows, columns) costs is taken as Σ_r importance_r · D_r H D_rᵀ: H is the Gram matrix of the layer's inputs,
importance_r the mean squared gradient at output r (the diagonal of the Kronecker-factored Fisher information; Martens and Grosse,
arXiv 1503.05671). To this comes ``tradeoff`` times the bits of the levels. Three steps, all without labels and gradients:

1. error feedback: columns in order, each error taken up by the columns that follow (Frantar et al., arXiv 2208.11110, 2210.17323),
   but each level chosen by error *and* bits;
2. coordinate descent: every weight is chosen again, all others given, with prices learned from the levels so far;
3. the cheapest state seen is kept, rounding to nearest among them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from netpress.kernels import _compensate

CONTEXTS, SIZES = 24, 16  # of the price tables; see kernels/compensate.c
MOST_LEVEL = 8191  # with steps of 11 bits every product is exact in float32
DAMPING = 0.01  # share of H's mean diagonal that is added before H is inverted

Floats = NDArray[np.float32]
Levels = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Curvature:
    """What errors of a weight matrix cost.

    Attributes:
        hessian: (columns, columns) float32, symmetric, not negative.
        importance: (rows,) float32, not negative; or (rows, rows), symmetric, for outputs that are not independent.
    """

    hessian: Floats
    importance: Floats

    def cost(self, errors: Floats) -> float:
        """The cost of errors (rows, columns)."""
        spread = errors.astype(np.float64) @ self.hessian
        if self.importance.ndim == 2:
            spread = self.importance @ spread
            return float((spread * errors).sum())
        return float(((spread * errors).sum(1) * self.importance).sum())

    @property
    def row_importance(self) -> Floats:
        """(rows,) the diagonal."""
        return np.ascontiguousarray(np.diagonal(self.importance) if self.importance.ndim == 2 else self.importance)

    def per_weight(self) -> float:
        """Mean cost of a squared error of one weight, all others exact."""
        return float(np.diagonal(self.hessian).mean(dtype=np.float64) * self.row_importance.mean(dtype=np.float64))

    @cached_property
    def factor(self) -> Floats:
        """Upper Cholesky factor of the inverse of the damped H."""
        size = len(self.hessian)
        damped = self.hessian.astype(np.float64)
        mean = float(np.trace(damped)) / size
        damped[np.diag_indices(size)] += DAMPING * mean if mean > 0 else 1.0
        # inverse = L^-T L^-1; its upper factor comes from the Cholesky factor of the reversed matrix.
        lower = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]  # upper triangular U with H = U U^T
        return np.ascontiguousarray(np.linalg.inv(lower).astype(np.float32))  # H^-1 = U^-T U^-1


@dataclass(frozen=True, eq=False)
class Choice:
    """Levels and what they cost.

    Attributes:
        levels: (rows, columns) int32.
        distortion: By the curvature.
        bits: Estimated, with all that an adaptive coder pays for learning.
    """

    levels: Levels
    step: float
    distortion: float
    bits: float

    def cost(self, tradeoff: float) -> float:
        return self.distortion + tradeoff * self.bits


@dataclass(eq=False)
class _Search:
    weight: Floats
    curvature: Curvature
    step: float
    tradeoff: float
    places: int
    fixed: NDArray[np.uint8]
    rates: Floats = field(default_factory=lambda: np.zeros((CONTEXTS, SIZES), np.float32))

    def judged(self, levels: Levels) -> Choice:
        """What levels cost; the prices are learned from them."""
        bits = _compensate.price(levels, len(levels), levels.shape[1], self.places, self.rates)
        errors = self.weight - levels.astype(np.float32) * np.float32(self.step)
        return Choice(levels.copy(), self.step, self.curvature.cost(errors), bits)

    def feedback(self, levels: Levels) -> None:
        _compensate.feedback(
            self.weight.copy(),
            self.curvature.factor,
            self.curvature.row_importance,
            self.rates,
            self.fixed,
            levels,
            len(levels),
            levels.shape[1],
            self.places,
            self.step,
            self.tradeoff,
        )

    def sweep(self, levels: Levels) -> int:
        errors = (self.weight - levels.astype(np.float32) * np.float32(self.step)) @ self.curvature.hessian
        coupled = self.curvature.importance.ndim == 2
        if coupled:
            errors = self.curvature.importance @ errors
        return _compensate.sweep(
            np.ascontiguousarray(errors, np.float32),
            self.curvature.hessian,
            self.curvature.importance,
            self.rates,
            self.fixed,
            levels,
            len(levels),
            levels.shape[1],
            self.places,
            self.step,
            self.tradeoff,
            coupled,
        )


def nearest_levels(weight: Floats, step: float) -> Levels:
    """Rounding to nearest, within the levels that there are."""
    return np.clip(np.rint(weight.astype(np.float64) / step), -MOST_LEVEL, MOST_LEVEL).astype(np.int32)


def choose_levels(
    weight: Floats,
    curvature: Curvature,
    *,
    step: float,
    tradeoff: float,
    places: int = 1,
    fixed: NDArray[np.bool_] | None = None,
    start: Levels | None = None,
    sweeps: int = 4,
) -> Choice:
    """Levels of small ``distortion + tradeoff · bits``.

    Args:
        weight: (rows, columns) float32.
        step: Of the grid, above 0.
        tradeoff: Distortion that a bit may cost; 0 minimises the distortion alone.
        places: Of the kernel, which lie side by side in a row: 9 for 3x3, 1 for a linear layer.
        fixed: (rows, columns) places that stay 0.
        start: Levels from which to descend, in place of error feedback.
        sweeps: Most passes of coordinate descent.
    """
    weight = np.ascontiguousarray(weight, np.float32)
    frozen = np.zeros(weight.shape, np.uint8) if fixed is None else np.ascontiguousarray(fixed).astype(np.uint8)
    search = _Search(weight, curvature, step, tradeoff, places, frozen)
    levels = nearest_levels(weight, step)
    levels[frozen != 0] = 0
    best = search.judged(levels)
    if start is not None:
        levels = np.ascontiguousarray(start, np.int32).copy()
        levels[frozen != 0] = 0
        best = min(best, search.judged(levels), key=lambda c: c.cost(tradeoff))
    else:
        search.feedback(levels)
        first = search.judged(levels)
        if tradeoff > 0:  # once more with the prices of what was chosen
            search.feedback(levels)
        best = min(best, first, search.judged(levels), key=lambda c: c.cost(tradeoff))
    for _ in range(sweeps):
        changed = search.sweep(levels)
        found = search.judged(levels)
        gain = best.cost(tradeoff) - found.cost(tradeoff)
        if gain > 0:
            best = found
        if not changed or gain < 1e-3 * abs(best.cost(tradeoff)):
            break
    return best
