"""The normalisation of reduced features: directions that hardly vary must not be blown up."""

from __future__ import annotations

import torch

from netpress.pipeline.features import damped


def test_a_common_deviation_stays_and_a_tiny_one_is_lifted_to_a_tenth_of_the_common() -> None:
    std = torch.tensor([3.0, 4.0, 1e-6], dtype=torch.float64)
    rms = (25 / 3) ** 0.5  # of 3, 4 and nearly 0
    expected = torch.tensor([(9 + rms**2 / 100) ** 0.5, (16 + rms**2 / 100) ** 0.5, rms / 10], dtype=torch.float64)
    torch.testing.assert_close(damped(std), expected)


def test_features_that_never_vary_do_not_set_the_scale() -> None:
    std = torch.tensor([1e-3, 1.0], dtype=torch.float64)  # 1 stands for a constant
    assert damped(std)[0] < 1.01e-3


def test_only_constants() -> None:
    assert torch.equal(damped(torch.ones(4)), torch.ones(4))


def test_nothing_is_divided_by_less_than_a_tenth_of_the_common_deviation() -> None:
    std = torch.logspace(-8, 0.5, 50, dtype=torch.float64)
    assert (damped(std) >= 0.1 * std.square().mean().sqrt()).all()
    assert (damped(std) >= std).all()
