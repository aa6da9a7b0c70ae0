"""The tensor table: columns as documented, payloads where they belong, and nothing in it is believed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import netpress.codecs as codecs_package
from netpress.artifact import table
from netpress.artifact.container import varint
from netpress.codecs import Codec, codecs, dense
from netpress.errors import ConfigError, FormatError, UnknownNameError

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "bias": torch.tensor([1, 2, 3], dtype=torch.int8),
    "empty": torch.zeros(0, 4),
    "steps": torch.tensor(391),
    "mask": torch.tensor([True, False]),
    "half": torch.ones(9, dtype=torch.float16),
}
DENSE, TYPED = 0, 1  # the form of a tensor of codec 0, of the expected type and of another one


def expected() -> dict[str, Tensor]:
    """What a graph would say: shapes, and float32 where floats are."""
    return {
        name: torch.empty(t.shape, dtype=torch.float32 if t.is_floating_point() else t.dtype, device="meta")
        for name, t in TENSORS.items()
    }


def packed() -> tuple[bytes, bytes]:
    rows, pieces = table.pack(TENSORS, expected(), "dense")
    return rows, b"".join(pieces)


def unpacked(rows: bytes, section: bytes, file_bytes: int = 1000) -> dict[str, Tensor]:
    return {t.name: t.decode() for t in table.unpack(rows, expected(), memoryview(section), file_bytes)}


def test_columns_by_hand() -> None:
    rows, section = packed()
    forms = bytes([DENSE, DENSE, DENSE, DENSE, DENSE, TYPED])
    types = bytes([2])  # float16 is the third of float64 float32 float16
    inline = bytes([1, 2, 3]) + bytes.fromhex("8701000000000000") + bytes([1, 0])  # 391 = 0x0187
    assert rows == forms + types + inline
    assert section == dense.encode(TENSORS["weight"]) + dense.encode(TENSORS["half"])  # 24 and 18 bytes


def test_round_trip_keeps_order_names_types_and_values() -> None:
    back = unpacked(*packed())
    assert list(back) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert back[name].dtype is tensor.dtype
        assert torch.equal(back[name], tensor)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Codec:
    """A codec for matrices of one value, 17 bytes each so that they lie outside the table."""

    def decode(payload: memoryview, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        if len(payload) != 17:
            raise FormatError("not 17 bytes")
        return torch.from_numpy(np.frombuffer(payload[:4], np.float32).copy()).expand(shape).clone()

    codec = Codec(
        name="runs",
        code=200,
        accepts=lambda t: t.ndim == 2 and t.dtype is torch.float32 and t.numel() > 0 and t.unique().numel() == 1,
        encode=lambda t: dense.encode(t.reshape(-1)[:1]) + bytes(13),
        decode=decode,
    )
    every = (dense_codec(), codec)
    monkeypatch.setattr(codecs_package, "codecs", lambda: every)
    return codec


def dense_codec() -> Codec:
    return next(codec for codec in codecs() if codec.name == "dense")


def test_lengths_of_other_codecs_stand_in_the_third_column(runs: Codec) -> None:
    tensors = {"w": torch.full((5, 7), 2.5), "b": torch.arange(3.0)}
    rows, pieces = table.pack(tensors, tensors)
    assert rows == varint(400) + b"\0" + varint(17) + dense.encode(tensors["b"])
    assert pieces == [dense.encode(torch.tensor(2.5)) + bytes(13)]
    stored = table.unpack(rows, tensors, memoryview(pieces[0]), 100)
    assert [(t.name, t.codec.name, t.elements, t.dense_bytes) for t in stored] == [
        ("w", "runs", 35, 140),
        ("b", "dense", 3, 12),
    ]
    assert all(torch.equal(t.decode(), tensors[t.name]) for t in stored)
    with pytest.raises(FormatError, match="tensor 'w': not 17 bytes"):
        [t.decode() for t in table.unpack(rows.replace(b"\x11", b"\x12"), tensors, memoryview(pieces[0] + b"\0"), 100)]


def test_a_named_codec_stores_what_it_accepts_and_auto_the_rest(runs: Codec) -> None:
    tensors = {"w": torch.ones(1, 2), "steps": torch.tensor(3)}
    stored = table.unpack(table.pack(tensors, tensors, "runs")[0], tensors, memoryview(bytes(17)), 100)
    assert [t.codec.name for t in stored] == ["runs", "dense"]


def test_tensors_too_large_for_their_bytes_are_stored_densely(runs: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"large": torch.ones(64, 64), "small": torch.ones(8, 8), "odd": torch.arange(64.0).reshape(8, 8)}
    assert len(table.pack(tensors, tensors)[1]) == 3
    monkeypatch.setattr(table, "LIMIT_FLOOR_BYTES", 1000)
    monkeypatch.setattr(table, "LIMIT_EXPANSION", 10)
    rows, pieces = table.pack(tensors, tensors)
    section = b"".join(pieces)
    stored = table.unpack(rows, tensors, memoryview(section), len(section))
    assert [t.codec.name for t in stored] == ["dense", "runs", "dense"]
    sealed_rows = varint(400) + varint(400) + b"\0" + varint(17) * 2
    with pytest.raises(FormatError, match="too large for this file; got: 16896 bytes from 290; allowed: 10 times"):
        table.unpack(sealed_rows, tensors, memoryview(bytes(17 * 2 + 256)), 290)


def test_the_floor_of_the_limit() -> None:
    assert table.limit_bytes(100) == 64 * 2**20
    assert table.limit_bytes(10**6) == 4096 * 10**6


def test_unknown_codec_of_the_writer() -> None:
    with pytest.raises(UnknownNameError, match="unknown codec; got: 'zip'"):
        table.pack(TENSORS, expected(), "zip")
    with pytest.raises(ConfigError, match="declines it"):
        table.pack({"x": torch.ones(2, dtype=torch.complex64)}, {"x": torch.ones(2, dtype=torch.complex64)})


def changed(position: int, value: int) -> bytes:
    rows = bytearray(packed()[0])
    rows[position] = value
    return bytes(rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b"", "the tensor table ends too early"),
        (packed()[0][:5], "the tensor table ends too early"),
        (packed()[0][:6], "has a type that is none"),
        (packed()[0][:-1], "'mask' reaches beyond the table; got: 20 bytes; allowed: 19"),
        (packed()[0] + b"\0", "bytes follow the tensor table; got: 1 bytes"),
        (changed(0, 2 * 63), "does not have; got: 63"),
        (varint(2 * 255) + packed()[0][1:], "uses a codec that this netpress does not have; got: 255"),
        (varint(2**40) + packed()[0][1:], "uses a codec that this netpress does not have"),
        (b"\x80\x00" + packed()[0][1:], "written longer than it needs"),
        (b"\xff" * 9 + packed()[0][1:], "too long"),
        (changed(6, 10), "'half' has a type that is none or that needs no saying; got: 10"),
        (changed(6, 1), "'half' has a type that is none or that needs no saying; got: 1"),
        (changed(6, 0), "'half' reaches beyond its section; got: 72 bytes from byte 24; allowed: 18 bytes"),
        (changed(6, 8), "bytes follow|reaches beyond"),
    ],
    ids=range(14),
)
def test_tables_that_are_refused(rows: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        unpacked(rows, packed()[1])


def test_bytes_left_over_and_bytes_missing() -> None:
    rows, section = packed()
    with pytest.raises(FormatError, match="bytes follow the last tensor; got: 1 bytes"):
        unpacked(rows, section + b"\0")
    with pytest.raises(FormatError, match="'half' reaches beyond its section"):
        unpacked(rows, section[:-1])


@pytest.mark.parametrize("shape", [(2**30, 8), (2**20, 2**19), (0, 2**41), (2**60,)], ids=str)
def test_shapes_beyond_the_limits(shape: tuple[int, ...]) -> None:
    wanted = {"x": torch.empty(shape, device="meta")}
    with pytest.raises(FormatError, match=r"is too large|reaches beyond its section"):
        table.unpack(b"\0", wanted, memoryview(b""), 10**9)


@given(st.binary(max_size=40), st.binary(max_size=60))
def test_any_bytes_give_a_typed_error_or_tensors(rows: bytes, section: bytes) -> None:
    def outcomes() -> Iterator[Tensor]:
        for stored in table.unpack(rows, expected(), memoryview(section), 100):
            tensor = stored.decode()
            assert tensor.shape == TENSORS[stored.name].shape
            yield tensor

    try:
        list(outcomes())
    except FormatError:
        return
