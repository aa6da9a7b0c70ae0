"""The tensor table: what each tensor is called and how it is stored, and the payloads it speaks of.

A row is ``[name, type, shape, codec, stored]``. ``stored`` is the payload's length in bytes; for a single number
(shape ``[]``, such as ``num_batches_tracked``) it is the payload itself in hexadecimal. Payloads follow each other in
the order of the rows, each at the next multiple of 8, so that no row can point into another's bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netpress import codecs
from netpress.artifact.container import aligned
from netpress.errors import FormatError

DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}

LIMIT_DIMENSIONS = 8
LIMIT_ELEMENTS = 2**40
LIMIT_EXPANSION = 4096
"""How many bytes of tensors one byte of file may stand for: a reader never takes more memory than that."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file that was checked but not yet decoded."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    codec: codecs.Codec
    payload: bytes | memoryview

    @property
    def elements(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    @property
    def dense_bytes(self) -> int:
        """The bytes it takes in memory."""
        return self.elements * self.dtype.itemsize

    def decode(self) -> Tensor:
        """The tensor, on the CPU.

        Raises:
            FormatError: the payload is not one of its codec.
        """
        try:
            tensor = self.codec.decode(memoryview(self.payload), self.dtype, self.shape)
        except FormatError as error:
            raise FormatError(
                f"tensor {self.name!r}: {error.what}", got=error.got, allowed=error.allowed, remedy=error.remedy
            ) from error
        return tensor


def pack(tensors: Mapping[str, Tensor], codec: str = codecs.AUTO) -> tuple[list[list[Any]], list[bytes]]:
    """Stores tensors.

    Args:
        tensors: By name, in the order they are to have.
        codec: A codec's name, or ``"auto"`` for the smallest, tensor by tensor.

    Returns:
        The rows of the table and the pieces of the section, alignment included.

    Raises:
        ConfigError: an unknown codec, or one that declines a tensor.
    """
    rows: list[list[Any]] = []
    pieces: list[bytes] = []
    position = 0
    for name, tensor in tensors.items():
        if tensor.ndim == 0:
            chosen, payload = codecs.encode(tensor, "dense")
            stored: int | str = payload.hex()
        else:
            chosen, payload = codecs.encode(tensor, codec)
            stored = len(payload)
            if payload:
                pieces += [bytes(aligned(position) - position), payload]
                position = aligned(position) + len(payload)
        rows.append([name, _NAMES[tensor.dtype], list(tensor.shape), chosen.code, stored])
    return rows, pieces


def unpack(rows: object, section: memoryview, file_bytes: int) -> list[StoredTensor]:
    """Checks a table that is not trusted against the bytes that are there; takes no memory for tensors.

    Args:
        rows: The table, as JSON gave it.
        section: The payloads.
        file_bytes: The length of the whole file, which bounds what the tensors may take.

    Raises:
        FormatError: a row of another form, an unknown type or codec, a name twice, a length that is negative or reaches
            beyond the section, bytes left over, padding that is not zero, or tensors larger than the limits.
    """
    if not isinstance(rows, list):
        raise FormatError("the tensor table is not a list", got=type(rows).__name__)
    found: dict[str, StoredTensor] = {}
    position = 0
    for row in rows:
        name, dtype, shape, codec, stored = _row(row)
        if name in found:
            raise FormatError("a tensor's name stands twice in the table", got=repr(name))
        payload: bytes | memoryview
        if isinstance(stored, str):
            payload = _inline(name, stored)
        elif stored == 0:
            payload = b""
        else:
            start = aligned(position)
            if start + stored > len(section):
                raise FormatError(
                    f"tensor {name!r} reaches beyond its section",
                    got=f"{stored} bytes from byte {start}",
                    allowed=f"{max(0, len(section) - start)} bytes",
                )
            if any(section[position:start]):
                raise FormatError(f"bytes before tensor {name!r} are not zero")
            position = start + stored
            payload = section[start:position]
        found[name] = StoredTensor(name, dtype, shape, codec, payload)
    if position != len(section):
        raise FormatError("bytes follow the last tensor", got=f"{len(section) - position} bytes")
    dense_bytes = sum(stored_tensor.dense_bytes for stored_tensor in found.values())
    if dense_bytes > LIMIT_EXPANSION * file_bytes:
        raise FormatError(
            "the tensors would be too large for this file",
            got=f"{dense_bytes} bytes from {file_bytes}",
            allowed=f"{LIMIT_EXPANSION} times the file",
        )
    return list(found.values())


def _row(row: object) -> tuple[str, torch.dtype, tuple[int, ...], codecs.Codec, int | str]:
    if not isinstance(row, list) or len(row) != 5:
        raise FormatError("a row of the tensor table has the wrong form", got=f"{row!r:.80}", allowed="five fields")
    name, type_name, shape, code, stored = row
    if type(name) is not str or not name:
        raise FormatError("a tensor has no name", got=f"{name!r:.80}")
    if type(type_name) is not str or type_name not in DTYPES:
        raise FormatError(f"tensor {name!r} has an unknown type", got=f"{type_name!r:.80}", allowed=", ".join(DTYPES))
    if (
        not isinstance(shape, list)
        or len(shape) > LIMIT_DIMENSIONS
        or not all(type(size) is int and size >= 0 for size in shape)
        or math.prod(max(size, 1) for size in shape) > LIMIT_ELEMENTS
    ):
        raise FormatError(
            f"tensor {name!r} has a shape that is none",
            got=f"{shape!r:.80}",
            allowed=f"up to {LIMIT_DIMENSIONS} sizes >= 0, together up to {LIMIT_ELEMENTS} values",
        )
    if type(code) is not int:
        raise FormatError(f"tensor {name!r} has a codec that is no number", got=f"{code!r:.80}")
    if shape and (type(stored) is not int or stored < 0):
        raise FormatError(f"tensor {name!r} has a length that is none", got=f"{stored!r:.80}", allowed="integers >= 0")
    if not shape and type(stored) is not str:
        raise FormatError(f"tensor {name!r}, a single number, is not written in place", got=f"{stored!r:.80}")
    return name, DTYPES[type_name], tuple(shape), codecs.codec_by_code(code), stored


def _inline(name: str, stored: str) -> bytes:
    if re.fullmatch("([0-9a-f]{2})*", stored) is None:
        raise FormatError(f"tensor {name!r} is not hexadecimal", got=f"{stored!r:.80}", allowed="0-9, a-f, in pairs")
    return bytes.fromhex(stored)
