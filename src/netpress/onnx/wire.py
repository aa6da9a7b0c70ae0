"""The few messages of an ONNX model in protobuf's wire format, written by hand: bytes out, nothing read.

The numbers of the fields are those of onnx.proto3 (ONNX 1.13, IR version 8); the wire format is that of
protobuf.dev/programming-guides/encoding: a field is ``number << 3 | kind`` and then a varint (kind 0), bytes behind their length
(kind 2), or four bytes (kind 5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Piece: TypeAlias = "bytes | memoryview"
"""Pieces are joined once, at the very end: tensors are not copied from message to message."""

IR_VERSION = 8
OPSET = 18

DATA_TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11,
}  # fmt: skip
"""Types of numbers by netpress' name; bfloat16 is left out, since runtimes hardly have it."""

_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS = 1, 2, 3, 4, 6, 7  # AttributeProto.AttributeType


def varint(value: int) -> bytes:
    """A number as protobuf has it: seven bits a byte, negative ones in the 64 bits of their two's complement."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> list[Piece]:
    """An integer field."""
    return [varint(field << 3) + varint(value)]


def text(field: int, value: str) -> list[Piece]:
    """A string field."""
    encoded = value.encode()
    return [varint(field << 3 | 2) + varint(len(encoded)) + encoded]


def message(field: int, pieces: Sequence[Piece]) -> list[Piece]:
    """A field that is a message, or bytes."""
    length = sum(piece.nbytes if isinstance(piece, memoryview) else len(piece) for piece in pieces)
    return [varint(field << 3 | 2) + varint(length), *pieces]


def _joined(fields: Iterable[list[Piece]]) -> list[Piece]:
    return [piece for field in fields for piece in field]


def tensor(name: str, array: NDArray[Any]) -> list[Piece]:
    """A TensorProto, its values as raw little-endian bytes (not copied on a little-endian machine)."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    head = [number(1, size) for size in array.shape]  # ascontiguousarray makes a vector of a single number
    raw = memoryview(plain.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # numpy's stubs know no buffers
    return _joined([*head, number(2, DATA_TYPES[array.dtype.name]), text(8, name), message(9, [raw])])


def tensor_apart(name: str, array: NDArray[Any]) -> list[Piece]:
    """A TensorProto whose values are handed to the runtime beside the model (as "external data", of no file)."""
    place = message(13, _joined([text(1, "location"), text(2, "beside the model")]))
    head = [number(1, size) for size in array.shape]
    return _joined([*head, number(2, DATA_TYPES[array.dtype.name]), text(8, name), place, number(14, 1)])


def attribute(name: str, value: Any) -> list[Piece]:
    """An AttributeProto of an int, float, str, array, or a sequence of ints or floats."""
    if isinstance(value, bool | int):
        fields = [number(3, int(value)), number(20, _INT)]
    elif isinstance(value, float):
        fields = [[varint(2 << 3 | 5) + struct.pack("<f", value)], number(20, _FLOAT)]
    elif isinstance(value, str):
        fields = [text(4, value), number(20, _STRING)]
    elif isinstance(value, np.ndarray):
        fields = [message(5, tensor("", value)), number(20, _TENSOR)]
    elif value and all(isinstance(item, float) for item in value):
        floats: list[list[Piece]] = [[varint(7 << 3 | 5) + struct.pack("<f", item)] for item in value]
        fields = [*floats, number(20, _FLOATS)]
    else:
        fields = [*(number(8, item) for item in value), number(20, _INTS)]
    return _joined([text(1, name), *fields])


def node(op: str, name: str, inputs: Sequence[str], outputs: Sequence[str], values: Mapping[str, Any]) -> list[Piece]:
    """A NodeProto; an input that is left out is an empty name."""
    return _joined(
        [
            *(text(1, each) for each in inputs),
            *(text(2, each) for each in outputs),
            text(3, name),
            text(4, op),
            *(message(5, attribute(key, value)) for key, value in values.items()),
        ]
    )


def value_info(name: str, data_type: int, shape: Sequence[int | str]) -> list[Piece]:
    """A ValueInfoProto of a tensor; a size that is a text is a symbol."""
    sizes = [message(1, number(1, size) if isinstance(size, int) else text(2, size)) for size in shape]
    tensor_type = _joined([number(1, data_type), message(2, _joined(sizes))])
    return _joined([text(1, name), message(2, message(1, tensor_type))])


def model(
    *,
    nodes: Sequence[list[Piece]],
    initializers: Sequence[list[Piece]],
    inputs: Sequence[list[Piece]],
    outputs: Sequence[list[Piece]],
    name: str,
    producer: str,
    version: str,
    metadata: Mapping[str, str],
) -> list[Piece]:
    """A ModelProto with one graph; all but the texts are messages from above."""
    graph = [
        *(message(1, each) for each in nodes),
        text(2, name),
        *(message(5, each) for each in initializers),
        *(message(11, each) for each in inputs),
        *(message(12, each) for each in outputs),
    ]
    return _joined(
        [
            number(1, IR_VERSION),
            text(2, producer),
            text(3, version),
            message(7, _joined(graph)),
            message(8, number(2, OPSET)),
            *(message(14, _joined([text(1, key), text(2, value)])) for key, value in metadata.items()),
        ]
    )
