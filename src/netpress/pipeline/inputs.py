"""From what a user typed to a network that can be worked with: one way for the command line and for ``compare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import artifact, zoo
from netpress.data import Data, Preprocess
from netpress.errors import ConfigError, DataError, NetpressError, UnknownNameError
from netpress.measure.layout import modes_kept


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
        """Two inputs of the right shape, seeded; zeros where the network looks its inputs up. (2, ...)"""
        if self.preprocess is not None and self.preprocess.indices:
            return torch.zeros(2, *self.input_shape, dtype=torch.int64)
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
        DataError: The data's inputs have another number of channels than the network takes.
    """
    if spec.endswith(".netpress"):
        if weights is not None:
            raise ConfigError("a .netpress file holds its own weights", got=weights, remedy="leave --weights out")
        stored = artifact.read(spec)
        _check_channels(stored.input_shape, data, name=Path(spec).name)
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
        shape = shape_of(data)
    if shape is None:
        raise ConfigError(f"{spec} does not say its input shape", remedy="--input C,H,W, or an attribute input_shape")
    _check_channels(shape, data, name=info.name)
    return Opened(
        name=info.name,
        network=network,
        input_shape=tuple(shape),
        preprocess=None if info.preprocess is None else Preprocess.from_dict(dict(info.preprocess)),
    )


def shape_of(data: Data) -> tuple[int, ...]:
    """The shape of one input as the data's own preprocessing gives it, without N."""
    return tuple(data.preprocess(data.train.images[np.arange(1)], torch.device("cpu")).shape[1:])


def first_answers(network: nn.Module, inputs: Tensor, *, name: str) -> Tensor:
    """What the network answers to a few inputs of the data called ``name``, in eval mode; the network is not changed.

    Raises:
        DataError: The network's own code fails on them.
    """
    try:
        with modes_kept(network), torch.no_grad():
            return network.eval()(inputs)
    except NetpressError:
        raise
    except Exception as error:  # whatever the network's own code raises
        raise DataError(
            f"the network cannot take the inputs of {name!r}",
            got=f"a batch of shape {tuple(inputs.shape)} gives {type(error).__name__}: {error}",
            remedy="choose data of the shape that the network was made for, or a network for this shape",
        ) from error


def pick_device(device: str | torch.device) -> torch.device:
    """The device of a name; ``auto`` takes CUDA where there is one."""
    name = str(device)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or bool(colon) != number.isdecimal():
        known = ("auto", "cpu", "cuda", "cuda:N", "mps")
        raise UnknownNameError("device", name, known, remedy="did you mean 'cuda'?" if kind == "gpu" else None)
    devices = torch.cuda.device_count() if kind == "cuda" else int(kind == "cpu" or torch.backends.mps.is_available())
    if devices == 0 or int(number or 0) >= devices:
        allowed = f"cuda:0 to cuda:{devices - 1}" if kind == "cuda" and devices else "cpu"
        raise ConfigError("there is no such device here", got=name, allowed=allowed, remedy="--device auto, or cpu")
    return torch.device(name)


def _check_channels(shape: Sequence[int], data: Data | None, *, name: str) -> None:
    """Raises DataError where inputs have as many axes as the network takes, but another number of channels."""
    if data is None:
        return
    found = shape_of(data)
    if len(found) == len(shape) and found[0] != shape[0]:
        raise DataError(
            f"the data {data.name!r} does not fit the network {name!r}",
            got=f"inputs of shape {found}",
            allowed=f"{tuple(shape)}, without the batch",
            remedy=f"choose data with {shape[0]} channels, or a network that takes {found[0]}",
        )
