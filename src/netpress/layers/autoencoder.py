"""Convolutional autoencoder: the encoder is the reduction layer, the decoder only trains it and is then dropped."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from netpress.layers.activation import activation as make_activation
from netpress.layers.feature_maps import check_feature_maps, check_width
from netpress.layers.reduction_layer import ReductionLayer
from netpress.layers.tucker import TuckerLift


class ConvEncoder(ReductionLayer):
    """1x1 convolution to a narrow width, then a 3x3 convolution, strided where at least half the positions go.

    (N, C, H, W) -> (N, r_C * r_H * r_W). Adaptive average pooling meets the sizes that the stride does not. With
    width w there are ``C w + 2 w + 9 w r_C + r_C`` parameters: (256, 4, 4) -> (35, 3, 3) has 20,090 at the default
    w = r_C. The code has no activation of its own, so that the features' scale survives.

    Args:
        feature_shape: (C, H, W).
        ranks: (r_C, r_H, r_W).
        width: Channels between the two convolutions; None: r_C.
        activation: Name from ``netpress.layers.activation``.

    Raises:
        ConfigError: If the features are not maps, or a rank or the width is out of range.
        UnknownNameError: If there is no such activation.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        ranks: Sequence[int],
        *,
        width: int | None = None,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.feature_shape, self.ranks = check_feature_maps(feature_shape, ranks, "a convolutional encoder")
        (channels, *sizes), (rank, *targets) = self.feature_shape, self.ranks
        self.out_features = rank * targets[0] * targets[1]
        self.width = check_width("the encoder's width", width, rank)
        self.reduce = nn.Conv2d(channels, self.width, 1, bias=False)
        self.norm = nn.BatchNorm2d(self.width)
        self.activation = make_activation(activation)
        # A 3x3 kernel sees every position up to stride 2 with overlap; the pooling does the rest.
        stride = [min(2, size // target) for size, target in zip(sizes, targets, strict=True)]
        self.conv = nn.Conv2d(self.width, rank, 3, stride=(stride[0], stride[1]), padding=1)
        reached = [(size - 1) // step + 1 for size, step in zip(sizes, stride, strict=True)]
        self.pool = nn.AdaptiveAvgPool2d((targets[0], targets[1])) if reached != targets else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_features)."""
        x = self.activation(self.norm(self.reduce(x)))  # (N, C, H, W) -> (N, width, H, W)
        return self.pool(self.conv(x)).flatten(1)  # (N, r_C, r_H, r_W) -> (N, out_features)

    def decoder(self) -> ConvDecoder:
        """A new, untrained decoder of the same sizes, for pre-training by feature error."""
        return ConvDecoder(self.feature_shape, self.ranks, width=self.width)

    def lift(self) -> TuckerLift:
        """A new, untrained module back to the feature shape; much smaller than the decoder."""
        return TuckerLift(self.feature_shape, self.ranks)


class ConvDecoder(nn.Module):
    """Mirror of ``ConvEncoder``: enlarge to H x W, 3x3 convolution to the width, 1x1 convolution to C.

    (N, r_C * r_H * r_W) -> (N, C, H, W). Used while training only.

    Args:
        feature_shape: (C, H, W), the shape to restore.
        ranks: (r_C, r_H, r_W).
        width: Channels between the two convolutions; None: r_C.
        activation: Name from ``netpress.layers.activation``.

    Raises:
        ConfigError: If the features are not maps, or a rank or the width is out of range.
        UnknownNameError: If there is no such activation.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        ranks: Sequence[int],
        *,
        width: int | None = None,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.feature_shape, self.ranks = check_feature_maps(feature_shape, ranks, "a convolutional decoder")
        self.width = check_width("the decoder's width", width, self.ranks[0])
        self.conv = nn.Conv2d(self.ranks[0], self.width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(self.width)
        self.activation = make_activation(activation)
        self.expand = nn.Conv2d(self.width, self.feature_shape[0], 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, r_C * r_H * r_W) -> (N, C, H, W)."""
        x = x.reshape(-1, *self.ranks)  # (N, r) -> (N, r_C, r_H, r_W)
        x = functional.interpolate(x, size=self.feature_shape[1:], mode="nearest")  # -> (N, r_C, H, W)
        return self.expand(self.activation(self.norm(self.conv(x))))  # -> (N, width, H, W) -> (N, C, H, W)
