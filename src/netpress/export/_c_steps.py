"""The program of the C runner as data: what a traced network is lowered to, and what is planned and written from.

A value is one sample without N, row-major: float32, or a byte a number where it was rounded to a grid. Values are numbered; a step
reads some and makes one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from torch import Tensor

INFINITY = math.inf


@dataclass(frozen=True)
class Matrix:
    """A layer's weight, twice: ``weight`` times ``scale`` along the rows is ``folded``.

    Attributes:
        name: Of the layer.
        weight: As the file has it, (rows, ...).
        scale: (rows,) what a batch normalisation behind the layer multiplies by; None without one.
        folded: With the normalisation multiplied in.
        bias: (rows,) or None; the normalisation's shift is in it.
    """

    name: str
    weight: Tensor
    scale: Tensor | None
    folded: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Pool:
    """Windows over (C, H, W); ``kernel`` (0, 0) is adaptive. Pairs are height and width."""

    kind: str  # max, mean, or mean_inside, where padding does not count
    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    divisor: int = 0


@dataclass(frozen=True)
class Conv:
    """A convolution of (C, H, W) whose input is zero outside; ``pad`` is above and left, the other sides follow from ``out``."""

    matrix: Matrix
    size: tuple[int, int, int]
    out: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    pool: Pool | None = None


@dataclass(frozen=True)
class Linear:
    """A matrix by a vector."""

    matrix: Matrix


@dataclass(frozen=True)
class View:
    """Padding and slicing of three axes: of the places behind the first ``before``, ``length`` are start + i * step."""

    size: tuple[int, ...]
    out: tuple[int, ...]
    before: tuple[int, ...]
    length: tuple[int, ...]
    start: tuple[int, ...]
    step: tuple[int, ...]
    fill: float = 0.0


@dataclass(frozen=True)
class Affine:
    """A scale and a shift for each channel: a batch normalisation that no layer could take in."""

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True)
class Add:
    """The sum of two values."""


@dataclass(frozen=True)
class Clamp:
    """Nothing but the bounds that every step has."""


@dataclass(frozen=True)
class Grid:
    """Whole numbers from ``low`` to ``high``, 0 among them, times ``scale``."""

    scale: float
    low: int
    high: int


@dataclass(frozen=True)
class Round:
    """Each value to the nearest of a grid, halves to even."""

    grid: Grid


@dataclass(frozen=True)
class Softmax:
    """Over all values of a sample."""


Work: TypeAlias = Conv | Linear | Pool | View | Affine | Add | Clamp | Round | Softmax


@dataclass(frozen=True)
class Step:
    """One call of the runner.

    Attributes:
        work: What is done.
        inputs: Numbers of the values it reads; of `Conv` and `Linear` a second one is added to the result.
        output: Number of the value it makes.
        low, high: Bounds of the result; `Pool`, `View`, `Round` and `Softmax` have none.
        grid: What the result is then rounded to and stored as bytes, counted from the least level; None: float32.
    """

    work: Work
    inputs: tuple[int, ...]
    output: int
    low: float = -INFINITY
    high: float = INFINITY
    grid: Grid | None = None

    @property
    def bounded(self) -> bool:
        return (self.low, self.high) != (-INFINITY, INFINITY)


@dataclass(frozen=True)
class Program:
    """Steps in order.

    Attributes:
        steps: What is done.
        shapes: Of each value that a step reads or makes, by number; 0 is the input.
        output: Number of the network's answer.
    """

    steps: tuple[Step, ...]
    shapes: dict[int, tuple[int, ...]]
    output: int

    def size(self, value: int) -> int:
        """How many numbers a value has."""
        return math.prod(self.shapes[value])

    def room(self, value: int) -> int:
        """In how many float32 a value fits."""
        return -(-self.size(value) // 4) if value in self.grids else self.size(value)

    @cached_property
    def grids(self) -> dict[int, Grid]:
        """Of each value that is stored as bytes, by number."""
        return {step.output: step.grid for step in self.steps if step.grid is not None}

    def integers(self, step: Step) -> Grid | None:
        """The grid of what a layer multiplies, where it multiplies integers."""
        return self.grids.get(step.inputs[0]) if isinstance(step.work, Conv | Linear) else None

    @property
    def sums(self) -> int:
        """Of how many whole numbers the largest plane of a convolution of integers is."""
        planes = [step.work.out for step in self.steps if isinstance(step.work, Conv) and self.integers(step)]
        return max((out[1] * out[2] for out in planes), default=0)

    @property
    def matrices(self) -> dict[int, Matrix]:
        """The weights of all layers, by the place of their step."""
        return {at: step.work.matrix for at, step in enumerate(self.steps) if isinstance(step.work, Conv | Linear)}
