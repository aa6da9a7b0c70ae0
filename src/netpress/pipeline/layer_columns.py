"""The columns that a layer multiplies: a convolution or linear layer is a matrix times columns cut out of its input.

A Gram matrix of them does not need all: the places of a feature map say much the same, so that of large maps every n-th is taken.
Then only those are cut out, which is what least squares over large feature maps spends its time with otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MATRIX_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
ENOUGH, ENOUGH_A_COLUMN = 1 << 15, 256  # columns of which a Gram matrix is made, and for each of its own columns
GATHER_FROM = (
    4  # from this step on columns are gathered one by one: three times as fast at 16; below, cutting out all is faster
)


@dataclass(frozen=True)
class _Window:
    """Where a convolution reads: a padded input (N, channels, height, width), and (height, width) of all else."""

    given: Tensor
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(cls, module: nn.Module, given: Tensor) -> _Window:
        if not isinstance(module, nn.Conv1d | nn.Conv2d):
            raise TypeError(type(module).__name__)
        margins = list(module._reversed_padding_repeated_twice)
        if any(margins):
            mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
            given = F.pad(given, margins, mode=mode)
        kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
        if isinstance(module, nn.Conv1d):
            given, kernel, stride, dilation = given[:, :, None], (1, *kernel), (1, *stride), (1, *dilation)
        return cls(given, kernel, stride, dilation)  # type: ignore[arg-type]

    @property
    def made(self) -> tuple[int, int]:
        """Height and width of what the convolution makes."""
        sizes = zip(self.given.shape[2:], self.kernel, self.stride, self.dilation, strict=True)
        height, width = ((size - (kernel - 1) * dilation - 1) // step + 1 for size, kernel, step, dilation in sizes)
        return height, width

    def read_at(self, first: int, step: int) -> Tensor:
        """Where in the flat padded input the columns of every ``step``-th place lie: (kernel, places)."""
        places = torch.arange(first, math.prod(self.made), step, device=self.given.device)
        starts = (places // self.made[1] * self.stride[0], places % self.made[1] * self.stride[1])
        rows, across = (
            torch.arange(k, device=self.given.device) * d for k, d in zip(self.kernel, self.dilation, strict=True)
        )
        rows_read = starts[0] + rows.repeat_interleave(self.kernel[1])[:, None]
        return rows_read * self.given.shape[3] + starts[1] + across.repeat(self.kernel[0])[:, None]


def place_count(module: nn.Module, given: Tensor) -> int:
    """Of how many columns a sample's output is made."""
    if isinstance(module, nn.Linear):
        return given[0].numel() // given.shape[-1]
    return math.prod(_Window.of(module, given[:1]).made)


def columns_at(module: nn.Module, given: Tensor, first: int = 0, step: int = 1) -> Tensor:
    """The columns that a layer of ``MATRIX_LAYERS`` multiplies at places first, first + step, ...: (groups, columns, N · places)."""
    if isinstance(module, nn.Linear):
        cut = given.reshape(len(given), -1, given.shape[-1])[:, first::step].transpose(1, 2)
        return cut[:, None].permute(1, 2, 0, 3).flatten(2)
    window = _Window.of(module, given)
    if step < GATHER_FROM:
        cut = F.unfold(window.given, window.kernel, dilation=window.dilation, stride=window.stride)[..., first::step]
    else:
        index = window.read_at(first, step)
        cut = window.given.flatten(2).index_select(2, index.flatten()).unflatten(2, index.shape).flatten(1, 2)
    groups: int = module.groups  # type: ignore[assignment]
    return cut.unflatten(1, (groups, -1)).permute(1, 2, 0, 3).flatten(2)


def place_stride(module: Any, given: Tensor) -> int:
    """Every how many places one is enough, of these inputs, for a Gram matrix."""
    places, columns = place_count(module, given), module.weight[0].numel()
    stride = len(given) * places // max(ENOUGH, ENOUGH_A_COLUMN * columns)
    return max(1, min(stride, places // 4))
