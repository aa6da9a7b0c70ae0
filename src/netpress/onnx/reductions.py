"""Operators that sum or compare along axes, and the normalisations made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from netpress.dtypes import BOOL, INT64
from netpress.onnx.building import Builder, Shape, Size, Value, axis_of, broadcast
from netpress.onnx.elementwise import rsqrt, scaled


def _axes(x: Value, dim: int | Sequence[int] | None) -> list[int]:
    """The axes that are meant: none, or an empty list, are all."""
    listed = [dim] if isinstance(dim, int) else list(dim or range(x.rank))
    axes = [axis_of(d, x.rank) for d in listed]
    if len(set(axes)) < len(axes):
        raise ValueError(f"dimensions {listed} name one twice")
    return axes if x.rank else []


def _without(shape: Shape, axes: Sequence[int], keepdim: bool) -> Shape:
    kept: list[Size] = [1 if axis in axes else size for axis, size in enumerate(shape)]
    return tuple(kept if keepdim else [size for axis, size in enumerate(kept) if axis not in axes])


def reduced(b: Builder, op: str, x: Value, axes: Sequence[int], keepdim: bool) -> Value:
    """One reduction; over no axes, the tensor itself."""
    if not axes:
        return x
    return b.add(op, [x, b.constant(list(axes))], _without(x.shape, axes, keepdim), keepdims=keepdim)


def mean(b: Builder, input: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Value:
    return reduced(b, "ReduceMean", input, _axes(input, dim), keepdim)


def sum_(b: Builder, input: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Value:
    x = input if input.dtype.is_floating_point else b.cast(input, INT64)
    return reduced(b, "ReduceSum", x, _axes(x, dim), keepdim)


def amax(b: Builder, input: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Value:
    return reduced(b, "ReduceMax", input, _axes(input, dim), keepdim)


def amin(b: Builder, input: Value, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Value:
    return reduced(b, "ReduceMin", input, _axes(input, dim), keepdim)


def var(
    b: Builder, input: Value, dim: int | Sequence[int] | None = None, correction: int = 1, keepdim: bool = False
) -> Value:
    axes = _axes(input, dim)
    count = math.prod(b.whole([input.shape[axis] for axis in axes]))
    spread = _spread(b, input, reduced(b, "ReduceMean", input, axes, True), axes, keepdim)
    if count <= correction:
        b.unsupported(f"a variance of {count} values with a correction of {correction}")
    return scaled(b, spread, count / (count - correction))


def _spread(b: Builder, x: Value, middle: Value, axes: Sequence[int], keepdim: bool) -> Value:
    """The mean square of the distance from ``middle``."""
    apart = b.add("Sub", [x, middle], x.shape)
    return reduced(b, "ReduceMean", b.add("Mul", [apart, apart], x.shape), axes, keepdim)


def max_over(b: Builder, input: Value, dim: int, keepdim: bool = False) -> list[Value]:
    axis = axis_of(dim, input.rank)
    if input.dtype == BOOL:
        b.unsupported("the largest of truth values")
    shape = _without(input.shape, [axis], keepdim)
    largest = reduced(b, "ReduceMax", input, [axis], keepdim)
    return [largest, b.add("ArgMax", [input], shape, INT64, axis=axis, keepdims=keepdim)]


# ---------------------------------------------------------------- normalisations


def _shifted(b: Builder, x: Value, weight: Value | None, bias: Value | None) -> Value:
    """x · weight + bias, each one number a channel, the second axis."""
    for op, per_channel in (("Mul", weight), ("Add", bias)):
        if per_channel is not None:
            spread = b.reshape(per_channel, (per_channel.shape[0], *[1] * (x.rank - 2)))
            x = b.add(op, [x, spread], broadcast(x.shape, spread.shape))
    return x


def batch_norm(
    b: Builder,
    input: Value,
    running_mean: Value | None = None,
    running_var: Value | None = None,
    weight: Value | None = None,
    bias: Value | None = None,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Value:
    if input.rank < 2:
        raise ValueError(f"a normalisation of channels of {input.shape}")
    channels = input.shape[1:2]
    if any(v is not None and v.shape != channels for v in (running_mean, running_var, weight, bias)):
        raise ValueError(f"a normalisation of other channels than {channels}")
    if running_mean is None or running_var is None:  # the batch's own statistics are all there is
        axes = [0, *range(2, input.rank)]
        middle = reduced(b, "ReduceMean", input, axes, True)
        spread = _spread(b, input, middle, axes, True)
        noise = b.add("Add", [spread, b.constant(eps, spread.dtype)], spread.shape)
        apart = b.add("Sub", [input, middle], input.shape)
        return _shifted(b, b.add("Mul", [apart, rsqrt(b, noise)], input.shape), weight, bias)
    scale = b.full(channels, 1.0, input.dtype) if weight is None else weight
    shift = b.full(channels, 0.0, input.dtype) if bias is None else bias
    return b.add("BatchNormalization", [input, scale, shift, running_mean, running_var], input.shape, epsilon=eps)


def layer_norm(
    b: Builder,
    input: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:
    shape = tuple(normalized_shape)
    if input.shape[-len(shape) :] != shape or any(v is not None and v.shape != shape for v in (weight, bias)):
        raise ValueError(f"a normalisation over {shape} of an input of {input.shape}")
    scale = b.full(shape, 1.0, input.dtype) if weight is None else weight
    return b.add("LayerNormalization", [input, scale, bias], input.shape, axis=input.rank - len(shape), epsilon=eps)


def group_norm(
    b: Builder,
    input: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:
    if input.rank < 2:
        raise ValueError(f"a normalisation of channels of {input.shape}")
    batch, *rest = input.shape
    places = math.prod(b.whole(rest))
    if places % num_groups:
        raise ValueError(f"{num_groups} groups of {places} places")
    grouped = b.reshape(input, (batch, num_groups, places // num_groups))
    ones, zeros = (b.full((num_groups,), fill, input.dtype) for fill in (1.0, 0.0))
    normed = b.add("InstanceNormalization", [grouped, ones, zeros], grouped.shape, epsilon=eps)
    return _shifted(b, b.reshape(normed, input.shape), weight, bias)


OPERATORS: dict[str, Callable[..., Any]] = {
    call.__name__: call for call in (mean, amax, amin, var, max_over, batch_norm, layer_norm, group_norm)
} | {"sum": sum_}
