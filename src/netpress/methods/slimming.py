"""Slimming: batch normalisation scales are pressed towards zero, and the channels with the smallest go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from netpress.errors import ConfigError
from netpress.graph import GraphNetwork
from netpress.pipeline.channel_scores import scale_places, scales
from netpress.pipeline.job import Job
from netpress.pipeline.narrowing import ChannelMethod
from netpress.pipeline.pressure import LassoOnScales
from netpress.pipeline.widths import Scores
from netpress.structure import Channels


@dataclass(frozen=True, kw_only=True)
class Slimming(ChannelMethod):
    """Trains with an L1 penalty on the scales of batch normalisations, then takes away the channels whose scales are smallest.

    Idea: the scale γ says how much of a channel goes on; a penalty that is the same for all of them lets the network give up what it
    needs least. All scales of the network are compared with each other.
    Helps: as the baseline of global structured pruning on networks with a normalisation behind every convolution.
    Fails: on networks without normalisations (their channels are judged by their weights); where the penalty is too strong for the
    epochs that are given, accuracy falls before the cut.
    Source: Liu et al., ICCV 2017, arXiv 1708.06519.

    Attributes:
        epochs: Of training under the penalty, before the cut; 0 cuts by the scales as they are.
        penalty: Weight of the L1 norm of all scales in the loss.
        scope: ``global`` compares channels of the whole network; ``block`` those of a block, and every block keeps the same share of
            its own cost.
    """

    epochs: int = 1
    penalty: float = 1e-4
    scope: Literal["global", "block"] = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs < 0 or not 0 <= self.penalty < float("inf"):
            raise ConfigError(
                "epochs or penalty is out of range", got=f"{self.epochs}, {self.penalty}", allowed="0 or more"
            )
        if self.scope not in ("global", "block"):
            raise ConfigError("unknown scope", got=repr(self.scope), allowed="global, block")

    @property
    def by_block(self) -> bool:
        return self.scope == "block"

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        channels = Channels(network, self.whole)
        names = {place.tensor for group in channels.groups.values() for place in scale_places(channels, group)}
        if self.epochs and names:
            job.retrain(
                network,
                label="slimming",
                epochs=self.epochs,
                constraints=[LassoOnScales(tuple(sorted(names)), self.penalty)],
                restore_best=False,
            )
            network.eval()
        return super().apply(network, job)

    def scores(self, channels: Channels, job: Job) -> Scores:
        return scales(channels)
