"""Pressure on the scales of batch normalisations: by what their channels cost, as long as a bound is broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from netpress.pipeline.channel_scores import scale_places
from netpress.pipeline.widths import Bound
from netpress.structure import Channels, Costs

RAMP = 0.2  # share of the steps in which the pressure comes up


@dataclass(frozen=True)
class Pressure:
    """Constraint: adds to the gradient of each scale γ of a channel λ·sign(γ), the gradient of an L1 penalty.

    λ is ``strength`` times, for each bound, how far it is broken (at most 1: twice the bound) times what the channel costs beside the
    dearest. A channel counts as much as its scale is of what scales of its layer were at first, at most 1, so that costs fall as
    scales do. λ depends on the network and the step alone, so that a run which is killed goes on to the same bytes.
    Source: inspired by Liu et al., arXiv 1708.06519 (L1 on scales) and Gordon et al., arXiv 1711.06798 (costs by scales).

    Attributes:
        scales: By group the names of the scales, where their channels lie in them, and the mean |γ| at first.
        costs: Of the network.
        bounds: To be met.
        strength: See above.
        steps: Of the training.
    """

    scales: tuple[tuple[tuple[str, Tensor, float], ...], ...]
    costs: Costs
    bounds: tuple[Bound, ...]
    strength: float
    steps: int

    @classmethod
    def of(cls, channels: Channels, costs: Costs, bounds: Sequence[Bound], strength: float, steps: int) -> Pressure:
        """For a network as it is now."""
        found = []
        for group in channels.groups.values():
            held = []
            for place in scale_places(channels, group):
                rows = torch.from_numpy(place.rows)
                first = channels.net.get_parameter(place.tensor).detach().abs().cpu()[rows].mean()
                held.append((place.tensor, rows, max(float(first), 1e-12)))
            found.append(tuple(held))
        return cls(tuple(found), costs, tuple(bounds), strength, steps)

    def after_backward(self, network: nn.Module, step: int, /) -> None:
        """Adds the penalty's gradient."""
        kept = np.array([self._count(network, n) for n in range(len(self.scales))], np.int64)
        ramp = min(1.0, (step + 1) / max(1.0, RAMP * self.steps))
        force = np.zeros(len(self.scales))
        for bound in self.bounds:
            over = min(1.0, self.costs.at(bound.metric, kept, bound.within) / max(bound.most, 1.0) - 1)
            if over > 0:
                slopes = self.costs.slopes(bound.metric, kept, bound.within)
                force += over * slopes / max(float(slopes.max()), 1e-30)
        for number, held in enumerate(self.scales):
            for name, rows, _ in held:
                scale = network.get_parameter(name)
                if scale.grad is not None and force[number] > 0:
                    rows = rows.to(scale.device)
                    scale.grad[rows] += self.strength * ramp * float(force[number]) * scale.detach()[rows].sign()

    def after_step(self, network: nn.Module, step: int, /) -> None:
        """Nothing."""

    def _count(self, network: nn.Module, number: int) -> int:
        """Channels of a group, each counted by its scale; all of them where there are no scales."""
        held = self.scales[number]
        size = int(self.costs.full[number])
        if not held:
            return size
        parts = [network.get_parameter(n).detach().abs().cpu()[rows] / first for n, rows, first in held]
        return max(1, round(size * float(torch.cat(parts).clamp(max=1).mean())))


@dataclass(frozen=True)
class LassoOnScales:
    """Constraint: the gradient of ``penalty`` times the L1 norm of the named parameters is added to theirs.

    Attributes:
        names: Dotted names.
        penalty: Weight in the loss.
    """

    names: tuple[str, ...]
    penalty: float

    def after_backward(self, network: nn.Module, step: int, /) -> None:
        """Adds the penalty's gradient."""
        for name in self.names:
            scale = network.get_parameter(name)
            if scale.grad is not None:
                scale.grad.add_(scale.detach().sign(), alpha=self.penalty)

    def after_step(self, network: nn.Module, step: int, /) -> None:
        """Nothing."""
