"""What holds of every codec, whichever there are: nothing is lost, and products are those of the dense matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from netpress.codecs import Codec, codec_by_name, codecs, encode
from netpress.dtypes import TYPES, torch_type

CODECS = codecs()
OPENABLE = [codec for codec in CODECS if codec.open is not None]
SHAPES = ((), (1,), (0,), (1, 8), (3, 0), (0, 5), (5, 7), (7, 1), (4, 3, 3, 2), (2, 3, 5))
SPECIALISED = {"row_grid"}  # codecs that decline most tensors
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def name_of(codec: Codec) -> str:
    return codec.name


def patterns(tensor: Tensor) -> Tensor:
    """The bits: NaN equals itself, and 0.0 is not -0.0."""
    return tensor.contiguous().reshape(-1).view(BITS[tensor.dtype.itemsize])


def assert_round_trip(codec: Codec, tensor: Tensor) -> bytes:
    payload = codec.encode(tensor)
    assert codec.encode(tensor.clone()) == payload, "encoding must not depend on anything but the tensor"
    back = codec.decode(memoryview(payload), tensor.dtype, tuple(tensor.shape))
    assert (back.dtype, back.shape, back.device.type) == (tensor.dtype, tensor.shape, "cpu")
    assert back.is_contiguous()
    assert torch.equal(patterns(back), patterns(tensor))
    return payload


def accepted(codec: Codec, tensor: Tensor) -> bool:
    """A codec may decline a tensor; dense declines none."""
    return codec.accepts(tensor)


def suited(codec: Codec, tensor: Tensor) -> Tensor:
    """The tensor; for a codec that is made for row grids a matrix on such grids with the same zeros, which it must accept."""
    if codec.name not in SPECIALISED or codec.accepts(tensor):
        assert codec.accepts(tensor)
        return tensor
    matrix = torch.nan_to_num(tensor.float(), 0.0, 0.0, 0.0).reshape(tensor.shape[0] if tensor.dim() > 1 else 1, -1)
    largest = matrix.abs().amax().clamp(1e-30, 1e38)
    number = torch.arange(len(matrix))[:, None]
    steps = 2.0 ** (largest.log2().floor() - 14 - number % 3) * (1 + number % 13 / 64)  # (rows, 1)
    rows = (matrix / steps).round().clamp(-32767, 32767) * steps + 0.0
    rows = rows.reshape(tensor.shape if tensor.dim() > 1 else rows.shape)
    assert codec.accepts(rows)
    return rows


def sparse(rows: int, columns: int, density: float, k: int, seed: int = 0) -> Tensor:
    """A matrix of ``k`` shared float32 values besides zero, as pruning and sharing leave it."""
    rng = np.random.default_rng(seed)
    values = np.sort(rng.normal(0, 0.1, k)).astype(np.float32)
    dense = values[np.minimum(k - 1, np.abs(rng.normal(k / 2, k / 5 + 0.5, (rows, columns))).astype(np.int64))]
    return torch.from_numpy(np.where(rng.random((rows, columns)) < density, dense, np.float32(0)))


def test_there_are_codecs_that_multiply() -> None:
    assert {"dense"} < {codec.name for codec in CODECS}
    assert len(OPENABLE) >= 3


@pytest.mark.parametrize("dtype", [torch_type(dtype) for dtype in TYPES.values()], ids=str)
@pytest.mark.parametrize("codec", CODECS, ids=name_of)
def test_every_type_and_shape(codec: Codec, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    for shape in SHAPES:
        few = torch.randint(0, 2 if dtype is torch.bool else 5, shape, generator=generator)
        tensor = (few if dtype in (torch.bool, torch.uint8) else few - 2).to(dtype)
        if accepted(codec, tensor):
            assert_round_trip(codec, tensor)
        else:
            assert codec.name != "dense"


@pytest.mark.parametrize("dtype", [torch_type(dtype) for dtype in TYPES.values()], ids=str)
@pytest.mark.parametrize("codec", CODECS, ids=name_of)
def test_random_bits_of_every_type(codec: Codec, dtype: torch.dtype) -> None:
    raw = np.random.default_rng(5).integers(0, 256, 63 * dtype.itemsize, dtype=np.uint8)
    if dtype is torch.bool:
        raw &= 1
    tensor = torch.from_numpy(raw).view(dtype).reshape(9, 7)
    if accepted(codec, tensor):
        assert_round_trip(codec, tensor)


SPECIAL = {
    "all zero": torch.zeros(6, 50),
    "all equal": torch.full((6, 50), -0.3),
    "all minus zero": torch.full((6, 50), -0.0),
    "all NaN": torch.full((6, 50), math.nan),
    "one number that is not zero": torch.zeros(6, 50).index_put((torch.tensor(5), torch.tensor(49)), torch.tensor(2.0)),
    "both zeros": torch.tensor([0.0, -0.0, 1.0]).repeat(4, 20),
    "infinities": torch.tensor([math.inf, -math.inf, 0.0, 1.0]).repeat(4, 20),
    "NaNs of several payloads": torch.tensor([0x7FC00001, -0x3FFFFF, 0x7F800001, 0, 0x3F800000], dtype=torch.int32)
    .view(torch.float32)
    .repeat(4, 20),
    "denormals": torch.tensor([1, 2, -(2**31) + 1, 0], dtype=torch.int32).view(torch.float32).repeat(4, 20),
    "extremes": torch.tensor([3.4028235e38, -3.4028235e38, 1e-45, 0.0]).repeat(4, 20),
    "an odd number at the end": torch.cat([torch.zeros(4999), torch.tensor([7.0])]).reshape(50, 100),
    "an odd number at the start": torch.cat([torch.tensor([7.0]), torch.zeros(4999)]).reshape(50, 100),
    "gaps of many thousands": torch.zeros(3, 70_001).index_put((torch.tensor([0, 2]), torch.tensor([0, 70_000])), torch.ones(2)),
    "a grid": torch.arange(-8, 8).float().mul(0.125).repeat(6, 5),
    "empty rows in between": sparse(9, 60, 0.5, 4) * (torch.arange(9) % 3 == 1).float()[:, None],
    "conv": sparse(8, 27, 0.3, 7).reshape(8, 3, 3, 3),
    "transposed view": sparse(40, 31, 0.3, 7).T,
    "bfloat16": sparse(20, 33, 0.3, 7).bfloat16(),
    "int8": (sparse(20, 33, 0.3, 7) * 100).to(torch.int8),
}  # fmt: skip


@pytest.mark.parametrize("case", SPECIAL)
@pytest.mark.parametrize("codec", CODECS, ids=name_of)
def test_special_values(codec: Codec, case: str) -> None:
    assert_round_trip(codec, suited(codec, SPECIAL[case]))


@pytest.mark.parametrize("k", [1, 2, 3, 16, 256, 257, 5000, 65_536])
@pytest.mark.parametrize("codec", CODECS, ids=name_of)
def test_numbers_of_values(codec: Codec, k: int) -> None:
    values = np.random.default_rng(k).permutation(np.arange(1, k + 1)).astype(np.float32) * np.float32(0.01)
    numbers = np.concatenate([values, values[: min(k, 500)], values[:1].repeat(300)])
    tensor = torch.from_numpy(numbers).reshape(1, -1)
    assert_round_trip(codec, suited(codec, tensor))


@pytest.mark.parametrize("codec", CODECS, ids=name_of)
def test_more_values_than_a_palette_holds_are_declined_or_stored(codec: Codec) -> None:
    tensor = torch.arange(1, 65_538, dtype=torch.float32)
    if accepted(codec, tensor):
        assert_round_trip(codec, tensor)


@pytest.mark.parametrize("codec", CODECS, ids=name_of)
def test_many_columns(codec: Codec) -> None:
    assert_round_trip(codec, suited(codec, sparse(13, 4103, 0.1, 32)))


@pytest.mark.parametrize("offset", range(1, 8))
@pytest.mark.parametrize("codec", CODECS, ids=name_of)
def test_a_payload_may_lie_anywhere_in_memory(codec: Codec, offset: int) -> None:
    weight = suited(codec, sparse(30, 500, 0.2, 300))
    payload = memoryview(bytes(offset) + codec.encode(weight) + b"x")[offset:-1]
    assert torch.equal(codec.decode(payload, weight.dtype, (30, 500)), weight)
    if codec.open is not None:
        x = np.random.default_rng(1).normal(size=(500, 9)).astype(np.float32)
        found = codec.open(payload, weight.dtype, (30, 500)).multiply(x, 2)
        np.testing.assert_allclose(found, weight.numpy().astype(np.float64) @ x, rtol=0, atol=1e-4)


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_small_matrix(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 9))
    value = st.sampled_from([0.0, 0.0, 0.0, 1.0, -1.0, -0.0, 0.5, math.inf, math.nan, 1e-45]) | st.floats(width=32)
    numbers = data.draw(st.lists(value, min_size=rows * columns, max_size=rows * columns))
    tensor = torch.tensor(numbers, dtype=torch.float32).reshape(rows, columns)
    for codec in CODECS:
        if codec.accepts(tensor):
            assert_round_trip(codec, tensor)


def test_auto_is_the_shortest_and_fast_the_shortest_of_the_fast() -> None:
    for tensor in (sparse(64, 200, 0.1, 16), sparse(64, 200, 0.9, 200), torch.randn(20, 20)):
        lengths = {codec.name: len(codec.encode(tensor)) for codec in CODECS if codec.accepts(tensor)}
        assert len(encode(tensor)[1]) == min(lengths.values())
        chosen, payload = encode(tensor, "fast")
        fast = {name for name in lengths if codec_by_name(name).fast or name == "dense"}
        assert chosen.name in fast
        assert len(payload) == min(lengths[name] for name in fast)
    vector = torch.arange(300) % 3
    assert encode(vector, "fast") == encode(vector, "auto")


# ---------------------------------------------------------------- products


def assert_product(codec: Codec, weight: Tensor, x: NDArray[np.float32], threads: int) -> None:
    assert codec.open is not None
    coded = codec.open(memoryview(codec.encode(weight)), weight.dtype, tuple(weight.shape))
    matrix = weight.reshape(weight.shape[0], math.prod(weight.shape[1:])).numpy().astype(np.float64)
    assert (coded.rows, coded.columns) == matrix.shape
    assert coded.memory_bytes > 0
    exact = matrix @ x.astype(np.float64)
    found = coded.multiply(x, threads)
    assert (found.dtype, found.shape, found.flags.c_contiguous) == (np.float32, exact.shape, True)
    # Of n float32 products summed in any order: |error| <= n u sum |w x| (Higham, Accuracy and Stability, section 3.1)
    bound = (np.abs(matrix) @ np.abs(x.astype(np.float64))) * (matrix.shape[1] + 2) * 2.0**-24
    assert (np.abs(found - exact) <= bound + 1e-30).all()


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("codec", OPENABLE, ids=name_of)
def test_products_at_every_number_of_columns(codec: Codec, threads: int) -> None:
    weight = suited(codec, sparse(37, 53, 0.3, 9, seed=threads))
    coded = codec.open(memoryview(codec.encode(weight)), weight.dtype, tuple(weight.shape))  # type: ignore[misc]
    exact = weight.numpy().astype(np.float64)
    rng = np.random.default_rng(threads)
    for columns in range(71):
        x = rng.normal(size=(53, columns)).astype(np.float32)
        before = x.copy()
        np.testing.assert_allclose(coded.multiply(x, threads), exact @ x, rtol=0, atol=2e-5)
        assert np.array_equal(x, before)


@pytest.mark.parametrize(
    "weight",
    [
        sparse(1, 1, 1.0, 1),
        sparse(1, 4103, 0.1, 32),
        sparse(300, 1, 0.5, 4),
        sparse(11, 4103, 0.05, 32),
        sparse(257, 129, 0.02, 2),
        sparse(64, 64, 1.0, 300),
        sparse(16, 27, 0.4, 8).reshape(16, 3, 3, 3),
        torch.zeros(5, 9),
        torch.full((5, 9), 0.25),
    ],
    ids=lambda w: f"{tuple(w.shape)}",
)
@pytest.mark.parametrize("codec", OPENABLE, ids=name_of)
def test_products_of_every_shape(codec: Codec, weight: Tensor) -> None:
    columns, weight = math.prod(weight.shape[1:]), suited(codec, weight)
    rng = np.random.default_rng(1)
    for count, threads in ((1, 1), (3, 2), (8, 8), (64, 2)):
        assert_product(codec, weight, rng.normal(size=(columns, count)).astype(np.float32), threads)


@pytest.mark.parametrize("codec", OPENABLE, ids=name_of)
def test_a_product_depends_on_its_column_alone(codec: Codec) -> None:
    """Threads and the columns beside it may change the order of a sum, but not by more than rounding."""
    weight = suited(codec, sparse(60, 90, 0.2, 12))
    assert codec.open is not None
    coded = codec.open(memoryview(codec.encode(weight)), weight.dtype, tuple(weight.shape))
    x = np.random.default_rng(2).normal(size=(90, 9)).astype(np.float32)
    whole = coded.multiply(x, 2)
    for column in range(9):
        alone = coded.multiply(np.ascontiguousarray(x[:, column : column + 1]), 1)
        np.testing.assert_allclose(whole[:, column : column + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("codec", OPENABLE, ids=name_of)
def test_the_coded_form_is_small(codec: Codec) -> None:
    weight = suited(codec, sparse(256, 512, 0.05, 16))
    payload = codec.encode(weight)
    assert codec.open is not None
    coded = codec.open(memoryview(payload), weight.dtype, tuple(weight.shape))
    assert coded.memory_bytes <= 3 * len(payload) + 2**21  # decoding tables have a size of their own
