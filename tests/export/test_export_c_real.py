"""Pretrained networks as C on real images, as they are and on a coarse grid: the same answers as torch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from c_building import exported as compiled
from c_building import needs_compiler, stored
from torch import nn

from netpress.data import Preprocess
from netpress.zoo import load_pretrained

CASES = {
    "mnist_lenet300100": ("mnist/mnist_small.npz", (1, 28, 28)),
    "mnist_lenet5": ("mnist/mnist_small.npz", (1, 28, 28)),
    "cifar10_resnet8_mlperftiny": ("cifar10/cifar10_small.npz", (3, 32, 32)),
    "cifar10_resnet20_akamaster": ("cifar10/cifar10_small.npz", (3, 32, 32)),
}
IMAGES = 5


def coarse(network: nn.Module) -> nn.Module:
    """Its weights as multiples of a third of their standard deviation."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                step = float(parameter.std()) / 3
                parameter.copy_(torch.round(parameter / step) * step)
    return network


@needs_compiler
def test_real_images_get_the_same_answers(shared: Path, tmp_path: Path) -> None:
    artifacts, preprocess, images = {}, {}, {}
    for name, (data, shape) in CASES.items():
        with np.load(shared / "data" / data, allow_pickle=False) as file:
            images[name] = next(file[key][:IMAGES] for key in file.files if key.endswith("test") and file[key].ndim > 2)
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
