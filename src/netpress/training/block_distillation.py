"""Distillation block by block: beside the answers, what comes out of each block is matched with the teacher's.

The student is the teacher with fewer channels, so that each of its channels has one of the teacher's to learn from: no adapter is
trained, and the match costs one subtraction a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netpress.errors import TrainingError
from netpress.graph import GraphNetwork
from netpress.training.feature_distillation import FeatureDistillation
from netpress.training.objectives import Distillation


@dataclass(frozen=True)
class Match:
    """A value of the student that should be what the teacher has there.

    Attributes:
        node: Number of the node that makes it, in the teacher's program and in the student's.
        channels: Which of the teacher's channels (axis 1 of an image, the last axis of tokens) the student has, in order.
        axis: Where channels lie.
    """

    node: int
    channels: tuple[int, ...]
    axis: int = 1


class DistillBlocks(FeatureDistillation):
    """Distillation of answers and blocks: ``distillation_loss + weight · mean over blocks of mean (S - T)² / variance of T``.

    The relative error makes blocks comparable: 1 is a student that knows no more of a block than the mean of all its values.
    Source: inspired by Ahmed et al., arXiv 2104.09191 (its abstract; the terms are ours).

    Args:
        teacher: The original; left as it is.
        matches: Where to compare.
        settings: Of the distillation of the answers.
        weight: Of the blocks' part beside it.

    Raises:
        TrainingError: As `FeatureDistillation`; a block whose shape is not that of the teacher's channels.
    """

    def __init__(
        self,
        teacher: GraphNetwork,
        matches: Sequence[Match],
        settings: Distillation | None = None,
        *,
        weight: float = 1.0,
    ) -> None:
        self._matches = {match.node: match for match in matches}
        self._channels: dict[int, Tensor] = {}
        super().__init__(teacher, self._matches, settings or Distillation(), weight=weight)

    def error(self, node: int, made: Tensor, wanted: Tensor) -> Tensor:
        match = self._matches[node]
        if len(match.channels) != wanted.shape[match.axis]:
            if node not in self._channels or self._channels[node].device != wanted.device:
                self._channels[node] = torch.tensor(match.channels, device=wanted.device)
            wanted = wanted.index_select(match.axis, self._channels[node])
        if made.shape != wanted.shape:
            raise TrainingError(
                "a block of the student does not fit the teacher's",
                got=f"{tuple(made.shape)} and {tuple(wanted.shape)} after node {match.node}",
                allowed="equal shapes",
            )
        wanted = wanted.float()
        spread = wanted.var(unbiased=False).clamp_min(1e-12)
        return (made.float() - wanted).square().mean() / spread

    def __repr__(self) -> str:
        places = [(m.node, m.axis, m.channels) for m in self._matches.values()]
        return f"DistillBlocks({self.settings!r}, weight={self.weight}, matches={places})"
