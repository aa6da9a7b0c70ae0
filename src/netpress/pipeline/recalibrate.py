"""Batch normalisations find their statistics anew: after channels are gone, the old ones describe another network."""

from __future__ import annotations

import torch
from torch import nn

from netpress.pipeline.job import Job

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def recalibrate(network: nn.Module, job: Job, *, samples: int = 4096, batch_size: int = 128) -> int:
    """Re-estimates running means and variances on training images, in place, as plain averages over batches.

    Nothing else changes: no weight, and no mode. Labels are not looked at.

    Returns:
        How many normalisations there were.
    """
    norms = [m for m in network.modules() if isinstance(m, NORMS) and m.track_running_stats]
    if not norms:
        return 0
    momenta = [m.momentum for m in norms]
    modes = {module: module.training for module in network.modules()}
    stream = job.stream(batch_size=batch_size, shuffle=True)
    count = max(1, min(len(stream), -(-samples // batch_size)))
    try:
        network.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over all batches
        with job.progress.step("batch norm statistics", total=count) as bar, torch.no_grad():
            for number, (x, _) in enumerate(stream.batches(0)):
                if number == count or (number > 0 and len(x) < 2):
                    break
                network(x)
                bar.advance()
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    return len(norms)
