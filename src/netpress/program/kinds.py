"""The kinds of argument that operators take: how each is checked, written and read.

A kind turns what a torch call or a JSON document holds into one canonical Python value, or raises ``ValueError`` with
what it would have accepted. Canonical values compare by value: numbers, strings, ``None``, tuples, slices, `Ref`, `Batch`, `Type`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from netpress.dtypes import TYPES, Type, type_of
from netpress.program.values import Batch, Ref

LARGEST = 2**31 - 1  # of any integer in a document; sizes beyond it are not networks
MOST_ITEMS = 4096  # of any list in a node, and of the pieces that a split may make

_BATCH = re.compile(r"(-?[1-9][0-9]{0,8})?N")


def _same(value: Any, base: int) -> Any:
    return value


def _plain(value: Any, base: int) -> Any:
    return [_plain(item, base) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Kind:
    """One kind of argument.

    Attributes:
        name: How signatures call it.
        check: Canonical value of what a call held; ``ValueError`` says what is accepted.
        encode: ``(canonical value, value index of the node) -> JSON``.
        decode: ``(JSON, value index of the node) -> something for check``.
    """

    name: str
    check: Callable[[Any], Any]
    encode: Callable[[Any, int], Any] = _plain
    decode: Callable[[Any, int], Any] = _same


# ---------------------------------------------------------------- checks


def _integer(lowest: int, highest: int, says: str) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError(says)
        return value

    return check


def _ref(value: Any) -> Ref:
    if not isinstance(value, Ref):
        raise ValueError("a tensor")
    return value


def _refs(value: Any) -> tuple[Ref, ...]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_ITEMS:
        raise ValueError(f"1 to {MOST_ITEMS} tensors")
    return tuple(_ref(item) for item in value)


def _bool(value: Any) -> bool:
    if value in (0, 1) and isinstance(value, bool | int):
        return bool(value)
    raise ValueError("true or false")


def _float(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e300:
        raise ValueError("a finite number")
    return float(value)


def _scalar(value: Any) -> bool | int | float | Batch:
    if isinstance(value, Batch) or type(value) in (bool, float) or (type(value) is int and abs(value) <= 2**62):
        return value
    raise ValueError("a number")


def _operand(value: Any) -> Any:
    return value if isinstance(value, Ref) else _scalar(value)


def _list_of(check: Callable[[Any], Any], shortest: int, longest: int) -> Callable[[Any], tuple[Any, ...]]:
    def check_list(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not shortest <= len(value) <= longest:
            raise ValueError(f"a list of {shortest} to {longest}")
        return tuple(check(item) for item in value)

    return check_list


def _spatial(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One value, or one a spatial dimension; equal ones collapse to the single value."""

    def check_spatial(value: Any) -> Any:
        if isinstance(value, list | tuple):
            if not 1 <= len(value) <= 3:
                raise ValueError("one value, or one for each of 1 to 3 spatial dimensions")
            items = tuple(check(item) for item in value)
            return items[0] if len(set(items)) == 1 else items
        return check(value)

    return check_spatial


def _or_text(check: Callable[[Any], Any], *words: str) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, str) and value in words else check(value)


def _one_of(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return value

    return check


def _equation(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200 or not re.fullmatch(r"[A-Za-z,.> -]+", value):
        raise ValueError("an einsum equation")
    return value.replace(" ", "")


def _dtype(value: Any) -> Type:
    found = None if isinstance(value, str) else type_of(value)
    if found is None:
        raise ValueError(f"one of the types {', '.join(TYPES)}")
    return found


def _size(value: Any) -> int | Batch:
    return value if isinstance(value, Batch) else _axis_size(value)


def _index(value: Any) -> tuple[Any, ...]:
    items = value if isinstance(value, tuple) else (value,)
    if len(items) > 16:
        raise ValueError("at most 16 indices")
    return tuple(_index_item(item) for item in items)


def _index_item(item: Any) -> Any:
    if item is None or item is Ellipsis or isinstance(item, Ref | Batch):
        return item
    if isinstance(item, slice):
        start, stop, step = (None if part is None else _offset_or_batch(part) for part in _slice_parts(item))
        if step is not None and (not isinstance(step, int) or step < 1):
            raise ValueError("slices with a positive step")
        return slice(start, stop, step)
    return _offset(item)


def _slice_parts(item: slice) -> tuple[Any, Any, Any]:
    return item.start, item.stop, item.step


def _offset_or_batch(value: Any) -> int | Batch:
    # sys.maxsize is how python spells "to the end"; it need not be an integer of the document
    if type(value) is int and abs(value) > LARGEST:
        value = LARGEST if value > 0 else -LARGEST
    return value if isinstance(value, Batch) else _offset(value)


_offset = _integer(-LARGEST, LARGEST, f"a whole number within ±{LARGEST}")
_axis_size = _integer(-1, LARGEST, f"a size from -1 to {LARGEST}")
_dim = _integer(-16, 15, "a dimension from -16 to 15")
_count = _integer(1, LARGEST, f"a whole number from 1 to {LARGEST}")
_natural = _integer(0, LARGEST, f"a whole number from 0 to {LARGEST}")
_offsets = _list_of(_offset, 1, 32)
_dims_list = _list_of(_dim, 0, 16)


def _dims(value: Any) -> Any:
    return _dims_list(value) if isinstance(value, list | tuple) else _dim(value)


# ---------------------------------------------------------------- JSON


def _encode_ref(value: Ref, base: int) -> int:
    return base - value.index


def _decode_ref(value: Any, base: int) -> Ref:
    if type(value) is not int or not 1 <= value <= base:
        raise ValueError(f"how many values back a tensor lies, 1 to {base}")
    return Ref(base - value)


def _encode_refs(value: tuple[Ref, ...], base: int) -> list[int]:
    return [_encode_ref(item, base) for item in value]


def _decode_refs(value: Any, base: int) -> tuple[Ref, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of tensors")
    return tuple(_decode_ref(item, base) for item in value)


def _encode_number(value: Any, base: int) -> Any:
    if isinstance(value, Batch):
        return "N" if value.factor == 1 else f"{value.factor}N"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    if isinstance(value, tuple):
        return [_encode_number(item, base) for item in value]
    return value


def _decode_number(value: Any, base: int) -> Any:
    if isinstance(value, str):
        if value in ("inf", "-inf", "nan"):
            return float(value)
        if match := _BATCH.fullmatch(value):
            return Batch(int(match[1] or 1))
        raise ValueError("a number, 'inf', '-inf', 'nan', or a multiple of the batch such as '4N'")
    if isinstance(value, list):
        if len(value) > MOST_ITEMS:
            raise ValueError(f"at most {MOST_ITEMS} items")
        return tuple(_decode_plain_number(item, base) for item in value)
    return value


def _decode_plain_number(value: Any, base: int) -> Any:
    if isinstance(value, list):
        raise ValueError("numbers, not lists")
    return _decode_number(value, base)


def _encode_operand(value: Any, base: int) -> Any:
    return [_encode_ref(value, base)] if isinstance(value, Ref) else _encode_number(value, base)


def _decode_operand(value: Any, base: int) -> Any:
    if isinstance(value, list):
        if len(value) != 1:
            raise ValueError("a number, or a list of one tensor")
        return _decode_ref(value[0], base)
    return _decode_number(value, base)


def _encode_index(value: tuple[Any, ...], base: int) -> list[Any]:
    return [_encode_index_item(item, base) for item in value]


def _encode_index_item(item: Any, base: int) -> Any:
    if isinstance(item, slice):
        parts = [_encode_number(part, base) for part in _slice_parts(item)]
        while parts and parts[-1] is None:
            parts.pop()
        return parts
    if item is Ellipsis:
        return "..."
    if isinstance(item, Ref):
        return {"r": _encode_ref(item, base)}
    return _encode_number(item, base)


def _decode_index(value: Any, base: int) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of indices")
    return tuple(_decode_index_item(item, base) for item in value)


def _decode_index_item(item: Any, base: int) -> Any:
    if isinstance(item, list):
        if len(item) > 3:
            raise ValueError("slices of start, stop, step")
        return slice(*[_decode_plain_number(part, base) for part in item], *[None] * (3 - len(item)))
    if item == "...":
        return Ellipsis
    if isinstance(item, dict):
        if set(item) != {"r"}:
            raise ValueError("an index tensor as {'r': values back}")
        return _decode_ref(item["r"], base)
    return _decode_number(item, base)


def _encode_dtype(value: Type, base: int) -> str:
    return value.name


def _decode_dtype(value: Any, base: int) -> Type:
    if not isinstance(value, str) or value not in TYPES:
        raise ValueError(f"one of the types {', '.join(TYPES)}")
    return TYPES[value]


def _encode_bool(value: bool, base: int) -> int:
    return int(value)


_KINDS = (
    Kind("tensor", _ref, _encode_ref, _decode_ref),
    Kind("tensors", _refs, _encode_refs, _decode_refs),
    Kind("operand", _operand, _encode_operand, _decode_operand),
    Kind("scalar", _scalar, _encode_number, _decode_number),
    Kind("bool", _bool, _encode_bool),
    Kind("float", _float),
    Kind("dim", _dim),
    Kind("dims", _dims, _encode_number),
    Kind("count", _count),
    Kind("natural", _natural),
    Kind("offset", _offset),
    Kind("sizes", _list_of(_size, 0, 16), _encode_number, _decode_number),
    Kind(
        "pieces", _or_text(lambda v: _list_of(_natural, 1, MOST_ITEMS)(v) if isinstance(v, list | tuple) else _count(v))
    ),
    Kind("shape", _list_of(_count, 1, 16)),
    Kind("dimensions", _list_of(_natural, 0, 8)),
    Kind("offsets", _offsets),
    Kind("shifts", lambda value: _offsets(value) if isinstance(value, list | tuple) else _offset(value)),
    Kind("window", _spatial(_count)),
    Kind("padding", _or_text(_spatial(_natural), "same", "valid")),
    Kind("output_size", _spatial(lambda value: None if value is None else _count(value))),
    Kind("factor", _spatial(_float)),
    Kind("padding_mode", _one_of("zeros", "reflect", "replicate", "circular")),
    Kind("pad_mode", _one_of("constant", "reflect", "replicate", "circular")),
    Kind("resampling", _one_of("nearest", "nearest-exact", "linear", "bilinear", "bicubic", "area")),
    Kind("approximation", _one_of("none", "tanh")),
    Kind("equation", _equation),
    Kind("dtype", _dtype, _encode_dtype, _decode_dtype),
    Kind("index", _index, _encode_index, _decode_index),
)


def optional(kind: Kind) -> Kind:
    """``kind``, or ``None``."""

    def unless_none(act: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
        return lambda value, base: None if value is None else act(value, base)

    check = kind.check
    return Kind(
        kind.name + "?",
        lambda value: None if value is None else check(value),
        unless_none(kind.encode),
        unless_none(kind.decode),
    )


KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}
KINDS.update({kind.name: kind for kind in map(optional, _KINDS)})
