"""MLP-Mixer projection (Tolstikhin et al., "MLP-Mixer: an all-MLP architecture for vision", NeurIPS 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from netpress.errors import ConfigError
from netpress.layers.feature_maps import check_feature_maps, check_width
from netpress.layers.reduction_layer import ReductionLayer
from netpress.layers.tucker import TuckerLift


class MixerBlock(nn.Module):
    """One pre-norm Mixer block: tokens are mixed, then channels, each by a two-layer perceptron with a residual.

    (N, T, D) -> (N, T, D).

    Args:
        tokens: T.
        channels: D.
        token_hidden: Hidden width across tokens.
        channel_hidden: Hidden width across channels.
    """

    def __init__(self, tokens: int, channels: int, token_hidden: int, channel_hidden: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(channels)
        self.token_mlp = nn.Sequential(nn.Linear(tokens, token_hidden), nn.GELU(), nn.Linear(token_hidden, tokens))
        self.channel_norm = nn.LayerNorm(channels)
        self.channel_mlp = nn.Sequential(
            nn.Linear(channels, channel_hidden), nn.GELU(), nn.Linear(channel_hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        mixed = self.token_mlp(self.token_norm(x).transpose(1, 2))  # (N, T, D) -> (N, D, T)
        x = x + mixed.transpose(1, 2)  # (N, D, T) -> (N, T, D)
        return x + self.channel_mlp(self.channel_norm(x))


class MixerProjection(ReductionLayer):
    """Positions as tokens, channels embedded to r_C, mixed, then positions projected to r_H * r_W.

    (N, C, H, W) -> (N, r_C * r_H * r_W), in the order of the other reduction layers (channel first). With T = H W,
    D = r_C, P = r_H r_W, hidden widths a (tokens) and b (channels) the parameters are
    ``C D + D + blocks * (2 T a + a + T + 2 D b + b + D + 4 D) + T P + P``.

    Args:
        feature_shape: (C, H, W).
        ranks: (r_C, r_H, r_W).
        blocks: 1 or 2.
        token_hidden: Hidden width across tokens; None: T.
        channel_hidden: Hidden width across channels; None: r_C.

    Raises:
        ConfigError: If the features are not maps, or a rank, ``blocks`` or a width is out of range.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        ranks: Sequence[int],
        *,
        blocks: int = 1,
        token_hidden: int | None = None,
        channel_hidden: int | None = None,
    ) -> None:
        super().__init__()
        self.feature_shape, self.ranks = check_feature_maps(feature_shape, ranks, "a Mixer projection")
        if blocks not in (1, 2):
            raise ConfigError("the number of Mixer blocks is out of range", got=blocks, allowed="1 or 2")
        (channels, height, width), (dim, *targets) = self.feature_shape, self.ranks
        tokens = height * width
        token_width = check_width("token_hidden", token_hidden, tokens)
        channel_width = check_width("channel_hidden", channel_hidden, dim)
        self.out_features = dim * targets[0] * targets[1]
        self.embed = nn.Linear(channels, dim)
        self.blocks = nn.Sequential(*(MixerBlock(tokens, dim, token_width, channel_width) for _ in range(blocks)))
        self.project = nn.Linear(tokens, targets[0] * targets[1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_features)."""
        x = self.embed(x.flatten(2).transpose(1, 2))  # (N, C, H, W) -> (N, T, C) -> (N, T, D)
        x = self.blocks(x)
        return self.project(x.transpose(1, 2)).flatten(1)  # (N, D, T) -> (N, D, P) -> (N, D * P)

    def lift(self) -> TuckerLift:
        """A new, untrained module back to the feature shape."""
        return TuckerLift(self.feature_shape, self.ranks)
