"""The survey's formats: lossless for every type and shape, products equal to dense ones, and hostile payloads refused."""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.codecs import _huffman, csc, cser, ham, index_map, sham
from netpress.codecs._palette import MOST_VALUES
from netpress.dtypes import TYPES, torch_type
from netpress.errors import ConfigError, FormatError

FORMATS = [csc, index_map, cser, ham, sham]
ALL_DTYPES = [torch_type(dtype) for dtype in TYPES.values()]
SHAPES = [(), (0,), (3, 0), (1,), (1, 8), (5, 7), (16, 3, 3, 3), (1, 4103), (300, 1)]

each_format = pytest.mark.parametrize("codec", FORMATS, ids=lambda codec: codec.__name__.rpartition(".")[2])


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    assert one.dtype is other.dtype
    assert one.shape == other.shape
    raw = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return torch.equal(*raw)


def comes_back(codec: ModuleType, tensor: torch.Tensor) -> bytes:
    assert codec.accepts(tensor)
    payload = codec.encode(tensor)
    assert same_bits(codec.decode(memoryview(payload), tensor.dtype, tuple(tensor.shape)), tensor)
    return payload


def pruned(rows: int, columns: int, values: int, density: float, seed: int = 0) -> torch.Tensor:
    """Of so many values besides zero, the nearer to zero the likelier."""
    rng = np.random.default_rng(seed)
    levels = np.rint(rng.standard_normal((rows, columns)) * values / 6).clip(-(values // 2), values // 2)
    kept = np.where(rng.random((rows, columns)) < density, np.where(levels == 0, values // 2 + 1, levels), 0)
    return torch.from_numpy((kept * 0.37).astype(np.float32) + np.float32(0))


@each_format
@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_type_and_shape_comes_back(codec: ModuleType, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    values = torch.tensor([0, 0, 0, 1, 1, 3, -2, 7, 100]).to(dtype)
    comes_back(codec, values[torch.randint(0, 9, shape)])
    comes_back(codec, torch.zeros(shape, dtype=dtype))
    comes_back(codec, torch.ones(shape, dtype=dtype))


@each_format
@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0, 0, 0, 0x80000000, 0x7FC00001, 0xFF800000, 0x7F800000, 1, 0x3F800000]), max_size=40))
def test_odd_float_patterns_come_back(codec: ModuleType, patterns: list[int]) -> None:
    comes_back(codec, torch.tensor(patterns, dtype=torch.int64).to(torch.int32).view(torch.float32))


@each_format
@pytest.mark.parametrize("k", [2, 3, 16, 17, 256, 257, 4096, MOST_VALUES])
def test_any_number_of_values(codec: ModuleType, k: int) -> None:
    tensor = torch.arange(k, dtype=torch.float32).sqrt()[torch.randperm(k)].reshape(-1, 2 if k % 2 == 0 else 1)
    comes_back(codec, tensor)
    comes_back(codec, torch.cat([torch.zeros(k), tensor.reshape(-1)]).reshape(-1, 2))


def test_only_csc_takes_more_values_than_a_palette_has() -> None:
    tensor = torch.arange(MOST_VALUES + 1, dtype=torch.float32).reshape(-1, 1)
    comes_back(csc, tensor)
    for codec in FORMATS[1:]:
        assert not codec.accepts(tensor)
        with pytest.raises(ConfigError, match="too many distinct values"):
            codec.encode(tensor)


@each_format
@pytest.mark.parametrize(
    ("values", "density"), [(1, 0.03), (1, 0.5), (2, 0.5), (31, 0.03), (31, 0.5), (31, 1.0), (255, 0.6)]
)
def test_products_equal_dense_ones(codec: ModuleType, values: int, density: float) -> None:
    for rows, columns in ((37, 4103), (1, 8), (130, 9), (3, 700), (213, 70)):
        tensor = pruned(rows, columns, values, density)
        coded = codec.open(comes_back(codec, tensor), torch.float32, tuple(tensor.shape))
        assert (coded.rows, coded.columns) == (rows, columns)
        for batch in (1, 2, 7, 8, 20, 64, 111):
            if batch not in (1, 8) and columns == 4103:
                continue
            x = np.random.default_rng(batch).standard_normal((columns, batch)).astype(np.float32)
            expected = tensor.numpy().astype(np.float64) @ x
            room = 2e-6 * (np.abs(tensor.numpy()).astype(np.float64) @ np.abs(x)) + 1e-12
            if codec is cser:  # what the implicit value's columns sum to is found by a difference
                room += 1e-6 * float(tensor.abs().max()) * np.abs(x).sum(0)
            y = coded.multiply(x)
            assert y.shape == (rows, batch)
            assert (np.abs(y - expected) <= room).all()
            for threads in (2, 8) if batch in (1, 8) else ():
                assert np.array_equal(coded.multiply(x, threads), y)


@each_format
@pytest.mark.parametrize("common", [0.0, 1.25])
def test_each_column_reaches_its_own_entry(codec: ModuleType, common: float) -> None:
    # The unit vectors of 1031 columns give the matrix back, column by column: no offset in a word goes wrong.
    tensor = pruned(5, 1031, 8, 0.2) + common
    coded = codec.open(codec.encode(tensor), torch.float32, (5, 1031))
    back = coded.multiply(np.eye(1031, dtype=np.float32), 3)
    assert np.abs(back - tensor.numpy()).max() <= 3e-6
    x = np.zeros((1031, 1), np.float32)
    for column in (0, 30, 31, 32, 63, 64, 1029, 1030):
        x[column] = 1
        assert np.abs(coded.multiply(x)[:, 0] - tensor[:, column].numpy()).max() <= 3e-6
        x[column] = 0


@each_format
def test_products_of_convolutions_and_constants(codec: ModuleType) -> None:
    x = np.arange(54, dtype=np.float32).reshape(27, 2)
    for tensor in (
        torch.full((16, 3, 3, 3), 2.5),
        torch.zeros(16, 3, 3, 3),
        pruned(16, 27, 6, 0.4).reshape(16, 3, 3, 3),
    ):
        coded = codec.open(codec.encode(tensor), torch.float32, (16, 3, 3, 3))
        expected = tensor.reshape(16, 27).numpy().astype(np.float64) @ x
        assert np.allclose(coded.multiply(x, 5), expected, rtol=1e-5, atol=1e-4)
        assert coded.multiply(np.empty((27, 0), np.float32)).shape == (16, 0)


@each_format
def test_a_mostly_nonzero_matrix_with_one_common_value(codec: ModuleType) -> None:
    tensor = torch.where(pruned(40, 300, 5, 0.1) != 0, pruned(40, 300, 5, 1.0), torch.tensor(-0.75))
    x = np.random.default_rng(0).standard_normal((300, 9)).astype(np.float32)
    expected = tensor.numpy().astype(np.float64) @ x
    assert np.abs(codec.open(codec.encode(tensor), torch.float32, (40, 300)).multiply(x) - expected).max() < 1e-4


@each_format
def test_memory_of_the_opened_form_is_near_the_payload(codec: ModuleType) -> None:
    payload = codec.encode(pruned(300, 500, 30, 0.2))
    assert len(payload) <= codec.open(payload, torch.float32, (300, 500)).memory_bytes <= len(payload) + 4096


@each_format
def test_what_has_no_product_is_declined(codec: ModuleType) -> None:
    for tensor in (torch.zeros(()), torch.zeros(8), torch.zeros(3, 0), torch.zeros(2, 2, dtype=torch.float64)):
        with pytest.raises(ConfigError, match="needs a float32 matrix"):
            codec.open(codec.encode(tensor), tensor.dtype, tuple(tensor.shape))
    coded = codec.open(codec.encode(torch.zeros(2, 3)), torch.float32, (2, 3))
    wrong = [np.zeros((3, 2)), np.zeros(3, np.float32), np.zeros((2, 2), np.float32), np.zeros((2, 3), np.float32).T]
    for x in wrong:
        with pytest.raises(ConfigError, match="wrong form"):
            coded.multiply(x)


def test_bytes_by_hand() -> None:
    tensor = torch.tensor([[0, 5, 0, 5], [5, 5, 5, 0]], dtype=torch.uint8)
    palette = bytes([0, 2, 0, 5])  # listed, two values
    assert index_map.encode(tensor) == palette + bytes([0b01111010])
    assert sham.encode(tensor)[:12] == palette + bytes([0, 2, 3, 1, 3, 0, 1, 2])  # counts 2 3, columns 1 3, 0 1 2
    # Both lengths 1, none absent: 0 1 1; one block; entries 0 1 0 1, 1 1 1 0.
    assert ham.encode(tensor) == palette + bytes([0b01100000, 1, 0b01011110])
    # Value number 1 (5) is implicit; a group of zeros in each row: of two in columns 0 2, of one in column 3.
    assert cser.encode(tensor) == palette + bytes([1, 0, 1, 1, 0, 0, 2, 1, 0, 2, 3])
    # Raw: a palette would take more than the five bytes that are saved by none.
    assert csc.encode(torch.tensor([[0, 5, 0, 7]], dtype=torch.uint8)) == bytes([0, 2, 1, 3, 5, 7])


def test_sizes_are_those_of_the_parts() -> None:
    tensor = pruned(256, 1000, 20, 0.1)
    entries = tensor.numel()
    found = int((tensor != 0).sum())
    k = len(tensor.unique())
    assert len(index_map.encode(tensor)) - entries * math.ceil(math.log2(k)) / 8 < 4 * k + 8
    assert len(csc.encode(tensor)) - found * 3 - 256 < 4 * k + 8
    values = tensor[tensor != 0].unique(return_counts=True)[1].double()
    entropy = -float((values * (values / found).log2()).sum()) / 8
    assert 0 <= len(sham.encode(tensor)) - found * 2 - 256 - entropy < 0.04 * entropy + 4 * k + 16
    code = _huffman.code_of(tensor.unique(return_counts=True)[1].numpy().astype(np.uint64))
    bits = int((tensor.unique(return_counts=True)[1].numpy() * code).sum())
    assert 0 <= len(ham.encode(tensor)) - bits / 8 < 4 * k + 40


def opened(codec: ModuleType, payload: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Decodes and multiplies; nothing but `FormatError` may come of it."""
    try:
        back = codec.decode(payload, dtype, shape)
        assert back.shape == shape
    except FormatError:
        pass
    try:
        coded = codec.open(payload, dtype, shape)
        for batch in (1, 3):
            coded.multiply(np.ones((coded.columns, batch), np.float32), 2)
    except FormatError:
        pass


@each_format
@pytest.mark.parametrize("values", [1, 9, 300])
def test_every_length_but_its_own_is_refused(codec: ModuleType, values: int) -> None:
    tensor = pruned(9, 50, values, 0.4)
    payload = codec.encode(tensor)
    for length in {*range(min(len(payload), 40)), len(payload) // 2, len(payload) - 1}:
        with pytest.raises(FormatError):
            codec.decode(payload[:length], torch.float32, (9, 50))
    with pytest.raises(FormatError):
        codec.decode(payload + b"\0", torch.float32, (9, 50))


@each_format
def test_other_shapes_are_refused(codec: ModuleType) -> None:
    payload = codec.encode(pruned(9, 50, 9, 0.4))
    for shape in ((9, 49), (10, 50), (0,), (2**40, 2**40), (2**63, 0, 5)):
        with pytest.raises(FormatError):
            codec.decode(payload, torch.float32, shape)


@cache
def written(codec: ModuleType, shape: tuple[int, int], values: int) -> bytes:
    return codec.encode(pruned(*shape, values, 0.5))


@each_format
@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from([(6, 30), (40, 11), (1, 300)]),
    values=st.sampled_from([1, 7, 400]),
    changes=st.lists(st.tuples(st.integers(0, 30) | st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_altered_payloads_raise_or_give_a_tensor(
    codec: ModuleType, shape: tuple[int, int], values: int, changes: list[tuple[int, int]]
) -> None:
    payload = bytearray(written(codec, shape, values))
    for place, byte in changes:
        payload[place % len(payload)] = byte
    opened(codec, bytes(payload), torch.float32, shape)


@each_format
@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([torch.float32, torch.bool, torch.int64]))
def test_random_payloads_raise_or_give_a_tensor(codec: ModuleType, payload: bytes, dtype: torch.dtype) -> None:
    palette = bytes([0, 2]) + bytes(dtype.itemsize) + bytes([1]) + bytes(dtype.itemsize - 1)
    try:
        back = codec.decode(palette + payload, dtype, (4, 5))
    except FormatError:
        return
    assert back.shape == (4, 5)


PALETTE = bytes([0, 2, 0, 5])  # uint8: 0 and 5


@pytest.mark.parametrize(
    ("codec", "payload", "said"),
    [
        (ham, PALETTE + bytes([0b01100000, 3, 1, 1, 0, 0, 0]), "cannot be"),  # three blocks of two rows
        (ham, PALETTE + bytes([0b01100000, 2, 9, 0, 0]), "cannot be"),  # a block longer than the payload
        (ham, PALETTE + bytes([0b00110110, 1, 0]), "incomplete"),
        (ham, PALETTE + bytes([0b00010000, 1, 0]), "not 1 to 24"),
        (ham, PALETTE + bytes([0b01101000, 1, 0]), "padding"),
        (ham, PALETTE + bytes([0b11101100, 1, 0]), "absent symbols where there are none|padding"),
        (ham, bytes([0, 0]), "does not fit the shape"),
        (index_map, bytes([0, 3, 0, 5, 9, 0xFF, 0xFF]), "beyond the palette"),
        (index_map, bytes([0, 0]), "does not fit the shape"),
        (csc, bytes([0, 2, 0, 3, 1, 7, 7]), "do not ascend"),
        (csc, bytes([0, 2, 0, 1, 4, 7, 7]), "do not ascend"),
        (csc, bytes([0, 2, 0, 1, 3, 7, 0]), "value is none"),
        (csc, bytes([0, 5, 0, 0, 1, 2, 3, 4, 1, 1, 1, 1, 1]), "cannot be so many"),
        (csc, bytes([4, 0, 0, 0, 0]), "narrowest type"),
        (csc, bytes([2]), "unknown form"),
        (csc, bytes([1, 0, 1, 0, 1, 0, 2]), "palette has none"),
        (sham, PALETTE + bytes([0, 2, 0, 3, 1, 0b01000000, 1]), "do not ascend"),
        (sham, PALETTE + bytes([0, 2, 0, 1, 3, 0b01000000, 1, 0]), "bytes follow|does not end"),
        (sham, PALETTE + bytes([3]), "cannot be"),
        (cser, PALETTE + bytes([2, 0]), "cannot be"),
        (cser, PALETTE + bytes([1, 64]), "head"),
        (cser, PALETTE + bytes([1, 0, 1, 0, 1, 1, 0]), "value is none"),  # a group of the implicit value
        (cser, PALETTE + bytes([1, 0, 1, 0, 0, 0]), "size cannot be"),
        (cser, PALETTE + bytes([1, 0, 1, 0, 0, 2, 1, 1]), "stand twice"),
        (cser, PALETTE + bytes([1, 0, 1, 0, 0, 1, 4]), "beyond their row"),
        (cser, PALETTE + bytes([1, 1, 1, 0, 0, 0, 0, 1, 2]), "narrowest"),
    ],
)
def test_payloads_made_by_hand(codec: ModuleType, payload: bytes, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        codec.decode(payload, torch.uint8, (2, 4))


def test_a_stream_too_short_for_its_shape_takes_no_memory() -> None:
    payload = ham.encode(pruned(9, 50, 9, 0.4))
    with pytest.raises(FormatError, match="too short"):
        ham.decode(payload, torch.float32, (2**16 - 1, 2**16))


def test_hostile_products_are_refused() -> None:
    tensor = torch.zeros(2, 4)
    tensor[0, 1] = tensor[1, 2] = 1.0
    for codec, head in ((csc, b""), (sham, b""), (cser, b"")):
        payload = bytearray(head + codec.encode(tensor))
        place = bytes(payload).index(bytes([1, 2]), 6)
        payload[place + 1] = 4  # a fifth column
        coded = codec.open(bytes(payload), torch.float32, (2, 4))
        with pytest.raises(FormatError, match="beyond"):
            coded.multiply(np.ones((4, 1), np.float32))
