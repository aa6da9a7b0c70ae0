"""What channels are worth, counted by hand on small layers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from channel_networks import images, job_for, traced
from test_recalibrate import Unreadable
from torch import Tensor, nn

from netpress.data import Split
from netpress.pipeline.channel_scores import fisher, magnitudes, scales
from netpress.structure import Channels


def weighted(module: nn.Linear | nn.Conv2d, weight: list) -> nn.Module:
    with torch.no_grad():
        module.weight.copy_(torch.tensor(weight, dtype=torch.float32).reshape(module.weight.shape))
    return module


def test_norms_of_two_layers_by_hand() -> None:
    first, second = weighted(nn.Linear(2, 2), [[3, -4], [1, 0]]), weighted(nn.Linear(2, 2), [[2, 0], [-1, 2]])
    with torch.no_grad():
        first.bias.fill_(100.0)  # biases do not count
    channels = Channels(traced(nn.Sequential(first, nn.ReLU(), second), (2,)))
    # made by [3, -4] and read by [2, -1]; made by [1, 0] and read by [0, 2]
    assert magnitudes(channels, 1)["0"] == pytest.approx(np.array([10, 3]) / 6.5)
    both = np.sqrt([9 + 16 + 4 + 1, 1 + 4])
    assert magnitudes(channels, 2)["0"] == pytest.approx(both / both.mean())


def test_all_that_reads_a_channel_behind_a_flatten_counts() -> None:
    first, second = weighted(nn.Conv2d(1, 2, 1), [5, 1]), weighted(nn.Linear(8, 1), [1, -1, 1, -1, 0, 0, 0, 3])
    channels = Channels(traced(nn.Sequential(first, nn.ReLU(), nn.Flatten(), second), (1, 2, 2)))
    assert magnitudes(channels, 1)["0"] == pytest.approx(np.array([9, 4]) / 6.5)
    both = np.sqrt([25 + 4, 1 + 9])
    assert magnitudes(channels, 2)["0"] == pytest.approx(both / both.mean())


def test_all_layers_that_a_channel_is_tied_to_count() -> None:
    channels = Channels(traced("mixed"))
    parameters = dict(channels.net.named_parameters())
    tied = ["stem.0.weight", "block.6.weight"]  # filters; what reads them: the block and the last convolution
    rows = sum(parameters[name].detach().abs().flatten(1).sum(1) for name in tied)
    columns = sum(
        parameters[name].detach().abs().transpose(0, 1).flatten(1).sum(1) for name in ("block.0.weight", "last.weight")
    )
    expected = (rows + columns).double().numpy()
    assert magnitudes(channels, 1)["stem.0"] == pytest.approx(expected / expected.mean(), rel=1e-5)


def test_groups_are_compared_by_their_own_mean() -> None:
    channels = Channels(traced("chain"))
    before = magnitudes(channels, 2)
    assert all(values.mean() == pytest.approx(1) for values in before.values())


def test_scales_of_norms_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1)
    )
    net = traced(network, (1, 2, 2))
    with torch.no_grad():
        net.get_parameter("1.weight").copy_(torch.tensor([0.5, -2.0, 0.5]))
    found = scales(Channels(net))
    assert found["0"] == pytest.approx([0.5, 2.0, 0.5])
    assert found["3"] == pytest.approx(magnitudes(Channels(net), 2)["3"] * 1.0)  # no norm: brought to the mean |γ|, 1


def test_scales_are_means_over_norms_and_over_places() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.one, self.two, self.head = (
                nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm1d(8), nn.Linear(8, 2)
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.two(torch.relu(self.one(self.conv(x))).flatten(1)))

    net = traced(Flat(), (1, 2, 2))
    with torch.no_grad():
        net.get_parameter("one.weight").copy_(torch.tensor([1.0, 2.0]))
        net.get_parameter("two.weight").copy_(torch.tensor([1.0, -3.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0]))
    # one place of the first norm and four of the second
    assert scales(Channels(net))["conv"] == pytest.approx([(1 + 8) / 5, 2 / 5])


def test_what_is_multiplied_by_zero_later_is_worth_nothing_and_what_counts_more_is_worth_more() -> None:
    net = traced("chain")
    with torch.no_grad():
        head = net.get_parameter("10.weight")
        net.get_parameter("8.bias").add_(1.0)  # all twelve are alive
        head[:, 3] = 0.0
        head[:, 5] = head[:, 4]
        for name in ("weight", "bias"):
            tensor = net.get_parameter(f"8.{name}")
            tensor[5] = tensor[4]
        head[:, 5] *= 3
    found = fisher(Channels(net), job_for(net), samples=64)
    assert found["8"][3] == 0.0
    assert all((values >= 0).all() for values in found.values())
    assert found["8"][5] == pytest.approx(9 * found["8"][4], rel=1e-3)
    assert found["8"][4] > 0


def test_fisher_of_a_linear_regression_by_hand() -> None:
    """y = 2 h0 + 3 h1 with h0 = x0 and h1 = 2 x1: without h0 half the squared change is (2 x0)² / 2, without h1 (6 x1)² / 2."""
    network = nn.Sequential(
        weighted(nn.Linear(2, 2, bias=False), [[1, 0], [0, 2]]), weighted(nn.Linear(2, 1, bias=False), [2, 3])
    )
    net = traced(network, (2,))
    given = np.tile(np.array([[1, 1], [3, 2]], np.float32), (1000, 1))
    job = job_for(net, fit=Split(given * 255))
    object.__setattr__(job, "task", "regression")
    found = fisher(Channels(net), job, samples=2000)["0"]
    assert found == pytest.approx([(4 + 36) / 4, (36 + 144) / 4], rel=0.2)  # what is drawn is drawn 2,000 times


@pytest.mark.parametrize("trainable", [True, False])
def test_the_network_is_not_changed(trainable: bool) -> None:
    net = traced("mixed").requires_grad_(trainable)
    before = copy.deepcopy(net)
    channels = Channels(net)
    fisher(channels, job_for(net), samples=32)
    magnitudes(channels, 1)
    scales(channels)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), before.state_dict().values(), strict=True))
    assert all(p.requires_grad is trainable and p.grad is None for p in net.parameters())


def test_labels_are_never_read_and_seeds_decide() -> None:
    net = traced("chain")
    channels = Channels(net)
    blind = Split(images(), Unreadable())
    first, again, other = (fisher(channels, job_for(net, fit=blind, seed=seed), samples=16) for seed in (1, 1, 2))
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)
    assert {name: len(values) for name, values in first.items()} == {"0": 6, "4": 8, "8": 12}
