"""Columns of a layer are what its weights multiply, at all places or at some."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netpress.pipeline.layer_columns import ENOUGH, GATHER_FROM, columns_at, place_count, place_stride

LAYERS = {
    "linear": (nn.Linear(6, 4), (6,)),
    "tokens": (nn.Linear(6, 4), (25, 6)),
    "conv1d": (nn.Conv1d(3, 4, 3, padding=1, stride=2), (3, 41)),
    "conv2d": (nn.Conv2d(3, 4, 3, padding=1), (3, 9, 11)),
    "strided": (nn.Conv2d(3, 4, (3, 2), padding=(2, 1), stride=(2, 3), dilation=(2, 1)), (3, 17, 19)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2, padding="same", padding_mode="reflect"), (6, 9, 11)),
    "depthwise": (nn.Conv2d(6, 6, 5, groups=6, padding=2, stride=2), (6, 13, 12)),
    "pointwise": (nn.Conv2d(6, 4, 1), (6, 7, 7)),
}


@pytest.mark.parametrize("step", [1, 2, GATHER_FROM, 7])
@pytest.mark.parametrize("name", LAYERS)
def test_weights_times_columns_are_what_the_layer_makes(name: str, step: int) -> None:
    layer, shape = LAYERS[name]
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    whole = layer(x) - layer(torch.zeros_like(x))
    made = whole.reshape(5, -1, 4).transpose(1, 2) if isinstance(layer, nn.Linear) else whole.flatten(2)
    places = made.shape[2]
    assert place_count(layer, x) == places
    for first in {0, min(1, places - 1)}:
        columns = columns_at(layer, x, first, step)  # (groups, columns, samples)
        product = layer.weight.reshape(len(columns), -1, columns.shape[1]) @ columns
        wanted = made[..., first::step].transpose(0, 1).flatten(1)
        torch.testing.assert_close(product.flatten(0, 1), wanted, rtol=1e-4, atol=1e-5)


def test_small_maps_are_taken_whole_and_large_ones_in_part() -> None:
    layer = nn.Conv2d(1, 1, 1)
    assert place_stride(layer, torch.zeros(8, 1, 4, 4)) == 1
    assert place_stride(layer, torch.zeros(ENOUGH // 256, 1, 64, 64)) == 16
    assert place_stride(nn.Linear(3, 2), torch.zeros(4 * ENOUGH, 3)) == 1  # one place a sample cannot be left out
