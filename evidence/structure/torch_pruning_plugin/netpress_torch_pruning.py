"""torch-pruning 1.6.1 as a method of netpress: its cut, then whatever training the recipe asks for.

Both libraries then share data, loop, seed and objective, so that what differs is what was cut.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fnmatch import fnmatch

import torch
import torch_pruning as tp
from torch import nn

from netpress.errors import BudgetError, ConfigError
from netpress.graph import GraphNetwork, count, trace
from netpress.pipeline.job import Job
from netpress.pipeline.method import Method

METRICS = ("macs", "params")
STEPS = 400  # of the ratio; the cut ends within a step below the budget


@dataclass(frozen=True, kw_only=True)
class TorchPruning(Method):
    """Takes channels away by torch-pruning, over the whole network, until the budget holds.

    Idea: the group's norm, averaged over its layers and normalised by the group's mean, decides (``GroupMagnitudeImportance``, the
    library's first example); ratios rise in small steps until MACs or parameters are at most the budget's.
    Fails: where its dependency graph does not see through a shape; layers in ``ignored`` are then left whole.
    Source: Fang et al., CVPR 2023, arXiv 2301.12900.

    Attributes:
        power: Of the norm, 1 or 2.
        isomorphic: Compares only groups of one shape with each other (Fang et al., arXiv 2407.04616).
        ignored: Layers that keep their outputs, by dotted name or pattern (``*.conv2``); the last linear layer always does.
        most: The largest share of a layer that may go.
    """

    power: int = 2
    isomorphic: bool = False
    ignored: tuple[str, ...] = ()
    most: float = 1.0

    def __post_init__(self) -> None:
        if self.power not in (1, 2):
            raise ConfigError("power is out of range", got=self.power, allowed="1 or 2")

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        bounds = {metric: job.bounds[metric] for metric in METRICS if metric in job.bounds}
        if not bounds:
            raise BudgetError(
                "nothing to meet", got="no budget", allowed="macs, params", remedy="give --budget macs=50%"
            )
        network = copy.deepcopy(network).cpu().eval().requires_grad_(True)
        example = job.example()
        modules = dict(network.named_modules())
        last = [m for m in modules.values() if isinstance(m, nn.Linear)][-1]
        ignored = [m for name, m in modules.items() if any(fnmatch(name, pattern) for pattern in self.ignored)]
        pruner = tp.pruner.BasePruner(
            network,
            example,
            importance=tp.importance.GroupMagnitudeImportance(p=self.power),
            global_pruning=True,
            pruning_ratio=1.0,
            max_pruning_ratio=self.most,
            iterative_steps=STEPS,
            isomorphic=self.isomorphic,
            ignored_layers=[*ignored, last],
        )
        for _ in range(STEPS):
            counted = _counted(network, example)
            if all(counted[metric] <= most for metric, most in bounds.items()):
                return network.eval()
            pruner.step()
        raise BudgetError(
            "torch-pruning did not reach the budget",
            got=", ".join(f"{metric}={counted[metric]:,}" for metric in bounds),
            allowed=", ".join(f"{metric}<={most:,.0f}" for metric, most in bounds.items()),
        )


def _counted(network: nn.Module, example: torch.Tensor) -> dict[str, int]:
    counted = count(trace(copy.deepcopy(network), example))
    return {"macs": counted.macs, "params": counted.params}
