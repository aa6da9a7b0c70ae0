"""How channels pass operators that move places: their labels are moved as the places are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netpress.graph import Node, Ref
from netpress.structure.atoms import Labels
from netpress.structure.flow import Arrays, Flow
from netpress.structure.labels import along, padded, reshaped, spread, varied
from netpress.structure.modules import shuffled
from netpress.structure.rules import arguments, axes_of, rule, unknown, where, without


@rule("flatten", "reshape")
def _reshape(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.inputs[0]
    return [reshaped(labels, flow.shape(source), flow.shape(index)) for labels in flow.of(source)]


@rule("permute", "transpose", "movedim")
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
        begin, end = axes_of(a["source"], rank), axes_of(a["destination"], rank)
        order = [axis for axis in range(rank) if axis not in begin]
        for at, axis in sorted(zip(end, begin, strict=True)):
            order.insert(at, axis)
    return [labels.transpose(order) for labels in flow.of(source)]


@rule("squeeze")
def _squeeze(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.inputs[0]
    shape = flow.shape(source)
    axes = axes_of(arguments(node)["dim"], len(shape))
    return [without(labels, [axis for axis in axes if shape[axis] == 1]) for labels in flow.of(source)]


@rule("unsqueeze")
def _unsqueeze(flow: Flow, node: Node, index: int) -> Arrays:
    axis = arguments(node)["dim"] % len(flow.shape(index))
    return [np.expand_dims(labels, axis) for labels in flow.of(node.inputs[0])]


@rule("expand")
def _expand(flow: Flow, node: Node, index: int) -> Arrays:
    return [padded(labels, len(flow.shape(index))) for labels in flow.of(node.inputs[0])]


@rule("repeat")
def _repeat(flow: Flow, node: Node, index: int) -> Arrays:
    shape, arrays = flow.shape(index), []
    for labels in flow.of(node.inputs[0]):
        labels = padded(labels, len(shape))
        times = [shape[axis] // size if size > 1 else 1 for axis, size in enumerate(labels.shape)]
        arrays.append(np.tile(labels, times))
    return arrays


@rule("flip", "roll")
def _turn(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    axes = axes_of(a["dims"], len(flow.shape(index)))
    if node.op == "flip":
        return [np.flip(labels, tuple(axes)) for labels in flow.of(node.inputs[0])]
    # a roll by a fixed distance is another permutation when places are missing
    return flow.freeze_along(flow.of(node.inputs[0]), axes, f"{where(node)} rolls it")


@rule("pixel_shuffle")
def _pixel_shuffle(flow: Flow, node: Node, index: int) -> Arrays:
    return shuffled(flow, node.inputs[0], index, arguments(node)["upscale_factor"])


@rule("pixel_unshuffle")
def _pixel_unshuffle(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.inputs[0]
    arrays = flow.freeze_along(flow.of(source), range(2, len(flow.shape(source))), f"{where(node)} moves its pixels")
    times = arguments(node)["downscale_factor"] ** 2
    return [np.repeat(labels, times, axis=1) if 1 in varied(labels) else labels for labels in arrays]


@rule("pad")
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
            flow.freeze([labels], f"{where(node)} pads it")
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


@rule("cat")
def _cat(flow: Flow, node: Node, index: int) -> Arrays:
    shape = flow.shape(index)
    axis = arguments(node)["dim"] % len(shape)
    operands = [(flow.of(source), flow.shape(source)) for source in node.inputs]
    across = [
        ([labels for labels in arrays if axis not in varied(labels)], (*own[:axis], 1, *own[axis + 1 :]))
        for arrays, own in operands
    ]
    arrays = flow.fold(across, len(shape), f"{where(node)} joins a fixed tensor")
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


@rule("stack")
def _stack(flow: Flow, node: Node, index: int) -> Arrays:
    shape = flow.shape(index)
    axis = arguments(node)["dim"] % len(shape)
    operands = [
        ([np.expand_dims(labels, axis) for labels in flow.of(source)], (*shape[:axis], 1, *shape[axis + 1 :]))
        for source in node.inputs
    ]
    return flow.fold(operands, len(shape), f"{where(node)} joins a fixed tensor")


@rule("split", "chunk", "unbind")
def _split(flow: Flow, node: Node, index: int) -> list[Arrays]:
    a = arguments(node)
    source = node.inputs[0]
    axis = a["dim"] % len(flow.shape(source))
    shapes: list[tuple[int, ...]] = flow.shapes[index]
    parts: list[Arrays] = [[] for _ in shapes]
    for labels in flow.of(source):
        if axis not in varied(labels):
            for part in parts:
                part.append(without(labels, [axis]) if node.op == "unbind" else labels)
            continue
        if node.op == "unbind":
            flow.whole.append((labels, axis))
            pieces: list[Any] = [labels.take(place, axis) for place in range(len(shapes))]
        else:
            pieces = np.split(labels, np.cumsum([shape[axis] for shape in shapes])[:-1].tolist(), axis)
        for part, piece in zip(parts, pieces, strict=True):
            part.append(_still_there(flow, piece, labels, node))
    return parts


@rule("item")
def _item(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    return flow.arrays[a["input"].index][a["index"]]


@rule("getitem")
def _getitem(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    source = a["input"].index
    items = items_by_axis(a["index"], len(flow.shape(source)))
    tensors = [item for item, _ in items if isinstance(item, Ref)]
    if len(tensors) > 1 or (tensors and any(isinstance(item, int) for item, _ in items)):
        return unknown(flow, node, index)
    ranks = [len(flow.shape(ref.index)) for ref in tensors]
    if sum(ranks) + sum(item is None or isinstance(item, slice) for item, _ in items) != len(flow.shape(index)):
        return unknown(flow, node, index)  # a mask, which takes as many axes as it has
    for ref in tensors:
        flow.freeze(flow.of(ref.index), f"{where(node)} looks it up")
    arrays = []
    fixed = [axis for item, axis in items if axis >= 0 and not _regular(item)]
    for labels in flow.freeze_along(flow.of(source), fixed, f"{where(node)} takes single places of it"):
        for item, axis in items:
            if axis in varied(labels) and isinstance(item, int):
                flow.whole.append((labels, axis))
        arrays.append(_still_there(flow, _taken(labels, items, ranks), labels, node))
    return arrays


def _still_there(flow: Flow, piece: Labels, labels: Labels, node: Node) -> Labels:
    """The labels of a piece; where it holds a single place of ``labels`` that place stays, or nothing would be left of the piece."""
    if varied(labels) and not varied(piece):
        flow.freeze([piece], f"{where(node)} takes a single place of it")
    return piece


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
