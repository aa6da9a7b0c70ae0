"""Bottleneck projection: fewer channels by a 1x1 convolution, fewer positions by pooling."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from netpress.layers.activation import activation as make_activation
from netpress.layers.feature_maps import check_feature_maps
from netpress.layers.reduction_layer import ReductionLayer
from netpress.layers.tucker import TuckerLift


class Bottleneck(ReductionLayer):
    """1x1 convolution, batch norm, activation, adaptive average pooling: (N, C, H, W) -> (N, r_C * r_H * r_W).

    ``C r_C + 2 r_C`` parameters: (256, 4, 4) -> (35, 3, 3) has 9,030.

    Args:
        feature_shape: (C, H, W).
        ranks: (r_C, r_H, r_W).
        activation: Name from ``netpress.layers.activation``.

    Raises:
        ConfigError: If the features are not maps, or a rank is out of range.
        UnknownNameError: If there is no such activation.
    """

    def __init__(self, feature_shape: Sequence[int], ranks: Sequence[int], *, activation: str = "relu") -> None:
        super().__init__()
        self.feature_shape, self.ranks = check_feature_maps(feature_shape, ranks, "a bottleneck")
        channels, (rank, height, width) = self.feature_shape[0], self.ranks
        self.out_features = rank * height * width
        self.conv = nn.Conv2d(channels, rank, 1, bias=False)
        self.norm = nn.BatchNorm2d(rank)
        self.activation = make_activation(activation)
        self.pool = nn.AdaptiveAvgPool2d((height, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_features)."""
        x = self.activation(self.norm(self.conv(x)))  # (N, C, H, W) -> (N, r_C, H, W)
        return self.pool(x).flatten(1)  # (N, r_C, r_H, r_W) -> (N, out_features)

    def lift(self) -> TuckerLift:
        """A new, untrained module back to the feature shape."""
        return TuckerLift(self.feature_shape, self.ranks)
