"""Bottleneck: a 1×1 convolution and pooling, trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netpress.layers import Bottleneck as BottleneckLayer
from netpress.layers import ReductionLayer
from netpress.pipeline.features import Features
from netpress.pipeline.job import Job
from netpress.pipeline.ranks import Ranks, channel_path, default_channel_ranks
from netpress.pipeline.reduction import ModeReduction


@dataclass(frozen=True, kw_only=True)
class Bottleneck(ModeReduction):
    """1×1 convolution C → r_C with batch norm and activation, then adaptive average pooling to (r_H, r_W).

    Idea: the cheapest learned projection; channels are mixed, places averaged.
    Helps: always a good first try. Fails: where the place matters and (r_H, r_W) is too small to keep it.
    Source: named in Meneghetti et al. 2026; this form is ours.

    Attributes:
        ranks: (r_C, r_H, r_W); None takes the most channels that the budget allows, else C/4.
    """

    @property
    def learned(self) -> bool:
        return True

    def build(self, shape: Sequence[int], ranks: Ranks) -> ReductionLayer:
        return BottleneckLayer(shape, ranks)

    def fit_layer(self, features: Features, job: Job) -> tuple[ReductionLayer, Ranks]:
        shape = features.map_shape("bottleneck")
        ranks = features.choose_ranks(channel_path(shape), default_channel_ranks(shape))
        return self.build(shape, ranks), ranks
