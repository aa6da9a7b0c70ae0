"""How channels pass leaf modules: which axes of their tensors hold which channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from netpress.graph import Node
from netpress.structure.atoms import Labels
from netpress.structure.flow import Arrays, Flow
from netpress.structure.labels import along, reshaped, varied

Rule = Callable[[Flow, Node, int], Any]


def passes(flow: Flow, node: Node, index: int) -> Arrays:
    """Activations, dropout: each place by itself."""
    return flow.of(node.args[0].index)


def _linear(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.args[0].index
    rank = len(flow.shape(source))
    inputs, others = flow.vector(flow.of(source), rank - 1)
    if inputs is not None:
        flow.add_slot(f"{node.name}.weight", 1, inputs, consumes=True)
    return [along(_made(flow, node.name, 0), rank - 1, rank), *others]


def _conv(flow: Flow, node: Node, index: int) -> Arrays:
    module: Any = flow.net.get_submodule(node.name)
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d)
    makes, takes = (1, 0) if transposed else (0, 1)
    source = node.args[0].index
    rank = len(flow.shape(source))
    arrays = flow.freeze_along(flow.of(source), [0, *range(2, rank)], f"{node.name} convolves over it")
    inputs, _ = flow.vector(arrays, 1)
    groups = module.groups
    if groups == 1:
        if inputs is not None:
            flow.add_slot(f"{node.name}.weight", takes, inputs, consumes=True)
        return [along(_made(flow, node.name, makes), 1, rank)]
    if inputs is None:
        inputs = flow.atoms.fresh(module.in_channels)
        flow.atoms.freeze(inputs, f"the input of {node.name} is fixed")
    if transposed:
        return _frozen_grouped(flow, node, inputs, rank)
    return [along(_grouped(flow, node, inputs, module), 1, rank)]


def _grouped(flow: Flow, node: Node, inputs: Labels, module: Any) -> Labels:
    """A grouped convolution loses whole groups where they are many, else the same places in all of its groups."""
    groups = module.groups
    of_groups = inputs.reshape(groups, -1)  # (G, I/G)
    rows = _made(flow, node.name, 0).reshape(groups, -1)  # (G, O/G)
    if groups >= of_groups.shape[1]:
        flow.atoms.unite(rows[:, :1], of_groups)
        flow.atoms.unite(rows[:, :1], rows)
        # the channels that a filter reads are removed with it
    else:
        flow.atoms.unite(of_groups[:1], of_groups)
        flow.atoms.unite(rows[:1], rows)
        flow.add_slot(f"{node.name}.weight", 1, of_groups[0], consumes=True)
    return rows.reshape(-1)


def _frozen_grouped(flow: Flow, node: Node, inputs: Labels, rank: int) -> Arrays:
    flow.atoms.freeze(inputs, f"{node.name} is a grouped transposed convolution")
    return []


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
    atoms, others = flow.vector(arrays, 1)
    if atoms is not None:
        module: Any = flow.net.get_submodule(node.name)
        for name in ("weight", "bias", "running_mean", "running_var"):
            if getattr(module, name) is not None:
                flow.add_slot(f"{node.name}.{name}", 0, atoms)
    return arrays if atoms is not None else others


def _group_norm(flow: Flow, node: Node, index: int) -> Arrays:
    arrays = flow.of(node.args[0].index)
    rank = len(flow.shape(index))
    arrays = flow.freeze_along(arrays, range(2, rank), f"{node.name} normalises over it")
    atoms, others = flow.vector(arrays, 1)
    if atoms is None:
        return others
    module: Any = flow.net.get_submodule(node.name)
    groups = atoms.reshape(module.num_groups, -1)
    flow.atoms.unite(groups[:, :1], groups)  # a mean over a group is another one without some of it
    if module.affine:
        flow.add_slot(f"{node.name}.weight", 0, atoms)
        flow.add_slot(f"{node.name}.bias", 0, atoms)
    return arrays


def _layer_norm(flow: Flow, node: Node, index: int) -> Arrays:
    module: Any = flow.net.get_submodule(node.name)
    rank = len(flow.shape(index))
    axes = range(rank - len(module.normalized_shape), rank)
    return flow.freeze_along(flow.of(node.args[0].index), axes, f"{node.name} normalises over it")


def _prelu(flow: Flow, node: Node, index: int) -> Arrays:
    arrays = flow.of(node.args[0].index)
    if flow.net.get_parameter(f"{node.name}.weight").numel() > 1:
        atoms, _ = flow.vector(arrays, 1)
        if atoms is not None:
            flow.add_slot(f"{node.name}.weight", 0, atoms)
    return arrays


def _embedding(flow: Flow, node: Node, index: int) -> Arrays:
    flow.freeze(flow.of(node.args[0].index), f"{node.name} looks it up")
    weight = f"{node.name}.weight"
    atoms = flow.held(weight, 1)
    if atoms is None:
        atoms = flow.atoms.fresh(flow.net.get_parameter(weight).shape[1])
    flow.add_slot(weight, 1, atoms)
    rank = len(flow.shape(index))
    return [along(atoms, rank - 1, rank)]


def _spatial(flow: Flow, node: Node, index: int) -> Arrays:
    """Pooling and padding of images: (N, C, ...) with all but C fixed."""
    source = node.args[0].index
    return flow.freeze_along(flow.of(source), range(2, len(flow.shape(source))), f"{node.name} pools or pads it")


def _softmax(flow: Flow, node: Node, index: int) -> Arrays:
    module: Any = flow.net.get_submodule(node.name)
    axis = module.dim % len(flow.shape(index))
    return flow.freeze_along(flow.of(node.args[0].index), (axis,), f"{node.name} normalises over it")


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
            blocks = labels.reshape(-1, factor * factor)  # (C, r²)
            flow.atoms.unite(blocks[:, :1], blocks)
            arrays.append(along(np.ascontiguousarray(blocks[:, 0]), 1, len(flow.shape(index))))
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
