"""Pretrained networks as C on real images, on a coarse grid and as integers: the same answers as torch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from c_building import exported as compiled
from c_building import needs_compiler, stored
from torch import nn

from netpress.artifact import read
from netpress.data import Data, Preprocess, Split
from netpress.export._c_fuse import fuse
from netpress.export._c_lower import lower
from netpress.export._c_plan import plan
from netpress.pipeline import Recipe, compress
from netpress.zoo import load_pretrained

CASES = {
    "mnist_lenet300100": ("mnist/mnist_small.npz", (1, 28, 28)),
    "mnist_lenet5": ("mnist/mnist_small.npz", (1, 28, 28)),
    "cifar10_resnet8_mlperftiny": ("cifar10/cifar10_small.npz", (3, 32, 32)),
    "cifar10_resnet20_akamaster": ("cifar10/cifar10_small.npz", (3, 32, 32)),
}
AS_INTEGERS = ("mnist_lenet5", "cifar10_resnet8_mlperftiny")
"""One with a pool and linear layers, one with sums."""
IMAGES = 5


def coarse(network: nn.Module) -> nn.Module:
    """Its weights as multiples of a third of their standard deviation."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                step = float(parameter.std()) / 3
                parameter.copy_(torch.round(parameter / step) * step)
    return network


def first(shared: Path, name: str, part: str, count: int) -> Split:
    """The first images of one of the parts."""
    with np.load(shared / "data" / CASES[name][0], allow_pickle=False) as file:
        return Split(file[f"x_{part}"][:count], file[f"y_{part}"][:count])


@needs_compiler
def test_real_images_get_the_same_answers(shared: Path, tmp_path: Path) -> None:
    artifacts, preprocess, images = {}, {}, {}
    for name, (_, shape) in CASES.items():
        images[name] = first(shared, name, "test", IMAGES).images
        network, known = load_pretrained(name, shared / "weights")
        preprocess[name] = Preprocess.from_dict(dict(known))
        artifacts[name] = stored(coarse(network), shape, preprocess[name].as_dict())
    for name, made in compiled(artifacts, tmp_path).items():
        with torch.no_grad():
            expected = made.network(preprocess[name](images[name])).numpy()
        found = made.answers_to_bytes(images[name])
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max(), name
        assert (found.argmax(1) == expected.argmax(1)).all()
        assert made.summary.weight_bytes < made.summary.dense_bytes / 5, name


@needs_compiler
def test_integers_take_a_quarter_and_get_the_same_answers(shared: Path, tmp_path: Path) -> None:
    recipe = Recipe.read({"methods": [{"quantize": {"samples": 64}}], "training": {"epochs": 0}})
    artifacts = {}
    for name in AS_INTEGERS:
        network, known = load_pretrained(name, shared / "weights")
        parts = (first(shared, name, part, count) for part, count in (("train", 80), ("test", IMAGES)))
        data = Data(name, *parts, tuple("0123456789"), preprocess=Preprocess.from_dict(dict(known)))
        file = tmp_path / f"{name}.netpress"
        compress(network, recipe, data, None, latency=False, out=file)
        artifacts[name] = read(file)
    for name, made in compiled(artifacts, tmp_path).items():
        images = first(shared, name, "test", IMAGES).images
        with torch.no_grad():
            expected = made.network(Preprocess.from_dict(artifacts[name].preprocess)(images)).numpy()
        found = made.answers_to_bytes(images)
        # a sum in another order ends on the other side of a step here and there
        assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max(), name
        assert (found.argmax(1) == expected.argmax(1)).all()
        assert made.summary.weight_bytes < 0.28 * made.summary.dense_bytes, name
        if name.startswith("cifar10"):  # values between layers are bytes: see what they take in float
            assert made.summary.arena_bytes < 0.4 * 4 * plan(fuse(lower(artifacts[name].network))).size, name
