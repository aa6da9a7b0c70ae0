"""The kernels of the (gap, value) codecs, called directly: laws of the codes, the same result on every path, and refusals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.codecs import gap_ans, gap_huffman
from netpress.kernels import _gap_ans, _gap_events, _gap_huffman

LEVELS = st.lists(st.integers(0, 79), min_size=1, max_size=30)


def levels(values: list[int], gaps: list[int]) -> tuple[Any, Any]:
    return np.array(values, np.uint8), np.array(gaps, np.uint8)


@given(LEVELS, st.lists(st.integers(0, 79), min_size=2, max_size=10), st.integers(9, 16))
def test_frequencies_fill_the_slots_and_leave_no_symbol_out(values: list[int], gaps: list[int], precision: int) -> None:
    out = np.zeros(len(values) * (len(gaps) - 1) + 1, np.uint32)
    _gap_ans.frequencies(*levels(values, gaps), precision, out)
    assert out.sum() == 1 << precision
    assert out.min() >= 1


def test_frequencies_by_hand() -> None:
    # Weights 2:1 of the values, the skip as likely as all values together: 16 slots are 16 * (1/3, 1/6, 1/2), largest rest first.
    out = np.zeros(3, np.uint32)
    _gap_ans.frequencies(*levels([0, 4], [0, 0]), 4, out)
    np.testing.assert_array_equal(out, [5, 3, 8])
    _gap_ans.frequencies(*levels([0, 4], [0, 255]), 4, out)  # no skip
    np.testing.assert_array_equal(out, [11, 5, 0])


@given(LEVELS, st.lists(st.integers(0, 79), min_size=2, max_size=10), st.integers(9, 16))
def test_huffman_lengths_are_a_complete_code(values: list[int], gaps: list[int], limit: int) -> None:
    out = np.zeros(len(values) * (len(gaps) - 1) + 1, np.uint8)
    _gap_huffman.lengths(*levels(values, gaps), limit, out)
    assert out.max() <= limit
    assert (0.5 ** out.astype(float)).sum() == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=5), st.integers(3, 4))
def test_huffman_lengths_are_optimal(values: list[int], limit: int) -> None:
    out = np.zeros(len(values) + 1, np.uint8)
    _gap_huffman.lengths(*levels(values, [0, 255]), limit, out)
    weights = np.array([(1048576, 881744, 741455, 623487)[v & 3] >> (v >> 2) for v in values], np.int64)
    brute = min(
        int(weights @ np.array(lengths))
        for lengths in itertools.product(range(1, limit + 1), repeat=len(values))
        if sum(0.5**length for length in lengths) <= 1
    )
    assert int(weights @ out[:-1]) == brute


@given(st.lists(st.integers(0, 3), max_size=80), st.integers(1, 20), st.integers(-1, 3))
def test_events_against_a_plain_loop(entries: list[int], positions: int, zero: int) -> None:
    symbols = np.array(entries, np.uint16)
    gaps, values, counts = [], [], []
    for begin in range(0, len(entries), positions):
        run, count = 0, 0
        for symbol in entries[begin : begin + positions]:
            if symbol == zero:
                run += 1
                continue
            gaps.append(run)
            values.append(symbol)
            run, count = 0, count + 1
        counts.append(count)
    found_counts = np.zeros(len(counts), np.int64)
    found_gaps, found_values = np.zeros(len(gaps) + 1, np.uint32), np.zeros(len(gaps) + 1, np.uint16)
    assert _gap_events.events(symbols, zero, positions, found_counts, found_gaps, found_values) == len(gaps)
    np.testing.assert_array_equal(found_gaps[:-1], gaps)
    np.testing.assert_array_equal(found_values[:-1], values)
    np.testing.assert_array_equal(found_counts, counts)
    histogram = np.zeros(4, np.int64)
    _gap_events.histogram(symbols, histogram)
    np.testing.assert_array_equal(histogram, np.bincount(symbols, minlength=4))


def test_events_refuse_too_little_room() -> None:
    symbols, counts = np.ones(10, np.uint16), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="room for all events"):
        _gap_events.events(symbols, 0, 10, counts, np.zeros(10, np.uint32), np.zeros(10, np.uint16))
    with pytest.raises(ValueError, match="a count for each block"):
        _gap_events.events(symbols, 0, 3, counts, np.zeros(11, np.uint32), np.zeros(11, np.uint16))


@pytest.fixture
def _all_vectors() -> Iterator[None]:
    """Gives the processor's vectors back to the kernel."""
    yield
    _gap_ans.vectors(512)


def matrix(rows: int, columns: int, density: float, values: int) -> Any:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal(values).astype(np.float32)[rng.integers(0, values, (rows, columns))]
    weights[rng.random((rows, columns)) >= density] = 0
    weights[rows // 3 : rows // 2] = 0
    return weights


CASES = {
    "lanes of 64": (300, 1033, 0.4, 30),
    "lanes of 16": (90, 333, 0.5, 20),
    "lanes of 8": (60, 233, 0.4, 20),
    "raw bits": (900, 2000, 0.03, 30),
    "large frequencies": (300, 3000, 0.3, 1),
    "many values": (200, 700, 0.95, 3000),
    "narrow": (60000, 3, 0.3, 20),
}


@pytest.mark.usefixtures("_all_vectors")
@pytest.mark.parametrize("case", CASES)
def test_vectors_decode_and_multiply_as_plain_code_does(case: str) -> None:
    weights = matrix(*CASES[case])
    tensor = torch.from_numpy(weights)
    x = np.random.default_rng(0).standard_normal((weights.shape[1], 8), dtype=np.float32)
    scale = np.abs(weights).astype(np.float64) @ np.abs(x)
    payload = gap_ans.encode(tensor)
    for most in (0, 256, 512):
        assert _gap_ans.vectors(most) <= most
        assert torch.equal(gap_ans.decode(payload, torch.float32, weights.shape), tensor)
        coded = gap_ans.open(payload, torch.float32, weights.shape)
        exact = weights.astype(np.float64) @ x
        assert (np.abs(coded.multiply(x) - exact) <= 2e-6 * scale).all()
        assert (np.abs(coded.multiply(x[:, :1].copy()) - exact[:, :1]) <= 2e-6 * scale[:, :1]).all()


def coded_of(codec: Any, weights: Any) -> list[Any]:
    """The arguments of a codec's kernel, in copies that a test may spoil."""
    opened = codec.open(codec.encode(torch.from_numpy(weights)), torch.float32, weights.shape)
    return [part.copy() if isinstance(part, np.ndarray) else part for part in opened._coded]


@pytest.mark.parametrize(
    ("codec", "kernel"), [(gap_ans, _gap_ans), (gap_huffman, _gap_huffman)], ids=["ans", "huffman"]
)
@pytest.mark.parametrize("n", [1, 8])
def test_unchecked_streams_and_starts_never_break_out(codec: Any, kernel: Any, n: int) -> None:
    weights = matrix(90, 333, 0.5, 20)
    rng = np.random.default_rng(0)
    x, refused = np.ones((333, n), np.float32), 0
    for turn in range(60):
        coded = coded_of(codec, weights)
        if turn % 2:
            coded[0][:-8192] = rng.integers(0, 256, len(coded[0]) - 8192)
        else:
            coded[-1][:] = rng.integers(0, (2**31, 90 * 333)[turn // 2 % 2], coded[-1].shape)
        guarded = np.full(90 * n + 2000, 7, np.float32)
        try:
            kernel.multiply(*coded, guarded[1000:-1000], 0, 1, n, x)
        except ValueError:
            refused += 1
        assert (guarded[:1000] == 7).all()
        assert (guarded[-1000:] == 7).all()
    assert refused > 10


@pytest.mark.parametrize(
    ("codec", "kernel"), [(gap_ans, _gap_ans), (gap_huffman, _gap_huffman)], ids=["ans", "huffman"]
)
def test_arguments_that_do_not_fit_are_refused(codec: Any, kernel: Any) -> None:
    coded = coded_of(codec, matrix(90, 333, 0.5, 20))
    y, x = np.zeros((90, 8), np.float32), np.zeros((333, 8), np.float32)
    kernel.multiply(*coded, y, 0, 1, 8, x)
    for wrong in [
        (y[:-1], 0, 1, 8, x),
        (y, 0, 1, 8, x[1:]),
        (y, 0, 2, 8, x),
        (y, -1, 1, 8, x),
        (y, 0, 1, 7, x),
        (y, 0, 1, 0, x),
    ]:
        with pytest.raises(ValueError, match="sizes do not fit"):
            kernel.multiply(*coded, *wrong)
    with pytest.raises(ValueError, match="out has another size"):
        kernel.place(*coded, np.zeros(90 * 333 - 1, np.uint16))
    for place, part in enumerate(coded):
        if isinstance(part, np.ndarray) and part.size:
            shorter = [*coded[:place], part.reshape(-1)[: part.size // 2].copy(), *coded[place + 1 :]]
            with pytest.raises(ValueError, match="do not fit each other"):
                kernel.check(*shorter)
    standing = [*coded]
    standing[1] = coded[1] & ~np.uint64(0xFF if codec is gap_ans else 0xFFFF00)  # a table that does not go on
    with pytest.raises(ValueError, match="do not fit each other"):
        kernel.check(*standing)


def test_tables_refuse_what_is_no_code() -> None:
    table, payloads = np.zeros(16, np.uint64), np.zeros(3, np.uint32)
    with pytest.raises(ValueError, match="do not fill it"):
        _gap_ans.table(np.array([5, 3, 7], np.uint32), 2, 1, 4, 0, payloads, False, table, np.zeros(7, np.uint8))
    for lengths in ([1, 1, 1], [1, 2, 3], [1, 2, 5], [0, 0, 0]):
        with pytest.raises(ValueError, match="no complete code"):
            _gap_huffman.table(np.array(lengths, np.uint8), 2, 1, 4, True, 0, payloads, table)


def test_encoders_refuse_what_the_model_has_not() -> None:
    events = np.array([0, 1], np.uint32), np.array([0, 1], np.uint16), np.array([2], np.int64)
    sizes, out = np.zeros((1, 2), np.int64), np.zeros(100, np.uint8)
    with pytest.raises(ValueError, match="has none"):
        _gap_ans.encode(*events, np.array([8, 8, 0], np.uint32), 2, 1, 4, 0, 1, sizes, out)
    with pytest.raises(ValueError, match="outside the model"):
        _gap_ans.encode(*events, np.array([8, 8], np.uint32), 1, 1, 4, 0, 1, sizes, out)
    with pytest.raises(ValueError, match="outside the model"):
        _gap_huffman.encode(
            *events, np.array([1, 1, 0], np.uint8), 2, 1, 4, False, 0, 1, sizes[0, :1], sizes[0, 1:], out
        )
    with pytest.raises(ValueError, match="too small"):
        _gap_ans.encode(*events, np.array([4, 4, 8], np.uint32), 2, 1, 4, 0, 1, sizes, out[:3])
