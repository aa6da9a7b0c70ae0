"""The one place that imports torchvision and timm, both optional and both slow to import."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import nn

from netpress.errors import ConfigError, MissingExtraError, nearest
from netpress.zoo.entry import NetworkInfo, PreprocessDict

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def torchvision_network(name: str, classes: int | None) -> tuple[nn.Module, NetworkInfo]:
    """A classification network of torchvision, freshly initialised, with what is known of it.

    Args:
        name: A name of ``torchvision.models.list_models()``, such as ``resnet50``.
        classes: Width of the output; None takes torchvision's 1000.

    Raises:
        MissingExtraError: torchvision is not installed.
        ConfigError: torchvision has no such network.
    """
    models = torchvision().models
    _check_known("torchvision", name, models.list_models(module=models))
    network = models.get_model(name, weights=None, **_sized(classes))
    # What the published weights were trained on; reading it downloads nothing.
    inputs = models.get_model_weights(name).DEFAULT.transforms()
    side = inputs.crop_size[0]
    return network, NetworkInfo(
        name=f"torchvision:{name}",
        input_shape=(3, side, side),
        classes=1000 if classes is None else classes,
        preprocess=PreprocessDict(scale=1 / 255, mean=list(inputs.mean), std=list(inputs.std)),
    )


def timm_network(name: str, classes: int | None) -> tuple[nn.Module, NetworkInfo]:
    """A network of timm, freshly initialised, with what its data configuration says.

    Args:
        name: A name of ``timm.list_models()``, such as ``mobilenetv3_small_100``.
        classes: Width of the output; None takes timm's.

    Raises:
        MissingExtraError: timm or torchvision, which timm needs, is not installed.
        ConfigError: timm has no such network.
    """
    torchvision()  # timm imports it, and must not be the first to
    timm = _imported("timm", "a timm: network")
    _check_known("timm", name, timm.list_models())
    network = timm.create_model(name, pretrained=False, **_sized(classes))
    inputs = timm.data.resolve_data_config({}, model=network)
    return network, NetworkInfo(
        name=f"timm:{name}",
        input_shape=tuple(inputs["input_size"]),
        classes=network.num_classes,
        preprocess=PreprocessDict(scale=1 / 255, mean=list(inputs["mean"]), std=list(inputs["std"])),
    )


@cache
def torchvision() -> Any:
    """The torchvision package, also where its compiled part does not fit the torch that is installed.

    A torchvision built for another torch leaves its operators unregistered, and its import then ends in "operator
    torchvision::nms does not exist". Classification networks use none of them: declared without a body, they let the
    import pass, and a call of one of them says that it has no kernel.

    Raises:
        MissingExtraError: torchvision is not installed.
    """
    purpose = "a torchvision: or timm: network"
    try:
        return _imported("torchvision", purpose)
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for half_imported in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[half_imported]
    _declare_operators()
    return _imported("torchvision", purpose)


@cache  # a Library's declarations live as long as it does
def _declare_operators() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")
    for schema in _OPERATORS:
        library.define(schema)
    return library


def _imported(package: str, purpose: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(package, "vision", purpose) from error


def _sized(classes: int | None) -> dict[str, int]:
    return {} if classes is None else {"num_classes": classes}


def _check_known(package: str, name: str, known: list[str]) -> None:
    if name in known:
        return
    near = nearest(name, known)
    # Not UnknownNameError, which would list them all: timm alone knows over a thousand.
    raise ConfigError(
        f"unknown {package} network",
        got=repr(name),
        allowed=f"the {len(known)} names of {package}'s list_models()",
        remedy=f"did you mean {' or '.join(map(repr, near))}?" if near else None,
    )
