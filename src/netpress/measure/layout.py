"""Memory layout of images: channels last is faster for convolutions where a network can run in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Puts the 4-d parameters into a memory format, in place; values and shapes stay."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


def to_channels_last(network: nn.Module, x: Tensor) -> bool:
    """Puts a network into channels-last order if it can run so; else into plain order, and says False.

    A network that writes ``x.view(len(x), -1)`` behind a convolution cannot. It is tried in eval mode on one sample of ``x``
    (N, C, H, W), so that no statistics move.
    """
    if x.dim() != 4 or not any(p.dim() == 4 for p in network.parameters()):
        return False
    lay_out(network, torch.channels_last)
    with modes_kept(network), torch.no_grad():
        network.eval()
        try:
            network(x[:1].contiguous(memory_format=torch.channels_last))
        except RuntimeError:  # what else may be wrong shows itself again, in plain order, where it matters
            lay_out(network, torch.contiguous_format)
            return False
    return True


@contextlib.contextmanager
def modes_kept(network: nn.Module) -> Iterator[None]:
    """Puts the training flag of every module back at the end."""
    flags = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
