"""Distillation block by block: beside the answers, what comes out of each block is matched with the teacher's.

The student is the teacher with fewer channels, so that each of its channels has one of the teacher's to learn from: no adapter is
trained, and the match costs one subtraction a value.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netpress.errors import TrainingError
from netpress.graph import GraphNetwork
from netpress.measure.layout import to_channels_last
from netpress.training.objectives import Distillation, Targets, distillation_loss, refuse_shared


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


class DistillBlocks:
    """Distillation of answers and blocks: ``distillation_loss + weight · mean over blocks of mean (S - T)² / variance of T``.

    The relative error makes blocks comparable: 1 is a student that knows no more of a block than the mean of all its values.
    Source: inspired by Ahmed et al., arXiv 2104.09191 (its abstract; the terms are ours).

    Works on a private copy of the teacher, in eval mode; labels are not looked at when ``settings.alpha`` is 1.

    Args:
        teacher: The original; left as it is.
        matches: Where to compare; a student whose program has another length is refused.
        settings: Of the distillation of the answers.
        weight: Of the blocks' part beside it.

    Raises:
        TrainingError: When called with a network that shares tensors with the teacher, or that has another program.
    """

    def __init__(
        self,
        teacher: GraphNetwork,
        matches: Sequence[Match],
        settings: Distillation | None = None,
        *,
        weight: float = 1.0,
    ) -> None:
        self.settings = settings or Distillation()
        self.weight = weight
        self._given = teacher
        self._copy = copy.deepcopy(teacher).eval().requires_grad_(False)
        self._matches = {match.node: match for match in matches}
        self._channels: dict[int, Tensor] = {}
        self._layout: torch.memory_format = torch.contiguous_format
        self._ready_for: int | None = None

    def __call__(self, network: nn.Module, x: Tensor, y: Targets) -> dict[str, Tensor]:
        student = self._checked(network, x)
        wanted: dict[int, Tensor] = {}
        made: dict[int, Tensor] = {}

        def of_teacher(node: int, value: Any) -> None:
            if node in self._matches:
                wanted[node] = value

        def of_student(node: int, value: Any) -> None:
            if node in self._matches:
                made[node] = value

        with torch.no_grad():
            answer = self._copy.run(x.contiguous(memory_format=self._layout), of_teacher)
        output = student.run(x, of_student)
        labels = y[0] if isinstance(y, tuple) else y
        settings = self.settings
        loss = distillation_loss(
            output,
            answer,
            None if settings.alpha == 1 else labels,
            alpha=settings.alpha,
            temperature=settings.temperature,
            reduction=settings.reduction,
            label_smoothing=settings.label_smoothing,
        )
        errors = [self._error(match, made[node], wanted[node]) for node, match in self._matches.items()]
        if errors:
            loss = loss + self.weight * torch.stack(errors).mean()
        return {"loss": loss, "output": output}

    def __repr__(self) -> str:
        places = [(m.node, m.axis, m.channels) for m in self._matches.values()]
        return f"DistillBlocks({self.settings!r}, weight={self.weight}, matches={places})"

    def _error(self, match: Match, made: Tensor, wanted: Tensor) -> Tensor:
        if len(match.channels) != wanted.shape[match.axis]:
            wanted = wanted.index_select(match.axis, self._channels[match.node])
        if made.shape != wanted.shape:
            raise TrainingError(
                "a block of the student does not fit the teacher's",
                got=f"{tuple(made.shape)} and {tuple(wanted.shape)} after node {match.node}",
                allowed="equal shapes",
            )
        wanted = wanted.float()
        spread = wanted.var(unbiased=False).clamp_min(1e-12)
        return (made.float() - wanted).square().mean() / spread

    def _checked(self, network: nn.Module, x: Tensor) -> GraphNetwork:
        if not isinstance(network, GraphNetwork) or len(network.nodes) != len(self._given.nodes):
            raise TrainingError(
                "blocks can only be matched between programs of one length",
                got=type(network).__name__ if not isinstance(network, GraphNetwork) else f"{len(network.nodes)} nodes",
                allowed=f"a traced network of {len(self._given.nodes)} nodes",
                remedy="distil the answers alone",
            )
        if self._ready_for != id(network):
            refuse_shared(network, self._given)
            last = to_channels_last(self._copy.to(x.device), x)
            self._layout = torch.channels_last if last else torch.contiguous_format
            self._channels = {n: torch.tensor(m.channels, device=x.device) for n, m in self._matches.items()}
            self._ready_for = id(network)
        return network
