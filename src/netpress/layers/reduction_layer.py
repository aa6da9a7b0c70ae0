"""What all reduction layers are."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn


class ReductionLayer(nn.Module, ABC):
    """A layer (N, *feature_shape) -> (N, out_features).

    Attributes:
        feature_shape: What it takes, without N.
        ranks: What it keeps, one a mode, or one in all.
        out_features: Width of what it gives.
    """

    feature_shape: tuple[int, ...]
    ranks: tuple[int, ...]
    out_features: int

    @abstractmethod
    def lift(self) -> nn.Module:
        """A new module back to the feature shape: (N, out_features) -> (N, *feature_shape)."""
