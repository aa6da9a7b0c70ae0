"""Batch normalisation in its smallest exact form: two vectors that mean something and two that are constant."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def normal_form(network: nn.Module) -> list[str]:
    """Rewrites every batch normalisation with running statistics so that in eval mode y = weight · x + bias; in place.

    weight = γ / √(σ² + ε) and bias = β - weight · μ, computed in float64; then μ = 0 and σ² = 1 - ε, and no batches counted:
    constant vectors, which a file stores in a few bytes.

    Returns:
        The names of the modules that are in this form now.
    """
    done = []
    for name, module in network.named_modules():
        if not isinstance(module, NORMS) or module.running_mean is None or module.running_var is None:
            continue
        if module.weight is None or module.bias is None:
            continue
        with torch.no_grad():
            scale = module.weight.double() / (module.running_var.double() + module.eps).sqrt()
            module.bias.copy_(module.bias.double() - scale * module.running_mean.double())
            module.weight.copy_(scale)
            module.running_mean.zero_()
            module.running_var.fill_(_neutral(module.eps))
            if module.num_batches_tracked is not None:
                module.num_batches_tracked.zero_()
        done.append(name)
    return done


def _neutral(eps: float) -> float:
    """The float32 that gives 1 when ``eps`` is added."""
    value = np.float32(1 - eps)
    for candidate in (value, np.nextafter(value, np.float32(0)), np.nextafter(value, np.float32(2))):
        if np.float32(candidate + np.float32(eps)) == 1:
            return float(candidate)
    return float(value)
