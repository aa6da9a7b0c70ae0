"""MLP-Mixer: places and channels mixed in turn, then projected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netpress.errors import ConfigError
from netpress.layers import MixerProjection, ReductionLayer
from netpress.pipeline.features import Features
from netpress.pipeline.job import Job
from netpress.pipeline.ranks import Ranks, channel_path, default_channel_ranks
from netpress.pipeline.reduction import ModeReduction


@dataclass(frozen=True, kw_only=True)
class Mixer(ModeReduction):
    """H·W tokens of r_C channels, one or two token- and channel-mixing blocks, then a projection to r_H·r_W tokens.

    Idea: a small network of its own in place of the tail: every place sees every other at the cost of two thin layers.
    Helps: early cuts, where the tail that is gone still had work to do. Fails: large maps: the token layers grow with (H·W)².
    Source: Tolstikhin et al. 2021 (Mixer); named in Meneghetti et al. 2026; this form is ours.

    Attributes:
        ranks: (r_C, r_H, r_W); None takes the most channels that the budget allows, else C/4.
        blocks: Mixing blocks, 1 or 2.
    """

    blocks: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks not in (1, 2):
            raise ConfigError("blocks is out of range", got=self.blocks, allowed="1 or 2")

    @property
    def learned(self) -> bool:
        return True

    def build(self, shape: Sequence[int], ranks: Ranks) -> ReductionLayer:
        return MixerProjection(shape, ranks, blocks=self.blocks)

    def fit_layer(self, features: Features, job: Job) -> tuple[ReductionLayer, Ranks]:
        shape = features.map_shape("mixer")
        ranks = features.choose_ranks(channel_path(shape), default_channel_ranks(shape))
        return self.build(shape, ranks), ranks
