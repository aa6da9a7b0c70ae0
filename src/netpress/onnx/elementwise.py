"""Operators that look at each place alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from netpress.dtypes import BOOL, FLOAT32, INT64, TYPES, Type
from netpress.onnx.building import Builder, Value, axis_of, broadcast, promoted
from netpress.program.values import Batch

OPERATORS: dict[str, Callable[..., Any]] = {}
"""By name of the closed list: ``(builder, **arguments) -> value``, tensors among the arguments as `Value`."""


def _same(b: Builder, input: Value, **_: Any) -> Value:
    """What does nothing when a network runs."""
    return input


for _name in ("detach", "dropout", "dropout1d", "dropout2d"):
    OPERATORS[_name] = _same


# ---------------------------------------------------------------- one tensor


def _unary(op: str) -> Callable[..., Value]:
    def write(b: Builder, input: Value) -> Value:
        x = input if op in ("Neg", "Abs", "Sign", "Relu") else b.floating(input)
        return b.add(op, [x], x.shape)

    return write


for _name, _op in {
    "neg": "Neg", "abs": "Abs", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "sin": "Sin", "cos": "Cos",
    "sign": "Sign", "erf": "Erf", "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu",
}.items():  # fmt: skip
    OPERATORS[_name] = _unary(_op)


def scaled(b: Builder, x: Value, factor: float) -> Value:
    """``factor * x``."""
    return x if factor == 1 else b.add("Mul", [x, b.constant(factor, x.dtype)], x.shape)


def rsqrt(b: Builder, input: Value) -> Value:
    x = b.floating(input)
    return b.add("Reciprocal", [b.add("Sqrt", [x], x.shape)], x.shape)


def clamp(b: Builder, input: Value, min: Any = None, max: Any = None) -> Value:
    limits = [limit for limit in (min, max) if limit is not None]
    if any(isinstance(limit, Batch) for limit in limits):
        b.unsupported("a limit that follows the batch")
    x = b.floating(input) if any(isinstance(limit, float) for limit in limits) else input
    low, high = (None if limit is None else b.constant(limit, x.dtype) for limit in (min, max))
    return b.add("Clip", [x, low, high], x.shape)


def hardtanh(b: Builder, input: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    return clamp(b, input, min_val, max_val)


def relu6(b: Builder, input: Value) -> Value:
    return clamp(b, input, 0.0, 6.0)


def silu(b: Builder, input: Value) -> Value:
    return b.add("Mul", [input, b.add("Sigmoid", [input], input.shape)], input.shape)


def mish(b: Builder, input: Value) -> Value:
    soft = b.add("Softplus", [input], input.shape)
    return b.add("Mul", [input, b.add("Tanh", [soft], input.shape)], input.shape)


def hardswish(b: Builder, input: Value) -> Value:
    return b.add("HardSwish", [input], input.shape)


def hardsigmoid(b: Builder, input: Value) -> Value:
    return b.add("HardSigmoid", [input], input.shape, alpha=1 / 6, beta=0.5)


def leaky_relu(b: Builder, input: Value, negative_slope: float = 0.01) -> Value:
    return b.add("LeakyRelu", [input], input.shape, alpha=negative_slope)


def elu(b: Builder, input: Value, alpha: float = 1.0) -> Value:
    return b.add("Elu", [input], input.shape, alpha=alpha)


def gelu(b: Builder, input: Value, approximate: str = "none") -> Value:
    x, shape = input, input.shape
    if approximate == "none":
        gate = b.add("Erf", [scaled(b, x, math.sqrt(0.5))], shape)
    else:
        cube = b.add("Pow", [x, b.constant(3.0, x.dtype)], shape)
        inner = b.add("Add", [x, scaled(b, cube, 0.044715)], shape)
        gate = b.add("Tanh", [scaled(b, inner, math.sqrt(2 / math.pi))], shape)
    grown = b.add("Add", [gate, b.constant(1.0, x.dtype)], shape)
    return scaled(b, b.add("Mul", [x, grown], shape), 0.5)


def softplus(b: Builder, input: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    x = scaled(b, input, beta)
    y = scaled(b, b.add("Softplus", [x], x.shape), 1 / beta)
    if threshold >= 20:  # where it matters no longer in float32
        return y
    beyond = b.add("Greater", [x, b.constant(threshold, x.dtype)], x.shape, BOOL)
    return b.add("Where", [beyond, input, y], x.shape, x.dtype)


def logsigmoid(b: Builder, input: Value) -> Value:
    negative = b.add("Neg", [input], input.shape)
    return b.add("Neg", [b.add("Softplus", [negative], input.shape)], input.shape)


def prelu(b: Builder, input: Value, weight: Value) -> Value:
    channels = b.whole(weight.shape)[0] if weight.rank else 1
    if channels != 1 and (input.rank < 2 or input.shape[1] != channels):
        raise ValueError(f"{channels} slopes for an input of {input.shape}")
    slope = b.reshape(weight, (channels, *[1] * (input.rank - 2)) if input.rank > 1 else (channels,))
    return b.add("PRelu", [input, slope], input.shape)


def _soft(op: str) -> Callable[..., Value]:
    def write(b: Builder, input: Value, dim: int, dtype: Type | None = None) -> Value:
        x = input if dtype is None else b.cast(input, dtype)
        return b.add(op, [x], x.shape, axis=axis_of(dim, x.rank))

    return write


def to(b: Builder, input: Value, dtype: Type) -> Value:
    return b.cast(input, dtype)


def logical_not(b: Builder, input: Value) -> Value:
    return b.add("Not", [b.cast(input, BOOL)], input.shape, BOOL)


for _call in (
    rsqrt, clamp, hardtanh, relu6, silu, mish, hardswish, hardsigmoid, leaky_relu, elu, gelu, softplus, logsigmoid, prelu, to,
    logical_not,
):  # fmt: skip
    OPERATORS[_call.__name__] = _call
OPERATORS["softmax"], OPERATORS["log_softmax"] = _soft("Softmax"), _soft("LogSoftmax")


# ---------------------------------------------------------------- two tensors, or a tensor and a number


def _scalar_type(value: Any, beside: Type) -> Type:
    """What a number becomes beside a tensor: a tensor's type gives way only to a number of a higher kind."""
    if isinstance(value, float):
        return beside if beside.is_floating_point else FLOAT32
    if isinstance(value, bool) or beside != BOOL:
        return beside
    return INT64


def _common(one: Value, other: Value) -> Type:
    """The type of two tensors; a single number gives way to a tensor of the same kind."""
    if bool(one.rank) != bool(other.rank):
        large, single = (one.dtype, other.dtype) if one.rank else (other.dtype, one.dtype)
        kinds = [(t != BOOL) + t.is_floating_point for t in (large, single)]
        if kinds[0] >= kinds[1]:
            return large
    return promoted(one.dtype, other.dtype)


def operands(b: Builder, one: Any, other: Any, *, floating: bool = False) -> tuple[Value, Value]:
    """Two operands as tensors of the one type that torch computes in.

    Args:
        one: A tensor or a number; at least one of both is a tensor.
        other: As ``one``.
        floating: Whether whole numbers become floating point.
    """
    one, other = (b.reshape(b.batch(value.factor), ()) if isinstance(value, Batch) else value for value in (one, other))
    if isinstance(one, Value) and isinstance(other, Value):
        dtype = _common(one, other)
    elif isinstance(one, Value):
        dtype = _scalar_type(other, one.dtype)
    elif isinstance(other, Value):
        dtype = _scalar_type(one, other.dtype)
    else:
        raise ValueError("two numbers and no tensor")
    if floating and not dtype.is_floating_point:
        dtype = FLOAT32
    x, y = (b.cast(v, dtype) if isinstance(v, Value) else b.constant(v, dtype) for v in (one, other))
    return x, y


def _binary(op: str, *, floating: bool = False, compares: bool = False) -> Callable[..., Value]:
    def write(b: Builder, input: Any, other: Any) -> Value:
        x, y = operands(b, input, other, floating=floating)
        if x.dtype == BOOL and op not in ("Equal",):
            if compares or op in ("Min", "Max"):
                x, y = b.cast(x, TYPES["int32"]), b.cast(y, TYPES["int32"])
            else:
                b.unsupported("arithmetic of truth values")
        return b.add(op, [x, y], broadcast(x.shape, y.shape), BOOL if compares else None)

    return write


def ne(b: Builder, input: Any, other: Any) -> Value:
    equal = OPERATORS["eq"](b, input, other)
    return b.add("Not", [equal], equal.shape, BOOL)


def floor_divide(b: Builder, input: Any, other: Any) -> Value:
    x, y = operands(b, input, other)
    exact = x.dtype if x.dtype.is_floating_point else TYPES["float64"]
    shape = broadcast(x.shape, y.shape)
    quotient = b.add("Div", [b.cast(x, exact), b.cast(y, exact)], shape)
    return b.cast(b.add("Floor", [quotient], shape), x.dtype)


def where(b: Builder, condition: Value, input: Any, other: Any) -> Value:
    if not isinstance(input, Value) and not isinstance(other, Value):
        dtype = FLOAT32 if isinstance(input, float) or isinstance(other, float) else INT64
        x, y = b.constant(input, dtype), b.constant(other, dtype)
    else:
        x, y = operands(b, input, other)
    return b.add("Where", [condition, x, y], broadcast(condition.shape, x.shape, y.shape), x.dtype)


def masked_fill(b: Builder, input: Value, mask: Value, value: Any) -> Value:
    filler = b.constant(value, input.dtype)
    return b.add("Where", [mask, filler, input], broadcast(mask.shape, input.shape), input.dtype)


for _name, _op in {"add": "Add", "sub": "Sub", "mul": "Mul", "pow": "Pow", "minimum": "Min", "maximum": "Max"}.items():
    OPERATORS[_name] = _binary(_op)
OPERATORS["div"] = _binary("Div", floating=True)
for _name, _op in {"gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual", "eq": "Equal"}.items():
    OPERATORS[_name] = _binary(_op, compares=True)
OPERATORS |= {"ne": ne, "floor_divide": floor_divide, "where": where, "masked_fill": masked_fill}
