"""System 1's common part: the tail of a network gives way to a reduction layer and a small input-output map.

Meneghetti et al. 2026. The methods in ``methods/`` say which layer it is and how it is fitted; this says the rest:

    cut the network            x -> before -> features (N, C, H, W) -> after -> answers
    run ``before`` once        features, labels and the original's answers go to disk; statistics of the stream are taken on the way
    choose ranks               given, by energy kept, or the largest that the budget allows
    fit the layer              in closed form from the statistics, or by training
    fit the map                FNN or PCE on the reduced features; or the original's own tail on the lifted features
    put together               body (= before), reduction, map: one plain module, later distilled as a whole
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from netpress.errors import BudgetError, ConfigError, CutError
from netpress.graph import Cut, GraphNetwork, find_cut, legal_cuts, split
from netpress.layers import LinearProjection, ReductionLayer
from netpress.maths import check_rank, check_ranks
from netpress.pipeline.budget import fits
from netpress.pipeline.features import Features
from netpress.pipeline.job import Job
from netpress.pipeline.method import Method
from netpress.pipeline.ranks import Ranks

MAP_KINDS = ("fnn", "pce", "tail")


@dataclass(frozen=True, kw_only=True)
class Reduction(Method):
    """Cuts a network and puts a reduction layer and an input-output map in place of its tail.

    Attributes:
        at: Dotted name of the module before which to cut; None takes the job's cut, or chooses one (``choose_cut``).
        map: ``fnn`` (a small fully-connected network), ``pce`` (Hermite polynomials and a linear head), or ``tail`` (the
            original's own tail behind a layer that lifts the reduced features back: fewer dimensions, not fewer parameters).
        hidden: Widths of the FNN's hidden layers; the published one has 20.
        degree: Total degree of the PCE.
        trainable: Whether the projection is trained with the rest afterwards, or stays as it was fitted.
        map_epochs: Passes over the stored features that fit the map (and a learned layer).
        map_lr: Peak learning rate of those passes.
    """

    at: str | None = None
    map: Literal["fnn", "pce", "tail"] = "fnn"
    hidden: tuple[int, ...] = (20,)
    degree: int = 2
    trainable: bool = True
    map_epochs: int = 20
    map_lr: float = 2e-3

    def __post_init__(self) -> None:
        if self.map not in MAP_KINDS:
            raise ConfigError("unknown map", got=repr(self.map), allowed=", ".join(MAP_KINDS))
        if not all(width >= 1 for width in self.hidden):
            raise ConfigError("hidden has a width below 1", got=list(self.hidden), allowed="widths of at least 1")
        if self.degree < 1 or self.map_epochs < 0 or self.map_lr <= 0:
            raise ConfigError(
                "degree, map_epochs or map_lr is out of range",
                got=f"{self.degree}, {self.map_epochs}, {self.map_lr}",
                allowed="degree >= 1, map_epochs >= 0, map_lr > 0",
            )

    # What a method says of its layer ------------------------------------------------------------------------------

    @abstractmethod
    def build(self, shape: Sequence[int], ranks: Ranks) -> ReductionLayer:
        """The layer, not fitted yet, for features of ``shape`` (without N)."""

    @abstractmethod
    def given_ranks(self, shape: Sequence[int]) -> Ranks | None:
        """The ranks that the user fixed, checked against ``shape``; None leaves the choice to ``candidates``."""

    @abstractmethod
    def fit_layer(self, features: Features, job: Job) -> tuple[ReductionLayer, Ranks]:
        """Chooses ranks (by ``features.choose_ranks``) and gives the layer: fitted, or freshly built when ``learned``."""

    @property
    @abstractmethod
    def learned(self) -> bool:
        """Whether the layer is trained together with the map (True) or fitted in closed form (False)."""

    # The common way ------------------------------------------------------------------------------------------------

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        at = self.at or job.cut
        cut = choose_cut(network, job.bounds) if at is None else find_cut(network, at)
        before, after = split(network, cut.name)
        features = Features(self, cut, before.to(job.device).eval(), after.to(job.device).eval(), job)
        job.progress.say(f"cut before {cut.name!r}: features {tuple(cut.shape)}")
        with features:
            layer, ranks = self.fit_layer(features, job)
            job.progress.say(f"ranks {list(ranks)}")
            mapping = features.fit_map(layer.to(job.device))
        for parameter in layer.parameters():
            parameter.requires_grad_(self.trainable)
        return nn.Sequential(OrderedDict(body=before, reduction=layer, map=mapping))


@dataclass(frozen=True, kw_only=True)
class ModeReduction(Reduction):
    """A reduction with one rank a mode: (C, H, W) to (r_C, r_H, r_W).

    Attributes:
        ranks: One a mode; None chooses by the budget, else by the method's own rule.
    """

    ranks: tuple[int, ...] | None = None

    def given_ranks(self, shape: Sequence[int]) -> Ranks | None:
        return None if self.ranks is None else check_ranks(shape, self.ranks)


@dataclass(frozen=True, kw_only=True)
class FlatReduction(Reduction):
    """A reduction of the flattened features to r numbers, its matrix found in closed form.

    Attributes:
        rank: r; None chooses by the budget, else by ``energy``.
        energy: Share of the energy to keep when neither a rank nor a budget decides.
    """

    rank: int | None = None
    energy: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_energy(self.energy)
        if self.rank is not None and self.rank < 1:
            raise ConfigError("rank is out of range", got=self.rank, allowed="at least 1")

    @property
    def learned(self) -> bool:
        return False

    def given_ranks(self, shape: Sequence[int]) -> Ranks | None:
        return None if self.rank is None else (check_rank(torch.Size(shape).numel(), self.rank),)

    def build(self, shape: Sequence[int], ranks: Ranks) -> ReductionLayer:
        return LinearProjection(shape, ranks[0])


def choose_cut(network: GraphNetwork, bounds: Mapping[str, float]) -> Cut:
    """A cut where the user named none: the last that leaves feature maps and a tenth of the budget for what follows.

    Without a budget: the cut whose first part has nearest to half of the MACs.

    Raises:
        CutError: The network has no legal cut.
        BudgetError: Even the first cut leaves too much before it.
    """
    cuts = legal_cuts(network)
    cuts = [c for c in cuts if len(c.shape) == 3] or cuts
    if not cuts:
        raise CutError("the network has no legal cut", remedy="use a method that does not cut")
    if not any(metric in bounds for metric in ("params", "macs", "bytes")):
        return min(cuts, key=lambda c: abs(c.macs_before - c.macs_after))
    room = {metric: 0.9 * bound for metric, bound in bounds.items()}
    fitting = [c for c in cuts if fits(room, params=c.params_before, macs=c.macs_before)]
    if not fitting:
        first = cuts[0]
        raise BudgetError(
            "the budget cannot be met by any cut",
            got=f"{first.params_before:,} parameters and {first.macs_before:,} MACs before the first cut {first.name!r}",
            allowed=", ".join(f"{m} <= {b:,.0f}" for m, b in bounds.items()),
            remedy="allow more",
        )
    return fitting[-1]


def check_energy(energy: float) -> None:
    """Raises ConfigError when a share of energy is outside (0, 1]."""
    if not 0 < energy <= 1:
        raise ConfigError("energy is out of range", got=energy, allowed="above 0, at most 1")
