"""Clusters of numbers on a line: optimal k-means, and Lloyd's iterations with and without a price on rare clusters.

In one dimension an optimal cluster is an interval of the sorted numbers, so that a partition is a list of cuts, and the best of
all can be found: Grønlund, Larsen, Mathiasen, Nielsen, Schneider and Song, "Fast exact k-means, k-medians and Bregman divergence
clustering in 1D", arXiv 1701.07204, the variant with linear memory: a price λ on each cluster turns "exactly k" into a shortest
path, found in O(n log n), and λ is searched for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.errors import ConfigError, WeightsError
from netpress.kernels import _cluster

Floats = NDArray[np.float64]
Cuts = NDArray[np.int32]

#: Up to so many distinct numbers partitions are exact; beyond, numbers are put together in fine bins first.
MOST_POINTS = 1 << 20
#: Bins to begin with, where there are more numbers than that; more for many clusters: at least 16 a cluster.
BINS = 1 << 18
#: Relative gain at which Lloyd's iterations end, and their number on all numbers where the bins gave the start.
TOLERANCE = 1e-5
POLISH_ROUNDS = 20
#: Searches for the price of a cluster: so many by estimates, which nearly always end it, then along the convex hull.
ESTIMATES, MOST_SEARCHES = 8, 100


@dataclass(frozen=True)
class Line:
    """Numbers sorted, and as weighted points.

    Attributes:
        numbers: (N,) ascending, float32 or float64.
        points: (n,) ascending, relative to ``origin``: the distinct numbers, or the means of bins.
        weights: (n,) how many numbers each point stands for.
        first: (n,) index of each point's first number.
        sums: (n + 1, 5) running sums, for the kernels.
        origin: The mean of all numbers: sums are taken around it, or numbers far from 0 would lose their digits.
        exact: Whether the points are the distinct numbers.
    """

    numbers: NDArray[Any]
    points: Floats
    weights: Floats
    first: NDArray[np.int64]
    sums: Floats
    origin: float
    exact: bool

    @classmethod
    def of(cls, numbers: NDArray[Any], *, clusters: int = 1, most_points: int = MOST_POINTS) -> Line:
        """Sorts numbers and puts together equal ones; those of one bin, too, when more than ``most_points`` are distinct.

        The edges of the bins are the union of equal widths over the range and of equal numbers a bin, so that neither far outliers
        nor dense places fall into wide bins.

        Args:
            numbers: (N,) finite floats, N at least 1.
            clusters: How many clusters will be asked for at most.

        Raises:
            WeightsError: No numbers, or some are not finite.
        """
        if numbers.size == 0:
            raise WeightsError("there are no numbers to put in clusters", got="0 of them")
        ordered = np.sort(numbers, axis=None)
        if not (np.isfinite(ordered[0]) and np.isfinite(ordered[-1])):  # NaN sorts last
            raise WeightsError("the numbers are not finite", remedy="train again or load other weights")
        changes = np.flatnonzero(ordered[1:] != ordered[:-1])
        exact = len(changes) < most_points
        if exact:
            first = np.concatenate([[0], changes + 1])
            points = ordered[first].astype(np.float64)
        else:
            first = _bins(ordered, min(most_points, max(BINS, 16 * clusters)))
            points = np.add.reduceat(ordered, first, dtype=np.float64) / np.diff(first, append=len(ordered))
        weights = np.diff(first, append=len(ordered)).astype(np.float64)
        origin = float(points @ weights / weights.sum())
        points -= origin
        sums = np.empty((len(points) + 1, 5))
        _cluster.sums(points, weights, sums)
        return cls(ordered, points, weights, first, sums, origin, exact)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def distinct(self) -> int:
        """How many of the numbers are distinct."""
        return len(self) if self.exact else 1 + int(np.count_nonzero(self.numbers[1:] != self.numbers[:-1]))

    def equal_parts(self, parts: int) -> Cuts:
        """At most ``parts`` clusters of about equally many numbers; none is empty."""
        reached = np.cumsum(self.weights)
        ends = np.searchsorted(reached, np.arange(1, parts) * (reached[-1] / parts), side="left") + 1
        return np.unique(np.concatenate([[0], ends, [len(self)]])).astype(np.int32)

    def equal_widths(self, parts: int) -> Cuts:
        """At most ``parts`` clusters of equal widths; those without a number are left out."""
        edges = np.linspace(self.points[0], self.points[-1], parts + 1)[1:-1]
        ends = np.searchsorted(self.points, edges, side="left")
        return np.unique(np.concatenate([[0], ends[ends > 0], [len(self)]])).astype(np.int32)

    def codebook(self, cuts: Cuts) -> Codebook:
        """The clusters of a partition of the points (k + 1 cuts, from 0 to n)."""
        first, weight = _spans(self.sums, cuts)
        return Codebook(
            self.first[cuts[:-1]], self.numbers[self.first[cuts[:-1]]], first / weight + self.origin, weight
        )


@dataclass(frozen=True)
class Codebook:
    """Clusters in ascending order.

    Attributes:
        first: (k,) index of each cluster's least number in the sorted numbers.
        least: (k,) that number: a number belongs to the last cluster whose least number is not above it.
        centres: (k,) means, float64.
        counts: (k,) how many numbers each holds.
    """

    first: NDArray[np.int64]
    least: NDArray[Any]
    centres: Floats
    counts: Floats

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def shares(self) -> Floats:
        """(k,) the part of all numbers that each cluster holds."""
        return self.counts / self.counts.sum()


def kmeans(numbers: NDArray[Any], k: int, *, most_points: int = MOST_POINTS) -> Codebook:
    """The partition into at most ``k`` clusters with the least squared error from their means.

    Exact up to ``most_points`` distinct numbers: no other partition is better, but for rounding (relative 1e-12 of the error of one
    cluster at k = 256, 1e-7 at k = 65,536). Beyond, the partition is exact for 2^18 or more bins of the numbers, and Lloyd's
    iterations on all numbers follow.

    Args:
        numbers: (N,) finite floats.
        k: Clusters, 1 to 65,536; as many as there are distinct numbers when those are fewer.

    Raises:
        ConfigError: k is out of range.
        WeightsError: No numbers, or some are not finite.
    """
    check_clusters(k)
    line = Line.of(numbers, clusters=k, most_points=most_points)
    book = line.codebook(best_cuts(line, k))
    return book if line.exact else polish(line.numbers, book)


def best_cuts(line: Line, k: int) -> Cuts:
    """The (k + 1,) cuts of the best partition of a line's points into min(k, n) clusters.

    Source: arXiv 1701.07204; two shortest paths of one price, with too few and too many clusters, are joined into one with k after
    Aggarwal, Schieber and Tokuyama, "Finding a minimum-weight k-link path in graphs with the concave Monge property", 1994.
    """
    n = len(line)
    if k >= n:
        return np.arange(n + 1, dtype=np.int32)
    few = np.array([0, n], np.int32)
    if k == 1:
        return few
    many = np.arange(n + 1, dtype=np.int32)
    search, price, estimating = _PriceSearch(line), _likely_price(line, k), True
    low_price = high_price = None  # of the ends that a search has found
    for attempt in range(MOST_SEARCHES):
        found = search.partition(price)
        clusters = len(found) - 1
        if clusters == k:
            return found
        if len(few) - 1 < clusters < k:
            few, low_price = found, price
        elif k < clusters < len(many) - 1:
            many, high_price = found, price
        elif estimating:
            estimating = False
        else:  # at the price where both ends are equally good nothing better lies between them
            break
        estimating &= attempt < ESTIMATES
        low, high = len(few) - 1, len(many) - 1
        if not estimating:
            price = max(0.0, (search.error(few) - search.error(many)) / (high - low))
        elif low_price is None or high_price is None or not low_price > high_price > 0:
            price *= (clusters / k) ** 3
        else:  # ln(price) is nearly linear in ln(k), with a slope of about -3
            part = math.log(k / low) / math.log(high / low)
            price = math.exp(math.log(low_price) + part * (math.log(high_price) - math.log(low_price)))
    return _joined(few, many, k)


def lloyd(
    line: Line, cuts: Cuts, *, penalty: float = 0.0, rounds: int = 1000, tolerance: float = TOLERANCE
) -> tuple[Cuts, float]:
    """Lloyd's iterations of Σ (x - c)² - penalty·ln p, p a cluster's share, from a partition of a line's points.

    Args:
        cuts: (k + 1,) where the clusters begin, from 0 to n.
        penalty: λ, in squared units of the numbers; 0 is k-means.
        tolerance: Iterations end when one lowers the objective by less than this share of it; 0 goes on until nothing moves.

    Returns:
        The cuts of at most k clusters and the objective.

    Source: Chou, Lookabaugh and Gray, "Entropy-constrained vector quantization", IEEE Trans. ASSP 37 (1989).
    """
    moved = np.ascontiguousarray(cuts, np.int32).copy()
    kept, objective = _cluster.lloyd(line.points, line.sums, moved, penalty, rounds, tolerance)
    return moved[: kept + 1], objective


def polish(numbers: NDArray[Any], book: Codebook, *, penalty: float = 0.0, rounds: int = POLISH_ROUNDS) -> Codebook:
    """Lloyd's iterations on all sorted numbers, from clusters that are nearly right; clusters left empty go."""
    for _ in range(rounds):
        bias = -penalty * np.log(book.shares)
        middles = (book.centres[1:] + book.centres[:-1]) / 2
        middles += np.diff(bias) / (2 * np.maximum(np.diff(book.centres), np.finfo(np.float64).tiny))
        cuts = np.searchsorted(numbers, np.maximum.accumulate(middles).astype(numbers.dtype), side="left")
        first = np.unique(np.concatenate([[0], cuts[cuts < len(numbers)]]))
        if len(first) == len(book) and np.array_equal(first, book.first):
            break
        counts = np.diff(first, append=len(numbers)).astype(np.float64)
        book = Codebook(first, numbers[first], np.add.reduceat(numbers, first, dtype=np.float64) / counts, counts)
    return book


def check_clusters(k: int, least: int = 1) -> None:
    """Raises ConfigError when k is no number of clusters."""
    if not least <= k <= 65536:
        raise ConfigError("the number of shared values is out of range", got=k, allowed=f"k from {least} to 65,536")


class _PriceSearch:
    """Shortest paths over one line, with room for their cuts."""

    def __init__(self, line: Line) -> None:
        self.sums = line.sums
        self.room = np.empty(len(line) + 1, np.int32)

    def partition(self, price: float) -> Cuts:
        clusters, _ = _cluster.partition(self.sums, price, self.room)
        return self.room[: clusters + 1].copy()

    def error(self, cuts: Cuts) -> float:
        first, weight = _spans(self.sums, cuts)
        rows = self.sums[cuts]
        second = np.diff(rows[:, 3]) + np.diff(rows[:, 4])
        return float(np.maximum(second - first * (first / weight), 0).sum())


def _spans(sums: Floats, cuts: Cuts) -> tuple[Floats, Floats]:
    """Σ x and the number of numbers of each cluster."""
    rows = sums[cuts]
    return np.diff(rows[:, 1]) + np.diff(rows[:, 2]), np.diff(rows[:, 0])


def _likely_price(line: Line, k: int) -> float:
    """Panter and Dite's estimate: the error of k clusters is about (∫ p^(1/3))³ / 12 k²; its slope is the price."""
    mass, edges = np.histogram(line.points, bins=min(512, len(line)), weights=line.weights)
    cube = (np.cbrt(mass) * np.cbrt(edges[1] - edges[0]) ** 2).sum() ** 3
    return float(cube / 6 / k**3)


def _joined(few: Cuts, many: Cuts, k: int) -> Cuts:
    """The partition into k clusters that follows ``many`` first and ``few`` from where one of its clusters spans one of ``many``'s."""
    extra = k - (len(few) - 1)
    spans = many[extra + 1 : extra + len(few)] <= few[1:]
    i = int(np.argmax(spans))
    return np.concatenate([many[: i + extra + 1], few[i + 1 :]])


def _bins(ordered: NDArray[Any], most: int) -> NDArray[np.int64]:
    """First indices of at most ``most`` bins of sorted numbers; equal numbers stay together."""
    half = most // 2
    widths = np.linspace(float(ordered[0]), float(ordered[-1]), half + 1)[1:-1].astype(ordered.dtype)
    parts = ordered[np.arange(1, half) * len(ordered) // half]
    edges = np.unique(np.concatenate([widths, parts]))
    return np.unique(np.concatenate([[0], np.searchsorted(ordered, edges[edges <= ordered[-1]], side="left")]))
