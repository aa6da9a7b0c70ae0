"""Layers learn by least squares what they gave before channels were gone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from channel_networks import images, job_for, traced
from test_recalibrate import Unreadable
from torch import Tensor, nn

from netpress.data import Split
from netpress.graph import GraphNetwork
from netpress.pipeline import reconstruct as module
from netpress.pipeline.narrowed import Narrowed
from netpress.pipeline.reconstruct import reconstruct
from netpress.structure import Channels, Keep, slice_network


def narrowed(network: GraphNetwork, keep: Callable[[Channels], Keep]) -> Narrowed:
    channels = Channels(network)
    kept = keep(channels)
    return Narrowed(slice_network(channels, kept), channels, kept)


def without(**gone: list[int]) -> Callable[[Channels], Keep]:
    """All but these channels, by group ("g0" is group "0")."""
    return lambda channels: {
        name.removeprefix("g"): ~np.isin(np.arange(channels.groups[name.removeprefix("g")].size), numbers)
        for name, numbers in gone.items()
    }


def half(seed: int) -> Callable[[Channels], Keep]:
    """A random half of each group."""
    rng = np.random.default_rng(seed)
    return lambda channels: {
        name: rng.permutation(group.size) < (group.size + 1) // 2 for name, group in channels.groups.items()
    }


def x_of(seed: int = 0, shape: tuple[int, ...] = (8, 8)) -> Tensor:
    return torch.from_numpy(images(64, shape, seed)).float()[:, None] / 255


@torch.no_grad()
def error(made: Narrowed, x: Tensor) -> float:
    """Of the outputs, beside how much the original's vary."""
    expected, found = made.channels.net(x), made.network(x)
    return float((found - expected).square().mean() / expected.var())


@pytest.mark.parametrize("name", ["chain", "mixed", "digits_cnn"])
def test_with_everything_kept_the_network_answers_as_before(name: str) -> None:
    made = narrowed(traced(name), lambda channels: channels.everything())
    assert reconstruct(made, job_for(made.channels.net), samples=64) > 0
    x = x_of(seed=5)  # not the images that it saw
    with torch.no_grad():
        assert torch.allclose(made.network(x), made.channels.net(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["chain", "mixed"])
def test_the_original_is_not_changed_by_one_bit(name: str) -> None:
    made = narrowed(traced(name), half(0))
    before = copy.deepcopy(made.channels.net)
    assert reconstruct(made, job_for(made.channels.net), samples=32) > 0
    for (key, value), now in zip(before.state_dict().items(), made.channels.net.state_dict().values(), strict=True):
        assert torch.equal(value, now), key
    assert not any(
        m._forward_pre_hooks or m._forward_hooks for m in (*made.channels.net.modules(), *made.network.modules())
    )


def sums_to_last(first: nn.Module) -> None:
    """The last channel becomes the first one plus half of the second."""
    with torch.no_grad():
        for tensor in first.parameters():
            tensor[-1] = tensor[0] + 0.5 * tensor[1]


@pytest.mark.parametrize("kind", ["linear", "conv", "grouped behind", "before a norm"])
def test_a_removed_sum_of_kept_channels_is_made_good(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "linear":
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 3))
        first, group = network[1], "1"
    else:
        behind: list[nn.Module] = {
            "conv": [nn.Conv2d(5, 3, 3, padding=1, stride=2, bias=False)],
            "grouped behind": [nn.Conv2d(5, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, groups=2)],
            "before a norm": [nn.Conv2d(5, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU()],
        }[kind]
        network = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), *behind, nn.Flatten(), nn.LazyLinear(2))
        network(torch.zeros(2, 1, 8, 8))
        first, group = network[0], "0"
    sums_to_last(first)
    monkeypatch.setattr(module, "RIDGE", 1e-7)
    made = narrowed(traced(network, (1, 8, 8)), without(**{f"g{group}": [4]}))
    as_cut = error(made, x_of(5))
    reconstruct(made, job_for(made.channels.net), samples=64)
    assert as_cut > 1e-3
    assert error(made, x_of(5)) < 1e-5 * as_cut


def test_the_ridge_alone_keeps_a_removed_sum_from_being_exact() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 3))
    sums_to_last(network[1])
    made = narrowed(traced(network, (1, 8, 8)), without(g1=[4]))
    as_cut = error(made, x_of())
    reconstruct(made, job_for(made.channels.net), samples=64)
    assert 0 < error(made, x_of()) < 0.05 * as_cut


def test_a_removed_constant_goes_into_the_bias() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        network[1].weight[2], network[1].bias[2] = 0.0, 2.0
    made = narrowed(traced(network, (1, 8, 8)), without(g1=[2]))
    weight, bias = (t.detach().clone() for t in (network[3].weight, network[3].bias))
    reconstruct(made, job_for(made.channels.net), samples=64)
    last = made.network.get_submodule("3")
    assert torch.allclose(last.bias, bias + 2 * weight[:, 2], atol=1e-5)
    assert torch.allclose(last.weight, weight[:, :2], atol=1e-5)
    assert error(made, x_of(5)) < 1e-9


def test_least_squares_by_hand() -> None:
    """One input y is left of two, y and z = 2y + noise of mean 0 that is orthogonal to it: the weight takes up 2 of z's."""
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(2))
        network[1].weight.copy_(torch.tensor([[1.0, 3.0]]))
    given = np.array([[1, 3], [1, 1], [-1, -1], [-1, -3]], np.float32)  # z - 2y: 1, -1, 1, -1
    made = narrowed(traced(network, (2,)), without(g0=[1]))
    job = job_for(made.channels.net, fit=Split(given * 255))
    reconstruct(made, job, samples=4)
    # with E y² = 1 and the ridge r beside it: 1 + (3 * 2) / (1 + r)
    assert made.network.get_submodule("1").weight.item() == pytest.approx(1 + 6 / (1 + module.RIDGE), rel=1e-5)


def test_the_last_layer_of_a_branch_makes_good_what_the_other_branch_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up, self.beside, self.head = (
                nn.Linear(8, 3), nn.Linear(3, 6), nn.Linear(8, 6), nn.Linear(6, 2)
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)[:, :8]
            return self.head(self.up(self.down(x)) + self.beside(x))

    monkeypatch.setattr(module, "RIDGE", 1e-7)
    made = narrowed(traced(Sum(), (1, 8, 8)), without(down=[1]))
    as_cut = error(made, x_of(5))
    reconstruct(made, job_for(made.channels.net), samples=64)
    assert as_cut > 1e-3
    # two channels cannot give what three gave, but what is added to them can: all of it is linear in the input
    assert error(made, x_of(5)) < 1e-4 * as_cut


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["chain", "mixed", "digits_cnn"])
def test_on_other_images_the_error_is_smaller_than_as_cut(name: str, seed: int) -> None:
    made = narrowed(traced(name, seed=seed), half(seed))
    as_cut = error(made, x_of(5))
    reconstruct(made, job_for(made.channels.net), samples=64)
    assert error(made, x_of(5)) < as_cut


def test_a_layer_that_is_called_twice_is_set_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.again, self.head = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x.flatten(1)[:, :8])
            return self.head(torch.relu(self.again(torch.relu(self.again(x)))))

    made = narrowed(traced(Twice(), (1, 8, 8)), half(1))
    assert made.network.get_submodule("again").weight.shape == (3, 3)
    assert reconstruct(made, job_for(made.channels.net), samples=64) == 3


def test_of_layers_that_share_a_weight_the_first_is_set() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.two, self.head = (
                nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 2)
            )  # fmt: skip
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.one(self.stem(x.flatten(1)[:, :8])))
            return self.head(torch.relu(self.two(x)))

    made = narrowed(traced(Tied(), (1, 8, 8)), half(1))
    assert reconstruct(made, job_for(made.channels.net), samples=64) == 3  # stem, one, head
    assert made.network.get_submodule("two").weight is made.network.get_submodule("one").weight


class Tokens(nn.Module):
    """A linear layer across the places of an image, whose channels pass it by."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.across, self.head = nn.Conv2d(1, 6, 3), nn.Linear(36, 10), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.across(self.stem(x).flatten(2)).mean(2))  # (N, 6, 36) -> (N, 6, 10) -> (N, 6)


def test_layers_across_places_lose_what_passes_them_by() -> None:
    made = narrowed(traced(Tokens(), (1, 8, 8)), half(2))
    assert made.network.get_submodule("stem").weight.shape == (3, 1, 3, 3)
    as_cut = error(made, x_of(5))
    assert reconstruct(made, job_for(made.channels.net), samples=64) == 3
    assert error(made, x_of(5)) < as_cut


@pytest.mark.parametrize("settings", [{"affine": False}, {"track_running_stats": False}])
def test_norms_without_scales_or_without_statistics(settings: dict[str, bool]) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6, **settings), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(),
        nn.Linear(64, 2),
    )  # fmt: skip
    made = narrowed(traced(network, (1, 8, 8)), half(3))
    as_cut = error(made, x_of(5))
    assert reconstruct(made, job_for(made.channels.net), samples=64) == 4
    assert error(made, x_of(5)) < as_cut


def test_statistics_come_from_the_same_images() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )
    made = narrowed(traced(network, (1, 8, 8)), without(g0=[2]))
    reconstruct(made, job_for(made.channels.net), samples=64)
    norm = made.network.get_submodule("1")
    with torch.no_grad():
        given = made.network.get_submodule("0")(x_of())
    assert torch.allclose(norm.running_mean, given.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(norm.running_var, given.var((0, 2, 3), correction=1), rtol=1e-5)


def test_a_layer_with_too_many_inputs_keeps_its_weights_and_has_its_mean_put_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = narrowed(traced("chain"), half(4))
    weight = made.network.get_submodule("8").weight.detach().clone()
    monkeypatch.setattr(module, "MOST_COLUMNS", weight.shape[1])
    reconstruct(made, job_for(made.channels.net), samples=64)
    assert torch.equal(made.network.get_submodule("8").weight, weight)
    kept = torch.from_numpy(np.flatnonzero(made.keep["8"]))
    with torch.no_grad():
        wanted, found = (
            net.get_submodule("8")(_flow_into(net, "8", x_of())).mean(0) for net in (made.channels.net, made.network)
        )
    assert torch.allclose(found, wanted[kept], atol=1e-5)


def _flow_into(net: GraphNetwork, name: str, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = net.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(x)
    handle.remove()
    return seen[0]


def test_memory_bounds_the_images_and_labels_are_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made = narrowed(traced("chain"), half(0))
    drawn: list[int] = []
    plain = module.calibration
    monkeypatch.setattr(module, "calibration", lambda job, count: drawn.append(count) or plain(job, count))
    monkeypatch.setattr(module, "MEMORY_BYTES", 50_000)
    assert reconstruct(made, job_for(made.channels.net, fit=Split(images(), Unreadable())), samples=1000) > 0
    assert drawn[0] == 1
    assert 1 < drawn[1] < 64


def test_the_same_seed_gives_the_same_weights() -> None:
    found = []
    for _ in range(2):
        made = narrowed(traced("mixed"), half(0))
        torch.rand(5)
        reconstruct(made, job_for(made.channels.net), samples=16)
        found.append({key: value.numpy().tobytes() for key, value in made.network.state_dict().items()})
    assert found[0] == found[1]
