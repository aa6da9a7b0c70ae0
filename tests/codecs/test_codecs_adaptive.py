"""The adaptive codec: bit-exact for every type, shape and number of values; small; multiplies as it is; strict about its bytes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.codecs import _palette, adaptive
from netpress.errors import ConfigError, FormatError

SHAPES = [
    (),
    (0,),
    (1,),
    (7,),
    (1, 8),
    (8, 1),
    (2, 0, 5),
    (3, 4103),
    (5, 3, 3, 3),
    (4, 1, 5, 5),
    (6, 5, 8),
    (2, 3, 1, 1),
]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def sparse(shape: tuple[int, ...], density: float, seed: int = 0, step: float = 0.0173) -> torch.Tensor:
    """Multiples of a step, mostly zero."""
    levels = torch.round(torch.randn(shape, generator=seeded(seed)) * 2)
    return levels * (torch.rand(shape, generator=seeded(seed + 1)) < density) * step + 0.0


def check(tensor: torch.Tensor) -> bytes:
    payload = adaptive.encode(tensor)
    back = adaptive.decode(memoryview(payload), tensor.dtype, tuple(tensor.shape))
    assert back.dtype is tensor.dtype
    assert back.shape == tensor.shape
    assert bits(back) == bits(tensor)
    return payload


@pytest.mark.parametrize("dtype", sorted(adaptive.DTYPES, key=str), ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip_keeps_every_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    count = math.prod(shape)
    pool = torch.randint(
        0, 2 if dtype is torch.bool else 256, (5 * dtype.itemsize,), dtype=torch.uint8, generator=seeded(1)
    )
    values = pool.view(dtype)  # any bit pattern at all, NaN payloads among them
    check(values[torch.randint(0, 5, (count,), generator=seeded(2))].reshape(shape))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 16, 33, 256, 1000, 20000])
@pytest.mark.parametrize("grid", [True, False])
def test_round_trip_of_any_number_of_values(k: int, grid: bool) -> None:
    values = (
        (torch.arange(k) - k // 3) * 0.25 if grid else torch.randn(k, generator=seeded(k), dtype=torch.float64).float()
    )
    places = torch.cat([torch.arange(k), torch.randint(0, k, (max(0, 3000 - k),), generator=seeded(3))])
    check((values[places] + 0.0).reshape(-1))


def test_round_trip_of_as_many_values_as_there_may_be() -> None:
    check(torch.arange(-32768, 32768).to(torch.int16))


@pytest.mark.parametrize("sign", [1, -1])
def test_values_on_one_side_of_zero(sign: int) -> None:
    check(sign * (torch.randint(1, 9, (40, 30), generator=seeded(4)).float()))


def test_odd_values() -> None:
    odd = torch.tensor([math.nan, -math.nan, math.inf, -math.inf, -0.0, 0.0, 1e-45, -1.5])
    check(odd[torch.randint(0, 8, (9, 31), generator=seeded(5))])
    check(torch.full((3, 70), -0.0))
    check(torch.zeros(500, 300))


@pytest.mark.parametrize("shape", [(60, 90), (12, 8, 3, 3), (1, 400), (400, 1), (150, 400)], ids=str)
@pytest.mark.parametrize("density", [0.02, 0.6])
def test_dead_rows_and_columns_cost_little(shape: tuple[int, ...], density: float) -> None:
    tensor = sparse(shape, density)
    tensor[: shape[0] // 2] = 0
    tensor.reshape(shape[0], -1)[:, ::3] = 0
    payload = check(tensor)
    alive = check(sparse((shape[0] - shape[0] // 2, -(-math.prod(shape[1:]) * 2 // 3)), density))
    assert len(payload) <= 1.06 * len(alive) + 8 + 0.05 * (shape[0] + math.prod(shape[1:]))


def entropy_bytes(tensor: torch.Tensor) -> float:
    counts = torch.unique(tensor, return_counts=True)[1].double()
    return float((counts * torch.log2(tensor.numel() / counts)).sum() / 8)


def test_independent_values_come_to_their_entropy() -> None:
    tensor = sparse((256, 256), 0.4)
    assert len(check(tensor)) <= 1.005 * entropy_bytes(tensor) + 40


def test_rows_and_columns_of_many_scales_come_below_their_entropy() -> None:
    scales = torch.exp(torch.randn(200, 1, generator=seeded(7))) * torch.exp(torch.randn(1, 300, generator=seeded(8)))
    tensor = torch.round(torch.randn(200, 300, generator=seeded(9)) * scales) * 0.5 + 0.0
    assert len(check(tensor)) <= 0.85 * entropy_bytes(tensor)


def test_a_vector_costs_no_learning() -> None:
    tensor = torch.round(torch.randn(64, generator=seeded(10)) * 2) * 0.25 + 0.0
    palette = len(_palette.pack(_palette.symbols_of(tensor)[0]))
    assert len(check(tensor)) <= 1.1 * entropy_bytes(tensor) + palette + 6


def test_one_value_costs_its_palette() -> None:
    assert len(check(torch.ones(100))) == 6  # form, count, four bytes
    assert len(check(torch.ones(163841))) == 11  # and a byte for every 16,384 levels


@pytest.mark.parametrize(
    "shape", [(), (9,), (1, 8), (37, 53), (120, 310), (16, 12, 3, 3), (3, 4103), (0, 4), (4, 0)], ids=str
)
@pytest.mark.parametrize("columns", [1, 5])
@pytest.mark.parametrize("k", [1, 40])
def test_product_is_the_dense_one(
    shape: tuple[int, ...], columns: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptive, "BLOCK", 4000)
    tensor = sparse(shape, 0.3, seed=k) if k > 1 else torch.full(shape, 0.7)
    coded = adaptive.open(memoryview(adaptive.encode(tensor)), torch.float32, shape)
    rows = shape[0] if len(shape) > 1 else 1
    dense = tensor.reshape(rows, -1 if tensor.numel() else math.prod(shape[1:])).numpy()
    assert (coded.rows, coded.columns) == dense.shape
    x = np.random.default_rng(0).standard_normal((dense.shape[1], columns)).astype(np.float32)
    expected = dense.astype(np.float64) @ x
    product = coded.multiply(x, threads=2)
    assert product.dtype == np.float32
    assert np.abs(product - expected).max(initial=0) <= 1e-5 * (1 + np.abs(dense) @ np.abs(x)).max(initial=1)
    assert np.array_equal(coded.multiply(x), product)


@pytest.mark.parametrize("transposed", [False, True])
def test_product_by_rows_and_by_columns(transposed: bool) -> None:
    tall = torch.exp(torch.randn(1, 40, generator=seeded(11)) * 2)
    scales = tall if transposed else tall.T
    tensor = torch.round(torch.randn(40, 40, generator=seeded(12)) * scales) * 0.5 + 0.0
    payload = memoryview(adaptive.encode(tensor))
    coded = adaptive.open(payload, torch.float32, (40, 40))
    assert coded.scan is not None
    x = np.eye(40, dtype=np.float32)
    assert np.array_equal(coded.multiply(x), tensor.numpy())
    assert coded.memory_bytes > len(payload)


def test_memory_of_a_product_does_not_grow_with_the_rows() -> None:
    small, large = (
        adaptive.open(memoryview(adaptive.encode(sparse(shape, 0.01))), torch.float32, shape)
        for shape in ((200, 300), (1500, 300))
    )
    grown = (large.memory_bytes - len(large.payload)) - (small.memory_bytes - len(small.payload))
    assert grown < 0.1 * 4 * 1300 * 300


def test_only_float32_is_opened() -> None:
    with pytest.raises(FormatError, match=r"only float32 multiplies"):
        adaptive.open(memoryview(adaptive.encode(torch.ones(3).double())), torch.float64, (3,))


def test_accepts_few_values_only() -> None:
    assert adaptive.accepts(torch.ones(3))
    assert not adaptive.accepts(torch.ones(3, dtype=torch.complex64))
    assert not adaptive.accepts(torch.eye(3).to_sparse())
    many = torch.arange(65537, dtype=torch.int32)
    assert not adaptive.accepts(many)
    with pytest.raises(ConfigError, match="65536 distinct"):
        adaptive.encode(many)


# Streams that no encoder wrote.

VICTIM = sparse((20, 9, 3, 3), 0.3)
PAYLOAD = adaptive.encode(VICTIM)


def attempt(payload: bytes, shape: tuple[int, ...] = (20, 9, 3, 3)) -> torch.Tensor | None:
    """What comes out; or nothing, by a FormatError."""
    try:
        decoded = adaptive.decode(payload, torch.float32, shape)
    except FormatError:
        return None
    assert decoded.shape == shape
    return decoded


@pytest.mark.parametrize("length", [*range(12), len(PAYLOAD) // 2, len(PAYLOAD) - 1])
def test_a_cut_payload_is_refused_or_another_tensor(length: int) -> None:
    decoded = attempt(PAYLOAD[:length])
    assert decoded is None if length < 8 else decoded is None or bits(decoded) != bits(VICTIM)


@pytest.mark.parametrize("tail", [b"\0", b"\1", b"\0" * 9, b"abcdefgh"])
def test_bytes_behind_the_end_are_refused(tail: bytes) -> None:
    with pytest.raises(FormatError):
        adaptive.decode(PAYLOAD + tail, torch.float32, (20, 9, 3, 3))
    with pytest.raises(FormatError):
        adaptive.decode(adaptive.encode(torch.ones(5)) + tail, torch.float32, (5,))


def test_a_huge_shape_is_refused_before_memory_is_taken() -> None:
    for shape in ((2**31, 2**31), (1, 2**40), (2**40, 1)):
        with pytest.raises(FormatError, match="too short"):
            adaptive.decode(PAYLOAD, torch.float32, shape)
        with pytest.raises(FormatError, match="too short"):
            adaptive.open(memoryview(PAYLOAD), torch.float32, shape)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(PAYLOAD) - 1), st.integers(1, 255))
def test_an_altered_byte_gives_an_error_or_another_tensor(place: int, change: int) -> None:
    altered = bytearray(PAYLOAD)
    altered[place] ^= change
    decoded = attempt(bytes(altered))
    assert decoded is None or bits(decoded) != bits(VICTIM)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40), st.sampled_from([(20, 9, 3, 3), (5,), (), (0,), (3, 700)]))
def test_any_bytes_behind_a_palette_give_an_error_or_a_tensor(tail: bytes, shape: tuple[int, ...]) -> None:
    attempt(tail, shape)
    attempt(_palette.pack(_palette.symbols_of(VICTIM)[0]) + tail, shape)


def test_unknown_options_are_refused() -> None:
    at = len(_palette.pack(_palette.symbols_of(VICTIM)[0]))
    for options in (64, 128, 255):
        with pytest.raises(FormatError, match="options that cannot be"):
            adaptive.decode(PAYLOAD[:at] + bytes([options, 2]) + PAYLOAD[at + 1 :], torch.float32, (20, 9, 3, 3))


def test_a_broken_stream_does_not_multiply() -> None:
    coded = adaptive.open(memoryview(PAYLOAD + b"\1"), torch.float32, (20, 9, 3, 3))
    with pytest.raises(FormatError, match="cannot be decoded"):
        coded.multiply(np.ones((81, 1), np.float32))


def test_a_trial_that_was_given_up_is_not_taken_for_a_whole_stream() -> None:
    """Part of a stream may end in zeros, which are left out, and so be short enough: this pattern once came back as another."""
    pattern = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]).repeat(4, 20)
    assert torch.equal(adaptive.decode(adaptive.encode(pattern), torch.float32, (4, 100)), pattern)
    rng = np.random.default_rng(0)
    for _ in range(300):
        rows, columns, period = (int(rng.integers(*ends)) for ends in ((1, 7), (5, 120), (2, 9)))
        line = np.tile((rng.random(period) < 0.3).astype(np.float32), -(-rows * columns // period))[: rows * columns]
        tensor = torch.from_numpy(line.reshape(rows, columns))
        assert torch.equal(adaptive.decode(adaptive.encode(tensor), torch.float32, (rows, columns)), tensor)
