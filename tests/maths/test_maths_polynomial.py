"""Hermite features, their fit, and streaming moments."""

from __future__ import annotations

from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.errors import ConfigError, DataError
from netpress.maths import HermiteFit, StreamingMoments, hermite_features, multi_indices, polynomial_terms


def test_by_hand() -> None:
    # He_2(2) = 3, He_2(3) = 8; 1, 2, 3, He_2(2), 2 * 3, He_2(3)
    assert hermite_features(torch.tensor([[2.0, 3.0]]), 2).tolist() == [[1.0, 2.0, 3.0, 3.0, 6.0, 8.0]]
    # He_3(2) = 8 - 6 = 2
    assert hermite_features(torch.tensor([[2.0]]), 3).tolist() == [[1.0, 2.0, 3.0, 2.0]]
    assert multi_indices(2, 2) == [(), (0,), (1,), (0, 0), (0, 1), (1, 1)]


@given(size=st.integers(1, 6), degree=st.integers(0, 4))
@settings(deadline=None, max_examples=20)
def test_the_number_of_terms(size: int, degree: int) -> None:
    assert len(multi_indices(size, degree)) == polynomial_terms(size, degree) == comb(size + degree, degree)
    assert hermite_features(torch.randn(3, size), degree).shape == (3, polynomial_terms(size, degree))


def test_orthogonal_under_the_normal_density() -> None:
    features = hermite_features(torch.randn(200_000, 2, dtype=torch.float64), 2)
    # E[He_a He_b] = a! where a = b, else 0
    expected = torch.diag(torch.tensor([1.0, 1, 1, 2, 1, 2], dtype=torch.float64))
    torch.testing.assert_close(features.T @ features / 200_000, expected, atol=0.05, rtol=0)


def test_fit_recovers_a_quadratic_from_scaled_inputs_in_any_batches() -> None:
    inputs = torch.randn(500, 4, dtype=torch.float64) * torch.tensor([1.0, 100, 0.01, 5]) + 50
    moments = StreamingMoments(4)
    moments.update(inputs)
    mean, std = moments.mean(), moments.std()
    truth = torch.randn(polynomial_terms(4, 2), 3, dtype=torch.float64)
    targets = hermite_features((inputs - mean) / std, 2) @ truth
    solutions = []
    for batch in (500, 17):
        fit = HermiteFit(4, 2, 3, mean=mean, std=std)
        for x, y in zip(inputs.split(batch), targets.split(batch), strict=True):
            fit.update(x, y)
        solutions.append(fit.solve())
    torch.testing.assert_close(solutions[0], truth, atol=1e-5, rtol=1e-5)
    assert torch.equal(*solutions)


def test_fewer_samples_than_terms_is_solved_with_the_ridge() -> None:
    fit = HermiteFit(6, 2, 1, mean=torch.zeros(6), std=torch.ones(6))
    inputs, targets = torch.randn(10, 6), torch.randn(10, 1)
    fit.update(inputs, targets)
    predicted = hermite_features(inputs.double(), 2) @ fit.solve()
    torch.testing.assert_close(predicted, targets.double(), atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5), mean=st.sampled_from([0.0, 1e4]))
def test_moments_match_the_whole(sizes: list[int], mean: float) -> None:
    batches = [torch.randn(n, 3, generator=torch.Generator().manual_seed(i)) + mean for i, n in enumerate(sizes)]
    moments = StreamingMoments(3)
    for batch in batches:
        moments.update(batch)
    whole = torch.cat(batches).double()
    torch.testing.assert_close(moments.mean(), whole.mean(0))
    if len(whole) > 1:
        torch.testing.assert_close(moments.std(), whole.std(0, correction=0), rtol=1e-6, atol=0)


def test_a_constant_feature_has_deviation_one() -> None:
    moments = StreamingMoments(2)
    moments.update(torch.tensor([[5.1, 1.0], [5.1, 3.0]]))
    assert moments.std().tolist() == [1.0, 1.0]
    assert moments.mean().tolist() == pytest.approx([5.1, 2.0])


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"315 variables .*got: 50086; allowed: at most 8192"):
        multi_indices(315, 2)
    with pytest.raises(ConfigError, match="1 variable or more"):
        multi_indices(0, 2)
    with pytest.raises(DataError, match="std above 0"):
        HermiteFit(2, 2, 1, mean=torch.zeros(2), std=torch.zeros(2))
    fit = HermiteFit(2, 2, 1, mean=torch.zeros(2), std=torch.ones(2))
    with pytest.raises(DataError, match="do not match"):
        fit.update(torch.randn(3, 2), torch.randn(4, 1))
    with pytest.raises(DataError, match="another width; got: 3; allowed: 2"):
        fit.update(torch.randn(4, 3), torch.randn(4, 1))
    with pytest.raises(DataError, match="wrong shape"):
        fit.update(torch.randn(4, 2), torch.randn(4, 2))
    with pytest.raises(DataError, match="nothing was fed"):
        fit.solve()
    with pytest.raises(ConfigError, match="ridge"):
        fit.solve(0.0)
    fit.update(torch.full((1, 2), float("nan")), torch.zeros(1, 1))
    with pytest.raises(DataError, match="not finite"):
        fit.solve()
    with pytest.raises(DataError, match="no features"):
        StreamingMoments(2).mean()
