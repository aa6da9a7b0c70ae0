"""A network made ready to train, and put back afterwards; and its optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from netpress.errors import TrainingError
from netpress.measure.layout import lay_out, modes_kept
from netpress.training.plan import TrainingPlan, scale_of


def build_optimizer(network: nn.Module, plan: TrainingPlan, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer over all parameters that may change, in groups of one rate factor and one weight decay."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((scale_of(name, plan.lr_scale), parameter.dim() >= 2), []).append(parameter)
    if not groups:
        raise TrainingError(
            "the network has nothing to train",
            got="no parameter that is neither fixed nor scaled to a learning rate of 0",
            remedy="set epochs=0, or change lr_scale",
        )
    settings = [
        {"params": parameters, "lr_scale": scale, "weight_decay": plan.weight_decay if decays else 0.0}
        for (scale, decays), parameters in groups.items()
    ]
    fused = device.type in ("cpu", "cuda")
    betas = (plan.momentum, 0.999)
    if plan.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=plan.lr, momentum=plan.momentum, nesterov=plan.nesterov, fused=fused)
    if plan.optimizer == "adam":
        return torch.optim.Adam(settings, lr=plan.lr, betas=betas, fused=fused)
    return torch.optim.AdamW(settings, lr=plan.lr, betas=betas, fused=fused)


@contextlib.contextmanager
def training_state(network: nn.Module, plan: TrainingPlan, device: torch.device) -> Iterator[None]:
    """The network ready to train on the device; modes, gradients, layouts and random state are put back afterwards."""
    with contextlib.ExitStack() as restore:
        restore.enter_context(modes_kept(network))
        restore.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        restore.enter_context(_repeatable_kernels())
        network.to(device)
        restore.callback(lay_out, network, torch.contiguous_format)
        network.train()
        for name, module in network.named_modules():
            if scale_of(name, plan.lr_scale) == 0:
                module.training = False
        for name, parameter in network.named_parameters():
            restore.callback(setattr, parameter, "grad", None)
            restore.callback(parameter.requires_grad_, parameter.requires_grad)
            if scale_of(name, plan.lr_scale) == 0:
                parameter.requires_grad_(False)
        yield


@contextlib.contextmanager
def _repeatable_kernels() -> Iterator[None]:
    """cuDNN picks kernels by timing and sums in any order unless told not to; same seed, same bytes needs both off."""
    kept = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = kept
