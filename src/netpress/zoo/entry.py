"""What the zoo knows of one network, and the input scalings that its entries share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from torch import nn


class PreprocessDict(TypedDict):
    """How stored images become a network's input: ``(x * scale - mean) / std``, ``mean`` and ``std`` a channel.

    With ``indices`` the inputs are whole numbers to look up, and stay as they are.
    """

    scale: float
    mean: list[float]
    std: list[float]
    indices: NotRequired[bool]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One network of the zoo.

    Attributes:
        name: Public name, unique in the zoo.
        build: Makes the network, freshly initialised, for a number of classes.
        input_shape: (C, H, W) of one input.
        classes: Number of classes where the caller names none.
        preprocess: From stored images (uint8 pixels unless said otherwise) to the input.
        paper: Where the architecture was published.
    """

    name: str
    build: Callable[[int], nn.Module]
    input_shape: tuple[int, ...]
    classes: int
    preprocess: PreprocessDict
    paper: str


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """What is known of a network besides its layers; None where nobody said.

    Attributes:
        name: The spec that it came from.
        input_shape: (C, H, W), without the batch.
        classes: Width of the output.
        preprocess: From stored images to the input.
    """

    name: str
    input_shape: tuple[int, ...] | None
    classes: int | None
    preprocess: PreprocessDict | None


CIFAR10 = PreprocessDict(scale=1 / 255, mean=[0.4914, 0.4822, 0.4465], std=[0.2470, 0.2435, 0.2616])
"""Channel mean and standard deviation of the CIFAR-10 training images."""

IMAGENET = PreprocessDict(scale=1 / 255, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
"""Channel mean and standard deviation of ImageNet, as torchvision's weights expect them."""

HALF = PreprocessDict(scale=1 / 255, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
"""Pixels onto -1 to 1."""

RAW_RGB = PreprocessDict(scale=1.0, mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])
"""Pixels as they are, 0 to 255."""

GREY = PreprocessDict(scale=1 / 255, mean=[0.0], std=[1.0])
"""One channel, 0 to 1."""
