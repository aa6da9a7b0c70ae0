"""Projection of flattened features onto one subspace: POD or active subspace (``netpress.maths.subspace``)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from netpress.errors import WeightsError
from netpress.layers.reduction_layer import ReductionLayer
from netpress.maths.ranks import check_feature_shape, check_rank


class LinearProjection(ReductionLayer):
    """Flattens and multiplies by one matrix: (N, d1, ..., dk) -> (N, rank).

    ``rank * d1 * ... * dk`` parameters in a bias-free ``nn.Linear`` (published: rank 50). Starts with random
    orthonormal rows; ``set_basis`` puts in a fitted basis.

    Args:
        feature_shape: (C, H, W), or any (d1, ..., dk).
        rank: In 1..d1 * ... * dk.
        trainable: False freezes the matrix; it still counts as parameters.

    Raises:
        ConfigError: If the rank is out of range.
    """

    def __init__(self, feature_shape: Sequence[int] | int, rank: int, *, trainable: bool = True) -> None:
        super().__init__()
        self.feature_shape = check_feature_shape(feature_shape)
        size = torch.Size(self.feature_shape).numel()
        self.out_features = check_rank(size, rank)
        self.ranks = (self.out_features,)
        self.projection = nn.Linear(size, self.out_features, bias=False)
        nn.init.orthogonal_(self.projection.weight)
        self.requires_grad_(trainable)

    def forward(self, x: Tensor) -> Tensor:
        """(N, d1, ..., dk) -> (N, rank)."""
        return self.projection(x.flatten(1))  # (N, d1, ..., dk) -> (N, n) -> (N, rank)

    def set_basis(self, basis: Tensor) -> None:
        """Copies a fitted basis (rank, n), one vector a row, into the layer.

        Raises:
            WeightsError: If the shape does not fit or it is not finite.
        """
        _copy(self.projection.weight, basis)

    def lift(self) -> LinearLift:
        """A new module back to the feature shape, starting at the transposed basis."""
        back = LinearLift(self.feature_shape, self.out_features)
        back.set_matrix(self.projection.weight.detach().T)
        return back


class LinearLift(nn.Module):
    """The way back: (N, rank) -> (N, d1, ..., dk) by one bias-free ``nn.Linear``, (n, rank).

    Args:
        feature_shape: (d1, ..., dk), the shape to restore.
        rank: Size of the input.

    Raises:
        ConfigError: If the rank is out of range.
    """

    def __init__(self, feature_shape: Sequence[int] | int, rank: int) -> None:
        super().__init__()
        self.feature_shape = check_feature_shape(feature_shape)
        size = torch.Size(self.feature_shape).numel()
        self.ranks = (check_rank(size, rank),)
        self.expansion = nn.Linear(rank, size, bias=False)
        nn.init.orthogonal_(self.expansion.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, rank) -> (N, d1, ..., dk)."""
        return self.expansion(x).reshape(-1, *self.feature_shape)  # (N, n) -> (N, d1, ..., dk)

    def set_matrix(self, matrix: Tensor) -> None:
        """Copies a matrix (n, rank) into the layer.

        Raises:
            WeightsError: If the shape does not fit or it is not finite.
        """
        _copy(self.expansion.weight, matrix)


def _copy(weight: Tensor, matrix: Tensor) -> None:
    if weight.shape != matrix.shape:
        raise WeightsError("the basis does not fit the layer", got=tuple(matrix.shape), allowed=tuple(weight.shape))
    if not bool(torch.isfinite(matrix).all()):
        raise WeightsError("the basis is not finite", remedy="check the features it was fitted to")
    with torch.no_grad():
        weight.copy_(matrix)
