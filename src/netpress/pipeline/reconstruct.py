"""Layers of a narrower network learn what the wider one's gave, one after the other, in closed form.

A convolution or linear layer is moved by the weights D that make good, by least squares over training images, what its outputs miss
of the original's: min |T - (W + D) Y|² for the original's outputs T and the narrow network's own inputs Y, which come through
layers that were set before (He et al., ICCV 2017; Luo et al., ICCV 2017). Where a constant is free, in a bias or in the batch
normalisation behind the layer, means are taken out first. Where the layer ends a branch that is added to another value, T
makes good what that value misses, too, so that errors do not add up from block to block. Batch normalisations take their statistics
from the same images, and their scale and shift by least squares. No label is looked at.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpress.graph import GraphNetwork
from netpress.maths.gram import gram, solve_gram
from netpress.pipeline.job import Job
from netpress.pipeline.layer_columns import MATRIX_LAYERS, columns_at, place_stride
from netpress.pipeline.narrowed import Narrowed
from netpress.pipeline.rdo_statistics import calibration

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

RIDGE = 0.01  # share of the mean curvature that keeps weights near where they were
MOST_COLUMNS = 6000  # layers with more inputs stay as they were cut: their Gram matrix would take too much memory
MEMORY_BYTES = 2 << 30  # that the wide network's values may take
IMAGES_AT_ONCE = 64  # of which columns are cut out for a Gram matrix
LEAST_SCALE = 0.01  # of the mean scale: channels that a norm scales by less make nothing good for a sum behind it


def reconstruct(narrowed: Narrowed, job: Job, *, samples: int) -> int:
    """Sets weights, biases and normalisations of ``narrowed.network`` in place; the wide network is not changed.

    Args:
        samples: Training images, or as many as memory allows for.

    Returns:
        How many layers were set.
    """
    wide, narrow = narrowed.channels.net.to(job.device).eval(), narrowed.network.to(job.device).eval()
    layers = _layers(wide)
    run = _Run(narrowed, layers)
    one = run.record(wide, calibration(job, 1))
    each = sum(value.numel() * value.element_size() for value in one.values())
    images = calibration(job, max(1, min(samples, len(job.fit), MEMORY_BYTES // max(1, each))))
    run.wanted, run.found = run.record(wide, images), {0: images}
    handles = [narrow.get_submodule(layer.name).register_forward_pre_hook(run.fit) for layer in layers]
    try:
        with torch.no_grad(), job.progress.step("least squares", total=None):
            narrow.run(images, run.watch)
    finally:
        for handle in handles:
            handle.remove()
    return run.count


@dataclass(frozen=True)
class _Layer:
    """A layer to be set, when its node is about to run.

    Attributes:
        node: Number of the node, the first that calls the layer.
        name: Dotted name of the module.
        norm: Node of the batch normalisation that alone reads what a matrix makes, if there is one.
        beside: Number of the value, made before, that is added to the layer's output, or to the norm's behind it.
    """

    node: int
    name: str
    norm: int | None = None
    beside: int | None = None


def _layers(net: GraphNetwork) -> list[_Layer]:
    """In order of execution. Of layers that share parameters only the first is set."""
    readers: list[list[int]] = [[] for _ in range(len(net.nodes) + 1)]
    for number, node in enumerate(net.nodes):
        for index in node.inputs:
            readers[index].append(number)
    calls = Counter(node.name for node in net.nodes if node.is_module)

    def next_alone(number: int) -> int | None:
        """The node that alone reads what a node makes."""
        found = readers[number + 1]
        return found[0] if len(found) == 1 else None

    def norm_behind(number: int) -> int | None:
        norm = next_alone(number)
        if norm is None or not net.nodes[norm].is_module or calls[net.nodes[norm].name] > 1:
            return None
        module: Any = net.get_submodule(net.nodes[norm].name)
        return norm if isinstance(module, NORMS) and module.track_running_stats else None

    def added_to(end: int, before: int) -> int | None:
        """The value that is added to what ``end`` makes, if it is there when node ``before`` runs."""
        total = next_alone(end)
        if total is None or net.nodes[total].op != "add":
            return None
        others = [index for index in net.nodes[total].inputs if index != end + 1]
        return others[0] if len(others) == 1 and others[0] <= before else None

    layers: list[_Layer] = []
    taken: set[int] = set()
    for number, node in enumerate(net.nodes):
        module = net.get_submodule(node.name) if node.is_module else None
        if not isinstance(module, MATRIX_LAYERS + NORMS):
            continue
        own = {id(module), *map(id, module.parameters())}
        if own & taken:
            continue
        taken |= own
        if calls[node.name] > 1:  # what is behind one call is not behind the other
            layers.append(_Layer(number, node.name))
            continue
        norm = None if isinstance(module, NORMS) else norm_behind(number)
        layers.append(_Layer(number, node.name, norm, added_to(number if norm is None else norm, number)))
    return layers


class _Run:
    """One run of the narrow network, in which layers are set just before they are called.

    Attributes:
        wanted: Values of the wide network by number, without the channels that are gone.
        found: Values of the narrow network by number, those that are added to what layers make.
        count: How many layers were set.
    """

    def __init__(self, narrowed: Narrowed, layers: list[_Layer]) -> None:
        self._wide, self._flow, self._alive = narrowed.channels.net, narrowed.channels.flow, narrowed.alive
        self._at = {layer.node: layer for layer in layers}
        self._beside = {layer.beside for layer in layers if layer.beside is not None}
        self._needed = {node + 1 for node in self._at} | self._beside
        self._now = 0
        self.wanted: dict[int, Tensor] = {}
        self.found: dict[int, Tensor] = {}
        self.count = 0

    def record(self, wide: GraphNetwork, images: Tensor) -> dict[int, Tensor]:
        """The values of the wide network that layers are compared with."""
        values = {0: images} if 0 in self._needed else {}

        def keep(node: int, value: Any) -> None:
            if node + 1 in self._needed:
                values[node + 1] = self._cut(value, node + 1)

        with torch.no_grad():
            wide.run(images, keep)
        return values

    def watch(self, node: int, value: Any) -> None:
        """Told what each node of the narrow network makes."""
        self._now = node + 1
        if node + 1 in self._beside:
            self.found[node + 1] = value

    def fit(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        """A hook that sets a layer from what it is about to be given."""
        layer = self._at.get(self._now)
        if layer is None:
            return  # called a second time: it has one set of weights
        wanted = self.wanted[layer.node + 1]
        if layer.node + 1 not in self._beside:
            del self.wanted[layer.node + 1]
        if wanted.shape[1:] != module.forward(given[0][:1]).shape[1:]:
            return  # what is left of it cannot be told
        missed = self._missed_beside(layer, wanted)
        if isinstance(module, NORMS):
            _fit_norm(module, given[0], wanted if missed is None else wanted + missed)
        else:
            if missed is not None:
                wanted = wanted + (missed if layer.norm is None else self._before_norm(missed, layer.norm))
            _fit_matrix(module, given[0], wanted, free_mean=layer.norm is not None)
        self.count += 1

    def _missed_beside(self, layer: _Layer, wanted: Tensor) -> Tensor | None:
        """What the value that is added to this layer's misses of the original's."""
        if layer.beside is None:
            return None
        there, here = self.wanted[layer.beside], self.found[layer.beside]
        return there - here if there.shape == here.shape == wanted.shape else None

    def _before_norm(self, change: Tensor, node: int) -> Tensor:
        """The change before the wide network's norm that makes this one behind it."""
        norm: Any = self._wide.get_submodule(self._wide.nodes[node].name)
        scale = torch.rsqrt(norm.running_var + norm.eps) * (norm.weight if norm.affine else 1.0)
        shape = [1, -1, *[1] * (change.dim() - 2)]
        scale = self._cut(scale.reshape(shape), node + 1)  # without the channels that are gone
        safe = scale.abs() > LEAST_SCALE * scale.abs().mean()
        return torch.where(safe, change / torch.where(safe, scale, 1.0), 0.0)

    def _cut(self, value: Tensor, index: int) -> Tensor:
        """A value of the wide network without the places that are gone."""
        for labels in self._flow.of(index):
            for axis in range(1, labels.ndim):
                size = labels.shape[axis]
                others = tuple(other for other in range(labels.ndim) if other != axis)
                rows = np.flatnonzero(self._alive[labels].any(others))
                if 1 < size == value.shape[axis] and len(rows) < size:
                    value = value.index_select(axis, torch.from_numpy(rows).to(value.device))
        return value


def _fit_matrix(module: Any, given: Tensor, wanted: Tensor, *, free_mean: bool) -> None:
    """Least squares of the weights, near where they are; the bias takes up what is left of the mean."""
    weight, bias = module.weight, module.bias
    missed = wanted - module.forward(given)
    if weight[0].numel() < MOST_COLUMNS and bool(missed.any()):
        own, cross, own_mean, cross_mean = _moments(module, given, missed)
        if free_mean or bias is not None:
            own -= own_mean[:, :, None] * own_mean[:, None]
            cross -= cross_mean[:, :, None] * own_mean[:, None]
        ridge = RIDGE * own.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)  # (groups, 1)
        own.diagonal(dim1=1, dim2=2).add_(torch.where(ridge > 0, ridge, 1.0))
        change = solve_gram(own, cross.transpose(1, 2)).transpose(1, 2)  # (groups, rows, columns)
        weight.add_(change.reshape(weight.shape).to(weight))
        missed = wanted - module.forward(given)
    if bias is not None:
        axis = missed.dim() - 1 if isinstance(module, nn.Linear) else 1
        bias.add_(missed.transpose(0, axis).flatten(1).mean(1))


def _moments(module: Any, given: Tensor, missed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of columns y that a layer multiplies and what its outputs miss t, for each group: E yyᵀ, E tyᵀ, E y and E t, in float64.

    Of large feature maps every n-th place is taken, another one in each batch.
    """
    groups = getattr(module, "groups", 1)
    last = (
        missed.reshape(len(missed), -1, missed.shape[-1]).transpose(1, 2) if isinstance(module, nn.Linear) else missed
    )
    target = last.flatten(2).unflatten(1, (groups, -1))  # (N, groups, rows, places)
    stride = place_stride(module, given)
    sums: list[Any] = [0.0, 0.0, 0.0, 0.0]
    total = 0
    for number, start in enumerate(range(0, len(given), IMAGES_AT_ONCE)):
        some = slice(start, start + IMAGES_AT_ONCE)
        first = number % stride
        y = columns_at(module, given[some], first, stride)  # (groups, columns, samples)
        t = target[some][..., first::stride].permute(1, 2, 0, 3).flatten(2)  # (groups, rows, samples)
        for place, part in enumerate((gram(y), t @ y.transpose(1, 2), y.sum(2), t.sum(2))):
            sums[place] = sums[place] + part.double()
        total += y.shape[2]
    own, cross, own_mean, cross_mean = (part / total for part in sums)
    return own, cross, own_mean, cross_mean


def _fit_norm(norm: Any, given: Tensor, wanted: Tensor) -> None:
    """Statistics of the input, then scale and shift by least squares."""
    rows, targets = (value.transpose(0, 1).flatten(1) for value in (given, wanted))  # (channels, N * places)
    mean, target = rows.mean(1), targets.mean(1)
    centred = rows - mean[:, None]
    variance = centred.square().mean(1)
    if norm.track_running_stats:
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance * (rows.shape[1] / max(1, rows.shape[1] - 1)))
    if norm.affine:
        covariance = (centred * (targets - target[:, None])).mean(1)
        deviation = torch.sqrt(variance + norm.eps)
        slope = covariance / variance.clamp_min(1e-12)
        norm.weight.copy_(torch.where(variance > 1e-12, slope * deviation, norm.weight))
        norm.bias.copy_(target)
