"""Width multiplier: every layer keeps the same share of its channels."""

from __future__ import annotations

from dataclasses import dataclass

from netpress.pipeline.channel_scores import magnitudes
from netpress.pipeline.job import Job
from netpress.pipeline.narrowing import ChannelMethod
from netpress.pipeline.widths import Scores, uniform
from netpress.structure import Channels


@dataclass(frozen=True, kw_only=True)
class Width(ChannelMethod):
    """Narrows all layers by one share, keeping the channels with the largest weights.

    Idea: the plainest compact structure is the same network, narrower everywhere; whatever is cleverer must beat it. Unlike a
    multiplier that starts from nothing, the channels that stay keep their weights.
    Helps: as the baseline, and where latency should fall evenly.
    Fails: where some layers matter more than others, which is nearly everywhere; see ``magnitude`` and ``blockwise``.
    Source: Howard et al., arXiv 1704.04861, section 3.3 (the multiplier).
    """

    def scores(self, channels: Channels, job: Job) -> Scores:
        return uniform(magnitudes(channels, 2))
