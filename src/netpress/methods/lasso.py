"""LASSO: weights shrink to exact zeros while the network learns, then the others recover."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from netpress.errors import ConfigError
from netpress.graph import GraphNetwork
from netpress.pipeline.constraints import Constraint
from netpress.pipeline.dead import without_dead_channels
from netpress.pipeline.job import Job
from netpress.pipeline.proximal import LassoPath
from netpress.pipeline.values import ValueMethod, ZerosKept, layers_of


@dataclass(frozen=True, kw_only=True)
class Lasso(ValueMethod):
    """Trains under an L1 penalty that rises until few weights are left, cuts out channels that died, and lets the rest recover.

    Idea: L1 by proximal steps, so that zeros are exact; the penalty follows a path from nothing, each value starting from what the
    one before left, and is never larger than the falling density asks for; at the end it goes, the zeros stay, and the survivors are
    trained without its bias (debiasing).
    Equation: w ← sign(w) · max(|w| - λ, 0) after each step; λ in units of the root mean square of the layer.
    Helps: behind ``subspace``, without labels; where many weights are to go and there are epochs to let them.
    Fails: in few epochs against ``prune`` (lamp, gradual), which does not shrink what stays.
    Source: inspired by Oyedotun, Aouada, Ottersten, Applied Intelligence 51 (2021) 834.

    Attributes:
        density: Share of the weights of convolutions and linear layers that stays and makes something that is read.
        strength: Of the largest shrinkage in a step: a weight as large as its layer's mean goes in 1 / strength steps.
        debias: Epochs without penalty, zeros kept, after the path; None takes as many as the path.
    """

    density: float = 0.5
    strength: float = 0.01
    debias: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.density <= 1:
            raise ConfigError("density is out of range", got=self.density, allowed="above 0, at most 1")
        if not 0 < self.strength <= 1:
            raise ConfigError("strength is out of range", got=self.strength, allowed="above 0, at most 1")
        if self.debias is not None and self.debias < 0:
            raise ConfigError("debias is out of range", got=self.debias, allowed="0 or more epochs, or None")

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        names = [layer.name for layer in layers_of(network, ("conv", "fc"))]
        whole = sum(network.get_parameter(name).numel() for name in names)
        path = LassoPath.of(network, names, self.density, self.strength, job.steps(self.epochs))
        job.retrain(network, label="lasso", epochs=self.epochs, lr=self.lr, constraints=(path,), restore_best=False)
        path.finish(network)
        network, removed = without_dead_channels(network.to("cpu").eval(), job.example())
        job.progress.say(
            f"kept {sum(int(network.get_parameter(n).count_nonzero()) for n in names):,} of {whole:,} weights; "
            f"{removed} dead channels cut out"
        )
        epochs = self.epochs if self.debias is None else self.debias
        job.retrain(
            network.to(job.device), label="debias", epochs=epochs, lr=self.lr, constraints=self.constraints(network)
        )
        return network

    def constraints(self, network: nn.Module) -> tuple[Constraint, ...]:
        return (ZerosKept(tuple(layer.name for layer in layers_of(network, ("conv", "fc")))),)
