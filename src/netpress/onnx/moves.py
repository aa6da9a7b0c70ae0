"""Operators that move places, and compute nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netpress.dtypes import INT64
from netpress.onnx.building import Builder, Shape, Size, Value, axis_of, broadcast, promoted
from netpress.program.kinds import MOST_ITEMS
from netpress.program.values import Batch

FAR = 2**62  # beyond the end of every axis


# ---------------------------------------------------------------- shapes


def reshape(b: Builder, input: Value, shape: Sequence[Size]) -> Value:
    return b.reshape(input, filled(b, input, shape))


def filled(b: Builder, x: Value, shape: Sequence[Size]) -> Shape:
    """``shape`` with its one -1 replaced by what is left of the places of ``x``."""
    if list(shape).count(-1) > 1:
        raise ValueError("more than one size is open")
    if -1 not in shape:
        return tuple(shape)
    places, others = b.product(x.shape), b.product([size for size in shape if size != -1])
    whole = places.factor if isinstance(places, Batch) else places
    known = others.factor if isinstance(others, Batch) else others
    if not known or whole % known or (isinstance(others, Batch) and not isinstance(places, Batch)):
        raise ValueError(f"{x.shape} cannot become {tuple(shape)}")
    left: Size = whole // known
    if isinstance(places, Batch) and not isinstance(others, Batch):
        left = Batch(whole // known)
    return tuple(left if size == -1 else size for size in shape)


def flatten(b: Builder, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    if not input.rank:
        return b.reshape(input, (1,))
    first, last = axis_of(start_dim, input.rank), axis_of(end_dim, input.rank)
    if first > last:
        raise ValueError(f"dimension {start_dim} is behind {end_dim}")
    middle = b.product(input.shape[first : last + 1])
    return b.reshape(input, (*input.shape[:first], middle, *input.shape[last + 1 :]))


def unflatten(b: Builder, input: Value, dim: int, unflattened_size: Sequence[int]) -> Value:
    axis = axis_of(dim, input.rank)
    return b.reshape(input, (*input.shape[:axis], *unflattened_size, *input.shape[axis + 1 :]))


def squeeze(b: Builder, input: Value, dim: int | tuple[int, ...] | None = None) -> Value:
    wanted = range(input.rank) if dim is None else [axis_of(d, input.rank) for d in _listed(dim)]
    axes = [axis for axis in wanted if input.shape[axis] == 1]
    if not axes:
        return input
    shape = tuple(size for axis, size in enumerate(input.shape) if axis not in axes)
    return b.add("Squeeze", [input, b.constant(axes)], shape)


def unsqueeze(b: Builder, input: Value, dim: int) -> Value:
    axis = axis_of(dim, input.rank + 1)
    return b.add("Unsqueeze", [input, b.constant([axis])], (*input.shape[:axis], 1, *input.shape[axis:]))


def expand(b: Builder, input: Value, size: Sequence[Size]) -> Value:
    ahead = len(size) - input.rank
    if ahead < 0:
        raise ValueError(f"{input.shape} cannot become {tuple(size)}")
    old = (*[1] * ahead, *input.shape)
    shape = tuple(now if then == -1 else then for then, now in zip(size, old, strict=True))
    if broadcast(input.shape, shape) != shape:
        raise ValueError(f"{input.shape} cannot become {shape}")
    return input if shape == input.shape else b.add("Expand", [input, b.sizes(shape)], shape)


def repeat(b: Builder, input: Value, repeats: Sequence[Size]) -> Value:
    ahead = len(repeats) - input.rank
    if ahead < 0:
        raise ValueError(f"{len(repeats)} repeats for {input.rank} dimensions")
    x = b.reshape(input, (*[1] * ahead, *input.shape))
    shape = tuple(b.product(pair) for pair in zip(repeats, x.shape, strict=True))
    return b.add("Tile", [x, b.sizes(repeats)], shape)


def _listed(dims: int | Sequence[int]) -> tuple[int, ...]:
    return (dims,) if isinstance(dims, int) else tuple(dims)


# ---------------------------------------------------------------- order


def permute(b: Builder, input: Value, dims: int | tuple[int, ...]) -> Value:
    return b.permute(input, [axis_of(d, input.rank) for d in _listed(dims)])


def transpose(b: Builder, input: Value, dim0: int, dim1: int) -> Value:
    order = list(range(input.rank))
    one, other = axis_of(dim0, input.rank), axis_of(dim1, input.rank)
    if order:
        order[one], order[other] = other, one
    return b.permute(input, order)


def movedim(b: Builder, input: Value, source: int | tuple[int, ...], destination: int | tuple[int, ...]) -> Value:
    sources = [axis_of(d, input.rank) for d in _listed(source)]
    targets = [axis_of(d, input.rank) for d in _listed(destination)]
    moved = dict(zip(targets, sources, strict=True))
    rest = iter([axis for axis in range(input.rank) if axis not in sources])
    return b.permute(input, [moved[axis] if axis in moved else next(rest) for axis in range(input.rank)])


def flip(b: Builder, input: Value, dims: int | tuple[int, ...]) -> Value:
    for axis in [axis_of(d, input.rank) for d in _listed(dims)]:
        input = b.cut(input, axis, -1, -FAR, -1, size=input.shape[axis])
    return input


def roll(b: Builder, input: Value, shifts: int | tuple[int, ...], dims: int | tuple[int, ...]) -> Value:
    listed, axes = _listed(shifts), _listed(dims)
    if not axes:
        flat = b.reshape(input, (b.product(input.shape),))
        return b.reshape(roll(b, flat, shifts, 0), input.shape)
    for shift, dim in zip(listed, axes, strict=True):
        axis = axis_of(dim, input.rank)
        [size] = b.whole([input.shape[axis]])
        if size and (shift := shift % size):
            end = b.cut(input, axis, size - shift, FAR, size=shift)
            input = b.joined([end, b.cut(input, axis, 0, size - shift, size=size - shift)], axis)
    return input


# ---------------------------------------------------------------- parts


def cat(b: Builder, tensors: Sequence[Value], dim: int = 0) -> Value:
    dtype = tensors[0].dtype
    for each in tensors[1:]:
        dtype = promoted(dtype, each.dtype)
    return b.joined([b.cast(each, dtype) for each in tensors], axis_of(dim, tensors[0].rank))


def stack(b: Builder, tensors: Sequence[Value], dim: int = 0) -> Value:
    return cat(b, [unsqueeze(b, each, dim) for each in tensors], axis_of(dim, tensors[0].rank + 1))


def _pieces(b: Builder, x: Value, sizes: Sequence[int], axis: int) -> list[Value]:
    if len(sizes) > MOST_ITEMS:
        raise ValueError(f"{len(sizes)} pieces; at most {MOST_ITEMS}")
    if sum(sizes) != x.shape[axis]:
        raise ValueError(f"pieces of {list(sizes)[:9]} of an axis of {x.shape[axis]}")
    shapes = [(*x.shape[:axis], size, *x.shape[axis + 1 :]) for size in sizes]
    return [x] if len(sizes) == 1 else b.add_many("Split", [x, b.constant(list(sizes))], shapes, axis=axis)


def split(b: Builder, input: Value, split_size_or_sections: int | tuple[int, ...], dim: int = 0) -> list[Value]:
    axis = axis_of(dim, input.rank)
    [size] = b.whole([input.shape[axis]])
    if isinstance(split_size_or_sections, tuple):
        return _pieces(b, input, split_size_or_sections, axis)
    step = split_size_or_sections
    if size > step * MOST_ITEMS:
        raise ValueError(f"split into more than {MOST_ITEMS} pieces")
    return _pieces(b, input, [min(step, size - at) for at in range(0, size, step)] or [0], axis)


def chunk(b: Builder, input: Value, chunks: int, dim: int = 0) -> list[Value]:
    [size] = b.whole([input.shape[axis_of(dim, input.rank)]])
    return split(b, input, max(1, -(-size // chunks)), dim)


def unbind(b: Builder, input: Value, dim: int = 0) -> list[Value]:
    return [squeeze(b, piece, axis_of(dim, input.rank)) for piece in split(b, input, 1, dim)]


def item(b: Builder, input: list[Value], index: int) -> Value:
    return input[index]


def getitem(b: Builder, input: Value, index: tuple[Any, ...]) -> Value:
    used = sum(entry is not None and entry is not Ellipsis for entry in index)
    if used > input.rank or index.count(Ellipsis) > 1:
        raise ValueError(f"{used} indices for {input.rank} dimensions")
    if Ellipsis not in index:
        index = (*index, Ellipsis)
    if sum(isinstance(entry, Value) for entry in index) > 1:
        b.unsupported("an index of several tensors")
    x, axis, gone = input, 0, []
    for entry in index:
        if entry is None:
            continue
        if entry is Ellipsis:
            axis += input.rank - used
            continue
        if isinstance(entry, slice):
            x = _sliced(b, x, axis, entry)
        elif isinstance(entry, Value):
            if any(isinstance(other, int) for other in index):
                b.unsupported("an index of a tensor and numbers")
            x = _gathered(b, x, axis, entry)
            axis += entry.rank - 1
        elif isinstance(entry, int):
            [size] = b.whole([x.shape[axis]])
            at = axis_of(entry, size)
            x = b.cut(x, axis, at, at + 1, size=1)
            gone.append(axis)
        else:
            b.unsupported("an index that follows the batch")
        axis += 1
    if gone:
        shape = tuple(size for at, size in enumerate(x.shape) if at not in gone)
        x = b.add("Squeeze", [x, b.constant(gone)], shape)
    for at in _unsqueezed(index, input.rank - used):
        x = unsqueeze(b, x, at)
    return x


def _unsqueezed(index: tuple[Any, ...], untouched: int) -> list[int]:
    """Where in the result the new axes lie."""
    places, at = [], 0
    for entry in index:
        if entry is None:
            places.append(at)
        if entry is Ellipsis:
            at += untouched
        elif isinstance(entry, Value):
            at += entry.rank
        elif not isinstance(entry, int):
            at += 1
    return places


def _sliced(b: Builder, x: Value, axis: int, entry: slice) -> Value:
    size = x.shape[axis]
    if entry == slice(None) or (entry.start in (None, 0) and entry.stop == size and entry.step in (None, 1)):
        return x
    if isinstance(size, Batch):
        b.unsupported("a slice of the batch")
    if isinstance(entry.start, Batch) or isinstance(entry.stop, Batch):
        b.unsupported("a slice whose ends follow the batch")
    start, stop, step = entry.indices(size)
    found = len(range(start, stop, step))
    return x if found == size else b.cut(x, axis, start, stop, step, size=found)


def _gathered(b: Builder, x: Value, axis: int, index: Value) -> Value:
    if index.dtype.name == "bool" or index.dtype.is_floating_point:
        b.unsupported("an index of truth values")
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    return b.add("Gather", [x, b.cast(index, INT64)], shape, axis=axis)


# ---------------------------------------------------------------- padding


def pad(b: Builder, input: Value, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Value:
    """``pad`` as torch has it: two numbers for the last axis, two for the one before, and so on."""
    if len(pad) % 2 or len(pad) > 2 * input.rank:
        raise ValueError(f"{len(pad)} numbers of padding for {input.rank} dimensions")
    before, after = [0] * input.rank, [0] * input.rank
    for k in range(len(pad) // 2):
        before[-1 - k], after[-1 - k] = pad[2 * k], pad[2 * k + 1]
    if not any(pad):
        return input
    axes = [axis for axis in range(input.rank) if before[axis] or after[axis]]
    shape = list(input.shape)
    for axis in axes:
        [size] = b.whole([shape[axis]])
        shape[axis] = size + before[axis] + after[axis]
        most = {"reflect": size - 1, "circular": size}.get(mode)
        if size + before[axis] + after[axis] < 0 or (most is not None and max(before[axis], after[axis]) > most):
            raise ValueError(f"a padding of {before[axis]} and {after[axis]} of {size} places")
    if mode == "circular":
        for axis in axes:
            input = _wrapped(b, input, axis, before[axis], after[axis])
        return input
    pads = b.constant([*before, *after])
    if mode == "constant":
        return b.add("Pad", [input, pads, b.constant(np.array(value), input.dtype)], shape, mode="constant")
    return b.add("Pad", [input, pads], shape, mode={"reflect": "reflect", "replicate": "edge"}[mode])


def _wrapped(b: Builder, x: Value, axis: int, before: int, after: int) -> Value:
    [size] = b.whole([x.shape[axis]])
    if min(before, after) < 0:
        b.unsupported("circular padding below zero")
    parts = [x]
    if before:
        parts.insert(0, b.cut(x, axis, size - before, FAR, size=before))
    if after:
        parts.append(b.cut(x, axis, 0, after, size=after))
    return b.joined(parts, axis)


OPERATORS: dict[str, Callable[..., Any]] = {
    call.__name__: call
    for call in (
        reshape, flatten, unflatten, squeeze, unsqueeze, expand, repeat, permute, transpose, movedim, flip, roll,
        cat, stack, split, chunk, unbind, item, getitem, pad,
    )
}  # fmt: skip
