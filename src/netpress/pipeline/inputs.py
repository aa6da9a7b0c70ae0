"""From what a user typed to a network that can be worked with: one way for the command line and for ``compare``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from netpress import artifact, zoo
from netpress.data import Data, Preprocess
from netpress.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A network and how images become its input.

    Attributes:
        preprocess: None where nothing is known: the data's own is taken.
    """

    name: str
    network: nn.Module
    input_shape: tuple[int, ...]
    preprocess: Preprocess | None

    def example(self) -> torch.Tensor:
        """Two inputs of the right shape, seeded. (2, ...)"""
        return torch.rand(2, *self.input_shape, generator=torch.Generator().manual_seed(0))


def open_network(
    spec: str,
    *,
    weights: str | None = None,
    data: Data | None = None,
    input_shape: tuple[int, ...] | None = None,
    seed: int = 0,
) -> Opened:
    """A network of the zoo, ``torchvision:NAME``, ``timm:NAME``, ``file.py:callable``, or a ``.netpress`` file, with weights.

    Args:
        spec: What the user typed.
        weights: A ``.safetensors`` file or the name of a pretrained network; None leaves the seeded initial weights.
        data: Gives the number of classes and, where the network does not know it, the input shape.
        input_shape: Without N; for networks that do not say theirs.
        seed: Of the initial weights.

    Raises:
        UnknownNameError, ConfigError, WeightsError, MissingExtraError: What was typed cannot be resolved.
    """
    if spec.endswith(".netpress"):
        if weights is not None:
            raise ConfigError("a .netpress file holds its own weights", got=weights, remedy="leave --weights out")
        stored = artifact.read(spec)
        return Opened(
            name=Path(spec).stem,
            network=stored.network,
            input_shape=tuple(stored.input_shape),
            preprocess=None if stored.preprocess is None else Preprocess.from_dict(stored.preprocess),
        )
    from_file = ".py:" in spec
    classes = len(data.classes) if data is not None and data.task == "classification" and not from_file else None
    network, info = zoo.resolve(spec, weights=weights, classes=classes or None, input_shape=input_shape, seed=seed)
    shape = info.input_shape
    if shape is None and data is not None:
        shape = tuple(data.preprocess(data.train.images[np.arange(1)], torch.device("cpu")).shape[1:])
    if shape is None:
        raise ConfigError(f"{spec} does not say its input shape", remedy="--input C,H,W, or an attribute input_shape")
    return Opened(
        name=info.name,
        network=network,
        input_shape=tuple(shape),
        preprocess=None if info.preprocess is None else Preprocess.from_dict(dict(info.preprocess)),
    )
