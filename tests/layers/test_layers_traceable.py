"""Every layer must survive tracing: a reduced network is stored as a graph of closed operators."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from netpress.graph import trace
from netpress.layers import (
    FNN,
    Bottleneck,
    ConvEncoder,
    HermiteMap,
    LinearLift,
    LinearProjection,
    MixerProjection,
    TuckerLift,
    TuckerProjection,
)

SHAPE, RANKS = (6, 5, 4), (3, 2, 3)


@pytest.mark.parametrize(
    ("build", "input_shape"),
    [
        (lambda: TuckerProjection(SHAPE, RANKS), SHAPE),
        (lambda: TuckerProjection(SHAPE, RANKS, trainable=False), SHAPE),
        (lambda: TuckerProjection(9, 4), (9,)),
        (lambda: TuckerLift(SHAPE, RANKS), (18,)),
        (lambda: LinearProjection(SHAPE, 7), SHAPE),
        (lambda: LinearLift(SHAPE, 7), (7,)),
        (lambda: Bottleneck(SHAPE, RANKS), SHAPE),
        (lambda: ConvEncoder(SHAPE, RANKS), SHAPE),
        (lambda: ConvEncoder((4, 8, 8), (2, 4, 4)), (4, 8, 8)),
        (lambda: ConvEncoder(SHAPE, RANKS).decoder(), (18,)),
        (lambda: MixerProjection(SHAPE, RANKS, blocks=2), SHAPE),
        (lambda: FNN(18, (5, 4), 3), (18,)),
        (lambda: HermiteMap(5, 2, 3), (5,)),
        (lambda: HermiteMap(6, 2, 3), (6,)),
        (lambda: HermiteMap(1, 2, 3), (1,)),
        (lambda: HermiteMap(5, 1, 3), (5,)),
    ],
)
def test_traced_layer_gives_the_same(build: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> None:
    layer = build().eval()
    traced = trace(layer, torch.randn(2, *input_shape)).eval()
    for samples in (1, 5):
        x = torch.randn(samples, *input_shape)
        torch.testing.assert_close(traced(x), layer(x))
    assert sum(p.numel() for p in traced.parameters()) == sum(p.numel() for p in layer.parameters())
    assert set(traced.state_dict()) == set(layer.state_dict())
