"""Layers of a narrower network learn what the wider one's gave, one after the other, in closed form.

A convolution or linear layer that has lost inputs is set to the weights that give, by least squares over training images, what its
original gave for the channels that are left: min |W X - W' Y|² for the original's inputs X and the narrow network's own inputs Y,
which come through layers that were set before (He et al., ICCV 2017; Luo et al., ICCV 2017). Batch normalisations take their
statistics from the same images, and their scale and shift by least squares, too. No label is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpress.pipeline.job import Job
from netpress.pipeline.narrowed import Narrowed
from netpress.pipeline.rdo_statistics import calibration, grams

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d)
RIDGE = 0.01  # share of the mean curvature that keeps weights near where they were
MOST_COLUMNS = 6000  # wider layers stay as they were cut: their Gram matrix would take too much memory
MEMORY_BYTES = 2 << 30  # that the wide network's values may take


def reconstruct(narrowed: Narrowed, job: Job, *, samples: int) -> int:
    """Sets weights, biases and normalisations of ``narrowed.network`` in place; the wide network is not changed.

    Args:
        samples: Training images, or as many as memory allows for.

    Returns:
        How many layers were set.
    """
    wide, narrow = narrowed.channels.net.to(job.device).eval(), narrowed.network.to(job.device).eval()
    names = [n for n, m in wide.named_modules() if isinstance(m, MATRICES + NORMS)]
    one = _recorded(wide, names, calibration(job, 1))
    each = sum(t.numel() * t.element_size() for pair in one.values() for t in pair)
    count = max(1, min(samples, len(job.fit), MEMORY_BYTES // max(1, each)))
    images = calibration(job, count)
    known = _recorded(wide, names, images)
    kept = {
        slot.tensor: np.flatnonzero(narrowed.alive[slot.atoms])
        for slot in narrowed.channels.slots
        if slot.axis == 0 and not slot.consumes
    }
    done: set[str] = set()

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def fit(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            if name in done or name not in known:
                return  # called a second time: it has one set of weights
            done.add(name)
            x, wanted = known.pop(name)
            rows = kept.get(f"{name}.weight")
            if rows is not None:
                channels = wanted.dim() - 1 if isinstance(module, nn.Linear) else 1
                wanted = wanted.index_select(channels, torch.from_numpy(rows).to(wanted.device))
            if isinstance(module, NORMS):
                _fit_norm(module, given[0], wanted)
            else:
                _fit_matrix(module, wide.get_submodule(name), rows, x, given[0], wanted)

        return fit

    handles = [narrow.get_submodule(name).register_forward_pre_hook(hook(name)) for name in names]
    try:
        with torch.no_grad(), job.progress.step("least squares", total=None):
            narrow(images)
    finally:
        for handle in handles:
            handle.remove()
    return len(done)


def _recorded(network: nn.Module, names: list[str], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Input and output of each module by name, of its first call."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def keep(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            found.setdefault(name, (given[0], output))

        return keep

    handles = [network.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _fit_matrix(module: Any, before: Any, rows: Any, x: Tensor, y: Tensor, wanted: Tensor) -> None:
    """Least squares of the weights where inputs are gone; the bias takes up what is left of the mean."""
    weight = module.weight
    if getattr(module, "groups", 1) == 1 and weight[0].numel() < MOST_COLUMNS and weight.shape[1] > 1:
        wide = before.weight if rows is None else before.weight[torch.from_numpy(rows).to(weight.device)]
        if not (x.shape == y.shape and torch.equal(x, y)):
            cross, own = grams(module, x, y)
            gram, target = own[0].double(), wide.flatten(1).double() @ cross[0].double()
            ridge = RIDGE * float(gram.diagonal().mean())
            if ridge > 0:
                gram.diagonal().add_(ridge)
                solved = torch.linalg.solve(gram, (target + ridge * weight.flatten(1).double()).T).T
                weight.copy_(solved.reshape(weight.shape).to(weight))
    if module.bias is not None:
        channels = wanted.dim() - 1 if isinstance(module, nn.Linear) else 1
        away = wanted - module.forward(y)
        module.bias.add_(away.mean([axis for axis in range(away.dim()) if axis != channels]))


def _fit_norm(norm: Any, given: Tensor, wanted: Tensor) -> None:
    """Statistics of the input, then scale and shift by least squares."""
    axes = [axis for axis in range(given.dim()) if axis != 1]
    view = [1, -1] + [1] * (given.dim() - 2)
    mean, target = given.mean(axes), wanted.mean(axes)
    centred = given - mean.view(view)
    variance = centred.square().mean(axes)
    if norm.track_running_stats:
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance * (given.numel() / given.shape[1]) / max(1, given.numel() / given.shape[1] - 1))
    if norm.affine:
        covariance = (centred * (wanted - target.view(view))).mean(axes)
        deviation = torch.sqrt(variance + norm.eps)
        norm.weight.copy_(
            torch.where(variance > 1e-12, covariance / variance.clamp_min(1e-12) * deviation, norm.weight)
        )
        norm.bias.copy_(target)
