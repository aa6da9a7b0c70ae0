"""Operators that multiply tensors with each other: linear layers, matrix products, attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netpress.dtypes import BOOL, INT64
from netpress.onnx import integers
from netpress.onnx.building import Builder, Shape, Size, Value, broadcast
from netpress.onnx.elementwise import operands, scaled


def _sum(b: Builder, x: Value, y: Value) -> Value:
    return b.add("Add", [x, y], broadcast(x.shape, y.shape))


def linear(b: Builder, input: Value, weight: Value, bias: Value | None = None) -> Value:
    if weight.rank != 2 or not input.rank or input.shape[-1] != weight.shape[1]:
        raise ValueError(f"a weight of {weight.shape} for an input of {input.shape}")
    shape = (*input.shape[:-1], weight.shape[0])
    if (product := integers.product(b, input, weight, bias)) is not None:
        return product
    if input.rank == 2:
        weight, bias = integers.weights(b, input, weight, bias)
        return b.add("Gemm", [input, weight, bias], shape, transB=1)
    product = b.add("MatMul", [input, b.swapped(weight)], shape)
    return product if bias is None else _sum(b, product, bias)


def matmul(b: Builder, input: Value, other: Value) -> Value:
    if not input.rank or not other.rank:
        raise ValueError("a product with a single number")
    left, right = input.shape, other.shape
    wide = (1, *left) if len(left) == 1 else left
    tall = (*right, 1) if len(right) == 1 else right
    if wide[-1] != tall[-2]:
        raise ValueError(f"a product of {left} and {right}")
    rows: Shape = (wide[-2],) if len(left) > 1 else ()
    columns: Shape = (tall[-1],) if len(right) > 1 else ()
    return b.add("MatMul", [input, other], (*broadcast(wide[:-2], tall[:-2]), *rows, *columns))


def bmm(b: Builder, input: Value, mat2: Value) -> Value:
    return matmul(b, input, mat2)


def addmm(b: Builder, input: Value, mat1: Value, mat2: Value) -> Value:
    return _sum(b, input, matmul(b, mat1, mat2))


def baddbmm(b: Builder, input: Value, batch1: Value, batch2: Value) -> Value:
    return _sum(b, input, matmul(b, batch1, batch2))


def einsum(b: Builder, equation: str, operands: Sequence[Value]) -> Value:
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"{len(terms)} terms for {len(operands)} tensors")
    sizes: dict[str, Size] = {}
    spread: list[tuple[Value, int, int]] = []  # a tensor, where its axes without a letter begin, and how many they are
    for term, operand in zip(terms, operands, strict=True):
        head, dots, tail = term.partition("...")
        unnamed = operand.rank - len(head) - len(tail)
        if unnamed < 0 or (unnamed and not dots) or not (head + tail or "a").isalpha():
            raise ValueError(f"the term {term!r} for a tensor of {operand.shape}")
        named = zip(head + tail, (*operand.shape[: len(head)], *operand.shape[len(head) + unnamed :]), strict=True)
        for letter, size in named:
            if sizes.setdefault(letter, size) != size:
                b.unsupported(f"the letter {letter!r} of {equation!r} has two sizes")
        spread.append((operand, len(head), unnamed))
    rest = broadcast(*(operand.shape[at : at + count] for operand, at, count in spread))
    # ONNX wants as many axes under each ellipsis
    operands = [
        b.reshape(operand, (*operand.shape[:at], *[1] * (len(rest) - count if dots else 0), *operand.shape[at:]))
        for (operand, at, count), dots in zip(spread, ("..." in term for term in terms), strict=True)
    ]
    if not arrow:
        once = sorted(letter for letter in sizes if left.count(letter) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    head, dots, tail = right.partition("...")
    if any(letter not in sizes for letter in head + tail) or "..." in tail:
        raise ValueError(f"the equation {equation!r}")
    shape = (*(sizes[letter] for letter in head), *(rest if dots else ()), *(sizes[letter] for letter in tail))
    return b.add("Einsum", operands, shape, equation=f"{left}->{right}")


def embedding(b: Builder, input: Value, weight: Value, padding_idx: int | None = None) -> Value:
    if weight.rank != 2 or input.dtype.is_floating_point:
        raise ValueError(f"rows of a table of {weight.shape} by {input.dtype}")
    return b.add("Gather", [weight, b.cast(input, INT64)], (*input.shape, weight.shape[1]), weight.dtype, axis=0)


def scaled_dot_product_attention(
    b: Builder,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Value:
    """softmax(scale · Q Kᵀ + mask) V over the last two axes: (..., L, E), (..., S, E), (..., S, V) to (..., L, V)."""
    if min(query.rank, key.rank, value.rank) < 2:
        raise ValueError("attention over fewer than two axes")
    if dropout_p:
        b.unsupported("attention that drops values even when the network is not trained")
    [width] = b.whole(query.shape[-1:])
    factor = 1 / math.sqrt(width) if scale is None else scale
    scores = matmul(b, scaled(b, query, factor), b.swapped(key))
    if is_causal:
        rows, columns = b.whole(scores.shape[-2:])
        hidden = np.triu(np.full((rows, columns), -np.inf), 1)
        scores = _sum(b, scores, b.constant(hidden, scores.dtype))
    if attn_mask is not None and attn_mask.dtype == BOOL:
        never = b.constant(-math.inf, scores.dtype)
        shape = broadcast(attn_mask.shape, scores.shape)
        scores = b.add("Where", [attn_mask, scores, never], shape, scores.dtype)
    elif attn_mask is not None:
        scores = _sum(b, *operands(b, scores, attn_mask))
    shares = b.add("Softmax", [scores], scores.shape, axis=scores.rank - 1)
    return matmul(b, shares, value)


OPERATORS: dict[str, Callable[..., Any]] = {
    call.__name__: call
    for call in (linear, matmul, bmm, addmm, baddbmm, einsum, embedding, scaled_dot_product_attention)
}
