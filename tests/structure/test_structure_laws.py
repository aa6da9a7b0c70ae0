"""What is cut out leaves what is masked, and costs what was foretold: over one small network for each rule."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from structure_networks import NETWORKS, channels_of, example, one_each, random_keep, traced
from torch import Tensor, nn

from netpress.graph import GraphNetwork, count, trace
from netpress.structure import Channels, Costs, mask_network, slice_network

CUTTABLE = [name for name, (_, _, groups) in NETWORKS.items() if groups]


@torch.no_grad()
def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def counted(keep: dict[str, Any]) -> np.ndarray:
    return np.array([kept.sum() for kept in keep.values()], np.int64)


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_those_counted_by_hand(name: str) -> None:
    channels = channels_of(name)
    assert {group.name: group.size for group in channels.groups.values()} == NETWORKS[name][2]
    assert list(channels.groups) == list(NETWORKS[name][2])  # in order of execution


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CUTTABLE)
def test_sliced_and_masked_networks_agree(name: str, seed: int) -> None:
    channels = channels_of(name, seed)
    net = channels.net
    keep = random_keep(channels, seed) if seed else one_each(channels)
    sliced, masked = slice_network(channels, keep), mask_network(channels, keep)
    x = example(NETWORKS[name][1], batch=5)  # another batch than was traced
    assert relative(sliced(x), masked(x)) <= 1e-5
    assert relative(masked(x), net(x)) > 1e-4, "nothing that counts was removed"
    assert count(sliced).params < count(net).params
    assert not any((parameter == 0).all() for parameter in sliced.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_are_those_of_the_sliced_network(name: str) -> None:
    channels = channels_of(name)
    costs = Costs(channels)
    keeps = [channels.everything(), one_each(channels), random_keep(channels, 1), random_keep(channels, 2, 0.8)]
    for keep in keeps:
        counts = count(slice_network(channels, keep))
        assert (costs.params(counted(keep)), costs.macs(counted(keep))) == (counts.params, counts.macs)
    assert costs.full.tolist() == list(NETWORKS[name][2].values())


@pytest.mark.parametrize("metric", ["params", "macs", "bytes"])
@pytest.mark.parametrize("name", CUTTABLE)
def test_slopes_are_derivatives_of_the_counts(name: str, metric: str) -> None:
    costs = Costs(channels_of(name))
    kept = np.maximum(1, costs.full // 2)
    step = np.eye(len(kept), dtype=np.int64)
    # a count is quadratic in one group at most: its central difference is its derivative
    central = [(costs.at(metric, kept + one) - costs.at(metric, kept - one)) / 2 for one in step]
    assert costs.slopes(metric, kept).tolist() == pytest.approx(central)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_kept_is_the_same_network(name: str) -> None:
    channels = channels_of(name)
    net = channels.net
    for same in (
        slice_network(channels, channels.everything()),
        slice_network(channels, {}),
        mask_network(channels, {}),
    ):
        assert same.nodes == net.nodes
        assert list(same.state_dict()) == list(net.state_dict())
        assert all(torch.equal(value, net.state_dict()[key]) for key, value in same.state_dict().items())
        x = example(NETWORKS[name][1])
        assert torch.equal(same(x), net(x))


@pytest.mark.parametrize("name", CUTTABLE)
def test_the_original_is_left_alone(name: str) -> None:
    net = traced(name)
    before, nodes = copy.deepcopy(net.state_dict()), net.nodes
    channels = Channels(net)
    keep = one_each(channels)
    for made in (slice_network(channels, keep), mask_network(channels, keep)):
        owned = {tensor.data_ptr() for tensor in net.state_dict().values()}
        assert all(tensor.data_ptr() not in owned for tensor in made.state_dict().values())
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.zero_()
    assert net.nodes == nodes
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", CUTTABLE)
def test_a_sliced_network_is_a_network_like_any_other(name: str) -> None:
    """It can be traced, followed and cut again."""
    shape = NETWORKS[name][1]
    channels = channels_of(name)
    keep = random_keep(channels, 1, 0.8)
    sliced = slice_network(channels, keep)
    x = example(shape)
    again = trace(sliced, x)
    assert torch.equal(again(x), sliced(x))
    left = Channels(again)
    sizes = sorted(int(kept.sum()) for kept in keep.values() if kept.sum() > 1)  # the last one cannot go
    assert sorted(group.size for group in left.groups.values()) == sizes
    keep = one_each(left)
    assert relative(slice_network(left, keep)(x), mask_network(left, keep)(x)) <= 1e-5


def test_sliced_at_once_and_in_two_steps_are_one() -> None:
    channels = Channels(traced("residual"))
    once = slice_network(channels, {"stem": np.arange(6) % 2 == 0, "inner": np.arange(5) < 3})
    half = slice_network(channels, {"stem": np.arange(6) % 2 == 0})
    twice = slice_network(Channels(half), {"inner": np.arange(5) < 3})
    assert [(k, v.tolist()) for k, v in once.state_dict().items()] == [
        (k, v.tolist()) for k, v in twice.state_dict().items()
    ]


class Chain(nn.Module):
    """Convolutions, some of which add, join, gate or take apart what was made before, as the numbers of ``plan`` say."""

    def __init__(self, plan: list[int]) -> None:
        super().__init__()
        self.plan = plan
        widths, self.layers = [6], nn.ModuleList([nn.Conv2d(2, 6, 1)])
        for step in plan:
            width = widths[-1]
            match step % 7:
                case 0:
                    layer: nn.Module = nn.Conv2d(width, width, 3, padding=1)
                case 1:
                    layer = nn.Conv2d(width, 4, 1)
                    width += 4
                case 2:
                    layer = nn.Conv2d(width, width, 3, padding=1, groups=width)
                case 3:
                    layer, width = nn.Conv2d(width, 12, 1), 6
                case 4:
                    layer = nn.Conv2d(width, width, 1, groups=2)
                case 5:
                    layer = nn.GroupNorm(2, width)
                case _:
                    layer = nn.Conv2d(width, width, 1)
            self.layers.append(layer)
            widths.append(width)
        self.head = nn.Linear(widths[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[0](x)
        for step, layer in zip(self.plan, list(self.layers)[1:], strict=True):
            made = layer(x)
            match step % 7:
                case 0:
                    x = torch.relu(x + made)
                case 1:
                    x = torch.cat((x, made), 1)
                case 3:
                    one, two = made.chunk(2, 1)
                    x = one * torch.sigmoid(two)
                case 4:
                    n, c, h, w = made.shape
                    x = made.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
                case 6:
                    x = x * made.mean((2, 3), keepdim=True)
                case _:
                    x = torch.tanh(made)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("seed", range(12))
def test_random_chains_agree_as_well(seed: int) -> None:
    plan = np.random.default_rng(seed).integers(0, 7, 6).tolist()
    net = trace(Chain(plan).eval(), example((2, 5, 5)))
    channels, x = Channels(net), example((2, 5, 5))
    costs = Costs(channels)
    for keep in (one_each(channels), random_keep(channels, seed), random_keep(channels, seed, 0.8)):
        sliced = slice_network(channels, keep)
        assert relative(sliced(x), mask_network(channels, keep)(x)) <= 1e-5
        counts = count(sliced)
        assert (counts.params, counts.macs) == (costs.params(counted(keep)), costs.macs(counted(keep)))
        assert isinstance(sliced, GraphNetwork)
