"""Laws of the quantizers and of pruning: against brute force on small input, and what all of them keep."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from netpress.errors import ConfigError, WeightsError
from netpress.maths import (
    effective_values,
    entropy_codebook,
    gradual_density,
    kept_count,
    kmeans,
    lamp_scores,
    largest_mask,
    magnitude_mask,
    quantize_entropy,
    quantize_kmeans,
    quantize_probabilistic,
    quantize_uniform,
    uniform_step,
)

RULES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "cws": quantize_kmeans,
    "pws": lambda w, k: quantize_probabilistic(w, k, torch.Generator().manual_seed(3)),
    "uq": quantize_uniform,
    "ecsq": quantize_entropy,
}
every_rule = pytest.mark.parametrize("rule", RULES)


def pruned_normal(count: int, density: float = 1.0, seed: int = 0) -> Tensor:
    w = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    return torch.where(magnitude_mask(w, density), w, 0.0)


def negative_zeros(w: Tensor) -> int:
    return int(((w == 0) & torch.signbit(w)).sum())


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_zeros_stay_shape_and_type_stay_and_k_holds(rule: str, dtype: torch.dtype) -> None:
    w = pruned_normal(3000, 0.3).to(dtype).reshape(30, 2, 50)
    w[0, 0, 0] = -0.0
    for k in (2, 5, 64):
        q = RULES[rule](w, k)
        assert (q.dtype, q.shape) == (w.dtype, w.shape)
        assert bool((q[w == 0] == 0).all())
        assert negative_zeros(q) == 0
        assert effective_values(q) <= k
        assert q.data_ptr() != w.data_ptr()
        if rule in ("cws", "pws"):
            assert effective_values(q) == k


@every_rule
def test_no_more_than_k_values_stay_as_they_are(rule: str) -> None:
    w = torch.tensor([[0.3, -1.5, 0.0], [7.25, 0.3, -1.5]])
    for k in (3, 4, 300):
        assert torch.equal(RULES[rule](w, k), w)
    for empty in (torch.zeros(4, 4), torch.empty(0, 3)):
        assert torch.equal(RULES[rule](empty, 2), empty)


@every_rule
def test_a_pruned_layer_is_not_starved(rule: str) -> None:
    """97 % zeros took most of the public code's clusters: k = 256 left ten values."""
    w = pruned_normal(100_000, 0.03)
    found = effective_values(RULES[rule](w, 256))
    assert found == 256 if rule in ("cws", "pws") else 240 <= found <= 256


@every_rule
def test_what_cannot_be_quantized_is_refused(rule: str) -> None:
    for k in (0, 65537):
        with pytest.raises(ConfigError, match="the number of shared values is out of range"):
            RULES[rule](torch.ones(3), k)
    with pytest.raises(WeightsError, match="not finite"):
        RULES[rule](torch.tensor([1.0, math.nan, 2.0]), 2)


def test_kmeans_quantizes_to_the_means_of_the_best_clusters() -> None:
    w = pruned_normal(500, 0.5)
    book = kmeans(w[w != 0].numpy(), 7)
    q = quantize_kmeans(w, 7)
    assert sorted(set(q[q != 0].tolist())) == book.centres.astype(np.float32).tolist()
    nearest = torch.from_numpy(book.centres).sub(w[:, None]).abs().amin(1)
    torch.testing.assert_close((q.double() - w).abs()[w != 0], nearest[w != 0], atol=1e-6, rtol=0)


# PWS ---------------------------------------------------------------------------------------------------------------


def test_probabilistic_rounding_is_unbiased() -> None:
    w, k, draws = pruned_normal(60, 0.9, seed=1), 5, 4000
    q = quantize_probabilistic(w.repeat(draws), k, torch.Generator().manual_seed(0)).reshape(draws, 60)
    values = torch.unique(q[q != 0])
    assert len(values) == k
    # The deviation of one draw is at most half the gap: five standard errors of the mean of all draws.
    assert float((q.double().mean(0) - w).abs().max()) < 5 * float(values.diff().max()) / 2 / math.sqrt(draws)
    kept = w != 0
    lower = values[torch.searchsorted(values, w[kept], right=True).sub(1)]
    upper = values[torch.searchsorted(values, w[kept])]
    assert bool(((q[:, kept] == lower) | (q[:, kept] == upper)).all())
    assert bool((q[:, ~kept] == 0).all())


def test_probabilistic_values_are_the_quantiles() -> None:
    w = torch.arange(1, 102, dtype=torch.float32)[torch.randperm(101)]
    q = quantize_probabilistic(w, 5, torch.Generator().manual_seed(0))
    assert set(q.tolist()) == {1.0, 26.0, 51.0, 76.0, 101.0}


def test_ties_do_not_starve_the_quantiles() -> None:
    w = torch.cat([torch.full((10_000,), 0.5), torch.linspace(1, 2, 40)])
    assert effective_values(quantize_probabilistic(w, 16, torch.Generator().manual_seed(0))) == 16


def test_probabilistic_draws_hang_on_the_seed_alone() -> None:
    w = pruned_normal(1000)
    q = [quantize_probabilistic(w, 4, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(q[0], q[1])
    assert not torch.equal(q[0], q[2])
    with pytest.raises(ConfigError, match="k from 2"):
        quantize_probabilistic(w, 1, torch.Generator())


# UQ ----------------------------------------------------------------------------------------------------------------


def cells(w: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """How many values other than 0 each step leaves."""
    levels = np.sort(np.rint(w.astype(np.float64) / steps[:, None]), axis=1) + 0.0
    new = np.diff(levels, axis=1, prepend=np.inf) != 0
    return (new & (levels != 0)).sum(1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=30), st.integers(1, 12))
@example(
    [1.0, 2.0, 3.0, 4.0, 5.0, 1.5, 0.5, -3.419921875, -3.4207518100738525], 8
)  # eight values would need 13 + 12 bits
def test_the_uniform_step_is_the_smallest_of_its_grid(values: list[float], k: int) -> None:
    w = np.array([v for v in values if abs(v) > 1e-3], np.float32)
    if not w.size:
        return
    step = uniform_step(torch.from_numpy(w), k)
    distinct = len(np.unique(w))
    assert (step == 0.0) == (distinct <= k)
    if step == 0.0:
        return
    assert cells(w, np.array([step])) <= k
    # All steps of 12 bits of this octave and the three below, of fewer bits only where multiples would not be exact in the 24 bits of
    # float32: no smaller one leaves so few values.
    exponent = math.frexp(step)[1]
    octaves = []
    for e in range(exponent - 3, exponent + 1):
        levels = math.ceil(math.log2(math.ldexp(float(np.abs(w).max()), 1 - e) + 1))  # bits of the largest level
        bits = max(1, min(12, 24 - levels))
        octaves.append(np.ldexp(np.arange(2.0 ** (bits - 1), 2.0**bits), e - bits))
    grid = np.concatenate(octaves)
    assert step in grid
    assert (cells(w, grid[grid < step]) > k).all()


def test_uniform_values_are_exact_multiples() -> None:
    for k in (1, 2, 16, 256, 5000):
        w = pruned_normal(20_000, 0.4, seed=k)
        step = uniform_step(w, k)
        q = quantize_uniform(w, k)
        levels = torch.round(q.double() / step)
        assert torch.equal(levels * step, q.double())
        assert torch.equal((levels.float() * np.float32(step)), q), "float32 arithmetic must give the same values"
        assert float((q - w).abs().max()) <= step / 2 * (1 + 1e-6)
        # Dense numbers: a step 2 % smaller leaves more values, so that nearly all of k are used.
        assert 0.9 * k <= effective_values(q) <= k


def test_a_far_outlier_does_not_break_the_step() -> None:
    w = torch.cat([pruned_normal(1000), torch.tensor([1e6])])
    for k in (1, 8, 500):
        assert effective_values(quantize_uniform(w, k)) <= k


# ECSQ --------------------------------------------------------------------------------------------------------------


def brute_objective(x: np.ndarray, price: float, k: int) -> float:
    """The least Σ (x - c)² - λ ln p over all partitions into at most k intervals."""
    u, c = np.unique(x.astype(np.float64), return_counts=True)
    costs = np.full((len(u) + 1, len(u) + 1), np.inf)
    for j in range(1, len(u) + 1):
        for i in range(j):
            n = c[i:j].sum()
            mean = (u[i:j] * c[i:j]).sum() / n
            costs[i, j] = (np.square(u[i:j] - mean) * c[i:j]).sum() - price * n * math.log(n / len(x))
    best = np.where(np.arange(len(u) + 1) == 0, 0.0, np.inf)
    least = math.inf
    for _ in range(k):
        best = (best[:, None] + costs).min(0)
        least = min(least, float(best[-1]))
    return least


def test_entropy_clusters_are_best_for_each_number_and_near_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(50):
        x, k = rng.standard_normal(rng.integers(10, 30)).astype(np.float32), int(rng.integers(1, 8))
        book, price = entropy_codebook(x, k)
        assert len(book) <= k
        assert price >= 0
        costs = np.square(x[:, None] - book.centres) - price * np.log(book.shares)
        chosen = costs[np.arange(len(x)), np.searchsorted(book.least, x, side="right") - 1]
        np.testing.assert_allclose(chosen, costs.min(1), atol=1e-9)
        if price > 0:
            ratios.append(chosen.sum() / brute_objective(x, price, k))
    assert min(ratios) > 1 - 1e-9
    assert np.median(ratios) < 1.1  # Lloyd ends in a local optimum; the worst of these is 2.1 times the best
    assert np.quantile(ratios, 0.9) < 1.35


@pytest.mark.parametrize("k", [16, 256])
def test_entropy_clusters_come_within_the_quarter_bit_of_the_bound(k: int) -> None:
    """At high rate no scalar quantizer of Gaussian numbers is nearer to rate-distortion than log2(2 pi e / 12) / 2 = .254 bits."""
    x = np.random.default_rng(1).standard_normal(50_000).astype(np.float32)
    book, _ = entropy_codebook(x, k)
    where = np.searchsorted(book.least, x, side="right") - 1
    error = np.square(x - book.centres[where]).mean()
    bits = -(book.shares * np.log2(book.shares)).sum()
    assert bits + 0.5 * math.log2(error) < 0.27
    clusters = kmeans(x, k).shares
    assert bits < -(clusters * np.log2(clusters)).sum()


def test_equally_many_equal_numbers_do_not_stop_the_search() -> None:
    """Clusters of equal shares have equal prices, and stay at any price."""
    x = np.arange(36, dtype=np.float32)
    for k in (1, 2, 5):
        assert 1 <= len(entropy_codebook(x, k)[0]) <= k


# Pruning -----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=40), st.floats(0.01, 1))
def test_exactly_the_largest_are_kept_and_ties_go_by_place(values: list[int], density: float) -> None:
    w = torch.tensor(values, dtype=torch.float32)
    mask = magnitude_mask(w, density)
    count = min(len(values), max(1, int(density * len(values) + 0.5)))
    assert kept_count(len(values), density) == count
    order = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))
    assert sorted(order[:count]) == mask.nonzero().reshape(-1).tolist()


def test_masks_have_the_shape_of_the_scores() -> None:
    scores = torch.rand(3, 4, 5)
    assert largest_mask(scores, 7).shape == (3, 4, 5)
    assert [int(largest_mask(scores, n).sum()) for n in (0, 1, 59, 60)] == [0, 1, 59, 60]
    assert int(largest_mask(torch.zeros(2, 2), 3).sum()) == 3


def test_lamp_scores_as_in_the_paper() -> None:
    torch.testing.assert_close(
        lamp_scores(torch.tensor([[1.0, -3.0], [2.0, 0.0]])),
        torch.tensor([[1 / 14, 1.0], [4 / 13, 0.0]], dtype=torch.float64),
    )
    assert lamp_scores(torch.zeros(3)).tolist() == [0, 0, 0]
    big, small = pruned_normal(500), pruned_normal(500, seed=1) * 1e-4
    mask = largest_mask(torch.cat([lamp_scores(big), lamp_scores(small)]), 500)
    assert 200 < int(mask[500:].sum()) < 300, "a layer's scale must not matter"


def test_the_gradual_schedule() -> None:
    assert [gradual_density(t, 0.1) for t in (-1, 0, 0.5, 1, 2)] == pytest.approx([1, 1, 0.1 + 0.9 / 8, 0.1, 0.1])
    steps = [gradual_density(t / 50, 0.05, 0.4) for t in range(51)]
    assert steps == sorted(steps, reverse=True)
    assert (steps[0], steps[-1]) == pytest.approx((0.4, 0.05))
