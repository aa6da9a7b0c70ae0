"""Group LASSO: what reads a channel shrinks together, until nobody reads it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from netpress.errors import ConfigError
from netpress.graph import GraphNetwork
from netpress.pipeline.job import Job
from netpress.pipeline.narrowing import ChannelMethod
from netpress.pipeline.proximal import GroupLassoPath, reading_norms
from netpress.pipeline.widths import Scores
from netpress.structure import Channels, Costs


@dataclass(frozen=True, kw_only=True)
class GroupLasso(ChannelMethod):
    """Trains under a penalty on the norm of all weights that read a channel, and cuts out the channels that are read least.

    Idea: norms shrink by proximal steps as long as the budget is broken by the channels that are still read; one that nobody reads
    goes without changing what the network computes. Of those that are left the smallest norms go, if the budget asks for more.
    Equation: w ← w · max(1 - λ / ‖w‖, 0) for the weights w that read one channel; λ in units of the layer's mean norm.
    Helps: where channels should be given up by training, not by a score of the network as it is.
    Fails: in less than an epoch: norms fall by at most ``strength`` a step.
    Source: Yuan and Lin, J. R. Stat. Soc. B 68 (2006) 49; Wen et al., arXiv 1608.03665 (on networks).

    Attributes:
        epochs: Of training under the penalty, before the cut; 0 cuts by the norms as they are.
        strength: Of the largest shrinkage in a step, as a share of the layer's mean norm.
    """

    epochs: int = 1
    strength: float = 0.003

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs < 0:
            raise ConfigError("epochs is out of range", got=self.epochs, allowed="0 or more")
        if not 0 < self.strength <= 1:
            raise ConfigError("strength is out of range", got=self.strength, allowed="above 0, at most 1")

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        channels = Channels(network, self.whole)
        if self.epochs and channels.groups:
            costs = Costs(channels)
            path = GroupLassoPath.of(channels, costs, self.bounds(network, costs, job), self.strength)
            job.retrain(network, label="group-lasso", epochs=self.epochs, constraints=[path], restore_best=False)
            network.eval()
        return super().apply(network, job)

    def scores(self, channels: Channels, job: Job) -> Scores:
        """The norm of what reads a channel, over the mean of its group; nothing reads it: below 0. (size,) by group"""
        found = {}
        for name, group in channels.groups.items():
            places = [place for place in group.places if place.consumes]
            if not places:  # read by products of tensors alone: worth as much as any
                found[name] = reading_norms(channels.net, group.places, group.size).numpy() * 0 + 1
                continue
            norms = reading_norms(channels.net, places, group.size)
            shares = (norms / norms.mean().clamp_min(1e-300)).numpy()
            shares[norms.numpy() == 0] = -1.0
            found[name] = shares
        return found
