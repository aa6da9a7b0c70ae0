"""How channels pass products: what is summed over is tied, what is not lies in the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netpress.graph import Node
from netpress.structure.atoms import Labels
from netpress.structure.flow import Arrays, Flow
from netpress.structure.labels import along, padded, varied
from netpress.structure.modules import loses_whole_groups, tie_groups
from netpress.structure.rules import arguments, rule, unknown, where, without

# ---------------------------------------------------------------- with weights


@rule("linear")
def _linear(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    rank = len(flow.shape(index))
    inputs, others = flow.vector(flow.of(a["input"].index), rank - 1)
    taken, made = _matrix(flow, a["weight"].index)
    _meet(flow, inputs, taken, where(node), zero=_either(flow, a["input"].index, a["weight"].index))
    _add_bias(flow, made, a["bias"], where(node))
    return [*([] if made is None else [along(made, rank - 1, rank)]), *others]


@rule("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d")
def _conv(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    source, weight, groups = a["input"].index, a["weight"].index, a["groups"]
    transposed = "transpose" in node.op
    rank = len(flow.shape(index))
    if rank != len(flow.shape(weight)) or (groups > 1 and transposed):
        return unknown(flow, node, index)
    arrays = flow.freeze_along(flow.of(source), [0, *range(2, rank)], f"{where(node)} convolves over it")
    inputs, _ = flow.vector(arrays, 1)
    taken, made = _matrix(flow, weight)
    if groups > 1:
        made = _grouped(flow, node, inputs, taken, made, flow.shape(source)[1], groups)
    else:
        taken, made = (made, taken) if transposed else (taken, made)
        _meet(flow, inputs, taken, where(node), zero=_either(flow, source, weight))
    _add_bias(flow, made, a["bias"], where(node))
    return [] if made is None else [along(made, 1, rank)]


def _grouped(
    flow: Flow, node: Node, inputs: Labels | None, taken: Labels | None, made: Labels | None, width: int, groups: int
) -> Labels | None:
    """The filters of a grouped convolution, tied to what they read (see `modules.tie_groups`)."""
    reason = f"{where(node)} meets a fixed tensor"
    if inputs is None or made is None or (taken is None and not loses_whole_groups(groups, width)):
        flow.freeze([labels for labels in (inputs, taken, made) if labels is not None], reason)
        return made
    places = tie_groups(flow, inputs, made, groups)
    if taken is not None and places is not None:
        flow.atoms.unite(taken, places)
    elif taken is not None:
        flow.atoms.freeze(taken, f"{where(node)} loses whole groups")
    return made


def _matrix(flow: Flow, index: int) -> tuple[Labels | None, Labels | None]:
    """Atoms along axes 1 and 0 of a weight; its other axes are the kernel's and stay."""
    arrays = flow.freeze_along(flow.of(index), range(2, len(flow.shape(index))), "a convolution's kernel")
    first, others = flow.vector(arrays, 1)
    return first, flow.vector(others, 0)[0]


def _add_bias(flow: Flow, made: Labels | None, bias: Any, name: str) -> None:
    if bias is not None:
        _meet(flow, made, flow.vector(flow.of(bias.index), 0)[0], name)


def _meet(flow: Flow, first: Labels | None, second: Labels | None, name: str, *, zero: bool = True) -> None:
    """Two sides that are summed over, or added, place by place: tied, or frozen where one of them is fixed.

    Args:
        zero: Whether a missing place of one of them is surely 0 in a masked network, so that it adds nothing.
    """
    sides = [side for side in (first, second) if side is not None]
    if first is not None and second is not None:
        flow.atoms.unite(first, second)
        if not zero:
            flow.atoms.freeze(first, f"{name} sums over places that are not 0 where channels are missing")
    else:
        flow.freeze(sides, f"{name} meets a fixed tensor")


def _either(flow: Flow, first: int, second: int) -> bool:
    return flow.zeros[first] or flow.zeros[second]


@rule("embedding")
def _embedding(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    flow.freeze(flow.of(a["input"].index), f"{where(node)} looks it up")
    made, rows = _matrix(flow, a["weight"].index)
    if rows is not None:
        flow.atoms.freeze(rows, f"{where(node)} looks rows up")
    rank = len(flow.shape(index))
    return [] if made is None else [along(made, rank - 1, rank)]


# ---------------------------------------------------------------- of two values


@rule("matmul", "bmm")
def _matmul(flow: Flow, node: Node, index: int) -> Arrays:
    x, y = node.inputs
    if min(len(flow.shape(x)), len(flow.shape(y))) < 2:
        return unknown(flow, node, index)
    zero = _either(flow, x, y)
    return _product(flow, flow.of(x), flow.shape(x), flow.of(y), flow.shape(y), where(node), zero=zero)


@rule("addmm", "baddbmm")
def _add_product(flow: Flow, node: Node, index: int) -> Arrays:
    added, x, y = node.inputs
    zero = _either(flow, x, y)
    product = _product(flow, flow.of(x), flow.shape(x), flow.of(y), flow.shape(y), where(node), zero=zero)
    operands = [(flow.of(added), flow.shape(added)), (product, flow.shape(index))]
    return flow.fold(operands, len(flow.shape(index)), f"{where(node)} meets a fixed tensor")


@rule("scaled_dot_product_attention")
def _attention(flow: Flow, node: Node, index: int) -> Arrays:
    """(..., L, E), (..., S, E), (..., S, V) -> (..., L, V): heads, not parts of them, can be removed where there are heads.

    The default scale follows E: where places of E go, `slicing` writes down the one that it was.
    """
    a = arguments(node)
    q, k, v = (a[name].index for name in ("query", "key", "value"))
    name = where(node)
    keys = [np.swapaxes(labels, -1, -2) for labels in flow.of(k)]
    k_shape = (*flow.shape(k)[:-2], flow.shape(k)[-1], flow.shape(k)[-2])
    shape = (*flow.shape(index)[:-1], flow.shape(k)[-2])  # of the scores
    scores = _product(flow, flow.of(q), flow.shape(q), keys, k_shape, name, zero=_either(flow, q, k))
    if a["attn_mask"] is not None:
        mask = a["attn_mask"].index
        scores = flow.fold([(scores, shape), (flow.of(mask), flow.shape(mask))], len(shape), f"{name} is masked")
    scores = flow.freeze_along(scores, (len(shape) - 1,), f"{name} is a softmax over it")
    return _product(flow, scores, shape, flow.of(v), flow.shape(v), name, zero=flow.zeros[v])


def _product(
    flow: Flow, x: Arrays, x_shape: Sequence[int], y: Arrays, y_shape: Sequence[int], name: str, *, zero: bool
) -> Arrays:
    """(..., n, k) @ (..., k, m) -> (..., n, m)"""
    rank = max(len(x_shape), len(y_shape))
    x_shape = (*[1] * (rank - len(x_shape)), *x_shape)
    y_shape = (*[1] * (rank - len(y_shape)), *y_shape)
    left = [np.expand_dims(padded(labels, rank), -2) for labels in x]  # (..., n, 1, k)
    right = [np.expand_dims(np.swapaxes(padded(labels, rank), -1, -2), -3) for labels in y]  # (..., 1, m, k)
    shapes = (*x_shape[:-1], 1, x_shape[-1]), (*y_shape[:-2], 1, y_shape[-1], y_shape[-2])
    return contracted(flow, left, shapes[0], right, shapes[1], (rank,), name, zero=zero)


def contracted(
    flow: Flow,
    x: Arrays,
    x_shape: Sequence[int],
    y: Arrays,
    y_shape: Sequence[int],
    axes: Sequence[int],
    name: str,
    *,
    zero: bool,
) -> Arrays:
    """Labels of the product of two operands of one rank, summed over ``axes``, which the result has lost.

    What is summed over is tied pairwise; where it varies with another axis, too, as the width of a head does, all of it is tied.

    Args:
        zero: Whether missing places of one of the two are surely 0 in a masked network.
    """
    rank, inside = len(x_shape), set(axes)
    if any(varied(labels) & inside and len(varied(labels)) > 1 for labels in (*x, *y)):
        reason = f"{name} sums over it"
        x, y = flow.freeze_along(x, axes, reason), flow.freeze_along(y, axes, reason)
    for axis in axes:
        left, x = flow.vector(x, axis)
        right, y = flow.vector(y, axis)
        _meet(flow, left, right, name, zero=zero)
    shapes = [tuple(1 if axis in inside else size for axis, size in enumerate(shape)) for shape in (x_shape, y_shape)]
    made = flow.fold([(x, shapes[0]), (y, shapes[1])], rank, f"{name} meets a fixed tensor")
    return [without(labels, axes) for labels in made]


@rule("einsum")
def _einsum(flow: Flow, node: Node, index: int) -> Arrays:
    """Of two operands without sums over one alone; what else it can say is not followed."""
    said = letters_of(flow, node)
    if said is None:
        return unknown(flow, node, index)
    (left, right), made = said
    summed = sorted(set(left) & set(right) - set(made))
    order = [*made, *summed]
    x, y = node.inputs
    lifted = [
        ([_lifted(labels, own, order) for labels in flow.of(value)], _lifted_shape(flow.shape(value), own, order))
        for value, own in ((x, left), (y, right))
    ]
    axes = range(len(made), len(order))
    return contracted(flow, *lifted[0], *lifted[1], axes, where(node), zero=_either(flow, x, y))


def letters_of(flow: Flow, node: Node) -> tuple[list[list[str]], list[str]] | None:
    """The letters of both operands of an einsum and of its result; None for one that channels are not followed through."""
    takes, arrow, makes = arguments(node)["equation"].replace(" ", "").partition("->")
    operands = takes.split(",")
    if not arrow or len(operands) != 2 or "..." in takes:
        return None
    left, right = (list(operand) for operand in operands)
    made = list(makes)
    once = all(len(set(own)) == len(own) for own in (left, right, made))
    alone = set(left) ^ set(right)
    return ([left, right], made) if once and alone <= set(made) <= set(left) | set(right) else None


def _lifted(labels: Labels, own: Sequence[str], order: Sequence[str]) -> Labels:
    """Labels whose axes are the letters ``own`` with the axes ``order``."""
    turned = labels.transpose([own.index(letter) for letter in order if letter in own])
    sizes = iter(turned.shape)
    return turned.reshape([next(sizes) if letter in own else 1 for letter in order])


def _lifted_shape(shape: Sequence[int], own: Sequence[str], order: Sequence[str]) -> tuple[int, ...]:
    return tuple(shape[own.index(letter)] if letter in own else 1 for letter in order)
