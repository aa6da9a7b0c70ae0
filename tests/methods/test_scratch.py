"""Scratch: the structure stays, what was learned goes, and labels teach where they are asked to."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_networks import plain_network, residual_network, toy_data

from netpress.data import Split
from netpress.errors import DataError
from netpress.pipeline import Recipe, Result, compress


def drawn(network: nn.Module, *methods: Any, seed: int = 0, data: Any = None, **recipe: Any) -> Result:
    whole = {"methods": list(methods), "training": {"epochs": 0, "batch_size": 16, "augment": "none"}, **recipe}
    return compress(network, Recipe.read(whole), data or toy_data(), None, seed=seed, latency=False)


def test_every_weight_is_another_and_the_same_seed_draws_the_same() -> None:
    network = plain_network()
    first, again, other = (drawn(network, "scratch", seed=s).network for s in (0, 0, 1))
    for name, before in network.named_parameters():
        if before.dim() > 1:
            assert not (first.get_parameter(name) == before).any()
            assert not torch.equal(first.get_parameter(name), other.get_parameter(name))
        assert torch.equal(first.get_parameter(name), again.get_parameter(name))
        assert first.get_parameter(name).shape == before.shape
    norm: Any = first.get_submodule("1")
    assert norm.weight.eq(1).all()
    assert norm.running_mean.eq(0).all()


def test_the_spread_of_convolutions_is_he_s() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 4))
    weight = drawn(network, "scratch").network.get_parameter("0.weight")
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)  # fan-out: 64 filters of 9


def test_zeros_stay_zeros_through_the_training() -> None:
    pruned = {"prune": {"density": 0.3, "epochs": 0}}
    before = drawn(plain_network(), pruned).network
    after = drawn(plain_network(), pruned, "scratch", training={"epochs": 1, "batch_size": 16}).network
    for name, weight in before.named_parameters():
        if weight.dim() > 1:
            assert torch.equal(weight == 0, after.get_parameter(name) == 0)
            assert not torch.equal(weight, after.get_parameter(name))


class ClassToken(nn.Module):
    """A parameter that lies in no module that draws it."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.linspace(-1, 3, 64).reshape(1, 64))
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1) + self.token)


def test_a_loose_parameter_is_drawn_with_the_mean_and_spread_that_it_had() -> None:
    before = ClassToken()
    after = drawn(before, "scratch").network.get_parameter("token").detach()
    assert not torch.equal(after, before.token)
    assert float(after.mean()) == pytest.approx(1.0, abs=0.5)
    assert float(after.std()) == pytest.approx(float(before.token.detach().std()), rel=0.3)


def test_labels_alone_teach_where_they_are_asked_to() -> None:
    """A teacher that always answers the first class cannot have taught this."""
    teacher = residual_network().eval()
    with torch.no_grad():
        teacher.head.weight.zero_()
        teacher.head.bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0]))
    settings = {"training": {"epochs": 12, "batch_size": 8, "lr": 0.05, "augment": "none"}, "distill": {"alpha": 1.0}}
    scores = [drawn(teacher, {"scratch": {"labels": labels}}, **settings).quality_after for labels in (False, True)]
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[0].value <= 0.3  # a quarter are of the first class
    assert scores[1].value > 0.5


def test_labels_that_are_not_there_are_an_error_before_anything_is_trained() -> None:
    data = toy_data()
    bare = dataclasses.replace(data, train=Split(data.train.images, None))
    with pytest.raises(DataError, match=r"no labels, and scratch learns from them.*remedy: set labels=false"):
        drawn(plain_network(), {"scratch": {"labels": True}}, data=bare, distill={"alpha": 1.0})
