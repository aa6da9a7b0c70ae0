"""Statistics found anew are those of the training images, and nothing else changes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from channel_networks import images, job_for, traced
from torch import nn

from netpress.data import Split
from netpress.pipeline.recalibrate import recalibrate


class Unreadable:
    """Labels that must not be looked at."""

    def __len__(self) -> int:
        return 64

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        pytest.fail("labels were read")

    def __getitem__(self, _: object) -> None:
        pytest.fail("a label was read")


def one_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.BatchNorm2d(3, momentum=0.3),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(108, 2),
    )


@pytest.mark.parametrize("batch_size", [64, 17])
def test_statistics_are_mean_and_unbiased_variance_over_all_images(batch_size: int) -> None:
    network = traced(one_norm(), (1, 8, 8))
    job = job_for(network)
    assert recalibrate(network, job, samples=64, batch_size=batch_size) == 1
    norm = network.get_submodule("1")
    with torch.no_grad():
        given = network.get_submodule("0")(torch.from_numpy(images()).float()[:, None] / 255)
    assert torch.allclose(norm.running_mean, given.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(norm.running_var, given.var((0, 2, 3), correction=1), rtol=1e-5)


def test_modes_momentum_and_weights_are_as_before() -> None:
    network = traced(one_norm(), (1, 8, 8))
    network.get_submodule("2").train()
    before = copy.deepcopy(network)
    recalibrate(network, job_for(network))
    assert [(n, m.training) for n, m in network.named_modules()] == [(n, m.training) for n, m in before.named_modules()]
    norm = network.get_submodule("1")
    assert norm.momentum == 0.3
    assert all(torch.equal(p, before.get_parameter(name)) for name, p in network.named_parameters())
    assert not torch.equal(norm.running_mean, before.get_submodule("1").running_mean)
    assert not norm._forward_pre_hooks


def test_modes_come_back_after_an_error() -> None:
    network = traced(one_norm(), (1, 8, 8))
    with pytest.raises(RuntimeError):
        recalibrate(network, job_for(network, shape=(4, 4)))
    assert not any(m.training for m in network.modules())
    assert not network.get_submodule("1")._forward_pre_hooks


def test_dropout_stays_off_and_the_second_norm_sees_the_first_as_in_training() -> None:
    network = traced(
        nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.9), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 2)), (1, 8, 8)
    )
    first = network.get_submodule("0")
    recalibrate(network, job_for(network), samples=64, batch_size=64)
    second = network.get_submodule("2")
    assert torch.allclose(second.running_mean, first.bias, atol=1e-5)
    assert torch.allclose(second.running_var, first.weight.square() * 4096 / 4095, rtol=1e-2)


def test_a_norm_that_is_called_twice_pools_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm2d(1), nn.Linear(64, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((self.norm(x) + self.norm(3 * x)).flatten(1))

    network = traced(Twice(), (1, 8, 8))
    recalibrate(network, job_for(network), samples=64, batch_size=16)
    x = torch.from_numpy(images()).float() / 255
    assert torch.allclose(
        network.get_submodule("norm").running_mean, torch.cat((x, 3 * x)).mean().reshape(1), atol=1e-5
    )


def test_the_same_seed_gives_the_same_statistics_and_another_other_images() -> None:
    original = traced(one_norm(), (1, 8, 8))

    def found(seed: int) -> bytes:
        network = copy.deepcopy(original)
        torch.rand(seed)  # whatever was drawn before must not matter
        recalibrate(network, job_for(network, seed=seed), samples=16, batch_size=16)
        return network.get_submodule("1").running_var.numpy().tobytes()

    assert found(3) == found(3)
    assert found(3) != found(4)


def test_labels_are_never_read() -> None:
    network = traced(one_norm(), (1, 8, 8))
    assert recalibrate(network, job_for(network, fit=Split(images(), Unreadable()))) == 1


def test_a_network_without_statistics_is_left_alone() -> None:
    network = traced(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), (1, 8, 8))
    assert recalibrate(network, job_for(network)) == 0
    fixed = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(64, 2))
    assert recalibrate(fixed, job_for(network)) == 0
