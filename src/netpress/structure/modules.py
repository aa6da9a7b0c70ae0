"""How channels pass leaf modules: which axes of their tensors hold which channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from netpress.graph import Node
from netpress.structure.atoms import Labels
from netpress.structure.flow import Arrays, Flow
from netpress.structure.labels import along, reshaped, varied
from netpress.structure.rules import windowed_axes

Rule = Callable[[Flow, Node, int], Any]


def passes(flow: Flow, node: Node, index: int) -> Arrays:
    """Activations, dropout: each place by itself."""
    return flow.of(node.args[0].index)


def _linear(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.args[0].index
    rank = len(flow.shape(source))
    inputs, others = flow.vector(flow.of(source), rank - 1)
    _consume(flow, node.name, 1, inputs)
    return [along(_made(flow, node.name, 0), rank - 1, rank), *others]


def _conv(flow: Flow, node: Node, index: int) -> Arrays:
    module: Any = flow.net.get_submodule(node.name)
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d)
    makes, takes = (1, 0) if transposed else (0, 1)
    source = node.args[0].index
    rank = len(flow.shape(source))
    if rank != module.weight.dim():  # without a batch, channels first
        flow.freeze(flow.of(source), f"{node.name} convolves a single sample")
        for axis in (makes, takes):
            flow.add_fixed_slot(
                f"{node.name}.weight", axis, f"{node.name} convolves a single sample", consumes=axis == takes
            )
        return []
    arrays = flow.freeze_along(flow.of(source), [0, *range(2, rank)], f"{node.name} convolves over it")
    inputs, _ = flow.vector(arrays, 1)
    if module.groups == 1:
        _consume(flow, node.name, takes, inputs)
        return [along(_made(flow, node.name, makes), 1, rank)]
    if inputs is None:
        inputs = flow.atoms.fresh(module.in_channels)
        flow.atoms.freeze(inputs, f"the input of {node.name} is fixed")
    if transposed:
        return [along(_grouped_transposed(flow, node.name, inputs, module), 1, rank)]
    rows = _made(flow, node.name, 0)
    places = tie_groups(flow, inputs, rows, module.groups)
    if places is not None:
        flow.add_slot(f"{node.name}.weight", 1, places, consumes=True)
    elif module.weight.shape[1] > 1:
        flow.add_fixed_slot(f"{node.name}.weight", 1, f"{node.name} loses whole groups", consumes=True)
    return [along(rows, 1, rank)]


def tie_groups(flow: Flow, inputs: Labels, rows: Labels, groups: int) -> Labels | None:
    """Ties what a grouped convolution reads and makes: it loses whole groups where they are many, else places of all groups.

    Args:
        inputs: (I,)
        rows: Its filters. (O,)

    Returns:
        The atoms of the I / groups places that each filter reads, if places of all groups can go; None if only whole groups can.
    """
    of_groups, of_rows = inputs.reshape(groups, -1), rows.reshape(groups, -1)  # (G, I/G), (G, O/G)
    if loses_whole_groups(groups, len(inputs)):
        flow.atoms.unite(of_rows[:, :1], of_groups)
        flow.atoms.unite(of_rows[:, :1], of_rows)
        return None
    flow.atoms.unite(of_groups[:1], of_groups)
    flow.atoms.unite(of_rows[:1], of_rows)
    return of_groups[0]


def loses_whole_groups(groups: int, inputs: int) -> bool:
    """Whether a grouped convolution of this many input channels is cut by groups, not by places in all groups."""
    return groups * groups >= inputs


def _grouped_transposed(flow: Flow, name: str, inputs: Labels, module: Any) -> Labels:
    """Whole groups: filters lie along axis 0 with the channels that they read, outputs are numbered group by group."""
    atoms = flow.held(f"{name}.weight", 0)
    rows = inputs if atoms is None else atoms
    flow.atoms.unite(rows, inputs)
    of_groups = rows.reshape(module.groups, -1)  # (G, I/G)
    flow.atoms.unite(of_groups[:, :1], of_groups)
    flow.add_slot(f"{name}.weight", 0, rows)
    made = np.repeat(of_groups[:, 0], module.weight.shape[1])  # (G * O/G,)
    if module.bias is not None:
        flow.add_slot(f"{name}.bias", 0, made)
    return made


def _consume(flow: Flow, name: str, axis: int, inputs: Labels | None) -> None:
    """A layer reads ``inputs`` with this axis of its weight; None says that they are fixed."""
    if inputs is None:
        flow.add_fixed_slot(f"{name}.weight", axis, f"the input of {name} is fixed", consumes=True)
    else:
        flow.add_slot(f"{name}.weight", axis, inputs, consumes=True)


def _made(flow: Flow, name: str, axis: int) -> Labels:
    """Atoms of a layer's outputs: of its weight's ``axis``, and of its bias; the same ones each time that it is called."""
    weight = f"{name}.weight"
    atoms = flow.held(weight, axis)
    if atoms is None:
        atoms = flow.atoms.fresh(flow.net.get_parameter(weight).shape[axis])
    flow.add_slot(weight, axis, atoms)
    if getattr(flow.net.get_submodule(name), "bias", None) is not None:
        flow.add_slot(f"{name}.bias", 0, atoms)
    return atoms


def _batch_norm(flow: Flow, node: Node, index: int) -> Arrays:
    arrays = flow.of(node.args[0].index)
    module: Any = flow.net.get_submodule(node.name)
    if module.running_mean is None:
        arrays = flow.freeze_along(arrays, [0, *range(2, len(flow.shape(index)))], f"{node.name} standardises it")
    atoms, _ = flow.vector(arrays, 1)
    _per_channel(flow, node.name, module, ("weight", "bias", "running_mean", "running_var"), atoms)
    return arrays


def _per_channel(flow: Flow, name: str, module: Any, tensors: Sequence[str], atoms: Labels | None) -> None:
    """Vectors of a module with one number a channel; None says that the channels are fixed."""
    for tensor in tensors:
        if getattr(module, tensor) is None:
            continue
        if atoms is None:
            flow.add_fixed_slot(f"{name}.{tensor}", 0, f"the input of {name} is fixed")
        else:
            flow.add_slot(f"{name}.{tensor}", 0, atoms)


def _group_norm(flow: Flow, node: Node, index: int) -> Arrays:
    module: Any = flow.net.get_submodule(node.name)
    arrays, atoms = group_normalised(flow, node.args[0].index, module.num_groups, node.name)
    _per_channel(flow, node.name, module, ("weight", "bias"), atoms)
    return arrays


def group_normalised(flow: Flow, source: int, groups: int, name: str) -> tuple[Arrays, Labels | None]:
    """Labels of value ``source`` behind a group normalisation, and its channels, of which whole groups can go."""
    shape = flow.shape(source)
    reason = f"{name} normalises over it"
    arrays = flow.freeze_along(flow.of(source), range(2, len(shape)), reason)
    if groups == 1:
        arrays = flow.freeze_along(arrays, (1,), reason, stays=True)
    atoms, _ = flow.vector(arrays, 1)
    if atoms is not None:
        of_groups = atoms.reshape(groups, -1)
        flow.atoms.unite(of_groups[:, :1], of_groups)  # a mean over a group is another one without some of it
    return arrays, atoms


def _layer_norm(flow: Flow, node: Node, index: int) -> Arrays:
    module: Any = flow.net.get_submodule(node.name)
    rank = len(flow.shape(index))
    axes = range(rank - len(module.normalized_shape), rank)
    return flow.freeze_along(flow.of(node.args[0].index), axes, f"{node.name} normalises over it", stays=True)


def _prelu(flow: Flow, node: Node, index: int) -> Arrays:
    arrays = flow.of(node.args[0].index)
    module: Any = flow.net.get_submodule(node.name)
    if module.weight.numel() > 1:
        atoms, _ = flow.vector(arrays, 1)
        _per_channel(flow, node.name, module, ("weight",), atoms)
    return arrays


def _embedding(flow: Flow, node: Node, index: int) -> Arrays:
    flow.freeze(flow.of(node.args[0].index), f"{node.name} looks it up")
    weight = f"{node.name}.weight"
    flow.add_fixed_slot(weight, 0, f"{node.name} looks rows up", consumes=True)
    atoms = flow.held(weight, 1)
    if atoms is None:
        atoms = flow.atoms.fresh(flow.net.get_parameter(weight).shape[1])
    flow.add_slot(weight, 1, atoms)
    rank = len(flow.shape(index))
    return [along(atoms, rank - 1, rank)]


def _spatial(flow: Flow, node: Node, index: int) -> Arrays:
    """Pooling and padding of images: all axes but the window's are passed on."""
    source = node.args[0].index
    axes = windowed_axes(node.op, len(flow.shape(source)))
    return flow.freeze_along(flow.of(source), axes, f"{node.name} pools or pads it")


def _softmax(flow: Flow, node: Node, index: int) -> Arrays:
    module: Any = flow.net.get_submodule(node.name)
    axis = module.dim % len(flow.shape(index))
    return flow.freeze_along(flow.of(node.args[0].index), (axis,), f"{node.name} is a softmax over it", stays=True)


def _flatten(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.args[0].index
    return [reshaped(labels, flow.shape(source), flow.shape(index)) for labels in flow.of(source)]


def _unflatten(flow: Flow, node: Node, index: int) -> Arrays:
    module: Any = flow.net.get_submodule(node.name)
    source = node.args[0].index
    axis = module.dim % len(flow.shape(source))
    kept = flow.freeze_along(flow.of(source), (axis,), f"{node.name} fixes its size")
    return [reshaped(labels, flow.shape(source), flow.shape(index)) for labels in kept]


def shuffled(flow: Flow, source: int, index: int, factor: int) -> Arrays:
    """Pixel shuffle: the factor² places of a channel that become one square of pixels are tied."""
    arrays = []
    for labels in flow.freeze_along(flow.of(source), range(2, len(flow.shape(source))), "its pixels are shuffled"):
        if 1 in varied(labels):
            blocks = labels.reshape(labels.shape[0], -1, factor * factor)  # (N or 1, C, r²)
            flow.atoms.unite(blocks[:, :, :1], blocks)
            labels = blocks[:, :, 0].reshape(labels.shape[0], -1, *labels.shape[2:])
        arrays.append(labels)
    return arrays


def _pixel_shuffle(flow: Flow, node: Node, index: int) -> Arrays:
    module: Any = flow.net.get_submodule(node.name)
    return shuffled(flow, node.args[0].index, index, module.upscale_factor)


MODULE_RULES: dict[str, Rule] = {
    "Linear": _linear,
    "GroupNorm": _group_norm,
    "LayerNorm": _layer_norm,
    "PReLU": _prelu,
    "Embedding": _embedding,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Flatten": _flatten,
    "Unflatten": _unflatten,
    "PixelShuffle": _pixel_shuffle,
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d"), _conv),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"), _batch_norm),
    **dict.fromkeys(
        (
            "MaxPool1d", "MaxPool2d", "MaxPool3d", "AvgPool1d", "AvgPool2d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d",
            "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "ZeroPad2d", "ReflectionPad2d", "Upsample",
        ),
        _spatial,
    ),
}  # fmt: skip
