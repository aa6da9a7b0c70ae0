"""The (gap, value) codecs: lossless for everything they accept, right products at every offset, no trust in a payload."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from netpress.codecs import _gap, _gap_model, _palette, gap_ans, gap_huffman
from netpress.codecs._gap_model import ABSENT, Statistics, pack_levels, unpack_levels
from netpress.dtypes import TYPES, torch_type
from netpress.errors import FormatError

BOTH = pytest.mark.parametrize("codec", [gap_ans, gap_huffman], ids=["ans", "huffman"])
SHAPES = [(), (0,), (1,), (7,), (2, 0, 5), (2, 3, 4), (1, 8), (5, 1, 1, 2), (3, 70), (64, 33)]


@pytest.fixture(autouse=True, scope="module")
def _small_shares() -> Iterator[None]:
    """Threads share even the smallest products."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_gap, "LEAST_SHARE_NS", 0)
        yield


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def back(codec: ModuleType, tensor: torch.Tensor) -> bytes:
    """Encodes, decodes, compares every bit, and gives the payload."""
    assert codec.accepts(tensor)
    payload: bytes = codec.encode(tensor)
    decoded = codec.decode(memoryview(payload), tensor.dtype, tuple(tensor.shape))
    assert decoded.dtype is tensor.dtype
    assert decoded.shape == tensor.shape
    assert torch.equal(bits(decoded), bits(tensor))
    return payload


def pruned(rows: int, columns: int, density: float, values: int, seed: int = 0) -> NDArray[np.float32]:
    """A matrix of `values` values and zeros, without structure."""
    rng = np.random.default_rng(seed)
    book = rng.standard_normal(values).astype(np.float32)
    weights = book[rng.integers(0, values, (rows, columns))]
    weights[rng.random((rows, columns)) >= density] = 0
    return weights


def check_products(
    codec: ModuleType, weights: NDArray[np.float32], batches: tuple[int, ...], threads: tuple[int, ...]
) -> None:
    payload = codec.encode(torch.from_numpy(weights))
    coded = codec.open(memoryview(payload), torch.float32, weights.shape)
    assert (coded.rows, coded.columns) == weights.shape
    for n in batches:
        x = np.random.default_rng(n).standard_normal((weights.shape[1], n), dtype=np.float32)
        exact = weights.astype(np.float64) @ x
        scale = np.abs(weights).astype(np.float64) @ np.abs(x)
        first = None
        for count in threads:
            y = coded.multiply(x, count)
            assert y.dtype == np.float32
            assert y.shape == exact.shape
            assert (np.abs(y - exact) <= 2e-6 * scale).all(), (weights.shape, n, count)
            first = y if first is None else first
            np.testing.assert_array_equal(y, first)  # sums do not depend on the threads


@BOTH
@pytest.mark.parametrize("dtype", [torch_type(dtype) for dtype in TYPES.values()], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip_of_any_bits(codec: ModuleType, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    high = 2 if dtype is torch.bool else 256
    raw = torch.randint(0, high, (math.prod(shape) * dtype.itemsize,), dtype=torch.uint8)
    back(codec, raw.view(dtype).reshape(shape))  # any pattern at all, NaN payloads among them
    back(codec, torch.zeros(shape, dtype=dtype))
    back(codec, torch.ones(shape, dtype=dtype))
    sparse = raw.view(dtype).clone()
    sparse[torch.rand(len(sparse)) < 0.8] = 0
    back(codec, sparse.reshape(shape))


@BOTH
@pytest.mark.parametrize("k", [1, 2, 3, 17, 255, 256, 257, 1000, 4097, 65535, 65536])
@pytest.mark.parametrize("zero", [False, True], ids=["no zero", "zero"])
def test_round_trip_of_k_values(codec: ModuleType, k: int, zero: bool) -> None:
    each = torch.arange(k, dtype=torch.int32) + (0 if zero else 1)
    back(codec, each.repeat(1 + 3000 // k)[torch.randperm(k * (1 + 3000 // k))])
    back(codec, each.to(torch.float32).reshape(1, -1))


@BOTH
def test_more_values_than_65536_are_declined(codec: ModuleType) -> None:
    tensor = torch.arange(65537, dtype=torch.int32)
    assert not codec.accepts(tensor)
    with pytest.raises(FormatError, match="too many values"):
        codec.encode(tensor)
    assert not codec.accepts(torch.ones(2, dtype=torch.complex64))


@BOTH
def test_special_floats(codec: ModuleType) -> None:
    special = [0.0, -0.0, math.nan, math.inf, -math.inf, 1e-45, 1.0]
    tensor = torch.tensor(special * 9)
    tensor.view(torch.int32)[2] = 0x7F800001  # a NaN with a payload of its own
    back(codec, tensor)
    back(codec, torch.full((3, 5), -0.0))


@BOTH
def test_a_constant_costs_its_palette_and_a_model(codec: ModuleType) -> None:
    assert len(back(codec, torch.zeros(1000, 1000))) == len(_palette.pack(_palette.symbols_of(torch.zeros(1))[0]))
    assert len(back(codec, torch.full((100, 100), 2.5))) < 30


@BOTH
@pytest.mark.parametrize("density", [0.0005, 0.003, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("values", [1, 5, 300])
def test_round_trip_at_every_density(codec: ModuleType, density: float, values: int) -> None:
    weights = pruned(37, 4103, density, values)
    weights[5:30] = 0  # a gap longer than any symbol
    back(codec, torch.from_numpy(weights))


@BOTH
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 90), st.floats(0, 1), st.integers(1, 40))
def test_round_trips_and_products_of_odd_matrices(
    codec: ModuleType, seed: int, rows: int, columns: int, density: float, values: int
) -> None:
    weights = pruned(rows, columns, density, values, seed)
    back(codec, torch.from_numpy(weights))
    check_products(codec, weights, (1, 3), (1, 5))


@BOTH
def test_products_at_every_column_offset(codec: ModuleType) -> None:
    for columns in range(1, 71):
        check_products(codec, pruned(8, columns, 0.4, 9, columns), (1,), (1, 3))


@BOTH
@pytest.mark.parametrize("shape", [(1, 1), (1, 4103), (2, 4103), (41, 1), (300, 3), (17, 1025)], ids=str)
def test_products_of_every_batch(codec: ModuleType, shape: tuple[int, int]) -> None:
    check_products(codec, pruned(*shape, 0.3, 20), (0, 1, 2, 7, 8, 13, 16, 33, 64, 72, 130), (1, 8))


@BOTH
def test_products_in_blocks_and_all_lanes(codec: ModuleType) -> None:
    weights = pruned(900, 1031, 0.4, 60)
    payload = codec.encode(torch.from_numpy(weights))
    head = _gap.unpack_head(memoryview(payload), torch.float32, weights.shape)
    assert head.plan.blocks > 1
    assert head.plan.lanes == (64 if codec is gap_ans else 8)
    check_products(codec, weights, (1, 8, 65), (1, 2, 8))
    back(codec, torch.from_numpy(weights))


@BOTH
def test_small_products_stay_on_one_thread(codec: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = pruned(900, 1031, 0.4, 60)
    coded = codec.open(codec.encode(torch.from_numpy(weights)), torch.float32, weights.shape)
    shares: list[int] = []
    monkeypatch.setattr(_gap, "run_all", lambda tasks, threads: shares.append(len(tasks)) or [task() for task in tasks])
    x = np.ones((1031, 64), np.float32)
    for least, batch, expected in ((10**9, 64, 1), (0, 1, 2), (10**6, 1, 1), (10**6, 64, 2)):
        monkeypatch.setattr(_gap, "LEAST_SHARE_NS", least)
        np.testing.assert_allclose(coded.multiply(x[:, :batch].copy(), 2), weights @ x[:, :batch], rtol=1e-3, atol=1e-3)
        assert shares.pop() == expected


@BOTH
def test_products_with_raw_bits_of_gaps_and_rows_without_values(codec: ModuleType) -> None:
    weights = pruned(900, 2057, 0.03, 40)
    weights[100:200] = 0
    weights[:, 700:1900] = 0
    head = _gap.unpack_head(memoryview(codec.encode(torch.from_numpy(weights))), torch.float32, weights.shape)
    assert head.model is not None
    assert head.model.raw > 0
    check_products(codec, weights, (1, 8), (1, 4))


@BOTH
@pytest.mark.parametrize("values", [1, 3, 700, 20000])
def test_products_of_dense_matrices(codec: ModuleType, values: int) -> None:
    check_products(codec, pruned(150, 401, 1.0, values), (1, 8), (1, 3))
    check_products(codec, pruned(150, 401, 0.97, values), (1, 8), (1, 3))


@BOTH
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (4, 0), ()], ids=str)
def test_products_of_nothing(codec: ModuleType, shape: tuple[int, ...]) -> None:
    payload = codec.encode(torch.zeros(shape))
    coded = codec.open(memoryview(payload), torch.float32, shape)
    y = coded.multiply(np.ones((coded.columns, 5), np.float32), 4)
    np.testing.assert_array_equal(y, np.zeros((coded.rows, 5), np.float32))


@BOTH
def test_a_convolution_is_filters_by_all_others(codec: ModuleType) -> None:
    weights = pruned(12, 54, 0.5, 6)
    coded = codec.open(codec.encode(torch.from_numpy(weights).reshape(12, 6, 3, 3)), torch.float32, (12, 6, 3, 3))
    x = np.random.default_rng(0).standard_normal((54, 1), dtype=np.float32)
    np.testing.assert_allclose(coded.multiply(x), weights @ x, rtol=1e-4, atol=1e-5)


@BOTH
def test_only_float32_is_opened(codec: ModuleType) -> None:
    with pytest.raises(FormatError, match=r"float32 alone; got: torch\.float16"):
        codec.open(codec.encode(torch.ones(3, dtype=torch.float16)), torch.float16, (3,))


@BOTH
def test_opened_memory_is_the_payload_and_a_table(codec: ModuleType) -> None:
    weights = pruned(500, 1000, 0.2, 30)
    payload = codec.encode(torch.from_numpy(weights))
    coded = codec.open(payload, torch.float32, weights.shape)
    assert len(payload) < coded.memory_bytes < len(payload) + 60_000


@pytest.mark.parametrize(("codec", "most"), [(gap_ans, 1.006), (gap_huffman, 1.012)])
@pytest.mark.parametrize(("density", "values"), [(0.1, 32), (0.4, 100), (0.02, 16), (1.0, 16), (0.05, 3)])
def test_bytes_stay_near_the_entropy(codec: ModuleType, most: float, density: float, values: int) -> None:
    weights = pruned(1024, 1024, density, values)
    share = np.unique(weights, return_counts=True)[1] / weights.size
    entropy = -(share * np.log2(share)).sum() * weights.size / 8
    assert len(codec.encode(torch.from_numpy(weights))) < most * entropy + 6 * values + 60


# --- hostile payloads ---------------------------------------------------------------------------------------------------------


def tries(codec: ModuleType, payload: bytes, shape: tuple[int, ...]) -> bool:
    """Whether the payload is refused; whatever is not must give a tensor and products."""
    refused = 0
    try:
        assert codec.decode(payload, torch.float32, shape).shape == shape
    except FormatError:
        refused += 1
    try:
        coded = codec.open(payload, torch.float32, shape)
        assert coded.multiply(np.ones((coded.columns, 1), np.float32)).shape == (coded.rows, 1)
        coded.multiply(np.ones((coded.columns, 8), np.float32), 2)
    except FormatError:
        refused += 1
    assert refused in (0, 2)
    return refused == 2


@BOTH
def test_truncated_or_longer_payloads_are_refused(codec: ModuleType) -> None:
    weights = torch.from_numpy(pruned(20, 37, 0.4, 5))
    payload = codec.encode(weights)
    for length in range(len(payload)):
        assert tries(codec, payload[:length], (20, 37)), length
    for more in (b"\0", b"\xff", bytes(300)):
        assert tries(codec, payload + more, (20, 37))


@BOTH
@pytest.mark.parametrize("shape", [(20, 36), (19, 37), (0, 37), (1,), (2**40, 2**15)], ids=str)
def test_a_payload_of_another_shape_is_refused_or_gives_that_shape(codec: ModuleType, shape: tuple[int, ...]) -> None:
    weights = pruned(20, 37, 0.4, 5)
    weights[-1, -1] = weights.max()  # the last position counts
    assert tries(codec, codec.encode(torch.from_numpy(weights)), shape)


@BOTH
@pytest.mark.parametrize("size", [(20, 37), (64, 300)], ids=str)
def test_flipped_bits_never_break_out(codec: ModuleType, size: tuple[int, int]) -> None:
    payload = codec.encode(torch.from_numpy(pruned(*size, 0.4, 5)))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        at, bit = int(rng.integers(len(payload))), int(rng.integers(8))
        damaged = bytearray(payload)
        damaged[at] ^= 1 << bit
        refused += tries(codec, bytes(damaged), size)
    assert refused > 60


@BOTH
@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_never_break_out(codec: ModuleType, tail: bytes) -> None:
    palette = _palette.pack(_palette.symbols_of(torch.tensor([0.0, 1.0, 2.0]))[0])
    tries(codec, palette + tail, (9, 11))
    tries(codec, tail, (9, 11))


@BOTH
def test_a_false_number_of_symbols_is_refused(codec: ModuleType) -> None:
    payload = codec.encode(torch.from_numpy(pruned(20, 37, 0.4, 5)))
    head = _gap.unpack_head(memoryview(payload), torch.float32, (20, 37))
    number, end = _palette.read_varint(payload, head.end)
    for false in (0, number - 1, number + 1, 20 * 37, 2**31, 2**62):
        assert tries(codec, payload[: head.end] + _palette.varint(false) + payload[end:], (20, 37)), false


@BOTH
def test_false_heads_are_refused(codec: ModuleType) -> None:
    payload = codec.encode(torch.from_numpy(pruned(20, 37, 0.4, 5)))
    at = _palette.unpack(payload, torch.float32)[1]
    for packed in (0x8000, 7 << 4, 7 << 7, 15 | 6 << 7):  # spare bits, 128 lanes, 7 raw bits, 16 + 6 bits
        with pytest.raises(FormatError, match="out of range"):
            codec.decode(payload[:at] + packed.to_bytes(2, "little") + payload[at + 2 :], torch.float32, (20, 37))
    for rows in (0, 21, 2**40):
        with pytest.raises(FormatError, match="number of rows"):
            codec.decode(payload[: at + 3] + _palette.varint(rows) + payload[at + 4 :], torch.float32, (20, 37))


@BOTH
def test_gaps_are_refused_where_no_value_is_zero(codec: ModuleType) -> None:
    weights = pruned(20, 37, 1.0, 5)
    weights[weights == 0] = 1
    payload = codec.encode(torch.from_numpy(weights))
    head = _gap.unpack_head(memoryview(payload), torch.float32, (20, 37))
    number, end = _palette.read_varint(payload, head.end)
    assert number == 20 * 37
    assert tries(codec, payload[: head.end] + _palette.varint(number - 1) + payload[end:], (20, 37))
    sparse = codec.encode(torch.from_numpy(pruned(20, 37, 0.4, 5)))
    palette = _palette.symbols_of(torch.tensor([1.0, 2.7, 3.1, 4.3, 5.9]))[0]
    at = _palette.unpack(sparse, torch.float32)[1]
    with pytest.raises(FormatError, match="though no value is zero"):
        codec.decode(_palette.pack(palette) + sparse[at:], torch.float32, (20, 37))


def test_more_blocks_than_bytes_are_refused_before_memory_is_taken() -> None:
    payload = gap_ans.encode(torch.tensor([1.0, 0.0, 2.0, 0.0]))
    at = _palette.unpack(payload, torch.float32)[1]
    many = payload[: at + 3] + _palette.varint(1) + payload[at + 4 :]
    with pytest.raises(FormatError, match="ends before its blocks"):
        gap_ans.decode(many, torch.float32, (2**40, 1))


# --- the model ----------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.one_of(st.integers(0, 79), st.just(ABSENT)), min_size=1, max_size=40), min_size=1, max_size=3)
)
def test_levels_come_back_from_exactly_their_bytes(lists: list[list[int]]) -> None:
    arrays = [np.array(levels, np.uint8) for levels in lists]
    packed = b"head" + pack_levels(*arrays) + b"tail"
    found, end = unpack_levels(memoryview(packed), 4, *map(len, arrays))
    assert end == len(packed) - 4
    for one, other in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(one, other)


@given(st.binary(max_size=40), st.integers(1, 60))
def test_levels_of_random_bytes_are_levels_or_refused(payload: bytes, size: int) -> None:
    try:
        (levels,), end = unpack_levels(memoryview(payload), 0, size)
    except FormatError:
        return
    assert end <= len(payload)
    assert ((levels <= 79) | (levels == ABSENT)).all()


def test_levels_by_hand() -> None:
    # Counts 8, 4, 2, 1: halving is four levels.
    np.testing.assert_array_equal(_gap_model.levels(np.array([8, 4, 2, 1])), [0, 4, 8, 12])


def test_quotients_by_hand() -> None:
    # Gaps 0, 3, 9 with quotients of 2 and 1 raw bit: a skip passes 4 zeros; 3 -> quotient 1; 9 = 2 skips and 1 -> quotient 0.
    statistics = Statistics(np.array([0, 3, 9]), np.array([5, 2, 1]), np.array([8]))
    np.testing.assert_array_equal(statistics.quotient_counts(2, 1), [6, 2, 2])


@pytest.mark.parametrize(
    ("entropy", "lanes", "blocks"), [(100, 1, 1), (1_500, 1, 1), (2_000, 2, 1), (2_000_000, 64, 14)]
)
def test_small_tensors_do_not_pay_for_lanes(entropy: float, lanes: int, blocks: int) -> None:
    plan = _gap.plan_for(4096, 4096, entropy, 64, 2, 6)
    assert (plan.lanes, plan.blocks) == (lanes, blocks)


def test_a_block_holds_fewer_than_two_to_the_31_positions() -> None:
    plan = _gap.plan_for(10, 2**30, 1000.0, 64, 2, 6)
    assert plan.block_rows == 1
