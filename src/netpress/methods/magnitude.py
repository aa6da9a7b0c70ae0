"""Magnitude: channels with small weights go first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netpress.errors import ConfigError
from netpress.pipeline.channel_scores import fisher, magnitudes, scales
from netpress.pipeline.job import Job
from netpress.pipeline.narrowing import ChannelMethod
from netpress.pipeline.widths import Scores, uniform
from netpress.structure import Channels


@dataclass(frozen=True, kw_only=True)
class Magnitude(ChannelMethod):
    """Takes away the channels that matter least, by one number a channel, in one cut.

    Idea: a channel is all the filters, biases, norms and inputs that go with it, over every layer that it is tied to. Its worth is
    their norm over the mean of its group (``l1``, ``l2``), the scale of its batch normalisation (``bn``), or what the
    network's answers would lose without it (``fisher``, which needs no labels).
    Helps: as the baseline of structured pruning; ``l1`` over the whole network is a good first choice, ``fisher`` costs a few
    seconds of data.
    Fails: ``global`` can empty a layer whose weights are small but needed; ``least`` bounds it. ``by_cost`` with norms narrows the
    dear first layers too far.
    Source: Li et al., arXiv 1608.08710 (norms); Liu et al., arXiv 1708.06519 (scales); Theis et al., arXiv 1801.05787 (``fisher``).

    Attributes:
        score: ``l1``, ``l2``, ``bn`` or ``fisher``.
        scope: ``global`` compares channels of the whole network; ``block`` those of a block, and every block keeps the same share of
            its own cost; ``layer`` narrows every group by the same share.
        by_cost: Divides worth by cost to this power, 0 to 1: a channel that saves more goes earlier.
    """

    score: Literal["l1", "l2", "bn", "fisher"] = "l1"
    scope: Literal["global", "block", "layer"] = "global"
    by_cost: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.by_cost <= 1:
            raise ConfigError("by_cost is out of range", got=self.by_cost, allowed="0 to 1")
        if self.score not in ("l1", "l2", "bn", "fisher"):
            raise ConfigError("unknown score", got=repr(self.score), allowed="l1, l2, bn, fisher")
        if self.scope not in ("global", "block", "layer"):
            raise ConfigError("unknown scope", got=repr(self.scope), allowed="global, block, layer")

    @property
    def by_block(self) -> bool:
        return self.scope == "block"

    @property
    def cost_power(self) -> float:
        return self.by_cost

    def scores(self, channels: Channels, job: Job) -> Scores:
        if self.score == "fisher":
            found = fisher(channels, job)
        elif self.score == "bn":
            found = scales(channels)
        else:
            found = magnitudes(channels, 1 if self.score == "l1" else 2)
        return uniform(found) if self.scope == "layer" else found
