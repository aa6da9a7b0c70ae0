"""Ranges of activations: a histogram that grows with the stream, and the affine grid of integers that fits it.

A grid of L + 1 levels with scale s and zero point z stands for s · (q - z), q = 0 ... L (Jacob et al., arXiv 1712.05877). Zero is
among them, so that padding stays exact.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Context
from typing import Literal

import torch
from torch import Tensor

from netpress.errors import ConfigError, DataError

Observer = Literal["mse", "minmax", "percentile"]
OBSERVERS = ("mse", "minmax", "percentile")

BINS = 8192
MOST_SAMPLES = 1 << 19  # of a batch's values that are sorted into bins; its ends are seen in full
TAIL = 1e-4  # share of the values that `percentile` leaves out at each end
SCALE = Context(prec=4, rounding=ROUND_CEILING)  # decimal digits of a scale: short in the file, off by 1/1000 at most
SHARES = tuple(2.0 ** (-k / 12) for k in range(37))  # of an end, at which `mse` tries to clip


class StreamingRange:
    """Least and greatest value of a stream, and a histogram between -2^k and 2^k, whose bins merge in pairs as k grows.

    Memory: `BINS` counts. Of large batches the histogram takes every n-th value.
    """

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.bound = 0.0  # 2^k; 0 as long as all values were 0
        self.counts = torch.zeros(BINS, dtype=torch.float64)
        self.zeros = 0  # values before the first that was not 0
        self.samples = 0

    def update(self, values: Tensor) -> None:
        """Adds values of any shape.

        Raises:
            DataError: A value that is not finite.
        """
        flat = values.detach().reshape(-1).float()
        if not flat.numel():
            return
        low, high = (float(end) for end in torch.aminmax(flat))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DataError("activations are not finite", remedy="check the network's weights and the data")
        self.low, self.high = min(self.low, low), max(self.high, high)
        some = flat[:: -(-flat.numel() // MOST_SAMPLES) | 1]  # odd: not always the same channel
        self.samples += some.numel()
        needed = max(-low, high)
        if needed == 0 and self.bound == 0:
            self.zeros += some.numel()
            return
        self._grow(needed)
        self.counts += torch.histc(some, BINS, -self.bound, self.bound).double().cpu()

    def _grow(self, needed: float) -> None:
        if self.bound == 0:
            self.bound = 2.0 ** math.ceil(math.log2(needed))
            self.counts[BINS // 2] += self.zeros
        while self.bound < needed:
            merged = self.counts.reshape(BINS // 2, 2).sum(1)  # (BINS / 2,)
            self.counts = torch.zeros_like(self.counts)
            self.counts[BINS // 4 : 3 * BINS // 4] = merged
            self.bound *= 2

    def ends(self, observer: Observer, levels: int) -> tuple[float, float]:
        """Where to clip, low <= 0 <= high.

        Args:
            observer: ``minmax`` (nothing is clipped), ``percentile`` (one value in 10,000 at each end), ``mse`` (the least squared
                error on a grid of so many levels).
            levels: Of the grid.

        Raises:
            ConfigError: Another observer.
            DataError: Nothing was fed in.
        """
        if observer not in OBSERVERS:
            raise ConfigError("unknown observer", got=repr(observer), allowed=", ".join(OBSERVERS))
        if not self.samples:
            raise DataError("no activations were fed in", got="0 values", allowed="1 or more")
        if observer == "minmax" or self.bound == 0:
            return self.low, self.high
        edges = torch.linspace(-self.bound, self.bound, BINS + 1, dtype=torch.float64)
        if observer == "percentile":
            share = self.counts.cumsum(0) / self.counts.sum()
            low = edges[int((share <= TAIL).sum())]
            high = edges[int((share < 1 - TAIL).sum()) + 1]
            return max(self.low, min(0.0, float(low))), min(self.high, max(0.0, float(high)))
        return self._least_error((edges[1:] + edges[:-1]) / 2, levels)

    def _least_error(self, centres: Tensor, levels: int) -> tuple[float, float]:
        """By turns the better high for the low, and the better low for the high."""
        low, high = self.low, self.high

        def error(low: float, high: float) -> float:
            scale, zero = affine_grid(low, high, levels)
            near = ((centres / scale).round() + zero).clamp(0, levels - 1)
            return float(self.counts @ (centres - (near - zero) * scale).square())

        for _ in range(2):
            high = min((self.high * share for share in SHARES), key=lambda end: error(low, end))
            low = min((self.low * share for share in SHARES), key=lambda end: error(end, high))
        return low, high


def affine_grid(low: float, high: float, levels: int) -> tuple[float, int]:
    """Scale and zero point of the grid of so many levels, the first of which is 0, that holds low <= 0 <= high.

    Raises:
        ConfigError: Fewer levels than two, or ends that do not hold zero.
    """
    if levels < 2 or not low <= 0 <= high:
        raise ConfigError(
            "no grid", got=f"{low} to {high}, {levels} levels", allowed="low <= 0 <= high, 2 or more levels"
        )
    width = max((high - low) / (levels - 1), 1e-30)
    scale = float(SCALE.create_decimal(repr(width))) if high > low else 1.0
    return scale, min(levels - 1, round(-low / scale))


def on_own_range(values: Tensor) -> Tensor:
    """Values on the 256 levels of their own range, which holds all of them, of the whole batch, and 0.

    To the bit ONNX's DynamicQuantizeLinear and DequantizeLinear, in float32; a scale that would be 0 (all values are) is 1, as in
    ONNX Runtime. Gradients pass as they are.
    """
    x = values.float()
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, 1.0, scale)
    zero = (-low / scale).clamp(0, 255).round()  # halves to even, as all of these
    rounded = ((x / scale).round() + zero).clamp(0, 255).sub(zero).mul(scale)
    if values.requires_grad:
        rounded = rounded.detach() + (x - x.detach())  # + 0, which has the values' gradient
    return rounded.to(values.dtype)
