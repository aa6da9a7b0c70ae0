"""What a later training must keep of what a method has done: zeros that stay zero, values that stay shared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn


class Constraint(Protocol):
    """Two hooks of the training loop that belong together.

    Neither keeps anything from one step to the next: both are functions of the network and the step's number (what
    ``after_backward`` saw may be used by ``after_step`` of the same step). So a run that is killed goes on to the same bytes.
    Both name tensors by their place in the network, and so hold for every network with the same places.
    """

    def after_backward(self, network: nn.Module, step: int, /) -> None:
        """Changes gradients before they are clipped and used."""

    def after_step(self, network: nn.Module, step: int, /) -> None:
        """Puts the weights right after the optimizer has moved them."""


@dataclass(eq=False)
class ValuesHeld:
    """Constraint: parameters that a training does not move, whatever momentum and decay say.

    Attributes:
        names: Dotted names of the parameters.
    """

    names: tuple[str, ...]
    _held: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)  # of the running step

    @torch.no_grad()
    def after_backward(self, network: nn.Module, step: int, /) -> None:
        self._held.clear()
        for name in self.names:
            parameter = network.get_parameter(name)
            self._held[name] = parameter.detach().clone()
            if parameter.grad is not None:
                parameter.grad.zero_()

    @torch.no_grad()
    def after_step(self, network: nn.Module, step: int, /) -> None:
        for name, value in self._held.items():
            network.get_parameter(name).copy_(value)
