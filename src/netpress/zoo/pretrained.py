"""Pretrained networks by the name of their weights file."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from netpress.errors import UnknownNameError
from netpress.zoo.catalog import build, entry
from netpress.zoo.entry import CIFAR10, GREY, HALF, IMAGENET, RAW_RGB, PreprocessDict
from netpress.zoo.weights import find_weights, load_weights


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights that the zoo can name.

    Attributes:
        name: The file's name without its suffix.
        network: The zoo's name of the architecture.
        preprocess: From stored images to the input that these weights were trained on.
        source: Where the weights come from.
        licence: Under which terms, where the source says.
    """

    name: str
    network: str
    preprocess: PreprocessDict
    source: str
    licence: str


_AKAMASTER = "github.com/akamaster/pytorch_resnet_cifar10"
_DISTILLER = "github.com/IntelLabs/distiller, examples/ssl/checkpoints"
_OWN_VGG = "trained on the first 40,000 training images of CIFAR-10 for 6 epochs: not converged"
_OWN_LENET = "trained on the 60,000 training images of MNIST"
_UNSTATED = "not stated"


def _pretrained(name: str, network: str, preprocess: PreprocessDict, source: str, licence: str) -> Pretrained:
    return Pretrained(name=name, network=network, preprocess=preprocess, source=source, licence=licence)


PRETRAINED: dict[str, Pretrained] = {
    each.name: each
    for each in (
        # Trained on CIFAR-10, but with the channel statistics of ImageNet.
        _pretrained("cifar10_resnet20_akamaster", "resnet20", IMAGENET, _AKAMASTER, "BSD-2-Clause"),
        _pretrained("cifar10_resnet32_akamaster", "resnet32", IMAGENET, _AKAMASTER, "BSD-2-Clause"),
        _pretrained("cifar10_resnet44_akamaster", "resnet44", IMAGENET, _AKAMASTER, "BSD-2-Clause"),
        _pretrained("cifar10_resnet20b_distiller", "resnet20b", HALF, _DISTILLER, "Apache-2.0"),
        _pretrained("cifar10_resnet20b_distiller_chreg", "resnet20b", HALF, _DISTILLER, "Apache-2.0"),
        _pretrained("cifar10_resnet8_mlperftiny", "resnet8_tiny", RAW_RGB, "github.com/mlcommons/tiny", "Apache-2.0"),
        _pretrained("cifar10_vgg16bn", "vgg16_bn", CIFAR10, _OWN_VGG, _UNSTATED),
        _pretrained("mnist_lenet300100", "lenet300_100", GREY, _OWN_LENET, _UNSTATED),
        _pretrained("mnist_lenet5", "lenet5", GREY, _OWN_LENET, _UNSTATED),
    )
}
"""The weights that the zoo knows the network and preprocessing of."""


def pretrained(name: str) -> Pretrained:
    """What the zoo knows of one file of weights.

    Raises:
        UnknownNameError: none has that name; the text names the nearest.
    """
    if name not in PRETRAINED:
        raise UnknownNameError("pretrained network", name, PRETRAINED)
    return PRETRAINED[name]


def load_pretrained(name: str, root: str | Path | None = None) -> tuple[nn.Module, PreprocessDict]:
    """A pretrained network in eval mode, and the preprocessing that its input needs.

    Args:
        name: A name of `PRETRAINED`.
        root: The folder that holds ``name.safetensors``; None takes the environment variable NETPRESS_WEIGHTS.

    Raises:
        UnknownNameError: the zoo or the folder has none of that name.
        ConfigError: there is no folder.
        WeightsError: the file does not hold what it should.
    """
    known = pretrained(name)
    path = find_weights(name, root)
    network = build(known.network, classes=entry(known.network).classes, seed=0)
    load_weights(network, path)
    return network.eval(), copy.deepcopy(known.preprocess)
