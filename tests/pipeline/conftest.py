"""A network and data that are small enough to compress in a quarter of a second."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from netpress.data import Data, Preprocess, Split
from netpress.pipeline import Recipe


def _network(outputs: int = 4) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(128, outputs),
    )  # fmt: skip


@pytest.fixture
def network() -> nn.Module:
    """(6, 4, 4) flows before module "3"; 1,016 parameters, 10,880 multiply-accumulates."""
    return _network()


@pytest.fixture
def regressor() -> nn.Module:
    """The same with one output."""
    return _network(1)


@pytest.fixture
def data() -> Data:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(60) % 4)
    images = rng.integers(0, 80, (60, 8, 8), dtype=np.uint8)
    images[np.arange(60), labels, labels] += 170
    return Data(
        "toy",
        Split(images[:40], labels[:40]),
        Split(images[40:], labels[40:]),
        tuple("abcd"),
        preprocess=Preprocess(1 / 255),
    )


@pytest.fixture
def regression(data: Data) -> Data:
    """The same images; what is asked for is their brightness."""

    def part(split: Split) -> Split:
        return Split(split.images, (np.asarray(split.images).mean((1, 2)) / 255).astype(np.float32))

    return dataclasses.replace(data, train=part(data.train), test=part(data.test), classes=(), task="regression")


@pytest.fixture
def quick() -> Callable[..., Recipe]:
    """A recipe with one epoch of everything."""

    def recipe(name: str = "ahosvd", **settings: Any) -> Recipe:
        training = {"epochs": 1, "batch_size": 16, "augment": "none"}
        return Recipe.read({"methods": [name], "training": training}).with_settings(
            ({} if name == "finetune" else {"map_epochs": 1}) | {k.replace("__", "."): v for k, v in settings.items()}
        )

    return recipe
