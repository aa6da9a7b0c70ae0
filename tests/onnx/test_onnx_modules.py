"""Every leaf module of the closed list gives in ONNX Runtime what it gives in torch."""

from __future__ import annotations

import pytest
import torch
from running import assert_agrees
from torch import nn

from netpress.graph.leaves import build_leaf
from netpress.graph.operators import MODULES

SETTINGS: dict[str, list[tuple[object, ...]]] = {
    "Conv1d": [
        (4, 6, 3),
        (4, 6, 3, 2, 1, 2, 2, False, "reflect"),
        (4, 6, 4, 1, "same"),
        (4, 6, 3, 1, 2, 1, 1, True, "circular"),
    ],
    "Conv2d": [
        (4, 6, 3),
        (4, 6, (3, 1), (2, 1), (1, 0), 2, 2, False),
        (4, 6, (3, 2), 1, "same"),
        (4, 4, 3, 1, 1, 1, 4),
        (4, 6, 3, 1, (1, 2), 1, 1, True, "circular"),
        (4, 6, 3, 2, 1, 1, 1, True, "replicate"),
        (4, 6, 2, 1, "valid"),
    ],
    "Conv3d": [(4, 6, 3), (4, 6, (1, 2, 3), 2, 1, 1, 2, False), (4, 6, 3, 1, 1, 1, 1, True, "replicate")],
    "ConvTranspose1d": [(4, 6, 3), (4, 6, 3, 2, 1, 1, 2, False), (4, 6, 3, 3, 1, 1, 2, True, 2)],
    "ConvTranspose2d": [(4, 6, (3, 2)), (4, 6, 3, 2, 1, 1, 2), (4, 6, 3, 2, (0, 1), (1, 0), 1, True, 2)],
    "Linear": [(8, 6), (8, 6, False)],
    "Embedding": [(9, 6), (9, 6, 3)],
    "BatchNorm1d": [(4,), (4, 1e-3, None, False), (4, 1e-5, 0.1, True, False)],
    "BatchNorm2d": [(4,), (4, 1e-3, None, False), (4, 1e-2, 0.1, False, False)],
    "BatchNorm3d": [(4,), (4, 1e-3, None, False)],
    "LayerNorm": [((8, 8),), ((8,), 1e-3, False), ((4, 8, 8), 1e-5, True, False)],
    "GroupNorm": [(2, 4), (1, 4, 1e-3, False), (4, 4)],
    "PReLU": [(), (4,)],
    "LeakyReLU": [(), (0.3,)],
    "ELU": [(), (0.5,)],
    "GELU": [(), ("tanh",)],
    "Softplus": [(), (2.0, 1.0), (0.5, 10.0)],
    "Hardtanh": [(), (-0.5, 0.25)],
    "Softmax": [(1,), (-1,), (2,)],
    "LogSoftmax": [(1,), (-1,)],
    "MaxPool1d": [(3,), (3, 2, 1, 1, True), (2, 3, 0, 2)],
    "MaxPool2d": [(3,), (3, 2, 1), ((3, 2), (2, 3), 1, 1, True), (2, 2, 0, 2), (3, 2, 0, 1, True)],
    "MaxPool3d": [(3,), (3, 2, 1, 1, True)],
    "AvgPool1d": [(3,), (3, 2, 1, True), (3, 2, 1, True, False), (3, 2, 1, False, False), (3, 2, 0, True)],
    "AvgPool2d": [
        (3,),
        (3, 2, 1),
        (3, 2, 1, True),
        (3, 2, 1, True, False),
        (3, 2, 1, False, False),
        (3, 2, 1, False, True, 5),
        ((3, 2), 2, 0, True),
        (3, 3, 1, True),
    ],
    "AdaptiveAvgPool1d": [(1,), (4,), (3,)],
    "AdaptiveAvgPool2d": [(1,), ((2, 4),), ((3, 5),), ((None, 3),), (8,)],
    "AdaptiveMaxPool1d": [(1,), (4,), (3,)],
    "AdaptiveMaxPool2d": [(1,), ((2, 4),), ((3, 5),)],
    "Flatten": [(), (2,), (1, 2)],
    "Unflatten": [(1, (2, 2)), (-1, (2, 4))],
    "Dropout": [(), (0.2,)],
    "Dropout1d": [(0.2,)],
    "Dropout2d": [(0.2,)],
    "ZeroPad2d": [((1, 2, 3, 4),), ((-1, 0, 1, 0),)],
    "ReflectionPad2d": [((1, 2, 3, 4),)],
    "PixelShuffle": [(2,)],
    "Upsample": [
        (None, 2.0),
        (None, (2.0, 3.0), "bilinear", True),
        (None, 2.0, "bilinear"),
        ((5, 12), None, "bilinear"),
        (16, None, "nearest"),
        (None, 2.0, "bicubic"),
        ((12, 4), None, "area"),
    ],
}
SHAPES = {"1d": (4, 8), "2d": (4, 8, 8), "3d": (4, 8, 8, 8)}  # of one sample, by the end of the operator's name
CASES = [(op, settings) for op in MODULES for settings in SETTINGS.get(op, [()])]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("op", "settings"), CASES, ids=str)
def test_module(op: str, settings: tuple[object, ...]) -> None:
    module = build_leaf(op, settings, device="cpu")
    for name, tensor in module.named_buffers():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 * (name == "running_var"))
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.3, 0.5)
    x = torch.randn(3, *SHAPES.get(op[-2:], (4, 8, 8)))
    if op == "Embedding":
        x = torch.randint(0, 9, (3, 5))
    assert_agrees(nn.Sequential(module), x)


@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 3, 4)])
def test_linear_of_any_rank(shape: tuple[int, ...]) -> None:
    assert_agrees(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False)), torch.randn(3, *shape))


def test_every_listed_module_is_tried() -> None:
    plain = {op for op, listed in MODULES.items() if not listed.signature.arguments}
    assert plain | SETTINGS.keys() == MODULES.keys()
