"""Quantizers: weights to few distinct values. Marinó et al. 2023 (Neurocomputing 520, 152-170), section 3.

Every function takes a tensor of any shape, floating type and device and gives one of the same back. Weights that are exactly 0
were pruned: they stay 0, and what is said of weights below is said of the others; k counts values that are not 0. No result holds
-0.0. Where no more than k distinct weights are there, nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from netpress.errors import WeightsError
from netpress.kernels import _cluster, _distinct
from netpress.maths.clusters import Codebook, Cuts, Line, best_cuts, check_clusters, kmeans, lloyd, polish

#: Significant bits of a uniform quantizer's step, and so the tolerance of "the smallest step": 2^-11 of it.
STEP_BITS = 12
#: Elements that are worked on at once where float64 is needed.
CHUNK = 1 << 22


def quantize_kmeans(weights: Tensor, k: int) -> Tensor:
    """CWS: each weight becomes the mean of its cluster, clusters of least squared error (see ``clusters.kmeans``).

    Raises:
        ConfigError: k outside 1..65,536.
        WeightsError: Weights that are not finite.
    """
    check_clusters(k)
    kept = _nonzero(weights)
    return weights.clone() if kept.size == 0 else _looked_up(weights, kmeans(kept, k))


def quantize_probabilistic(weights: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """PWS: each weight w between neighbouring values v <= w < V becomes V with probability (w - v) / (V - v), else v.

    The values are the weights at the quantiles i / (k - 1), i = 0..k-1 (nearest rank); where ties make some of them equal, other
    weights fill up to k. The expectation of the result is the weight itself.

    Args:
        k: 2 to 65,536: fewer values than two cannot have every weight as their mean.
        generator: On the CPU; the same seed gives the same values on every device.

    Raises:
        ConfigError: k is out of range.
        WeightsError: Weights that are not finite.
    """
    check_clusters(k, least=2)
    kept = _nonzero(weights)
    if kept.size == 0:
        return weights.clone()
    values = torch.from_numpy(_quantiles(np.sort(kept), k))

    def drawn(part: Tensor) -> Tensor:
        # Zeros draw, too: then a place's draw hangs on the seed and the place alone.
        draw = torch.rand(len(part), generator=generator, dtype=torch.float64)
        if len(values) == 1:
            return values.expand(len(part))
        lower = (torch.bucketize(part, values, right=True) - 1).clamp_(0, len(values) - 2)
        v, above = values[lower].double(), values[lower + 1].double()
        return torch.where(draw < (part.double() - v) / (above - v), above, v)

    return _mapped(weights, drawn)


def quantize_uniform(weights: Tensor, k: int) -> Tensor:
    """UQ: q = δ·round(w / δ) with the smallest step δ that leaves at most k values; see ``uniform_step``. Small weights become 0.

    Raises:
        ConfigError: k outside 1..65,536.
        WeightsError: Weights that are not finite.
    """
    step = uniform_step(weights, k)
    return weights.clone() if step == 0 else _mapped(weights, lambda part: (part.double() / step).round() * step)


def uniform_step(weights: Tensor, k: int) -> float:
    """The smallest step δ for which δ·round(w / δ) takes at most k values other than 0; 0.0 where there are no more already.

    The number of values does not fall steadily with δ, so that halving could miss the smallest. All steps of 12 significant bits
    (fewer where a multiple would then not be exact in the weights' type) are gone through, from a proven bound on: of two weights
    more than δ apart none shares a value with the other, so that there are at least as many values as such weights. The answer is
    the smallest of those steps: a smaller real number may exist, by one of them (relative 2^-11) or in between where fewer
    values come and go.
    """
    check_clusters(k)
    numbers = np.sort(_nonzero(weights)).astype(np.float64)
    if numbers.size == 0 or 1 + int(np.count_nonzero(np.diff(numbers))) <= k:
        return 0.0
    largest = float(max(-numbers[0], numbers[-1]))
    digits = 1 - round(math.log2(torch.finfo(weights.dtype).eps))  # 24 for float32
    low, high = math.ldexp(largest, 2 - digits), 4 * largest
    while high > low * (1 + 2.0**-STEP_BITS):  # at `low` there are more than k values; the cell of 0 is one more
        middle = math.sqrt(low) * math.sqrt(high)
        if _cluster.spread(numbers, middle, k + 1) > k + 1:
            low = middle
        else:
            high = middle
    step = low
    while True:
        step = _next_step(step, largest, digits)
        if _cluster.occupied(numbers, step, k) <= k:
            return step


def quantize_entropy(weights: Tensor, k: int) -> Tensor:
    """ECSQ: each weight becomes the value c with the least (w - c)² - λ·ln p; see ``entropy_codebook``.

    Raises:
        ConfigError: k outside 1..65,536.
        WeightsError: Weights that are not finite.
    """
    check_clusters(k)
    kept = _nonzero(weights)
    return weights.clone() if kept.size == 0 else _looked_up(weights, entropy_codebook(kept, k)[0])


def entropy_codebook(numbers: NDArray[Any], k: int) -> tuple[Codebook, float]:
    """Clusters that weigh squared error against what an ideal entropy coder spends on them, and the price λ of a nat.

    Lloyd's iterations begin with 3k clusters of equally many numbers; the larger λ, the more clusters are left empty. λ is the
    smallest found, to 1 %, that leaves at most k. Equally many numbers have equal prices, so that this start ends in poor optima
    where k is large: 3k clusters of equal width are tried as well, and the λ of the better of both is taken (judged between their
    λ). Of both, led to their ends at that λ, the one with the lesser objective is the result. Where all clusters have equal shares,
    no λ empties one: then the result is that of k-means.

    Args:
        numbers: (N,) finite floats.
        k: 1 to 65,536.

    Returns:
        The clusters and λ, in squared units of the numbers; 0.0 where no more than k numbers are distinct.

    Source: Chou, Lookabaugh and Gray 1989; the first start and the search for λ as in Marinó et al. 2023.
    """
    check_clusters(k)
    line = Line.of(numbers, clusters=3 * k)
    if line.distinct <= k:
        return line.codebook(np.arange(len(line) + 1, dtype=np.int32)), 0.0
    starts = (line.equal_parts(3 * k), line.equal_widths(3 * k))
    found = [pair for pair in (_least_price(line, start, k) for start in starts) if pair is not None]
    prices = [price for _, price in found if price > 0]
    common = math.exp(sum(map(math.log, prices)) / len(prices)) if prices else 0.0
    price = min(found, key=lambda pair: lloyd(line, pair[0], penalty=common)[1], default=(None, 0.0))[1]
    candidates = [cuts for cuts, _ in found] or [best_cuts(line, k)]
    ends = [lloyd(line, cuts, penalty=price, tolerance=0.0) for cuts in candidates]
    best, _ = min(ends, key=lambda end: end[1])
    book = line.codebook(best)
    return (book if line.exact else polish(line.numbers, book, penalty=price)), price


def _least_price(line: Line, start: Cuts, k: int) -> tuple[Cuts, float] | None:
    """The smallest price, to 1 %, with which Lloyd's iterations leave at most k clusters of ``start``, and those clusters."""
    best, _ = lloyd(line, start)
    if len(best) - 1 <= k:
        return best, 0.0
    variance = float(line.weights @ line.points**2) / float(line.weights.sum())
    low, high = 0.0, variance / k**2
    while len(best := lloyd(line, start, penalty=high)[0]) - 1 > k:
        low, high = high, 4 * high
        if high > variance * float(line.weights.sum()):
            return None  # clusters of exactly equal shares stay at any price
    while high > 1.01 * low and high > 1e-12 * variance:
        middle = math.sqrt(low * high) if low > 0 else high / 4
        tried, _ = lloyd(line, start, penalty=middle)
        if len(tried) - 1 > k:
            low = middle
        else:
            best, high = tried, middle
    return best, high


def effective_values(weights: Tensor, most: int = 65536) -> int:
    """How many distinct values other than 0 a tensor holds; ``most`` + 1 when there are more than ``most`` (at most 65,536)."""
    kept = np.ascontiguousarray(_nonzero(weights))
    if kept.dtype != np.float32 or most > 65535:
        return min(most + 1, len(np.unique(kept)))
    found = _distinct.distinct(kept, np.empty(most + 1, np.float32), np.empty(len(kept), np.uint16))
    return most + 1 if found < 0 else found


def _quantiles(ordered: NDArray[Any], k: int) -> NDArray[Any]:
    """min(k, distinct) of the sorted numbers, the ends among them."""
    ranks = np.rint(np.arange(k) * ((len(ordered) - 1) / (k - 1))).astype(np.int64)
    values = np.unique(ordered[ranks])
    if len(values) < k:
        others = np.setdiff1d(ordered, values)
        missing = min(k - len(values), len(others))
        chosen = others[np.rint(np.linspace(0, len(others) - 1, missing)).astype(np.int64)]
        values = np.sort(np.concatenate([values, chosen]))
    return values


def _next_step(step: float, largest: float, digits: int) -> float:
    """The next larger step whose multiples up to ``largest`` are exact in a type of so many significant bits."""
    mantissa, exponent = math.frexp(step)  # step = mantissa * 2^exponent, mantissa in [.5, 1)
    # In this octave a multiple goes up to largest / 2^(exponent - 1), half a step more when rounded.
    multiples = math.ceil(math.log2(math.ldexp(largest, 1 - exponent) + 1))
    bits = max(1, min(STEP_BITS, digits - multiples))
    return math.ldexp(math.floor(math.ldexp(mantissa, bits)) + 1, exponent - bits)


def _nonzero(weights: Tensor) -> NDArray[Any]:
    """The weights other than 0 on the CPU, float32 or float64."""
    flat = weights.detach().reshape(-1).cpu()
    flat = flat if flat.dtype == torch.float64 else flat.float()
    if not bool(flat.isfinite().all()):
        raise WeightsError("the weights are not finite", remedy="train again or load other weights")
    return flat[flat != 0].numpy()


def _looked_up(weights: Tensor, book: Codebook) -> Tensor:
    least, centres = torch.from_numpy(book.least[1:]), torch.from_numpy(book.centres)
    return _mapped(weights, lambda part: centres[torch.bucketize(part, least, right=True)])


def _mapped(weights: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``function`` on flat pieces of the weights (float32 or float64, on the CPU); what was 0 is 0 again, and never -0.0."""
    flat = weights.detach().reshape(-1).cpu()
    out = torch.empty_like(flat)
    for start in range(0, len(flat), CHUNK):
        part = flat[start : start + CHUNK]
        wide = part if part.dtype == torch.float64 else part.float()
        out[start : start + CHUNK] = torch.where(part == 0, 0.0, function(wide)).to(flat.dtype) + 0.0
    return out.reshape(weights.shape).to(weights.device)
