"""Which weights to keep, by their magnitude; ``density`` is the share that is kept."""

from __future__ import annotations

import torch
from torch import Tensor


def kept_count(count: int, density: float) -> int:
    """density·count to the nearest whole number, ties up; at least 1 of 1 or more: a layer without weights passes nothing on."""
    return min(count, max(1, int(density * count + 0.5)))


def largest_mask(scores: Tensor, count: int) -> Tensor:
    """Exactly ``count`` places with the largest scores; of equal scores the earlier ones, in row-major order.

    Args:
        scores: Any shape, no NaN.
        count: 0 to the number of scores.

    Returns:
        bool, of the shape of ``scores``.
    """
    flat = scores.reshape(-1)
    if count >= len(flat):
        return torch.ones_like(scores, dtype=torch.bool)
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = flat.kthvalue(len(flat) - count + 1).values
    mask = flat > threshold
    ties = torch.nonzero(flat == threshold).reshape(-1)
    mask[ties[: count - int(mask.sum())]] = True
    return mask.reshape(scores.shape)


def magnitude_mask(weights: Tensor, density: float) -> Tensor:
    """The ``kept_count`` largest weights by |w|: bool, of the weights' shape."""
    return largest_mask(weights.detach().abs(), kept_count(weights.numel(), density))


def lamp_scores(weights: Tensor) -> Tensor:
    """w² over the sum of the squares of all weights of the layer that are not smaller; float32 or float64, comparable over layers.

    Each layer's largest weight scores 1: one threshold over all layers never empties one. Source: Lee, Park, Mo, Ahn and Shin,
    "Layer-adaptive sparsity for the magnitude-based pruning", arXiv 2010.07611, equation 4.
    """
    flat = weights.detach().reshape(-1).double().square()
    ordered, order = torch.sort(
        flat, stable=True
    )  # of equal weights the later one scores higher; layers differ by more
    scores = torch.zeros_like(flat)
    # Sums are taken from the largest down, where float64 keeps them exact enough.
    scores[order] = ordered / ordered.flip(0).cumsum(0).flip(0).clamp_min(torch.finfo(torch.float64).tiny)
    return scores.reshape(weights.shape)


def gradual_density(progress: float, final: float, initial: float = 1.0) -> float:
    """Density after the share ``progress`` of a gradual pruning: final + (initial - final)·(1 - progress)³.

    Source: Zhu and Gupta, "To prune, or not to prune", arXiv 1710.01878, equation 1. Outside [0, 1] the ends hold.
    """
    left = 1 - min(1.0, max(0.0, progress))
    return final + (initial - final) * left**3
