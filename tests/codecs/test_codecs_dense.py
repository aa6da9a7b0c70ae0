"""The dense codec: bit-exact for every type, strict about what it reads."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from netpress.codecs import adaptive, dense, encode
from netpress.dtypes import TYPES, torch_type
from netpress.errors import FormatError

ALL_DTYPES = [torch_type(dtype) for dtype in TYPES.values()]
SHAPES = [(), (0,), (1,), (3,), (2, 0, 5), (2, 3, 4), (5, 1, 1, 2)]


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip_keeps_every_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    count = torch.Size(shape).numel()
    high = 2 if dtype is torch.bool else 256
    raw = torch.randint(0, high, (count * dtype.itemsize,), dtype=torch.uint8)
    tensor = raw.view(dtype).reshape(shape)  # any bit pattern at all, NaN payloads among them
    payload = dense.encode(tensor)
    assert len(payload) == count * dtype.itemsize
    back = dense.decode(memoryview(payload), dtype, shape)
    assert back.dtype is dtype
    assert back.shape == shape
    assert torch.equal(bits(back), raw)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_any_float32_bit_pattern_comes_back(patterns: list[int]) -> None:
    tensor = torch.tensor(patterns, dtype=torch.int64).to(torch.int32).view(torch.float32)
    back = dense.decode(dense.encode(tensor), torch.float32, tuple(tensor.shape))
    assert torch.equal(back.view(torch.int32), tensor.view(torch.int32))


def test_bytes_by_hand() -> None:
    # 1.0 = 0x3F800000 and -0.0 = 0x80000000, lowest byte first; 258 = 0x0102.
    assert dense.encode(torch.tensor([1.0, -0.0])) == bytes.fromhex("0000803f 00000080")
    assert dense.encode(torch.tensor(258, dtype=torch.int16)) == bytes.fromhex("0201")


def test_views_are_stored_in_row_major_order() -> None:
    tensor = torch.arange(6, dtype=torch.uint8).reshape(2, 3).T
    assert dense.encode(tensor) == bytes([0, 3, 1, 4, 2, 5])
    assert dense.encode(torch.arange(4, dtype=torch.uint8).expand(2, 4)) == bytes([0, 1, 2, 3] * 2)


def test_needs_grad_and_is_left_alone() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    assert len(dense.encode(parameter)) == 8
    assert parameter.requires_grad
    assert not dense.decode(dense.encode(parameter), torch.float32, (2,)).requires_grad


def test_decoded_tensor_is_a_copy() -> None:
    payload = bytearray(dense.encode(torch.ones(2)))
    tensor = dense.decode(memoryview(payload), torch.float32, (2,))
    payload[:] = bytes(8)
    assert tensor.tolist() == [1.0, 1.0]


def test_big_endian_machines_read_and_write_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = torch.tensor([0x0201, 0x0403], dtype=torch.int16)  # what a big-endian machine holds for [0x0102, 0x0304]
    expected = dense.encode(torch.tensor([0x0102, 0x0304], dtype=torch.int16))
    monkeypatch.setattr(sys, "byteorder", "big")
    assert dense.encode(swapped) == expected
    assert torch.equal(dense.decode(expected, torch.int16, (2,)), swapped)


@pytest.mark.parametrize("length", [0, 7, 9])
def test_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(FormatError, match=rf"wrong length; got: {length} bytes; allowed: 8 bytes"):
        dense.decode(bytes(length), torch.float32, (2,))


def test_huge_shape_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(FormatError, match="wrong length"):
        dense.decode(b"", torch.float32, (2**60, 2**60))


def test_bool_other_than_0_and_1_is_refused() -> None:
    with pytest.raises(FormatError, match=r"got: 2; allowed: 0 and 1"):
        dense.decode(bytes([0, 1, 2]), torch.bool, (3,))


def test_accepts_says_no_to_sparse_and_complex() -> None:
    assert dense.accepts(torch.ones(2))
    assert not dense.accepts(torch.ones(2, dtype=torch.complex64))
    assert not dense.accepts(torch.eye(2).to_sparse())


@pytest.mark.parametrize("shape", [(64, 64, 3, 3), (9000,), (3, 3000), (4096, 3)])
def test_values_of_a_kind_each_are_not_tried_with_the_adaptive_coder(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.randn(shape)
    payload, whole = adaptive.encode(weight), dense.encode(weight)
    assert len(payload) > len(whole)
    assert dense.spares(weight) == ("adaptive",)
    monkeypatch.setattr(adaptive, "_shortest", None)  # without which it encodes nothing
    assert encode(weight)[1] == whole


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(9000.0),  # in order
        torch.arange(9000.0).reshape(90, 100).T.contiguous(),
        torch.randint(1 << 22, (90, 100)).float(),  # a palette of few bytes
        torch.randn(100, 100).round(decimals=2),
        torch.randn(300),
        torch.randn(300, 300),  # too many values for that coder
    ],
)
def test_where_the_adaptive_coder_may_store_less_it_is_tried(tensor: torch.Tensor) -> None:
    few = tensor.numel() <= dense.SAMPLE or not adaptive.accepts(tensor) or len(tensor.unique()) < 0.9 * tensor.numel()
    smaller = adaptive.accepts(tensor) and len(adaptive.encode(tensor)) < tensor.nbytes
    assert few or smaller
    assert dense.spares(tensor) == ()
