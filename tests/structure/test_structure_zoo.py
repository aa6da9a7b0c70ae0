"""The laws over the zoo's networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from structure_networks import random_keep, randomised
from torch import Tensor

from netpress import zoo
from netpress.graph import count, trace
from netpress.structure import Channels, Costs, mask_network, slice_network

QUICK = (
    "digits_cnn", "lenet300_100", "lenet5", "resnet8_tiny", "resnet20", "wrn16_1", "mobilenet_v2_32_x0_5", "deepdta",
)  # fmt: skip


def sample(name: str) -> Tensor:
    shape = zoo.entry(name).input_shape
    return torch.randint(0, 20, (2, *shape)) if name == "deepdta" else torch.randn(2, *shape)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in zoo.names()]
)
def test_sliced_and_masked_networks_agree_and_cost_what_was_foretold(name: str) -> None:
    x = sample(name)
    net = trace(randomised_a_little(zoo.build(name, seed=0)).eval(), x)
    channels = Channels(net)
    keep = random_keep(channels, seed=1)
    sliced, masked = slice_network(channels, keep), mask_network(channels, keep)
    with torch.no_grad():
        found, expected, before = sliced(x), masked(x), net(x)
    scale = float(expected.abs().max())
    assert float((found - expected).abs().max()) <= 1e-5 * scale
    assert float((before - expected).abs().max()) > 1e-3 * scale, "nothing that counts was removed"
    costs, kept = Costs(channels), np.array([stays.sum() for stays in keep.values()], np.int64)
    left, whole = count(sliced), count(net)
    assert (left.params, left.macs) == (costs.params(kept), costs.macs(kept))
    assert (whole.params, whole.macs) == (costs.params(costs.full), costs.macs(costs.full))
    assert left.params < 0.6 * whole.params
    assert set(channels.kept_whole.values()) <= {"the network's output"}


def randomised_a_little(net: torch.nn.Module) -> torch.nn.Module:
    """Noise on vectors alone: on the weights of deep networks it would blow answers up."""
    vectors = torch.nn.Module()
    for number, parameter in enumerate(p for p in net.parameters() if p.dim() < 2):
        vectors.register_parameter(str(number), parameter)
    randomised(vectors)
    return net


class TestResNet20:
    """Three stages of 16, 32 and 64 channels, three blocks each; shortcuts of option A between the stages."""

    channels = Channels(trace(zoo.build("resnet20", seed=0).eval(), torch.zeros(1, 3, 32, 32)))

    def test_groups(self) -> None:
        sizes = [group.size for group in self.channels.groups.values()]
        # the stem's 16 are also the middle 16 of the second stage's 32, and those the middle of the third's 64
        assert sorted(sizes) == sorted([16, 16, 32] + 3 * [16] + 3 * [32] + 3 * [64])

    def test_stages_are_tied_by_padded_shortcuts(self) -> None:
        stages = [group for group in self.channels.groups.values() if len(group.modules) > 3]
        assert [group.size for group in stages] == [16, 16, 32]
        longest = stages[0]
        assert {len(place.rows) for place in longest.places} == {16}
        widths = {place.tensor: place.rows.tolist() for place in longest.places if not place.consumes}
        assert list(range(16)) in widths.values()
        assert list(range(8, 24)) in widths.values()  # 8 zeros before and after
        assert list(range(24, 40)) in widths.values()  # 8 + 16 zeros before
