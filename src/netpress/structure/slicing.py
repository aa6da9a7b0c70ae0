"""Taking channels out of a network: out of its tensors, for good, or by zeros in their places."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netpress.graph import Batch, GraphNetwork, Node
from netpress.graph.operators import FUNCTIONS
from netpress.graph.shapes import infer_values
from netpress.structure.atoms import Labels
from netpress.structure.channels import Channels, Keep
from netpress.structure.modules import loses_whole_groups
from netpress.structure.moves import items_by_axis, pad_by_axis

Alive = NDArray[np.bool_]


def slice_network(channels: Channels, keep: Keep) -> GraphNetwork:
    """A smaller network without the channels that ``keep`` does not keep: smaller tensors, nothing masked.

    The network of ``channels`` is not changed, and shares no tensor with the result.

    Raises:
        UnknownNameError, ConfigError: As `Channels.alive`.
        GraphError: The parts of the result do not fit together, which would be a fault of netpress.
    """
    alive = channels.alive(keep)
    net, flow = channels.net, channels.flow
    tensors = dict([*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)])
    left: dict[int, dict[int, Tensor]] = {}  # by identity and axis: a tensor of two names is cut once
    for slot in channels.slots:
        stays = alive[slot.atoms]
        if not stays.all():
            left.setdefault(id(tensors[slot.tensor]), {})[slot.axis] = torch.from_numpy(np.flatnonzero(stays))
    memo: dict[int, Any] = {}  # one for the whole network, so that what is shared stays shared
    for tensor in tensors.values():
        if id(tensor) in left and id(tensor) not in memo:
            made = tensor.detach()
            for axis, places in left[id(tensor)].items():
                made = made.index_select(axis, places.to(tensor.device))
            memo[id(tensor)] = nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made
    sliced = copy.deepcopy(net, memo)
    for name in {node.name for node in net.nodes if node.is_module}:
        _fit(sliced.get_submodule(name), net.get_submodule(name))
    nodes = [
        node if node.is_tensor or node.is_module else _rewritten(node, index, flow, alive)
        for index, node in enumerate(net.nodes, 1)
    ]
    if tuple(nodes) != net.nodes:
        sliced = sliced.with_nodes(nodes)
    infer_values(sliced)
    return sliced


def mask_network(channels: Channels, keep: Keep) -> GraphNetwork:
    """The network of the same shapes with zeros for the channels that ``keep`` does not keep.

    The zeros stand in the parameters that make the channels and in those that read them. `slice_network` gives the same outputs, up
    to rounding; where the network divides by a channel that is missing, or takes its logarithm, the masked one alone may give NaN.

    Raises:
        UnknownNameError, ConfigError: As `Channels.alive`.
    """
    alive = channels.alive(keep)
    masked = copy.deepcopy(channels.net)
    parameters = dict(masked.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for slot in channels.slots:
            dead = torch.from_numpy(np.flatnonzero(~alive[slot.atoms]))
            if len(dead) and slot.tensor in parameters:
                parameter = parameters[slot.tensor]
                parameter.index_fill_(slot.axis, dead.to(parameter.device), 0.0)
    return masked


def _fit(module: Any, before: Any) -> None:
    """Sets what a leaf module says about its sizes to what its tensors have."""
    match module:
        case nn.ConvTranspose1d() | nn.ConvTranspose2d():
            if before.groups > 1:  # whole groups
                module.groups = before.groups * module.weight.shape[0] // before.weight.shape[0]
            module.in_channels, module.out_channels = module.weight.shape[0], module.weight.shape[1] * module.groups
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            if before.groups > 1 and loses_whole_groups(before.groups, before.in_channels):
                module.groups = before.groups * module.weight.shape[0] // before.weight.shape[0]
            module.out_channels, module.in_channels = module.weight.shape[0], module.weight.shape[1] * module.groups
        case nn.Linear():
            module.out_features, module.in_features = module.weight.shape
        case nn.Embedding():
            module.embedding_dim = module.weight.shape[1]
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d():
            held = module.weight if module.weight is not None else module.running_mean
            if held is not None:
                module.num_features = len(held)
        case nn.GroupNorm() if module.affine:
            module.num_groups = before.num_groups * len(module.weight) // before.num_channels
            module.num_channels = len(module.weight)
        case nn.PReLU():
            module.num_parameters = len(module.weight)


# ---------------------------------------------------------------- sizes that stand as numbers in the program


def _rewritten(node: Node, index: int, flow: Any, alive: Alive) -> Node:
    """The node with its numbers, where they say sizes or places of channels, made to fit what is left."""
    rewrite = _REWRITES.get(node.op)
    if rewrite is None:
        return node
    signature = FUNCTIONS[node.op].signature
    a = signature.bind(node.args)
    changed = rewrite(node, a, index, flow, alive)
    if changed is None:
        return node
    op, values = changed
    return Node(node.name, op, FUNCTIONS[op].signature.normalise(values))


def _kept(arrays: list[Labels], shape: tuple[int, ...], axis: int, alive: Alive) -> Alive:
    """Which places along ``axis`` stay. (shape[axis],)"""
    for labels in arrays:
        if labels.shape[axis] > 1:
            others = tuple(other for other in range(labels.ndim) if other != axis)
            return np.asarray(alive[labels].any(others))
    return np.ones(shape[axis], bool)


def _sizes(argument: str) -> Callable[..., Any]:
    def rewrite(node: Node, a: dict[str, Any], index: int, flow: Any, alive: Alive) -> Any:
        shape, arrays = flow.shape(index), flow.of(index)
        sizes = list(a[argument])
        for axis, size in enumerate(sizes):
            left, of = int(_kept(arrays, shape, axis, alive).sum()), shape[axis]
            if isinstance(size, Batch):
                sizes[axis] = Batch(size.factor * left // of)
            elif size >= 0:
                sizes[axis] = left
        return node.op, {**a, argument: tuple(sizes)}

    return rewrite


def _pieces(node: Node, a: dict[str, Any], index: int, flow: Any, alive: Alive) -> Any:
    source = a["input"].index
    shape = flow.shape(source)
    axis = a["dim"] % len(shape)
    stays = _kept(flow.of(source), shape, axis, alive)
    if stays.all():
        return None
    ends = np.cumsum([piece[axis] for piece in flow.shapes[index]])[:-1]
    sections = tuple(int(part.sum()) for part in np.split(stays, ends))
    return "split", {"input": a["input"], "split_size_or_sections": sections, "dim": a["dim"]}


def _pads(node: Node, a: dict[str, Any], index: int, flow: Any, alive: Alive) -> Any:
    shape, arrays = flow.shape(index), flow.of(index)
    pads = list(a["pad"])
    for axis, (before, after) in enumerate(pad_by_axis(pads, len(shape))):
        place = 2 * (len(shape) - 1 - axis)
        if before > 0 or after > 0:
            stays = _kept(arrays, shape, axis, alive)
            pads[place], pads[place + 1] = int(stays[:before].sum()), int(stays[len(stays) - after :].sum())
    return node.op, {**a, "pad": tuple(pads)}


def _places(node: Node, a: dict[str, Any], index: int, flow: Any, alive: Alive) -> Any:
    source = a["input"].index
    shape, arrays = flow.shape(source), flow.of(source)
    axes = {axis: _kept(arrays, shape, axis, alive) for axis in range(len(shape))}
    if all(stays.all() for stays in axes.values()):
        return None
    items: list[Any] = []
    for item, axis in items_by_axis(a["index"], len(shape)):
        if axis >= 0 and not axes[axis].all():
            if isinstance(item, slice):
                start, stop, _ = item.indices(shape[axis])
                whole = (start, stop) == (0, shape[axis])
                item = slice(None) if whole else slice(*(int(axes[axis][:end].sum()) for end in (start, stop)))
            elif isinstance(item, int):
                item = int(axes[axis][: item % shape[axis]].sum())
        items.append(item)
    return node.op, {**a, "index": tuple(items)}


def _share(argument: str) -> Callable[..., Any]:
    """A number of groups of channels that lose whole groups: it falls as the channels along axis 1 of the input do."""

    def rewrite(node: Node, a: dict[str, Any], index: int, flow: Any, alive: Alive) -> Any:
        source = a["input"].index
        width = flow.shape(source)[1]
        stays = _kept(flow.of(source), flow.shape(source), 1, alive)
        if stays.all() or a[argument] == 1 or (argument == "groups" and not loses_whole_groups(a[argument], width)):
            return None
        return node.op, {**a, argument: a[argument] * int(stays.sum()) // width}

    return rewrite


def _scale(node: Node, a: dict[str, Any], index: int, flow: Any, alive: Alive) -> Any:
    source = a["query"].index
    shape = flow.shape(source)
    stays = _kept(flow.of(source), shape, len(shape) - 1, alive)
    if stays.all() or a["scale"] is not None:
        return None
    return node.op, {**a, "scale": shape[-1] ** -0.5}


_REWRITES: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": _scale,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _share("groups")),
    "group_norm": _share("num_groups"),
    "reshape": _sizes("shape"),
    "expand": _sizes("size"),
    "split": _pieces,
    "chunk": _pieces,
    "pad": _pads,
    "getitem": _places,
}
