"""The concordance index: how often a regression puts two samples into the right order."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from netpress.errors import DataError


def concordance_index(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The share of the pairs with different labels whose predictions are in the order of the labels; equal predictions
    count half (Gönen and Heller, "Concordance probability and discriminatory power in proportional hazards regression",
    Biometrika 92(4), 2005). 1 is a perfect order, .5 is chance. N samples take O(N log N), after Knight (JASA 61, 1966).

    Args:
        predictions, labels: (N,) or (N, 1), finite.

    Raises:
        DataError: Not as many of both, numbers that are not finite, or no two labels that differ.
    """
    p, y = (np.asarray(values, np.float64).reshape(-1) for values in (predictions, labels))
    if len(p) != len(y):
        raise DataError("not one prediction a label", got=f"{len(p)} predictions, {len(y)} labels")
    if not (np.isfinite(p).all() and np.isfinite(y).all()):
        raise DataError("predictions or labels cannot be ordered", got="NaN or infinity", allowed="finite numbers")
    order = np.lexsort((p, y))  # by label; among equal labels by prediction, so that no inversion lies within them
    p_rank = np.unique(p, return_inverse=True)[1].reshape(-1)[order]
    y_rank = np.unique(y, return_inverse=True)[1].reshape(-1)[order]
    comparable = _pairs(np.array([len(y)])) - _tied(y_rank)
    if comparable == 0:
        raise DataError("no two labels differ, so there is no order to judge", got=f"{len(y)} labels")
    # Pairs of equal predictions, less those whose labels are equal, too.
    half = _tied(p_rank) - _tied(y_rank * (int(p_rank.max()) + 1) + p_rank)
    return 1 - (inversions(p_rank) + half / 2) / comparable


def inversions(ranks: NDArray[np.int64]) -> int:
    """How many pairs i < j have ``ranks[i] > ranks[j]``. ``ranks``: (N,), 0 or more.

    Bit by bit from the highest: in a group of values that agree in all higher bits, each 0 is inverted with the ones
    before it; then the group's zeros move before its ones, in their order, which makes two groups of the next round.
    """
    values, total = np.asarray(ranks, np.int64), 0
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        ones = (values >> bit) & 1
        group = values >> (bit + 1)
        starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
        sizes = np.diff(np.r_[starts, len(values)])
        ones_before = np.cumsum(ones) - ones
        ones_before -= np.repeat(ones_before[starts], sizes)  # counted within the group
        total += int(ones_before[ones == 0].sum())
        first = np.repeat(starts, sizes)
        zeros_before = np.arange(len(values)) - first - ones_before
        zeros = np.repeat(np.add.reduceat(1 - ones, starts), sizes)
        moved = np.empty_like(values)
        moved[first + np.where(ones == 1, zeros + ones_before, zeros_before)] = values
        values = moved
    return total


def _tied(ranks: NDArray[np.int64]) -> int:
    return _pairs(np.unique(ranks, return_counts=True)[1])


def _pairs(counts: NDArray[np.int64]) -> int:
    return int((counts.astype(np.int64) * (counts - 1) // 2).sum())
