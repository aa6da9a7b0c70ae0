"""The Huffman kernel: optimal lengths, their packed form, streams in blocks, and what it refuses."""

from __future__ import annotations

import heapq
import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.kernels import _huffman

LIMIT = 24
frequencies = st.lists(st.integers(0, 10**6) | st.sampled_from([0, 1]), min_size=1, max_size=60).filter(any)


def lengths_of(counts: list[int], limit: int = LIMIT) -> list[int]:
    lengths = np.zeros(len(counts), np.uint8)
    _huffman.lengths(np.array(counts, np.uint64), lengths, limit)
    return lengths.tolist()


def optimal_bits(counts: list[int]) -> int:
    """Huffman's own way: join the two rarest, again and again; each joining costs one bit for all that is below."""
    heap = [count for count in counts if count]
    heapq.heapify(heap)
    bits = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        bits += joined
        heapq.heappush(heap, joined)
    return bits


def total(counts: list[int], lengths: list[int]) -> int:
    return sum(count * length for count, length in zip(counts, lengths, strict=True))


@settings(max_examples=60, deadline=None)
@given(frequencies)
def test_lengths_are_optimal_and_fill_the_code_space(counts: list[int]) -> None:
    lengths = lengths_of(counts)
    used = [length for length in lengths if length]
    assert [length > 0 for length in lengths] == [count > 0 for count in counts]
    if len(used) == 1:
        assert used == [1]
        return
    assert sum(Fraction(1, 2**length) for length in used) == 1
    if max(used) < LIMIT:  # else the limit may have bound
        assert total(counts, lengths) == optimal_bits(counts)


@pytest.mark.parametrize("limit", [3, 4])
@pytest.mark.parametrize("counts", [[1, 1, 2, 3, 5, 8], [1, 1, 1, 1, 40, 90], [1, 2, 4, 8, 16, 32]])
def test_limited_lengths_against_all_codes(counts: list[int], limit: int) -> None:
    complete = (
        lengths
        for lengths in itertools.product(range(1, limit + 1), repeat=len(counts))
        if sum(2 ** (limit - length) for length in lengths) <= 2**limit
    )
    best = min(total(counts, list(lengths)) for lengths in complete)
    assert total(counts, lengths_of(counts, limit)) == best


def test_fibonacci_weights_meet_the_limit() -> None:
    weights = [1, 1]
    while len(weights) < 50:
        weights.append(weights[-1] + weights[-2])
    lengths = lengths_of(weights)  # unlimited, the longest would have 49 bits
    assert max(lengths) == LIMIT
    assert sum(Fraction(1, 2**length) for length in lengths) == 1


def test_most_symbols() -> None:
    assert set(lengths_of([1] * 65536)) == {16}
    with pytest.raises(ValueError, match="symbols must occur"):
        lengths_of([1] * 9, limit=3)


@settings(max_examples=60, deadline=None)
@given(frequencies)
def test_packed_lengths_come_back(counts: list[int]) -> None:
    lengths = np.array(lengths_of(counts), np.uint8)
    packed = _huffman.pack_lengths(lengths)
    back = np.empty_like(lengths)
    assert _huffman.unpack_lengths(packed + b"rest", back) == len(packed)
    assert back.tolist() == lengths.tolist()
    with pytest.raises(ValueError, match="ends within its code lengths"):
        _huffman.unpack_lengths(packed[:-1], back)


def test_packed_lengths_by_hand() -> None:
    # None absent: 0. Lengths 1 2 2 from 1 on: differences 0 +1 0, zigzag 0 2 0, Exp-Golomb 1 011 1. 0 1 011 1 and two bits of padding.
    assert _huffman.pack_lengths(np.array([1, 2, 2], np.uint8)) == bytes([0b01011100])
    # One absent: 1. Present 1, length 1: 1 1; absent: 0; present, length 1: 1 1.
    assert _huffman.pack_lengths(np.array([1, 0, 1], np.uint8)) == bytes([0b11101100])


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ([1, 1, 1], "over-subscribed"),
        ([2, 2, 2], "incomplete"),
        ([0, 0], "without symbols"),
        ([0, 2], "only symbol"),
        ([25, 1], "longer than 24"),
        ([], "1 to 65536"),
    ],
)
def test_lengths_that_are_no_code(lengths: list[int], said: str) -> None:
    code = np.array(lengths, np.uint8)
    with pytest.raises(ValueError, match=said):
        _huffman.pack_lengths(code)
    with pytest.raises(ValueError, match=said):
        _huffman.decode(b"", code, np.array([0, 0]), np.array([0]), np.empty(0, np.uint16))


def code_words(lengths: list[int]) -> dict[int, str]:
    """Canonical words, handed out one after the other."""
    words, word, last = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        word <<= length - last
        words[symbol], last = format(word, f"0{length}b"), length
        word += 1
    return words


@settings(max_examples=40, deadline=None)
@given(frequencies, st.integers(0, 2**32), st.integers(1, 9))
def test_streams_are_canonical_words_and_come_back(counts: list[int], seed: int, blocks: int) -> None:
    lengths = np.array(lengths_of(counts), np.uint8)
    rng = np.random.default_rng(seed)
    used = np.flatnonzero(lengths).astype(np.uint16)
    symbols = rng.choice(used, size=int(rng.integers(0, 200)))
    bounds = np.sort(np.concatenate([[0, len(symbols)], rng.integers(0, len(symbols) + 1, blocks - 1)]))
    out, sizes = np.empty(len(symbols) * 3 + 64, np.uint8), np.empty(blocks, np.int64)
    wrote = _huffman.encode(symbols, lengths, bounds, out, sizes)
    words = code_words(lengths.tolist()) if len(used) > 1 else dict.fromkeys(used.tolist(), "")
    expected = b""
    for first, last in itertools.pairwise(bounds.tolist()):
        bits = "".join(words[symbol] for symbol in symbols[first:last].tolist())
        bits += "0" * (-len(bits) % 8)
        expected += bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    assert out[:wrote].tobytes() == expected
    assert sizes.sum() == wrote
    back = np.empty_like(symbols)
    _huffman.decode(expected, lengths, bounds, sizes, back)
    assert back.tolist() == symbols.tolist()


def test_words_longer_than_the_table_come_back() -> None:
    counts = [2**i for i in range(24)] + [1]
    lengths = np.array(lengths_of(counts), np.uint8)
    assert lengths.max() == LIMIT
    symbols = np.random.default_rng(0).integers(0, 25, 5000).astype(np.uint16)
    out, sizes = np.empty(20000, np.uint8), np.empty(1, np.int64)
    wrote = _huffman.encode(symbols, lengths, np.array([0, 5000]), out, sizes)
    back = np.empty_like(symbols)
    _huffman.decode(out[:wrote], lengths, np.array([0, 5000]), sizes, back)
    assert np.array_equal(back, symbols)


CODE = np.array([1, 2, 2], np.uint8)  # words 0, 10, 11


def decoded(payload: bytes, bounds: list[int], sizes: list[int]) -> list[int]:
    symbols = np.empty(bounds[-1], np.uint16)
    _huffman.decode(payload, CODE, np.array(bounds), np.array(sizes), symbols)
    return symbols.tolist()


def test_a_stream_by_hand() -> None:
    assert decoded(bytes([0b01011000]), [0, 4], [1]) == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("payload", "bounds", "sizes", "said"),
    [
        (b"\x58", [0, 9], [1], "does not end"),  # reads on behind the end
        (b"\x59", [0, 4], [1], "does not end"),  # padding that is not zero
        (b"\x58\x00", [0, 4], [2], "does not end"),
        (b"\x58\x00", [0, 4], [1], "bytes follow"),
        (b"\x58", [0, 4], [2], "beyond the stream"),
        (b"\x58", [0, 4, 4], [2, -1], "beyond the stream"),
        (b"\x58", [0, 5, 4], [1, 0], "ascending"),
        (b"\x58", [0, 4], [1, 0], "ascending"),
        (b"\x58", [1, 4], [1], "ascending"),
    ],
)
def test_streams_that_are_refused(payload: bytes, bounds: list[int], sizes: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decoded(payload, bounds, sizes)


def test_encode_refuses_symbols_without_a_word_and_too_little_room() -> None:
    sizes = np.empty(1, np.int64)
    for symbols, room in ((3, 8), (1, 0)):
        with pytest.raises(ValueError, match="no code word, or the output has no room"):
            _huffman.encode(np.array([symbols], np.uint16), CODE, np.array([0, 1]), np.empty(room, np.uint8), sizes)
