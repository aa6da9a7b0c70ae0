"""Training of weights that are always on their grid: the straight-through estimator with prices for the levels.

The network holds quantized weights q whenever it runs. Beside each tensor stands, as a buffer, the free weight w that it is quantized
from. A step of the optimizer moves q by what the gradient at q asks for; w is moved by as much, and q becomes the level of w again
(Bengio et al., arXiv 1308.3432). The level is not the nearest one but that of the least (w/step - l)² + price of l · tradeoff, the
prices being learned from the tensor's own levels, place by place: so that weights which cost much and do little become zero and can
come back (entropy-constrained training; Wiedemann et al., arXiv 1812.07520). To come back is dearer than to stay, or weights at the
border would flicker.

All state lies in buffers, which a checkpoint keeps: a run that was killed goes on to the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from netpress.kernels import _compensate, adaptive
from netpress.maths.compensation import CONTEXTS, MOST_LEVEL, SIZES

FREE, PLACES, PRICES, FIXED, ALIVE, BITS, START, PRESSURE = PARTS = (
    "_free", "_context", "_prices", "_fixed", "_alive", "_bits", "_start", "_pressure",
)  # fmt: skip
GAIN = 4.0  # how strongly a look answers to too many bits
FIRST_PRESSURE = 0.2  # where bits are bounded: they come down slowly
LOYALTY = (
    0.5  # power of the pressure that falls on weights which are not zero; all of it falls on those that would come back
)


@dataclass(frozen=True)
class Grid:
    """One tensor's grid.

    Attributes:
        name: Dotted name of the parameter.
        step: Distance of two levels; a tensor of such distances where they differ, of a shape that fits the parameter's.
        tradeoff: Squared steps that a bit is worth; 0 asks for the nearest level.
        most: The largest level.
    """

    name: str
    step: float | Tensor
    tradeoff: float
    most: int = MOST_LEVEL


@dataclass(frozen=True)
class StraightThrough:
    """Constraint: every tensor of ``grids`` is on its grid after each step.

    Attributes:
        ramp: Steps over which the tradeoff rises to its full size.
        bits: What all tensors together may take; None: what the tradeoff gives. Held by a factor on all tradeoffs.
        refresh: Steps between two looks at what levels cost.
        settle: From this step on prices stay as they are, so that the last steps have a fixed aim; None: they never settle.
    """

    grids: tuple[Grid, ...]
    ramp: int = 1
    bits: float | None = None
    refresh: int = 50
    settle: int | None = None

    # Before and after -------------------------------------------------------------------------------------------------

    def prepare(self, network: nn.Module, start: Mapping[str, Tensor] | None = None) -> None:
        """Adds the buffers and puts the weights on their grids; weights that are exactly zero stay zero for good.

        Args:
            start: Free weights to begin with, by parameter name; by default the network's weights.
        """
        for grid in self.grids:
            owner, key, weight = _place(network, grid.name)
            free = (weight if start is None else start[grid.name].to(weight)).detach().clone()
            owner.register_buffer(key + FREE, free)
            owner.register_buffer(key + FIXED, weight.detach() == 0)
            owner.register_buffer(key + PLACES, torch.zeros_like(free, dtype=torch.uint8))
            owner.register_buffer(key + PRICES, torch.zeros(CONTEXTS, SIZES, device=free.device))
            for part, value in ((BITS, 0.0), (START, 0.0), (PRESSURE, 1.0 if self.bits is None else FIRST_PRESSURE)):
                owner.register_buffer(key + part, torch.tensor(value, dtype=torch.float64, device=free.device))
            with torch.no_grad():
                weight.copy_((free / grid.step).round().clamp(-grid.most, grid.most) * grid.step + 0.0)
            owner.register_buffer(key + ALIVE, weight.detach() != 0)
            self._reprice(owner, key, weight, grid)
            owner.get_buffer(key + START).copy_(owner.get_buffer(key + BITS))
        with torch.no_grad():
            self._quantize(network, 0)

    def release(self, network: nn.Module) -> dict[str, Tensor]:
        """Takes the buffers out again; gives the free weights by parameter name."""
        free = {}
        for grid in self.grids:
            owner, key, _ = _place(network, grid.name)
            free[grid.name] = owner.get_buffer(key + FREE)
            for part in PARTS:
                delattr(owner, key + part)
        return free

    # The two hooks ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def after_backward(self, network: nn.Module, step: int, /) -> None:
        """From here to ``after_step`` the buffer holds w - q."""
        for grid in self.grids:
            owner, key, weight = _place(network, grid.name)
            owner.get_buffer(key + FREE).sub_(weight)
            if weight.grad is not None:
                weight.grad.masked_fill_(owner.get_buffer(key + FIXED), 0.0)

    @torch.no_grad()
    def after_step(self, network: nn.Module, step: int, /) -> None:
        """w becomes w plus what the optimizer added to q, and q the level of w."""
        for grid in self.grids:
            owner, key, weight = _place(network, grid.name)
            free = owner.get_buffer(key + FREE)
            free.add_(weight).masked_fill_(owner.get_buffer(key + FIXED), 0.0)
        self._quantize(network, step + 1)
        if (step + 1) % self.refresh == 0 and (self.settle is None or step < self.settle):
            self._look(network, step + 1)

    # Parts --------------------------------------------------------------------------------------------------------------

    def _look(self, network: nn.Module, step: int) -> None:
        """Learns prices and contexts from the levels, and presses harder where they take too many bits, less where too few."""
        places = [(*_place(network, grid.name), grid) for grid in self.grids]
        for owner, key, weight, grid in places:
            self._reprice(owner, key, weight, grid)
        if self.bits is None:
            return
        now, first = (sum(float(owner.get_buffer(key + part)) for owner, key, _, _ in places) for part in (BITS, START))
        share = min(1.0, step / self.ramp)
        allowed = self.bits * max(1.0, first / self.bits) ** (1 - share)
        for owner, key, _, _ in places:
            pressure = owner.get_buffer(key + PRESSURE)
            pressure.mul_(min(2.0, max(0.5, (now / allowed) ** GAIN))).clamp_(1e-3, 1e3)

    def _quantize(self, network: nn.Module, step: int) -> None:
        share = min(1.0, step / self.ramp) if self.bits is None else 1.0
        for grid in self.grids:
            owner, key, weight = _place(network, grid.name)
            weight.detach().copy_(self._levels(owner, key, grid, share) * grid.step + 0.0)

    def _levels(self, owner: nn.Module, key: str, grid: Grid, share: float) -> Tensor:
        """The levels of least cost among zero, the nearest, and the one below it in magnitude; float."""
        scaled = owner.get_buffer(key + FREE) / grid.step
        prices = owner.get_buffer(key + PRICES).reshape(-1)
        first = owner.get_buffer(key + PLACES).int() * SIZES
        pressure = float(owner.get_buffer(key + PRESSURE))
        alive = owner.get_buffer(key + ALIVE)
        worth = torch.where(alive, pressure**LOYALTY, pressure).to(scaled) * (grid.tradeoff * share)
        size = scaled.abs()
        near = size.round().clamp_max_(grid.most)
        best = torch.zeros_like(near)
        least = size.square() + worth * prices[first]
        for level in (near, (near - 1).clamp_min_(0)):
            cost = (size - level).square() + worth * prices[first + level.clamp_max(SIZES - 1).int()]
            better = cost < least
            best = torch.where(better, level, best)
            least = torch.where(better, cost, least)
        alive.copy_(best != 0)
        return best * scaled.sign()

    def _reprice(self, owner: nn.Module, key: str, weight: Tensor, grid: Grid) -> None:
        if grid.tradeoff == 0 and self.bits is None:
            return  # nobody asks
        levels = (weight.detach() / grid.step).round().to("cpu", torch.int32).contiguous().numpy()
        rows = len(levels)
        places = int(np.prod(levels.shape[2:])) if levels.ndim > 2 else 1
        prices, contexts = np.zeros((CONTEXTS, SIZES), np.float32), np.zeros(levels.shape, np.uint8)
        _compensate.price(levels, rows, levels.size // rows, places, prices)
        _compensate.contexts(levels, rows, levels.size // rows, places, contexts)
        owner.get_buffer(key + PRICES).copy_(torch.from_numpy(prices))
        owner.get_buffer(key + PLACES).copy_(torch.from_numpy(contexts))
        owner.get_buffer(key + BITS).fill_(adaptive.bits(levels))


def _place(network: nn.Module, name: str) -> tuple[nn.Module, str, nn.Parameter]:
    """The module that holds a parameter, the parameter's name there, and the parameter."""
    path, _, key = name.rpartition(".")
    owner = network.get_submodule(path)
    return owner, key, owner.get_parameter(key)
