"""The tensor table: payloads where the rows say, and rows that are not believed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from netpress.artifact import table
from netpress.artifact.container import ALIGNMENT
from netpress.codecs import dense
from netpress.errors import FormatError, UnknownNameError

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "bias": torch.tensor([1, 2, 3], dtype=torch.int8),
    "empty": torch.zeros(0, 4),
    "steps": torch.tensor(391),
    "mask": torch.tensor([True, False]),
}


def packed() -> tuple[list[list[Any]], bytes]:
    rows, pieces = table.pack(TENSORS)
    return rows, b"".join(pieces)


def unpacked(rows: object, section: bytes, file_bytes: int = 1000) -> dict[str, torch.Tensor]:
    return {stored.name: stored.decode() for stored in table.unpack(rows, memoryview(section), file_bytes)}


def test_rows_by_hand() -> None:
    rows, section = packed()
    assert rows == [
        ["weight", "float32", [2, 3], 0, 24],
        ["bias", "int8", [3], 0, 3],
        ["empty", "float32", [0, 4], 0, 0],
        ["steps", "int64", [], 0, "8701000000000000"],  # 391 = 0x0187, in place
        ["mask", "bool", [2], 0, 2],
    ]
    assert section == dense.encode(TENSORS["weight"]) + bytes([1, 2, 3]) + bytes(5) + bytes([1, 0])


def test_round_trip_keeps_order_names_types_and_values() -> None:
    back = unpacked(*packed())
    assert list(back) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert back[name].dtype is tensor.dtype
        assert torch.equal(back[name], tensor)


def test_payloads_are_aligned() -> None:
    section = packed()[1]
    stored = table.unpack(packed()[0], memoryview(section), 1000)
    offsets = [section.index(bytes(row.payload)) for row in stored if row.shape and len(row.payload)]
    assert offsets == [0, 24, 32]
    assert all(offset % ALIGNMENT == 0 for offset in offsets)


def test_a_tensor_of_one_dimension_and_one_value_is_not_inline() -> None:
    rows, pieces = table.pack({"scale": torch.ones(1)})
    assert rows == [["scale", "float32", [1], 0, 4]]
    assert b"".join(pieces) == dense.encode(torch.ones(1))


def test_unknown_codec_of_the_writer() -> None:
    with pytest.raises(UnknownNameError, match="unknown codec; got: 'zip'"):
        table.pack(TENSORS, "zip")


def changed_row(**changes: Any) -> list[list[Any]]:
    rows = packed()[0]
    fields = ("name", "type", "shape", "codec", "stored")
    for field, value in changes.items():
        rows[0][fields.index(field)] = value
    return rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "bias"}, "name stands twice in the table; got: 'bias'"),
        ({"name": ""}, "a tensor has no name"),
        ({"name": 3}, "a tensor has no name; got: 3"),
        ({"type": "float128"}, "'weight' has an unknown type; got: 'float128'; allowed: float64, float32"),
        ({"type": ["float32"]}, "unknown type"),
        ({"type": "__class__"}, "unknown type"),
        ({"shape": 6}, "has a shape that is none; got: 6"),
        ({"shape": [2, -3]}, r"has a shape that is none; got: \[2, -3\]"),
        ({"shape": [2, 3.0]}, "has a shape that is none"),
        ({"shape": [True, 6]}, "has a shape that is none"),
        ({"shape": [1] * 9}, "has a shape that is none"),
        ({"shape": [2**62, 4]}, "has a shape that is none"),
        ({"shape": [0, 2**62]}, "has a shape that is none"),
        ({"shape": []}, "a single number, is not written in place; got: 24"),
        ({"shape": [2, 4]}, "tensor 'weight': dense payload of torch.float32 .* got: 24 bytes; allowed: 32 bytes"),
        ({"codec": 255}, "uses a codec that this netpress does not have; got: 255"),
        ({"codec": -1}, "uses a codec that this netpress does not have; got: -1"),
        ({"codec": "dense"}, "a codec that is no number"),
        ({"codec": False}, "a codec that is no number"),
        ({"stored": -24}, "a length that is none; got: -24"),
        ({"stored": 24.0}, "a length that is none"),
        ({"stored": True}, "a length that is none"),
        ({"stored": "00" * 24}, "a length that is none"),
        ({"stored": None}, "a length that is none"),
        ({"stored": 2**63 - 1}, "reaches beyond its section; got: 9223372036854775807 bytes from byte 0"),
        ({"shape": [], "stored": "8"}, "is not hexadecimal; got: '8'"),
        ({"shape": [], "stored": "8G"}, "is not hexadecimal"),
        ({"shape": [], "stored": "00 00 00 00"}, "is not hexadecimal"),
        ({"shape": [2**30, 8]}, "would be too large for this file; got: .*; allowed: 4096 times the file"),
    ],
    ids=str,
)
def test_rows_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        unpacked(changed_row(**changes), packed()[1])


def test_an_inline_payload_of_the_wrong_length() -> None:
    with pytest.raises(FormatError, match=r"tensor 'steps': dense payload .* got: 1 bytes; allowed: 8 bytes"):
        unpacked([["steps", "int64", [], 0, "00"]], b"")


@pytest.mark.parametrize("rows", [{}, None, [None], [["weight", "float32", [2, 3], 0]], ["weight"]], ids=repr)
def test_tables_of_another_form(rows: object) -> None:
    with pytest.raises(FormatError):
        table.unpack(rows, memoryview(b""), 1000)


def test_bytes_left_over_and_bytes_missing() -> None:
    rows, section = packed()
    with pytest.raises(FormatError, match="bytes follow the last tensor; got: 1 bytes"):
        table.unpack(rows, memoryview(section + b"\0"), 1000)
    with pytest.raises(FormatError, match="'mask' reaches beyond its section"):
        table.unpack(rows, memoryview(section[:-1]), 1000)


def test_padding_is_zero() -> None:
    rows, section = packed()
    with pytest.raises(FormatError, match="bytes before tensor 'mask' are not zero"):
        table.unpack(rows, memoryview(section[:29] + b"\1" + section[30:]), 1000)
