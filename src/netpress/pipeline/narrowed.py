"""A network with fewer channels, beside the one that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from netpress.graph import GraphNetwork
from netpress.pipeline.job import Job
from netpress.structure import Channels, Keep
from netpress.training import Distillation, distil_answers


@dataclass(frozen=True)
class Narrowed:
    """A network with fewer channels, and what it came from.

    Attributes:
        network: Sliced; not trained, statistics not re-estimated.
        channels: Of the network before.
        keep: What was kept of each group.
    """

    network: GraphNetwork
    channels: Channels
    keep: Keep

    @property
    def alive(self) -> NDArray[np.bool_]:
        """For every atom of ``channels`` whether it was kept."""
        return self.channels.alive(self.keep)

    def widths(self) -> list[dict[str, Any]]:
        """A row a group: name, modules, channels before and after."""
        return [
            {
                "group": name,
                "modules": list(group.modules),
                "channels": group.size,
                "kept": int(np.count_nonzero(self.keep[name])),
            }
            for name, group in self.channels.groups.items()
        ]


def answer_distance(network: nn.Module, job: Job) -> float:
    """How far a network's answers are from the original's on held-out images, as a distillation counts it; labels are not looked at."""
    settings = Distillation(alpha=1.0) if job.task == "classification" else None
    network, teacher = network.to(job.device).eval(), job.teacher
    total = 0.0
    with torch.inference_mode():
        for x, _ in job.stream(batch_size=256, split=job.held_out).batches(0):
            total += float(distil_answers(network(x), teacher(x), None, settings)) * len(x)
    return total / len(job.held_out)
