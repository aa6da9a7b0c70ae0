"""Finetune: the network as it is, given the same training as the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from netpress.graph import GraphNetwork
from netpress.pipeline.job import Job
from netpress.pipeline.method import Method


@dataclass(frozen=True, kw_only=True)
class Finetune(Method):
    """No change of structure: the original, trained by the same plan.

    Idea: compression that trains must be compared with an original that was trained as long, or training is mistaken for
    compression. With ``distill: none`` it learns from the labels alone.
    Fails: never; it also saves nothing.
    """

    stage: ClassVar[str] = "baseline"

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        return network
