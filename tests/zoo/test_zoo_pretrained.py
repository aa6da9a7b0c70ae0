"""Each pretrained network classifies exactly as many real images as its makers' code does."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netpress import zoo
from netpress.data import Preprocess
from netpress.errors import UnknownNameError

# Correct of the first 500 CIFAR-10 test images. The published counts of the last three are of the first 1,000 (921, 919
# and 881), of which only these 500 are to be had: their counts are as measured.
CIFAR_CORRECT = {
    "cifar10_resnet20_akamaster": 455,
    "cifar10_resnet32_akamaster": 466,
    "cifar10_resnet44_akamaster": 465,
    "cifar10_vgg16bn": 447,
    "cifar10_resnet20b_distiller": 458,
    "cifar10_resnet20b_distiller_chreg": 459,
    "cifar10_resnet8_mlperftiny": 445,
}
MNIST_CORRECT = {"mnist_lenet300100": 9_840, "mnist_lenet5": 9_921}

PARAMETERS = {
    "cifar10_resnet20_akamaster": 269_722,
    "cifar10_resnet32_akamaster": 464_154,
    "cifar10_resnet44_akamaster": 658_586,
    "cifar10_resnet20b_distiller": 272_474,
    "cifar10_resnet20b_distiller_chreg": 272_474,
    "cifar10_resnet8_mlperftiny": 78_186,
    "cifar10_vgg16bn": 14_724_042,
    "mnist_lenet300100": 266_610,
    "mnist_lenet5": 431_080,
}


def correct(network: nn.Module, preprocess: Mapping[str, object], images: np.ndarray, labels: np.ndarray) -> int:
    ready = Preprocess.from_dict(preprocess)
    count = 0
    with torch.inference_mode():
        for start in range(0, len(images), 500):
            x: Tensor = ready(images[start : start + 500], torch.device("cpu"))  # (500, C, H, W)
            count += int((network(x).argmax(1).numpy() == labels[start : start + 500]).sum())
    return count


def test_the_table_is_of_what_the_tests_know() -> None:
    assert set(zoo.PRETRAINED) == set(PARAMETERS) == set(CIFAR_CORRECT) | set(MNIST_CORRECT)
    assert all(known.name == name and known.source and known.licence for name, known in zoo.PRETRAINED.items())


@pytest.mark.parametrize("name", CIFAR_CORRECT)
def test_cifar10_networks_are_exactly_as_good_as_published(shared: Path, name: str) -> None:
    network, preprocess = zoo.load_pretrained(name, shared / "weights")
    assert not network.training
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
    with np.load(shared / "data/cifar10/cifar10_small.npz", allow_pickle=False) as file:
        assert correct(network, preprocess, file["x_test"], file["y_test"]) == CIFAR_CORRECT[name]


@pytest.mark.parametrize("name", MNIST_CORRECT)
def test_mnist_networks_are_exactly_as_good_as_published(shared: Path, name: str) -> None:
    network, preprocess = zoo.load_pretrained(name, shared / "weights")
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
    with np.load(shared / "data/mnist/mnist.npz", allow_pickle=False) as file:
        assert correct(network, preprocess, file["x_test"], file["y_test"]) == MNIST_CORRECT[name]


@pytest.mark.slow
def test_vgg16_on_the_ten_thousand_images_it_never_saw(shared: Path) -> None:
    pytest.importorskip("PIL")
    spec = importlib.util.spec_from_file_location("unpack", shared / "data/unpack.py")
    assert spec is not None
    assert spec.loader is not None
    unpack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unpack)
    images, labels = unpack.strips(shared / "data/cifar10/cifar10_train_b5.npz")
    network, preprocess = zoo.load_pretrained("cifar10_vgg16bn", shared / "weights")
    assert correct(network, preprocess, images, labels) == 8_615


def test_the_channel_regularised_network_has_69_dead_input_channels(shared: Path) -> None:
    network, _ = zoo.load_pretrained("cifar10_resnet20b_distiller_chreg", shared / "weights")
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert sum(int((weight.abs().sum((0, 2, 3)) == 0).sum()) for weight in weights) == 69


def test_the_preprocess_is_the_callers_own(shared: Path) -> None:
    _, preprocess = zoo.load_pretrained("mnist_lenet5", shared / "weights")
    preprocess["std"][0] = 7.0
    assert zoo.pretrained("mnist_lenet5").preprocess["std"] == [1.0]


def test_loading_leaves_the_global_generator_as_it_was(shared: Path) -> None:
    before = torch.get_rng_state()
    zoo.load_pretrained("mnist_lenet5", shared / "weights")
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown pretrained network; .*did you mean .*'mnist_lenet5'"):
        zoo.load_pretrained("mnist_lenet", tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown weights in .*; got: 'mnist_lenet5'; allowed: nothing"):
        zoo.load_pretrained("mnist_lenet5", tmp_path)
