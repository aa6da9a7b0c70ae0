"""The tensor table: how each tensor is stored, and the payloads it speaks of.

Names, shapes and types follow from the graph (`netpress.graph.expected_tensors`), and so does the order; the table has four
columns, one after the other, numbers as varints:

1. for each tensor ``2 * codec``, plus 1 where its type is not the expected one;
2. for each tensor marked so, its type (a place in `DTYPES`), one byte;
3. for each tensor that is not stored by ``dense``, the length of its payload in bytes;
4. the payloads of at most `INLINE_BYTES`, in place: DEFLATE makes next to nothing of counters that are all alike.

All other payloads follow each other in the file without padding, so that no row can point into another's bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from numpy.typing import NDArray

from netpress import codecs
from netpress.artifact.container import read_varint, varint
from netpress.dtypes import TYPES, AnyType, Type, known_type, torch_type
from netpress.errors import FormatError, TruncatedError
from netpress.kernels.threads import run_all

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_TYPES = tuple(TYPES[name] for name in DTYPES)
_DENSE = 0  # the codec whose payload's length needs no saying

_T = TypeVar("_T")

INLINE_BYTES = 16
LIMIT_ELEMENTS = 2**40
LIMIT_EXPANSION = 4096
LIMIT_FLOOR_BYTES = 64 * 2**20


class Described(Protocol):
    """What is known of a tensor before it is read: a tensor of torch, or a `netpress.program.TensorSpec`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...


def limit_bytes(file_bytes: int) -> int:
    """The most memory that the tensors of a file may take: 4096 times its length, or 64 MiB where that is more.

    The floor is for small networks with tensors of one value, which good codecs store in next to nothing.
    """
    return max(LIMIT_FLOOR_BYTES, LIMIT_EXPANSION * file_bytes)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file that was checked but not yet decoded."""

    name: str
    dtype: Type
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

    def meta(self) -> Tensor:
        """Its shape and type, on the meta device."""
        import torch

        return torch.empty(self.shape, dtype=torch_type(self.dtype), device="meta")

    def decode(self) -> Tensor:
        """The tensor of torch, on the CPU.

        Raises:
            FormatError: the payload is not one of its codec.
        """
        tensor: Tensor = self._named(self.codec.decode, torch_type(self.dtype))
        return tensor

    def array(self) -> NDArray[Any]:
        """The same values as a numpy array, for which no torch is needed; bfloat16 as its bits in uint16.

        Raises:
            FormatError: the payload is not one of its codec.
        """
        array: NDArray[Any] = self._named(self.codec.decode, self.dtype)
        return array

    def open(self) -> codecs.Coded | None:
        """The tensor ready for products in its coded form, or None where its codec has no such form.

        The form may go on to use the payload where it lies, which keeps the bytes of the whole file in memory: once.

        Raises:
            FormatError: the payload is not one of its codec.
        """
        if self.codec.open is None:
            return None
        return self._named(self.codec.open, self.dtype)

    def _named(self, read: Callable[[memoryview, AnyType, tuple[int, ...]], _T], dtype: AnyType) -> _T:
        try:
            return read(memoryview(self.payload), dtype, self.shape)
        except FormatError as error:
            raise FormatError(
                f"tensor {self.name!r}: {error.what}", got=error.got, allowed=error.allowed, remedy=error.remedy
            ) from error


def pack(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Described], codec: str = codecs.AUTO, threads: int = 1
) -> tuple[bytes, list[bytes]]:
    """Stores tensors.

    Where the tensors would be larger than `limit_bytes` allows for the file, the largest are stored densely instead, whatever
    ``codec`` says, until they are not: it takes tens of megabytes of one single value to come there.

    Args:
        tensors: By name.
        expected: What the graph says of each of them (types are looked at), in the order of the file.
        codec: ``"auto"`` for the smallest, tensor by tensor, ``"fast"``, or a codec's name: then what that codec declines is
            stored as with ``"auto"``.
        threads: How many tensors are stored at once.

    Returns:
        The table and the payloads that are not in it.

    Raises:
        ConfigError: an unknown codec, or a tensor that every codec declines.
    """
    accepts = None if codec in (codecs.AUTO, codecs.FAST) else codecs.codec_by_name(codec).accepts

    def encoded(tensor: Tensor) -> tuple[codecs.Codec, bytes]:
        return codecs.encode(tensor, codec if accepts is None or accepts(tensor) else codecs.AUTO)

    tasks, sizes = [partial(encoded, tensors[name]) for name in expected], [tensors[name].nbytes for name in expected]
    stored = dict(zip(expected, run_all(tasks, threads, sizes), strict=True))
    needed = sum(tensor.nbytes for tensor in tensors.values())
    largest = iter(sorted(expected, key=lambda name: -tensors[name].nbytes))
    while needed > limit_bytes(sum(len(payload) for _, payload in stored.values())):
        name = next(largest)
        stored[name] = codecs.encode(tensors[name], "dense")
    forms, types, lengths, inline = bytearray(), bytearray(), bytearray(), bytearray()
    pieces = []
    for name, (chosen, payload) in stored.items():
        dtype = known_type(tensors[name].dtype)
        other = dtype != known_type(expected[name].dtype)
        forms += varint(2 * chosen.code + other)
        if other:
            types.append(_TYPES.index(dtype))
        if chosen.code != _DENSE:
            lengths += varint(len(payload))
        if len(payload) <= INLINE_BYTES:
            inline += payload
        else:
            pieces.append(payload)
    return bytes(forms + types + lengths + inline), pieces


def unpack(table: bytes, expected: Mapping[str, Described], section: memoryview, file_bytes: int) -> list[StoredTensor]:
    """Checks a table that is not trusted against the bytes that are there; takes no memory for tensors.

    Args:
        table: As `pack` gave it.
        expected: What the graph says of the tensors, in order.
        section: The payloads.
        file_bytes: The length of the whole file, which bounds what the tensors may take.

    Raises:
        FormatError: an unknown type or codec, a length that reaches beyond the table or the section, bytes left over, or
            tensors larger than the limits.
    """
    try:
        rows, at = _rows(table, expected)
    except TruncatedError as error:  # of the table, not of the file
        raise FormatError("the tensor table ends too early", got=f"{len(table)} bytes") from error
    position, found = 0, []
    for name, dtype, shape, codec, length in rows:
        payload: bytes | memoryview
        if length <= INLINE_BYTES:
            payload = table[at : at + length]
            at += length
            if at > len(table):
                raise FormatError(f"tensor {name!r} reaches beyond the table", got=f"{at} bytes", allowed=len(table))
        else:
            if length > len(section) - position:
                raise FormatError(
                    f"tensor {name!r} reaches beyond its section",
                    got=f"{length} bytes from byte {position}",
                    allowed=f"{len(section) - position} bytes",
                )
            payload = section[position : position + length]
            position += length
        found.append(StoredTensor(name, dtype, shape, codec, payload))
    if at != len(table):
        raise FormatError("bytes follow the tensor table", got=f"{len(table) - at} bytes")
    if position != len(section):
        raise FormatError("bytes follow the last tensor", got=f"{len(section) - position} bytes")
    needed = sum(stored.dense_bytes for stored in found)
    if needed > limit_bytes(file_bytes):
        raise FormatError(
            "the tensors would be too large for this file",
            got=f"{needed} bytes from {file_bytes}",
            allowed=f"{LIMIT_EXPANSION} times the file, or {LIMIT_FLOOR_BYTES}",
        )
    return found


_Row: TypeAlias = tuple[str, Type, tuple[int, ...], codecs.Codec, int]


def _rows(table: bytes, expected: Mapping[str, Described]) -> tuple[list[_Row], int]:
    """The first three columns, and where the fourth begins."""
    at, forms = 0, []
    for _ in expected:
        form, at = read_varint(table, at)
        forms.append(form)
    dtypes = []
    for form, (name, tensor) in zip(forms, expected.items(), strict=True):
        dtype = known_type(tensor.dtype)
        if form % 2:
            number = table[at] if at < len(table) else -1
            if not 0 <= number < len(_TYPES) or _TYPES[number] == dtype:
                raise FormatError(
                    f"tensor {name!r} has a type that is none or that needs no saying", got=number, allowed=list(DTYPES)
                )
            dtype, at = _TYPES[number], at + 1
        dtypes.append(dtype)
    rows = []
    for form, dtype, (name, tensor) in zip(forms, dtypes, expected.items(), strict=True):
        shape = tuple(tensor.shape)
        if math.prod(max(size, 1) for size in shape) > LIMIT_ELEMENTS:
            raise FormatError(f"tensor {name!r} is too large", got=shape, allowed=f"{LIMIT_ELEMENTS} values")
        codec = codecs.codec_by_code(form // 2)
        length = math.prod(shape) * dtype.itemsize
        if codec.code != _DENSE:
            length, at = read_varint(table, at)
        rows.append((name, dtype, shape, codec, length))
    return rows, at
