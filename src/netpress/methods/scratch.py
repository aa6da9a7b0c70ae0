"""Scratch: the structure as it is, with all weights drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from netpress.graph import GraphNetwork
from netpress.pipeline.job import Job
from netpress.pipeline.method import Method
from netpress.training import CrossEntropy, MeanSquaredError, Objective


@dataclass(frozen=True, kw_only=True)
class Scratch(Method):
    """Forgets what was learned: every weight is drawn anew, zeros stay zeros, and the network is trained from there.

    Idea: what a compression is worth beyond the structure that it finds shows beside the same structure trained from nothing. Behind a
    method that cuts or prunes it is that method's structure; alone it is the original's; before ``lasso`` or ``prune`` it is
    pruning while training from nothing.
    Helps: as a baseline, and nowhere else: it costs all that the original knew.
    Fails: in few epochs.
    Source: Liu et al., "Rethinking the value of network pruning", arXiv 1810.05270; He et al., arXiv 1502.01852 (initial weights).

    Attributes:
        labels: Whether the training is from the labels alone, whatever the recipe's distillation says; for recipes in
            which the original teaches the methods before.
    """

    stage: ClassVar[str] = "baseline"

    labels: bool = False

    @property
    def needs_labels(self) -> bool:
        return self.labels

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        zeros = {name: p.detach() == 0 for name, p in network.named_parameters() if p.dim() > 1}
        network.to("cpu")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            for module in network.modules():
                _draw(module)
            leaves = {id(p) for m in network.modules() if hasattr(m, "reset_parameters") for p in m.parameters()}
            for parameter in network.parameters():
                if id(parameter) not in leaves:
                    _like_before(parameter)
        with torch.no_grad():
            for name, where in zeros.items():
                network.get_parameter(name).masked_fill_(where.cpu(), 0.0)
        return network

    def objective(self, network: GraphNetwork, job: Job) -> Objective | None:
        if not self.labels:
            return None
        return CrossEntropy(job.training.label_smoothing) if job.task == "classification" else MeanSquaredError()


def _draw(module: Any) -> None:
    """As the module's class draws it; convolutions normal with variance 2 / fan-out, which suits rectifiers."""
    if not hasattr(module, "reset_parameters"):
        return
    module.reset_parameters()
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def _like_before(parameter: Tensor) -> None:
    """A tensor that no module knows how to draw (a class token, say): normal, with the mean and spread that it has."""
    spread = float(parameter.std(unbiased=False)) if parameter.numel() > 1 else 0.0
    parameter.copy_(torch.randn(parameter.shape) * spread + float(parameter.mean()))
