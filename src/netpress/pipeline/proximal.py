"""LASSO by proximal steps: after each step of the optimizer weights are shrunk towards zero, and stop there.

The path: the penalty λ grows as long as more is left than a schedule wants, from nothing, each value starting from what the one before
left. It is a function of the network and the step alone, so that a run which is killed goes on to the same bytes. λ is in units of
each layer's own size, because a normalisation behind a layer makes the size of its weights arbitrary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from netpress.graph import GraphNetwork
from netpress.maths.pruning import gradual_density, kept_count, largest_mask
from netpress.maths.thresholds import group_soft_threshold, soft_threshold
from netpress.pipeline.widths import Bound
from netpress.structure import Channels, Costs, Place

PATH_UNTIL = 0.8  # of the steps: λ rises while the density falls; then the density is held
ROUNDS_A_STEP, MOST_ROUNDS = 2, 8  # of putting weights that are read in the place of those that are not


@dataclass(frozen=True)
class LassoPath:
    """Constraint: after each step ``soft_threshold(w, λ · size of the layer)``, with the smallest λ that leaves no more weights than
    the schedule wants, at most ``strength``.

    So λ follows from the network as it is: it rises from nothing, pushes where the schedule runs ahead, and shrinks survivors by no
    more than it takes to keep the others at zero. A weight that makes a channel which nobody reads any more is no weight that is
    left: it does nothing, and will be cut out. Others stay in its place, or what works would end far below what was asked for.
    Source of the step: Tibshirani, J. R. Stat. Soc. B 58 (1996) 267 (the penalty); Parikh and Boyd, "Proximal algorithms", 2014,
    section 6.5.2 (the operator); of the schedule: Zhu and Gupta, arXiv 1710.01878.

    Attributes:
        names: Dotted names of the weights.
        sizes: Root mean square of each at first.
        density: Of all of them together, at the end.
        strength: The largest λ: a weight as large as its layer's mean goes in 1 / strength steps or more.
        steps: Of the training.
        channels: By group of channels where the named weights make them, and where they read them.
    """

    names: tuple[str, ...]
    sizes: tuple[float, ...]
    density: float
    strength: float
    steps: int
    channels: tuple[tuple[int, tuple[Place, ...], tuple[Place, ...]], ...] = ()

    @classmethod
    def of(cls, network: GraphNetwork, names: Sequence[str], density: float, strength: float, steps: int) -> LassoPath:
        """For a network as it is now."""
        sizes = tuple(
            max(float(network.get_parameter(n).detach().double().square().mean().sqrt()), 1e-12) for n in names
        )
        made_and_read = []
        for group in Channels(network).groups.values():
            read = tuple(place for place in group.places if place.consumes)
            made = tuple(p for p in group.places if not p.consumes and p.axis == 0 and p.tensor in names)
            if read and made and all(place.tensor in names for place in read):
                made_and_read.append((group.size, made, read))
        return cls(tuple(names), sizes, density, strength, steps, tuple(made_and_read))

    def after_backward(self, network: nn.Module, step: int, /) -> None:
        """Nothing."""

    @torch.no_grad()
    def after_step(self, network: nn.Module, step: int, /) -> None:
        """Shrinks."""
        wanted = gradual_density((step + 1) / max(1.0, PATH_UNTIL * self.steps), self.density)
        scores = self._scores(network)
        flat = torch.cat([score.reshape(-1) for score in scores.values()])
        count = self._count(scores, flat, kept_count(len(flat), wanted))
        if count < len(flat):
            penalty = min(self.strength, float(flat.kthvalue(len(flat) - count).values))  # the largest of those to go
            for name, size in zip(self.names, self.sizes, strict=True):
                parameter = network.get_parameter(name)
                parameter.copy_(soft_threshold(parameter, penalty * size))

    def _scores(self, network: nn.Module) -> dict[str, Tensor]:
        """|w| in units of each layer's first size, by name."""
        return {
            n: network.get_parameter(n).detach().abs() / size for n, size in zip(self.names, self.sizes, strict=True)
        }

    def _count(self, scores: Mapping[str, Tensor], flat: Tensor, wanted: int) -> int:
        """How many of the largest it takes so that ``wanted`` of them make something that is read; at most twice as many."""
        count = wanted
        for _ in range(ROUNDS_A_STEP):
            if count >= len(flat):
                break
            threshold = flat.kthvalue(len(flat) - count).values
            kept = {name: score > threshold for name, score in scores.items()}
            self._drop_unread(kept)
            missing = wanted - sum(int(mask.sum()) for mask in kept.values())
            if missing <= 0:
                break
            count = min(len(flat), count + missing, 2 * wanted)
        return count

    @torch.no_grad()
    def finish(self, network: nn.Module) -> None:
        """Sets what is still above the density to zero: first what nobody reads, then the smallest, each in units of its layer's first
        size."""
        weights = {name: network.get_parameter(name) for name in self.names}
        scores = self._scores(network)
        count = kept_count(sum(w.numel() for w in weights.values()), self.density)
        for _ in range(MOST_ROUNDS):
            flat = torch.cat([score.reshape(-1) for score in scores.values()])
            masks = largest_mask(flat, count).split([w.numel() for w in weights.values()])
            kept = {n: m.reshape(w.shape) & (scores[n] > 0) for (n, w), m in zip(weights.items(), masks, strict=True)}
            before = sum(int(mask.sum()) for mask in kept.values())
            self._drop_unread(kept)
            if sum(int(mask.sum()) for mask in kept.values()) == before:
                break
            unread = {name: torch.ones_like(mask) for name, mask in kept.items()}
            self._drop_unread(unread, read_by=kept)
            for name, score in scores.items():
                score.masked_fill_(~unread[name], 0.0)  # others come in their place
        for name, weight in weights.items():
            weight.masked_fill_(~kept[name], 0.0)

    def _drop_unread(self, kept: dict[str, Tensor], read_by: Mapping[str, Tensor] | None = None) -> None:
        """Takes out of the masks of weights, in place, what makes channels that no weight of the masks ``read_by`` reads."""
        for size, made, read in reversed(self.channels):
            reads = torch.zeros(size, dtype=torch.bool)
            for place in read:
                used = (
                    (read_by or kept)[place.tensor].movedim(place.axis, 0).flatten(1).any(1).cpu()
                )  # (places along the axis,)
                reads[torch.from_numpy(place.channel)[used[torch.from_numpy(place.rows)]]] = True
            if bool(reads.all()):
                continue
            for place in made:
                rows = torch.from_numpy(place.rows)[~reads[torch.from_numpy(place.channel)]]
                kept[place.tensor][rows.to(kept[place.tensor].device)] = False


@dataclass(frozen=True)
class GroupLassoPath:
    """Constraint: after each step every channel's group of weights, all those that read it, is shrunk by its norm.

    A weight is read into one channel, so that groups do not overlap and one pass is the exact proximal step (Yuan and Lin, J. R. Stat.
    Soc. B 68 (2006) 49). A channel that nobody reads can be cut out without changing what the network computes.

    Attributes:
        groups: By group of channels, in the order of ``costs``: the places that read it, and the mean norm of its channels at first.
        costs: Of the network.
        bounds: To be met by the channels whose norm is not zero.
        strength: Of one step where a bound is broken by its own size or more: shares of the mean norm.
    """

    groups: tuple[tuple[tuple[Place, ...], float], ...]
    costs: Costs
    bounds: tuple[Bound, ...]
    strength: float

    @classmethod
    def of(cls, channels: Channels, costs: Costs, bounds: Sequence[Bound], strength: float) -> GroupLassoPath:
        """For a network as it is now; groups without readers are left alone."""
        held = []
        for name in costs.names:
            places = tuple(place for place in channels.groups[name].places if place.consumes)
            norms = reading_norms(channels.net, places, channels.groups[name].size)
            held.append((places, max(float(norms.mean()), 1e-12)))
        return cls(tuple(held), costs, tuple(bounds), strength)

    def after_backward(self, network: nn.Module, step: int, /) -> None:
        """Nothing."""

    @torch.no_grad()
    def after_step(self, network: nn.Module, step: int, /) -> None:
        """Shrinks."""
        norms = [
            reading_norms(network, places, int(size))
            for (places, _), size in zip(self.groups, self.costs.full, strict=True)
        ]
        counts = [
            int(size) if not places else max(1, int(norm.count_nonzero()))
            for (places, _), norm, size in zip(self.groups, norms, self.costs.full, strict=True)
        ]
        alive = np.array(counts, np.int64)
        force = np.zeros(len(self.groups))
        for bound in self.bounds:
            over = min(1.0, self.costs.at(bound.metric, alive, bound.within) / max(bound.most, 1.0) - 1)
            if over > 0:
                force[self.costs.slopes(bound.metric, alive, bound.within) > 0] += over
        for number, ((places, mean), norm) in enumerate(zip(self.groups, norms, strict=True)):
            if places and force[number] > 0:
                shrunk = group_soft_threshold(norm, self.strength * float(force[number]) * mean)
                for place in places:
                    _scale(network.get_parameter(place.tensor), place, shrunk)


def reading_norms(network: nn.Module, places: Sequence[Place], size: int) -> Tensor:
    """L2 norm of all weights that read each channel. (size,), float64, on the CPU"""
    total = torch.zeros(size, dtype=torch.float64)
    for place in places:
        weight = network.get_parameter(place.tensor).detach()
        squares = weight.double().movedim(place.axis, 0).flatten(1).square().sum(1).cpu()
        total.index_add_(0, torch.from_numpy(place.channel), squares[torch.from_numpy(place.rows)])
    return total.sqrt()


def _scale(weight: Tensor, place: Place, factors: Tensor) -> None:
    whole = torch.ones(weight.shape[place.axis], dtype=torch.float64)
    whole[torch.from_numpy(place.rows)] = factors[torch.from_numpy(place.channel)]
    shape = [1] * weight.dim()
    shape[place.axis] = -1
    weight.mul_(whole.to(weight).reshape(shape))
