"""The model of the (gap, value) codecs: which symbols there are, how likely each is, and how few bytes say so.

A symbol passes some zeros and gives one value; a *skip* passes more zeros than the longest gap of the alphabet and gives none.
Gaps and values are taken as independent: the file holds one small number (a level: four steps halve the weight) for each quotient
of a gap and for each value, and the weights of all symbols are products. Matrices without structure, such as pruned weights, have
gaps without memory (geometric), for which a skip costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.errors import FormatError

MOST_LEVEL, ABSENT, MOST_GAPS, MOST_RAW = 79, 255, 255, 6
GAP_CHOICES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 192, 255)
SKIP_PENALTY, PRECISION_PENALTY = 0.006, 0.0015
"""What time in products is worth in bytes: one skip an event, and one bit of precision (twice the table)."""


@dataclass(frozen=True)
class Model:
    """Weights of the symbols.

    Attributes:
        values: (v,) levels of the values that occur, in the palette's order; weight 2^(-level / 4).
        gaps: (g + 1,) levels of the quotients 0 to g - 1 of a gap, and of the skip (``ABSENT`` without one).
        precision: Bits of a slot (ANS) or of the longest code (Huffman).
        raw: A gap's lowest bits, which are stored as they are.
    """

    values: NDArray[np.uint8]
    gaps: NDArray[np.uint8]
    precision: int
    raw: int

    @property
    def quotients(self) -> int:
        return len(self.gaps) - 1

    @property
    def symbols(self) -> int:
        """Symbols of the alphabet, the skip included whether it occurs or not."""
        return len(self.values) * self.quotients + 1

    @property
    def has_skip(self) -> bool:
        return bool(self.gaps[-1] != ABSENT)


@dataclass(frozen=True)
class Statistics:
    """How often each gap and each value occurs in the events of a matrix.

    Attributes:
        gaps: Distinct gaps, ascending.
        gap_counts: Their numbers.
        value_counts: (v,) numbers of the values that occur.
    """

    gaps: NDArray[np.int64]
    gap_counts: NDArray[np.int64]
    value_counts: NDArray[np.int64]

    def quotient_counts(self, quotients: int, raw: int) -> NDArray[np.int64]:
        """(quotients + 1,) how often each quotient of a gap occurs, and the skip."""
        span = quotients << raw
        counts = np.bincount(self.gaps % span >> raw, self.gap_counts, quotients + 1)
        counts[quotients] = (self.gaps // span * self.gap_counts).sum()
        return counts.astype(np.int64)


def statistics_of(gaps: NDArray[np.uint32], value_counts: NDArray[np.int64]) -> Statistics:
    """Counts the gaps of all events."""
    if len(gaps) and int(gaps.max()) < 1 << 16:
        counts = np.bincount(gaps)
        distinct = np.flatnonzero(counts)
        return Statistics(distinct, counts[distinct].astype(np.int64), value_counts)
    distinct32, counts = np.unique(gaps, return_counts=True)
    return Statistics(distinct32.astype(np.int64), counts.astype(np.int64), value_counts)


def fit(
    statistics: Statistics,
    precisions: tuple[int, ...],
    lengths: Callable[[Model], NDArray[np.float64]],
    symbol_bits: float = 0.0,
) -> Model:
    """The model with the shortest stream, skips weighed a little for their time.

    Args:
        statistics: Of the events; at least one.
        precisions: To be tried, in ascending order.
        lengths: Bits of each symbol under a model, (symbols,); infinite for none.
        symbol_bits: What each symbol of the alphabet costs besides, where a decoder is to hold a table of them.
    """
    best: tuple[float, Model] | None = None
    for precision in precisions:
        found = _fit_gaps(statistics, precision, lengths, symbol_bits)
        if found is None:
            continue
        score = found[0] * (1 + PRECISION_PENALTY * (precision - precisions[0]))
        if best is None or score < best[0]:
            best = score, found[1]
    if best is None:
        raise ValueError("no precision has room for the values")
    return best[1]


def _fit_gaps(
    statistics: Statistics, precision: int, lengths: Callable[[Model], NDArray[np.float64]], symbol_bits: float
) -> tuple[float, Model] | None:
    events, values = int(statistics.gap_counts.sum()), len(statistics.value_counts)
    mean = float((statistics.gaps * statistics.gap_counts).sum()) / events
    most_raw = min(MOST_RAW, 16 - precision)
    usual = min(int(np.log2(max(1.0, mean / 6))), most_raw)
    value_levels = levels(statistics.value_counts)
    best: tuple[float, Model] | None = None
    for raw in range(max(0, usual - 1), min(usual + 1, most_raw) + 1):
        worse = 0
        for quotients in GAP_CHOICES:
            span = quotients << raw
            if quotients * values + 1 > 1 << precision and not (
                quotients == 1 and values == 1 << precision and mean == 0
            ):
                break
            counts = statistics.quotient_counts(quotients, raw)
            gap_levels = levels(np.maximum(counts, 0.5))
            if not counts[-1]:
                gap_levels[-1] = ABSENT
            model = Model(value_levels, gap_levels, precision, raw)
            bits = _stream_bits(model, counts, statistics.value_counts, lengths(model))
            score = bits * (1 + SKIP_PENALTY * counts[-1] / events) + 2.0 * quotients
            score += symbol_bits * model.symbols
            if best is None or score < best[0]:
                best, worse = (score, model), 0
            else:
                worse += 1
            if worse == 3 or span > int(statistics.gaps[-1]):
                break
    return best


def _stream_bits(
    model: Model, gap_counts: NDArray[np.int64], value_counts: NDArray[np.int64], bits: NDArray[np.float64]
) -> float:
    """Bits of all events, gaps and values taken as independent."""
    joint = np.outer(gap_counts[:-1] / gap_counts[:-1].sum(), value_counts).reshape(-1)  # (g * v,) expected numbers
    total = float(joint @ bits[:-1]) + model.raw * float(value_counts.sum())
    return total + (float(gap_counts[-1] * bits[-1]) if gap_counts[-1] else 0.0)


def levels(counts: NDArray[Any]) -> NDArray[np.uint8]:
    """Four times the binary logarithm of the largest count over each, rounded, at most 79."""
    return np.minimum(np.rint(4 * np.log2(counts.max() / counts)), MOST_LEVEL).astype(np.uint8)


def pack_levels(*lists: NDArray[np.uint8]) -> bytes:
    """Lists of levels: whether some are absent and which, then differences by Rice's code, unary parts before low bits."""
    bits: list[NDArray[np.uint8]] = []
    for level in lists:
        present = level != ABSENT
        bits.append(np.array([not present.all()], np.uint8))
        if not present.all():
            bits.append(present.astype(np.uint8))
        steps = np.diff(level[present].astype(np.int64), prepend=0)
        folded = np.where(steps < 0, -2 * steps - 1, 2 * steps)
        width = min(range(8), key=lambda w: int((folded >> w).sum()) + w * len(folded))
        unary = np.ones(int((folded >> width).sum()) + len(folded), np.uint8)
        unary[np.cumsum((folded >> width) + 1) - 1] = 0
        low = folded[:, None] >> np.arange(width) & 1
        bits += [np.arange(3) * 0 + (width >> np.arange(3) & 1), unary, low.reshape(-1)]
    return np.packbits(np.concatenate(bits).astype(np.uint8), bitorder="little").tobytes()


def unpack_levels(payload: memoryview, at: int, *sizes: int) -> tuple[list[NDArray[np.uint8]], int]:
    """What `pack_levels` made of lists of these sizes, and the place behind it.

    Raises:
        FormatError: the bytes are no such lists.
    """
    most = sum(4 + size * (2 + 2 * MOST_LEVEL + 8) for size in sizes)
    bits = np.unpackbits(np.frombuffer(payload[at : at + most // 8 + 1], np.uint8), bitorder="little")
    place, lists = 0, []
    for size in sizes:
        present, place = np.ones(size, bool), place + 1
        if _bits(bits, place - 1, 1)[0]:
            present, place = _bits(bits, place, size).astype(bool), place + size
            if present.all():
                raise FormatError("a model names absent symbols where none is")
        count = int(present.sum())
        width, place = int(_bits(bits, place, 3) @ (1, 2, 4)), place + 3
        unary = np.flatnonzero(bits[place : place + count * (2 * MOST_LEVEL + 2)] == 0)[:count]
        if len(unary) != count:
            raise FormatError("a model's levels end too early", got=len(unary), allowed=count)
        high = np.diff(unary, prepend=-1) - 1
        place += int(unary[-1]) + 1 if count else 0
        low = _bits(bits, place, count * width).reshape(count, width).astype(np.int64) @ (1 << np.arange(width))
        place += count * width
        folded = (high << width) + low
        level = np.cumsum(np.where(folded & 1, -(folded + 1) // 2, folded // 2))
        if count and (int(level.min()) < 0 or int(level.max()) > MOST_LEVEL):
            raise FormatError("a model has a level out of range", allowed=f"0 to {MOST_LEVEL}")
        whole = np.full(size, ABSENT, np.uint8)
        whole[present] = level
        lists.append(whole)
    if bits[place : -(-place // 8) * 8].any():
        raise FormatError("a model's padding is not zero")
    return lists, at + -(-place // 8)


def _bits(bits: NDArray[np.uint8], at: int, count: int) -> NDArray[np.uint8]:
    if at + count > len(bits):
        raise FormatError("the payload ends within its model")
    return bits[at : at + count]
