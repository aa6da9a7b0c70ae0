"""How channels pass operators without state: sums and products tie them, products with weights make and take them,
and what moves places moves labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netpress.graph import Node, Ref
from netpress.graph.operators import FUNCTIONS
from netpress.structure.atoms import Labels
from netpress.structure.flow import Arrays, Flow
from netpress.structure.labels import along, padded, reshaped, spread, varied
from netpress.structure.modules import shuffled

Rule = Callable[[Flow, Node, int], Any]

FUNCTION_RULES: dict[str, Rule] = {}


def arguments(node: Node) -> dict[str, Any]:
    """The arguments of a function node by name, defaults filled in."""
    return FUNCTIONS[node.op].signature.bind(node.args)


def unknown(flow: Flow, node: Node, index: int) -> Any:
    """An operator that channels cannot be followed through: all of its inputs stay whole."""
    for source in node.inputs:
        many = not isinstance(flow.shapes[source], tuple)
        for arrays in flow.arrays[source] if many else [flow.arrays[source]]:
            flow.freeze(arrays, f"{_where(node)} is not followed")
    return [[] for _ in flow.shapes[index]] if isinstance(flow.shapes[index], list) else []


def _rule(*ops: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        FUNCTION_RULES.update(dict.fromkeys(ops, rule))
        return rule

    return register


def _where(node: Node) -> str:
    return f"{node.op}{f' in {node.name}' if node.name else ''}"


# ---------------------------------------------------------------- place by place


@_rule(
    "neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "sign", "erf", "sigmoid", "tanh", "relu", "relu6",
    "silu", "mish", "hardswish", "hardsigmoid", "detach", "logical_not", "logsigmoid", "gelu", "leaky_relu", "elu", "softplus",
    "hardtanh", "clamp", "dropout", "dropout1d", "dropout2d", "to",
)  # fmt: skip
def _same(flow: Flow, node: Node, index: int) -> Arrays:
    return flow.of(node.inputs[0])


@_rule(
    "add", "sub", "mul", "div", "pow", "floor_divide", "gt", "ge", "lt", "le", "eq", "ne", "minimum", "maximum", "where",
    "masked_fill",
)  # fmt: skip
def _fold(flow: Flow, node: Node, index: int) -> Arrays:
    operands = [(flow.of(source), flow.shape(source)) for source in node.inputs]
    return flow.fold(operands, len(flow.shape(index)), f"{_where(node)} meets a fixed tensor")


@_rule("prelu")
def _prelu(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    arrays = flow.of(a["input"].index)
    return arrays if flow.shape(a["weight"].index) == (1,) else _per_channel(flow, node, arrays, (a["weight"],))


@_rule("batch_norm")
def _batch_norm(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    vectors = [a[name] for name in ("running_mean", "running_var", "weight", "bias") if a[name] is not None]
    return _per_channel(flow, node, flow.of(a["input"].index), vectors)


def _per_channel(flow: Flow, node: Node, arrays: Arrays, vectors: Sequence[Ref]) -> Arrays:
    atoms, _ = flow.vector(arrays, 1)
    for ref in vectors:
        own, _ = flow.vector(flow.of(ref.index), 0)
        if atoms is None and own is not None:
            flow.atoms.freeze(own, f"{_where(node)} is given fixed channels")
        elif atoms is not None and own is None:
            flow.atoms.freeze(atoms, f"{_where(node)} has a fixed vector")
        elif atoms is not None and own is not None:
            flow.atoms.unite(atoms, own)
    return arrays


# ---------------------------------------------------------------- what sums over places


@_rule("mean", "sum", "amax", "amin", "var")
def _reduce(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    source = a["input"].index
    axes = _axes(a["dim"], len(flow.shape(source)))
    kept = flow.freeze_along(flow.of(source), axes, f"{_where(node)} over it")
    return kept if a["keepdim"] else [_without(labels, axes) for labels in kept]


@_rule("max_over")
def _max_over(flow: Flow, node: Node, index: int) -> list[Arrays]:
    made = _reduce(flow, node, index)
    return [made, made]


@_rule("softmax", "log_softmax")
def _softmax(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    axes = _axes(a["dim"], len(flow.shape(index)))
    return flow.freeze_along(flow.of(a["input"].index), axes, f"{_where(node)} over it")


@_rule("layer_norm")
def _layer_norm(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    for name in ("weight", "bias"):
        if a[name] is not None:
            flow.freeze(flow.of(a[name].index), f"{_where(node)} normalises over it")
    rank = len(flow.shape(index))
    axes = range(rank - len(a["normalized_shape"]), rank)
    return flow.freeze_along(flow.of(a["input"].index), axes, f"{_where(node)} normalises over it")


@_rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "interpolate",
)  # fmt: skip
def _spatial(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.inputs[0]
    return flow.freeze_along(flow.of(source), range(2, len(flow.shape(source))), f"{_where(node)} over it")


# ---------------------------------------------------------------- products


@_rule("linear")
def _linear(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    rank = len(flow.shape(index))
    inputs, others = flow.vector(flow.of(a["input"].index), rank - 1)
    taken, made = _matrix(flow, a["weight"].index)
    _meet(flow, inputs, taken, _where(node))
    if a["bias"] is not None:
        bias, _ = flow.vector(flow.of(a["bias"].index), 0)
        _meet(flow, made, bias, _where(node))
    return [*([] if made is None else [along(made, rank - 1, rank)]), *others]


@_rule("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d")
def _conv(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    if a["groups"] != 1:
        return unknown(flow, node, index)
    rank = len(flow.shape(index))
    arrays = flow.freeze_along(flow.of(a["input"].index), [0, *range(2, rank)], f"{_where(node)} convolves over it")
    inputs, _ = flow.vector(arrays, 1)
    taken, made = _matrix(flow, a["weight"].index)
    if "transpose" in node.op:
        taken, made = made, taken
    _meet(flow, inputs, taken, _where(node))
    if a["bias"] is not None:
        bias, _ = flow.vector(flow.of(a["bias"].index), 0)
        _meet(flow, made, bias, _where(node))
    return [] if made is None else [along(made, 1, rank)]


def _matrix(flow: Flow, index: int) -> tuple[Labels | None, Labels | None]:
    """Atoms along axes 1 and 0 of a weight; its other axes are the kernel's and stay."""
    arrays = flow.freeze_along(flow.of(index), range(2, len(flow.shape(index))), "a convolution's kernel")
    first, others = flow.vector(arrays, 1)
    return first, flow.vector(others, 0)[0]


def _meet(flow: Flow, first: Labels | None, second: Labels | None, where: str) -> None:
    """Two sides that are summed over, or added, place by place: tied, or frozen where one of them is fixed."""
    if first is not None and second is not None:
        flow.atoms.unite(first, second)
    elif first is not None or second is not None:
        flow.atoms.freeze(first if first is not None else second, f"{where} meets a fixed tensor")  # type: ignore[arg-type]


@_rule("matmul", "bmm")
def _matmul(flow: Flow, node: Node, index: int) -> Arrays:
    x, y = node.inputs
    if min(len(flow.shape(x)), len(flow.shape(y))) < 2:
        return unknown(flow, node, index)
    return _product(flow, flow.of(x), flow.shape(x), flow.of(y), flow.shape(y), _where(node))


@_rule("addmm", "baddbmm")
def _add_product(flow: Flow, node: Node, index: int) -> Arrays:
    added, x, y = node.inputs
    product = _product(flow, flow.of(x), flow.shape(x), flow.of(y), flow.shape(y), _where(node))
    operands = [(flow.of(added), flow.shape(added)), (product, flow.shape(index))]
    return flow.fold(operands, len(flow.shape(index)), f"{_where(node)} meets a fixed tensor")


@_rule("scaled_dot_product_attention")
def _attention(flow: Flow, node: Node, index: int) -> Arrays:
    """(..., L, E), (..., S, E), (..., S, V) -> (..., L, V): heads, not parts of them, can be removed."""
    a = arguments(node)
    q, k, v = (a[name].index for name in ("query", "key", "value"))
    where = _where(node)
    turned = [np.swapaxes(labels, -1, -2) for labels in flow.of(k)]
    k_shape = (*flow.shape(k)[:-2], flow.shape(k)[-1], flow.shape(k)[-2])
    shape = (*flow.shape(index)[:-1], flow.shape(k)[-2])  # of the scores
    scores = _product(flow, flow.of(q), flow.shape(q), turned, k_shape, where)
    if a["attn_mask"] is not None:
        mask = a["attn_mask"].index
        scores = flow.fold([(scores, shape), (flow.of(mask), flow.shape(mask))], len(shape), f"{where} is masked")
    scores = flow.freeze_along(scores, (len(shape) - 1,), f"{where} normalises over it")
    return _product(flow, scores, shape, flow.of(v), flow.shape(v), where)


def _product(flow: Flow, x: Arrays, x_shape: Sequence[int], y: Arrays, y_shape: Sequence[int], where: str) -> Arrays:
    """(..., n, k) @ (..., k, m). What is summed over is tied pairwise, or as a whole where it belongs to a head."""
    rank = max(len(x_shape), len(y_shape))
    x, y = [padded(labels, rank) for labels in x], [padded(labels, rank) for labels in y]
    heads = any(varied(labels) - {rank - 1} and rank - 1 in varied(labels) for labels in x) or any(
        varied(labels) - {rank - 2} and rank - 2 in varied(labels) for labels in y
    )
    if heads:
        x = [flow.collapse(labels, range(rank - 1)) for labels in x]
        y = [flow.collapse(labels, [*range(rank - 2), rank - 1]) for labels in y]
        x, y = [labels for labels in x if varied(labels)], [labels for labels in y if varied(labels)]
    else:
        left, x = flow.vector(x, rank - 1)
        right, y = flow.vector(y, rank - 2)
        _meet(flow, left, right, where)
    operands = [(x, (*x_shape[:-1], 1)), (y, (*y_shape[:-2], 1, y_shape[-1]))]
    return flow.fold(operands, rank, f"{where} meets a fixed tensor")


@_rule("embedding")
def _embedding(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    flow.freeze(flow.of(a["input"].index), f"{_where(node)} looks it up")
    made, rows = _matrix(flow, a["weight"].index)
    if rows is not None:
        flow.atoms.freeze(rows, f"{_where(node)} looks rows up")
    rank = len(flow.shape(index))
    return [] if made is None else [along(made, rank - 1, rank)]


# ---------------------------------------------------------------- what moves places


@_rule("flatten", "reshape")
def _reshape(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.inputs[0]
    return [reshaped(labels, flow.shape(source), flow.shape(index)) for labels in flow.of(source)]


@_rule("permute", "transpose", "movedim")
def _permute(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    source = node.inputs[0]
    rank = len(flow.shape(source))
    if node.op == "permute":
        order = [axis % rank for axis in a["dims"]]
    elif node.op == "transpose":
        order = list(range(rank))
        one, two = a["dim0"] % rank, a["dim1"] % rank
        order[one], order[two] = two, one
    else:
        begin, end = _axes(a["source"], rank), _axes(a["destination"], rank)
        order = [axis for axis in range(rank) if axis not in begin]
        for at, axis in sorted(zip(end, begin, strict=True)):
            order.insert(at, axis)
    return [labels.transpose(order) for labels in flow.of(source)]


@_rule("squeeze")
def _squeeze(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.inputs[0]
    shape = flow.shape(source)
    axes = _axes(arguments(node)["dim"], len(shape))
    return [_without(labels, [axis for axis in axes if shape[axis] == 1]) for labels in flow.of(source)]


@_rule("unsqueeze")
def _unsqueeze(flow: Flow, node: Node, index: int) -> Arrays:
    axis = arguments(node)["dim"] % len(flow.shape(index))
    return [np.expand_dims(labels, axis) for labels in flow.of(node.inputs[0])]


@_rule("expand")
def _expand(flow: Flow, node: Node, index: int) -> Arrays:
    return [padded(labels, len(flow.shape(index))) for labels in flow.of(node.inputs[0])]


@_rule("repeat")
def _repeat(flow: Flow, node: Node, index: int) -> Arrays:
    shape, arrays = flow.shape(index), []
    for labels in flow.of(node.inputs[0]):
        labels = padded(labels, len(shape))
        times = [shape[axis] // size if size > 1 else 1 for axis, size in enumerate(labels.shape)]
        arrays.append(np.tile(labels, times))
    return arrays


@_rule("flip", "roll")
def _turn(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    axes = _axes(a["dims"], len(flow.shape(index)))
    if node.op == "flip":
        return [np.flip(labels, tuple(axes)) for labels in flow.of(node.inputs[0])]
    # a roll by a fixed distance is another permutation when places are missing
    return flow.freeze_along(flow.of(node.inputs[0]), axes, f"{_where(node)} rolls it")


@_rule("pixel_shuffle")
def _pixel_shuffle(flow: Flow, node: Node, index: int) -> Arrays:
    return shuffled(flow, node.inputs[0], index, arguments(node)["upscale_factor"])


@_rule("pixel_unshuffle")
def _pixel_unshuffle(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.inputs[0]
    arrays = flow.freeze_along(flow.of(source), range(2, len(flow.shape(source))), f"{_where(node)} moves its pixels")
    return [np.repeat(labels, arguments(node)["downscale_factor"] ** 2, axis=1) for labels in arrays]


@_rule("pad")
def _pad(flow: Flow, node: Node, index: int) -> Arrays:
    """Places that are added are channels of their own, which what they are added to ties (shortcuts of option A)."""
    a = arguments(node)
    source = node.inputs[0]
    rank = len(flow.shape(source))
    pads = pad_by_axis(a["pad"], rank)
    constant = a["mode"] == "constant"
    arrays = []
    for labels in flow.of(source):
        changed = [axis for axis in varied(labels) if pads[axis] != (0, 0)]
        if changed and (not constant or len(varied(labels)) > 1 or min(pads[changed[0]]) < 0):
            flow.freeze([labels], f"{_where(node)} pads it")
            continue
        if changed:
            before, after = pads[changed[0]]
            atoms = [flow.atoms.fresh(before), labels.reshape(-1), flow.atoms.fresh(after)]
            labels = along(np.concatenate(atoms), changed[0], rank)
        arrays.append(labels)
    return arrays


def pad_by_axis(pad: Sequence[int], rank: int) -> list[tuple[int, int]]:
    """The pads (before, after) of each axis, from the list that begins at the last axis."""
    pads = [(0, 0)] * rank
    for place in range(len(pad) // 2):
        pads[rank - 1 - place] = (pad[2 * place], pad[2 * place + 1])
    return pads


@_rule("cat")
def _cat(flow: Flow, node: Node, index: int) -> Arrays:
    shape = flow.shape(index)
    axis = arguments(node)["dim"] % len(shape)
    operands = [(flow.of(source), flow.shape(source)) for source in node.inputs]
    across = [
        ([labels for labels in arrays if axis not in varied(labels)], (*own[:axis], 1, *own[axis + 1 :]))
        for arrays, own in operands
    ]
    arrays = flow.fold(across, len(shape), f"{_where(node)} joins a fixed tensor")
    parts = [([labels for labels in own if axis in varied(labels)], size) for own, size in operands]
    if any(own for own, _ in parts):
        arrays.append(_joined(flow, parts, axis))
    return arrays


def _joined(flow: Flow, parts: Sequence[tuple[Arrays, Sequence[int]]], axis: int) -> Labels:
    """One array along ``axis``, from the operands' own; what has none is fixed there."""
    columns = []
    for own, shape in parts:
        if not own:
            atoms = flow.atoms.fresh(shape[axis])
            flow.atoms.freeze(atoms, "it is joined with channels and has none")
            own = [along(atoms, axis, len(shape))]
        for other in own[1:]:
            flow.atoms.unite(own[0], other)
        columns.append(max(own, key=lambda labels: len(varied(labels))))
    axes = frozenset().union(*(varied(labels) for labels in columns)) | {axis}
    return np.concatenate(
        [spread(labels, shape, sorted(axes)) for labels, (_, shape) in zip(columns, parts, strict=True)], axis
    )


@_rule("stack")
def _stack(flow: Flow, node: Node, index: int) -> Arrays:
    shape = flow.shape(index)
    axis = arguments(node)["dim"] % len(shape)
    operands = [
        ([np.expand_dims(labels, axis) for labels in flow.of(source)], (*shape[:axis], 1, *shape[axis + 1 :]))
        for source in node.inputs
    ]
    return flow.fold(operands, len(shape), f"{_where(node)} joins a fixed tensor")


@_rule("split", "chunk", "unbind")
def _split(flow: Flow, node: Node, index: int) -> list[Arrays]:
    a = arguments(node)
    source = node.inputs[0]
    axis = a["dim"] % len(flow.shape(source))
    shapes: list[tuple[int, ...]] = flow.shapes[index]
    parts: list[Arrays] = [[] for _ in shapes]
    for labels in flow.of(source):
        if axis not in varied(labels):
            for part in parts:
                part.append(_without(labels, [axis]) if node.op == "unbind" else labels)
            continue
        if node.op == "unbind":
            flow.whole.append((labels, axis))
            pieces: list[Any] = [labels.take(place, axis) for place in range(len(shapes))]
        else:
            pieces = np.split(labels, np.cumsum([shape[axis] for shape in shapes])[:-1].tolist(), axis)
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
    return parts


@_rule("item")
def _item(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    return flow.arrays[a["input"].index][a["index"]]


@_rule("getitem")
def _getitem(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    source = a["input"].index
    items = items_by_axis(a["index"], len(flow.shape(source)))
    tensors = [item for item, _ in items if isinstance(item, Ref)]
    if len(tensors) > 1:
        return unknown(flow, node, index)
    for ref in tensors:
        flow.freeze(flow.of(ref.index), f"{_where(node)} looks it up")
    arrays = []
    for labels in flow.of(source):
        fixed = [axis for item, axis in items if axis in varied(labels) and not _regular(item)]
        if fixed:
            flow.freeze([labels], f"{_where(node)} takes parts of it that are not one run")
            continue
        for item, axis in items:
            if axis in varied(labels) and isinstance(item, int):
                flow.whole.append((labels, axis))
        arrays.append(_taken(labels, items, [len(flow.shape(ref.index)) for ref in tensors]))
    return arrays


def items_by_axis(index: Sequence[Any], rank: int) -> list[tuple[Any, int]]:
    """The items of an index with the axis that each is about, in order; -1 for a new axis; what is not said is a full slice."""
    said = sum(item is not None and item is not Ellipsis for item in index)
    full = list(index) if Ellipsis in index else [*index, Ellipsis]
    items: list[tuple[Any, int]] = []
    axis = 0
    for item in full:
        if item is None:
            items.append((None, -1))
        elif item is Ellipsis:
            for _ in range(rank - said):
                items.append((slice(None), axis))
                axis += 1
        else:
            items.append((item, axis))
            axis += 1
    return items


def _regular(item: Any) -> bool:
    """Whether it takes one place, or one run of places, by numbers that are fixed."""
    if isinstance(item, slice):
        return item.step in (None, 1) and all(part is None or isinstance(part, int) for part in (item.start, item.stop))
    return isinstance(item, int)


def _taken(labels: Labels, items: Sequence[tuple[Any, int]], ranks: Sequence[int]) -> Labels:
    where: list[Any] = []
    for item, axis in items:
        if axis < 0:
            where.append(np.newaxis)
        elif isinstance(item, Ref):
            where += [slice(None), *[np.newaxis] * (ranks[0] - 1)]
        elif isinstance(item, slice):
            where.append(item if labels.shape[axis] > 1 else slice(None))
        else:
            where.append(item if labels.shape[axis] > 1 else 0)
    return labels[tuple(where)]


def _axes(dim: Any, rank: int) -> list[int]:
    if dim is None:
        return list(range(rank))
    return [axis % rank for axis in (dim if isinstance(dim, tuple) else (dim,))]


def _without(labels: Labels, axes: Sequence[int]) -> Labels:
    return labels.reshape([size for axis, size in enumerate(labels.shape) if axis not in axes])
