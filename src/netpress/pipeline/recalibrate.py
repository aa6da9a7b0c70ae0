"""Batch normalisations find their statistics anew: after channels are gone, the old ones describe another network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from netpress.data import Split
from netpress.pipeline.job import Job

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def recalibrate(network: nn.Module, job: Job, *, samples: int = 4096, batch_size: int = 128) -> int:
    """Re-estimates running means and variances on training images, in place: the mean and the unbiased variance over all of them.

    While that is done, each normalisation uses the statistics of its batch, as in training; all else is in eval mode. Nothing but
    statistics changes: no weight, and no mode. Labels are never read.

    Args:
        samples: Training images, rounded up to whole batches; at most all of them.

    Returns:
        How many normalisations there were.
    """
    norms = [m for m in network.modules() if isinstance(m, NORMS) and m.track_running_stats]
    if not norms:
        return 0
    modes = {module: module.training for module in network.modules()}
    stream = job.stream(batch_size=batch_size, shuffle=True, split=Split(job.fit.images))
    count = max(1, min(len(stream), -(-samples // batch_size)))
    pools = [_Pool() for _ in norms]
    handles = [norm.register_forward_pre_hook(pool.watch()) for norm, pool in zip(norms, pools, strict=True)]
    try:
        network.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
        with job.progress.step("batch norm statistics", total=count) as bar, torch.no_grad():
            for number, (x, _) in enumerate(stream.batches(0)):
                if number == count:
                    break
                network(x)
                bar.advance()
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    for norm, pool in zip(norms, pools, strict=True):
        pool.write(norm)
    return len(norms)


class _Pool:
    """Mean and squared deviations over all batches so far, in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0  # (channels,) from the first batch on
        self.squares: Any = 0.0

    def watch(self) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        """A hook that takes in what a normalisation is given: (N, channels, ...)."""

        def take(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            rows = given[0].detach().movedim(1, 0).flatten(1)  # (channels, N * places)
            variance, mean = torch.var_mean(rows, 1, correction=0)
            variance, mean = variance.double(), mean.double()
            here = rows.shape[1]
            total = self.count + here
            # two sets pooled (Chan, Golub and LeVeque, 1979)
            away = mean - self.mean
            self.squares = self.squares + variance * here + away.square() * (self.count * here / total)
            self.mean = self.mean + away * (here / total)
            self.count = total

        return take

    def write(self, norm: Any) -> None:
        """Into the running statistics; a normalisation that was never called keeps fresh ones."""
        if self.count:
            norm.running_mean.copy_(self.mean)
            norm.running_var.copy_(self.squares / max(1, self.count - 1))
