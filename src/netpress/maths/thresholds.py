"""Proximal operators of the penalties that make zeros (Parikh and Boyd, "Proximal algorithms", 2014, sections 6.5.2 and 6.5.4)."""

from __future__ import annotations

from torch import Tensor


def soft_threshold(values: Tensor, threshold: float) -> Tensor:
    """sign(v) · max(|v| - t, 0): the minimiser of ½ |x - v|² + t |x|₁. Of the shape of ``values``; zeros are exact."""
    return values.sign() * (values.abs() - threshold).clamp_min(0)


def group_soft_threshold(norms: Tensor, threshold: float) -> Tensor:
    """max(1 - t / ‖v‖, 0): what the minimiser of ½ |x - v|² + t ‖x‖ takes of each group v of such a norm; 0 where the norm is 0."""
    return (1 - threshold / norms.clamp_min(1e-300)).clamp_min(0)
