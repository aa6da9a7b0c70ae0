"""Magnitude pruning: the smallest weights become zero and stay zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from netpress.errors import ConfigError
from netpress.graph import GraphNetwork
from netpress.maths import gradual_density, kept_count, lamp_scores, largest_mask
from netpress.pipeline.constraints import Constraint
from netpress.pipeline.job import Job
from netpress.pipeline.values import Layer, ValueMethod, ZerosKept, checked_names, choose

#: Steps between two cuts of gradual pruning, and the share of all steps after which it has reached its density.
EVERY_STEPS = 20
GRADUAL_UNTIL = 0.6


@dataclass(frozen=True, kw_only=True)
class Prune(ValueMethod):
    """Sets the smallest weights of each layer to zero and trains the others.

    Idea: trained networks have far more weights than they need, and small ones matter least. Zeros cost little in the file, and
    what is left is stored as gaps and values. Exactly the share ``density`` of a layer's weights is kept (the nearest whole number,
    at least one weight; of equal ones the earlier). Biases and norms are left alone.
    Helps: before ``share``, and for regression, where few exact values serve better than many rounded ones.
    Fails: at high densities, where an index costs more than the zero saves; on depthwise convolutions, whose few weights all
    matter (set them to 1 in ``by_layer``); it brings no speed on its own.
    Source: Marinó et al. 2023, section 3.1; Zhu and Gupta, arXiv 1710.01878 (``gradual``); Lee et al., arXiv 2010.07611 (``lamp``).

    Attributes:
        density: Share of the weights that is kept; 1 leaves a layer alone.
        conv: Density of convolutions; None takes ``density``.
        fc: Density of fully-connected layers; None takes ``density``.
        embedding: Density of embeddings; None leaves them alone: their rows are looked up, not multiplied.
        by_layer: Density by a layer's dotted name, or by the beginning of several, such as ``{features: .3, classifier.6: 1}``.
        schedule: ``one_shot`` prunes and then trains; ``gradual`` lowers the density over the first 60 % of the retraining, by
            final + (1 - final)(1 - t)³.
        scope: ``layer`` (each layer has its own threshold), ``global`` (one threshold on \\|w\\| over all layers that get their
            density from the same field: all, or all ``conv``, or all of one entry of ``by_layer``), or ``lamp`` (the same with
            the score w² / Σ of all squares not smaller in the layer, which never empties a layer).
    """

    density: float = 0.1
    conv: float | None = None
    fc: float | None = None
    embedding: float | None = 1.0
    by_layer: Mapping[str, float] = field(default_factory=dict, hash=False)
    schedule: Literal["one_shot", "gradual"] = "one_shot"
    scope: Literal["layer", "global", "lamp"] = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_names(self.by_layer, float, "a density above 0, at most 1")
        for value in (self.density, self.conv, self.fc, self.embedding, *self.by_layer.values()):
            if value is not None and not 0 < value <= 1:
                raise ConfigError("a density is out of range", got=value, allowed="above 0, at most 1")
        if self.schedule not in ("one_shot", "gradual"):
            raise ConfigError("unknown schedule", got=repr(self.schedule), allowed="one_shot, gradual")
        if self.scope not in ("layer", "global", "lamp"):
            raise ConfigError("unknown scope", got=repr(self.scope), allowed="layer, global, lamp")

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        groups = self._groups(network)
        if self.schedule == "gradual":
            steps = job.steps(self.epochs)
            job.retrain(
                network,
                label="prune",
                epochs=self.epochs,
                lr=self.lr,
                constraints=(GradualPruning(groups, self.scope, max(1, int(GRADUAL_UNTIL * steps))),),
                restore_best=False,  # the best epoch would be one in which little had been pruned
            )
            cut(network, groups, self.scope, 1.0)  # already so, unless nothing was trained
        else:
            cut(network, groups, self.scope, 1.0)
            kept = self.constraints(network)
            job.retrain(network, label="prune", epochs=self.epochs, lr=self.lr, constraints=kept)
        weights = [network.get_parameter(name) for group in groups for name in group.names]
        nonzero, count = sum(int(w.count_nonzero()) for w in weights), sum(w.numel() for w in weights)
        job.progress.say(f"kept {nonzero:,} of {count:,} weights in {len(weights)} layers")
        return network

    def constraints(self, network: nn.Module) -> tuple[Constraint, ...]:
        return (ZerosKept(tuple(name for group in self._groups(network) for name in group.names)),)

    def _groups(self, network: nn.Module) -> tuple[Group, ...]:
        by_kind = {"conv": self.conv, "fc": self.fc, "embedding": self.embedding}
        groups: dict[object, tuple[float, list[Layer]]] = {}
        for layer, (density, source) in choose(network, self.density, by_kind, self.by_layer).items():
            if density < 1:
                key = layer.name if self.scope == "layer" else (source, density)
                groups.setdefault(key, (density, []))[1].append(layer)
        return tuple(Group(tuple(layer.name for layer in layers), density) for density, layers in groups.values())


@dataclass(frozen=True)
class Group:
    """Parameters of one threshold.

    Attributes:
        names: Their dotted names.
        density: Share of all their weights that is kept.
    """

    names: tuple[str, ...]
    density: float


@torch.no_grad()
def cut(network: nn.Module, groups: tuple[Group, ...], scope: str, progress: float) -> None:
    """Sets the smallest weights of each group to 0, down to the density after the share ``progress`` of the schedule."""
    for group in groups:
        parameters = [network.get_parameter(name) for name in group.names]
        scores = [_scores(p, scope).reshape(-1) for p in parameters]
        together = torch.cat(scores)
        count = kept_count(len(together), gradual_density(progress, group.density))
        masks = largest_mask(together, count).split([len(s) for s in scores])
        for parameter, mask in zip(parameters, masks, strict=True):
            parameter.masked_fill_(~mask.reshape(parameter.shape), 0.0)


class GradualPruning:
    """Constraint: zeros stay, and every 20 steps the smallest of the other weights become zero, until step ``until``."""

    def __init__(self, groups: tuple[Group, ...], scope: str, until: int) -> None:
        self.groups, self.scope, self.until = groups, scope, until
        self.zeros = ZerosKept(tuple(name for group in groups for name in group.names))

    def after_backward(self, network: nn.Module, step: int, /) -> None:
        self.zeros.after_backward(network, step)

    def after_step(self, network: nn.Module, step: int, /) -> None:
        self.zeros.after_step(network, step)
        done = step + 1
        if done == self.until or (done < self.until and done % EVERY_STEPS == 0):
            cut(network, self.groups, self.scope, done / self.until)


def _scores(parameter: Tensor, scope: str) -> Tensor:
    return lamp_scores(parameter) if scope == "lamp" else parameter.detach().abs()
