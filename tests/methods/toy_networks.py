"""Networks, data and recipes that are small enough to compress in a quarter of a second."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpress import zoo
from netpress.data import Data, Preprocess, Split
from netpress.pipeline import Recipe, Result, compress, find_method
from netpress.pipeline.narrowing import ChannelMethod


def plain_network() -> nn.Module:
    """Convolutions with batch norms on (1, 8, 8); before module "4" flows (6, 4, 4)."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 4),
    )


class ResidualNetwork(nn.Module):
    """A stem, a block with a skip connection and a head on (1, 8, 8); before "block" flows (6, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1))
        self.head = nn.Linear(6 * 4 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, 1, 8, 8) -> (N, 6, 8, 8)
        x = torch.relu(x + self.block(x))
        return self.head(nn.functional.max_pool2d(x, 2).flatten(1))  # (N, 4)


def residual_network() -> nn.Module:
    torch.manual_seed(2)
    return ResidualNetwork()


def odd_network() -> nn.Module:
    """For images of 5 by 7 pixels and one channel; before module "3" flows (4, 5, 7)."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3 * 5 * 7, 3),
    )


def digits_network() -> nn.Module:
    """The zoo's small CNN on (1, 8, 8), for four classes: 93,924 parameters."""
    return zoo.build("digits_cnn", classes=4, seed=4)


def toy_data(
    count: int = 48, size: tuple[int, int] = (8, 8), classes: int = 4, *, labels: bool = True, test: int = 20
) -> Data:
    """Images of noise with a bright corner that tells the class."""
    rng = np.random.default_rng(7)
    truth = rng.permutation(np.arange(count + test) % classes)
    images = rng.integers(0, 80, (count + test, *size), dtype=np.uint8)
    images[np.arange(count + test), truth, truth] += 170
    kept = truth if labels else None
    return Data(
        "toy",
        Split(images[:count], None if kept is None else kept[:count]),
        Split(images[count:], None if kept is None else kept[count:]),
        tuple("abcdefgh"[:classes]) if labels else (),
        preprocess=Preprocess(1 / 255),
    )


def quick_recipe(name: str, settings: dict[str, Any] | None = None, *, epochs: int = 1) -> Recipe:
    """A method's recipe with one epoch of everything that has epochs."""
    recipe = Recipe.read({"methods": [name], "training": {"epochs": epochs, "batch_size": 16, "augment": "none"}})
    own = [f.name for f in dataclasses.fields(recipe.methods[0]) if f.name.endswith("epochs")]
    return recipe.with_settings(dict.fromkeys(own, 1) | (settings or {}))


def budget_for(name: str) -> str | None:
    """What a method is given that does not know by itself how small to make a network."""
    return "macs=60%" if issubclass(find_method(name), ChannelMethod) else None


def squeezed(
    name: str, network: nn.Module, data: Data | None = None, settings: dict[str, Any] | None = None, **more: Any
) -> Result:
    """By one epoch of a method, under the budget that it needs."""
    recipe = quick_recipe(name, settings)
    return compress(network, recipe, toy_data() if data is None else data, budget_for(name), latency=False, **more)


def state_bytes(network: nn.Module) -> dict[str, bytes]:
    """Every parameter and buffer, to the bit."""
    return {name: t.detach().cpu().contiguous().numpy().tobytes() for name, t in network.state_dict().items()}
