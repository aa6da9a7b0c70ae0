"""Laws of clusters on a line: optimal against brute force, never worse than the usual k-means, fixed points of Lloyd's iterations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.errors import ConfigError, WeightsError
from netpress.kernels import _cluster
from netpress.maths.clusters import Codebook, Line, best_cuts, kmeans, lloyd


def error_of(numbers: np.ndarray, book: Codebook) -> float:
    """Squared error of numbers from their clusters' centres."""
    where = np.searchsorted(book.least, numbers, side="right") - 1
    return float(np.square(numbers.astype(np.float64) - book.centres[where]).sum())


def brute_errors(numbers: np.ndarray) -> list[float]:
    """The least squared error with 1, 2, ... clusters: every interval of the sorted numbers, every way to chain them."""
    x = np.sort(numbers.astype(np.float64))
    x = x - x.mean()
    n = len(x)
    errors = np.full((n + 1, n + 1), np.inf)
    for i in range(n):
        for j in range(i + 1, n + 1):
            errors[i, j] = np.square(x[i:j] - x[i:j].mean()).sum()
    best, out = np.where(np.arange(n + 1) == 0, 0.0, np.inf), []
    for _ in range(n):
        best = (best[:, None] + errors).min(0)
        out.append(float(best[n]))
    return out


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=24),
        st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=24),
        st.lists(st.floats(0, 2**-10, width=32).map(lambda v: 1000 + v), min_size=1, max_size=16),
    )
)
def test_kmeans_is_the_best_of_all_partitions(values: list[float]) -> None:
    numbers = np.array(values, np.float32)
    distinct = len(np.unique(numbers))
    best = np.minimum.accumulate(brute_errors(numbers))
    for k in range(1, distinct + 2):
        book = kmeans(numbers, k)
        assert len(book) == min(k, distinct)
        assert book.counts.sum() == len(numbers)
        assert error_of(numbers, book) <= best[min(k, len(best)) - 1] * (1 + 1e-9) + 1e-12 * best[0]


def test_a_hand_computed_partition() -> None:
    book = kmeans(np.array([10, 1, 2, 11, 2, 30], np.float32), 3)
    assert book.least.tolist() == [1, 10, 30]
    np.testing.assert_allclose(book.centres, [5 / 3, 10.5, 30])
    assert book.counts.tolist() == [3, 2, 1]
    np.testing.assert_allclose(book.shares, [1 / 2, 1 / 3, 1 / 6])


@pytest.mark.parametrize("k", [2, 7, 32, 200])
def test_kmeans_is_never_worse_than_iterations_from_random_starts(k: int) -> None:
    rng = np.random.default_rng(k)
    numbers = np.concatenate([rng.standard_normal(2500), rng.laplace(3, 0.1, 500)]).astype(np.float32)
    best = error_of(numbers, kmeans(numbers, k))
    for _ in range(5):
        centres = np.sort(rng.choice(numbers, k, replace=False)).astype(np.float64)
        for _ in range(60):
            where = np.searchsorted((centres[1:] + centres[:-1]) / 2, numbers)
            sums, counts = np.bincount(where, numbers, k), np.bincount(where, minlength=k)
            centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres)
        assert best <= np.square(numbers - centres[where]).sum() * (1 + 1e-9)


def test_the_error_falls_convexly_with_the_number_of_clusters() -> None:
    numbers = np.random.default_rng(3).standard_normal(400).astype(np.float32)
    errors = [error_of(numbers, kmeans(numbers, k)) for k in range(1, 60)]
    falls = -np.diff(errors)
    assert (falls > 0).all()
    assert (falls[:-1] >= falls[1:] - 1e-9).all()


def test_collinear_errors_still_give_every_number_of_clusters() -> None:
    """Equally spaced numbers: many clusterings are equally good at one price, and no price gives the numbers in between."""
    numbers = np.arange(24, dtype=np.float32)
    best = brute_errors(numbers)
    for k in range(1, 25):
        book = kmeans(numbers, k)
        assert len(book) == k
        assert error_of(numbers, book) == pytest.approx(best[k - 1])


def test_as_many_clusters_as_asked_for_up_to_65536() -> None:
    numbers = np.random.default_rng(0).standard_normal(80_000).astype(np.float32)
    book = kmeans(numbers, 65536)
    assert len(book) == 65536
    centres = book.centres.astype(np.float32)
    assert (np.diff(centres) > 0).all(), "rounding must not make two values one"


def test_beyond_the_exact_size_bins_and_a_polish_come_near_the_best() -> None:
    rng = np.random.default_rng(1)
    numbers = np.concatenate([rng.standard_normal(100_000), [60.0, -80.0]]).astype(np.float32)
    for k in (2, 32, 300):
        binned, exact = kmeans(numbers, k, most_points=8192), kmeans(numbers, k)
        assert len(binned) == k
        assert 1 <= error_of(numbers, binned) / error_of(numbers, exact) < 1.003


def test_bins_keep_equal_numbers_together_and_lose_none() -> None:
    rng = np.random.default_rng(2)
    numbers = np.round(rng.standard_normal(50_000) * 300).astype(np.float32)
    line = Line.of(numbers, most_points=64)
    assert not line.exact
    assert len(line) <= 64
    assert line.weights.sum() == 50_000
    assert (line.numbers[line.first[1:]] != line.numbers[line.first[1:] - 1]).all()
    assert line.distinct == len(np.unique(numbers))
    np.testing.assert_allclose(line.points @ line.weights, 0, atol=1e-6 * 50_000)


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_lloyd_ends_where_every_number_has_its_best_cluster(penalty: float) -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        numbers = rng.standard_normal(200).astype(np.float32)
        line = Line.of(numbers)
        start = line.equal_parts(12)
        cuts, objective = lloyd(line, start, penalty=penalty, tolerance=0.0)
        book = line.codebook(cuts)
        costs = np.square(numbers[:, None] - book.centres) - penalty * np.log(book.shares)
        where = np.searchsorted(book.least, numbers, side="right") - 1
        chosen = costs[np.arange(len(numbers)), where]
        np.testing.assert_allclose(chosen, costs.min(1), atol=1e-9)
        np.testing.assert_allclose(chosen.sum(), objective, rtol=1e-9)
        assert objective <= lloyd(line, start, penalty=penalty, rounds=0)[1]


def test_the_optimum_is_a_fixed_point_of_lloyd() -> None:
    line = Line.of(np.random.default_rng(6).standard_normal(500).astype(np.float32))
    cuts = best_cuts(line, 9)
    np.testing.assert_array_equal(lloyd(line, cuts, tolerance=0.0)[0], cuts)


@pytest.mark.parametrize(
    "parts", [lambda line, n: line.equal_parts(n), lambda line, n: line.equal_widths(n)], ids=["parts", "widths"]
)
def test_starts_are_partitions(parts) -> None:
    for numbers in (np.ones(5), np.arange(7), np.repeat([1.0, 2.0, 9.0], [100, 1, 1])):
        line = Line.of(numbers.astype(np.float32))
        for n in (1, 2, 3, 50):
            cuts = parts(line, n)
            assert cuts[0] == 0
            assert cuts[-1] == len(line)
            assert (np.diff(cuts) > 0).all()
            assert len(cuts) - 1 <= n


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(ConfigError, match="k from 1 to 65,536"):
        kmeans(np.ones(3, np.float32), 0)
    with pytest.raises(ConfigError, match="got: 65537"):
        kmeans(np.ones(3, np.float32), 65537)
    with pytest.raises(WeightsError, match="0 of them"):
        kmeans(np.ones(0, np.float32), 1)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(WeightsError, match="not finite"):
            kmeans(np.array([1, bad], np.float32), 1)


def test_the_kernels_refuse_buffers_that_do_not_fit() -> None:
    line = Line.of(np.arange(5, dtype=np.float32))
    points, sums = line.points, line.sums
    room = np.empty(6, np.int32)
    cuts = np.array([0, 2, 5], np.int32)
    for call in (
        lambda: _cluster.sums(points[:4], line.weights, sums),
        lambda: _cluster.sums(points, line.weights, np.empty(7)),
        lambda: _cluster.sums(points[:0], points[:0], np.empty(5)),
        lambda: _cluster.partition(sums, -1.0, room),
        lambda: _cluster.partition(sums, float("nan"), room),
        lambda: _cluster.partition(sums, 1.0, room[:5]),
        lambda: _cluster.lloyd(points, sums, cuts[:2], 0.0, 5, 0.0),
        lambda: _cluster.lloyd(points, sums, np.array([0, 5, 2, 5], np.int32), 0.0, 5, 0.0),
        lambda: _cluster.lloyd(points, sums, cuts[:0], 0.0, 5, 0.0),
        lambda: _cluster.lloyd(points, sums, cuts.copy(), float("inf"), 5, 0.0),
        lambda: _cluster.occupied(points, 0.0, 3),
        lambda: _cluster.spread(points, float("inf"), 3),
        lambda: _cluster.occupied(np.empty(9, np.int8), 1.0, 3),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            call()
    broken = np.full_like(sums, np.nan)
    assert _cluster.partition(broken, 1.0, room)[0] <= 5
    assert _cluster.lloyd(points, broken, cuts.copy(), 1.0, 50, 0.0)[0] <= 2
