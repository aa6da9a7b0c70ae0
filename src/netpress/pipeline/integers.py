"""A network as a runtime of integers computes it: weights on row grids, values on grids of a few bits at the borders of layers.

fold               batch normalisations into the layers before them; what is left of them taken out
observe            ranges of those values, from images without labels
round              weights, each row on its own grid; ``fake_quantize`` behind each value of `integer_points`, or, where ranges are
                   not to be known beforehand, ``dynamic_quantize`` before linear layers
correct            biases, so that no channel's mean is moved
train              with epochs: straight through the rounding, weights on their grids in every step
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from netpress.data import Split
from netpress.graph import GraphNetwork, Node, Ref, insert_behind
from netpress.graph.operators import FUNCTIONS
from netpress.maths.ranges import Observer, StreamingRange, affine_grid
from netpress.maths.row_grids import grid_steps, on_grid
from netpress.pipeline.integer_points import MEASURED, ROUNDED
from netpress.pipeline.job import Job
from netpress.pipeline.straight_through import Grid, StraightThrough

BATCH = 64


def observe(network: GraphNetwork, job: Job, points: Collection[int], samples: int) -> dict[int, StreamingRange]:
    """Ranges of values, by number, over so many training images; labels are not read."""
    ranges = {index: StreamingRange() for index in points}

    def watch(k: int, value: Any) -> None:
        if k + 1 in ranges:
            ranges[k + 1].update(value)

    for x in _images(job, samples, "ranges"):
        if 0 in ranges:
            ranges[0].update(x)
        network.run(x, watch)
    return ranges


def with_rounded_values(
    network: GraphNetwork,
    points: Mapping[int, str],
    ranges: Mapping[int, StreamingRange],
    observer: Observer,
    bits: int,
) -> GraphNetwork:
    """The network with each of those values on a grid of 2^bits levels from 0 on; modules are shared."""
    steps = {}
    for index, reader in points.items():
        scale, zero = affine_grid(*ranges[index].ends(observer, 2**bits), 2**bits)
        args = {"scale": scale, "zero_point": zero, "quant_max": 2**bits - 1}
        steps[index] = Node(reader, ROUNDED, _arguments(args))
    return insert_behind(network, steps)


def with_measured_values(network: GraphNetwork, layers: Collection[str]) -> tuple[GraphNetwork, int]:
    """The network where these layers read their inputs on grids that are measured anew at each run; modules are shared.

    Whatever else reads the same value reads it as it was. What is rounded already is left as it is.

    Returns:
        It, and how many values are rounded.
    """

    def reads(node: Node) -> bool:
        return node.is_module and node.name in layers

    steps: dict[int, Node] = {}
    for node in filter(reads, network.nodes):
        [index] = node.inputs
        made = network.nodes[index - 1] if index else None
        if made is None or made.op not in (ROUNDED, MEASURED):
            steps.setdefault(index, Node(node.name.rpartition(".")[0], MEASURED, ()))
    return insert_behind(network, steps, reads), len(steps)


@torch.no_grad()
def round_weights(network: nn.Module, names: Sequence[str], most: int, *, per_row: bool) -> dict[str, Tensor]:
    """Puts parameters on grids of -most to most steps, in place; the steps of each, (rows, 1, ...)."""
    steps = {}
    for name in names:
        weight = network.get_parameter(name)
        steps[name] = grid_steps(weight, most, per_row=per_row)
        weight.copy_(on_grid(weight, steps[name], most))
    return steps


@torch.no_grad()
def correct_biases(
    reference: GraphNetwork, network: GraphNetwork, job: Job, layers: Collection[str], samples: int
) -> None:
    """Adds to each layer's bias what rounding takes from the mean of its channels, layer by layer, on the reference's values.

    Args:
        reference: The same network before anything was rounded, in eval mode.
        network: With rounded weights and values; its biases change.
        layers: Of those without a bias, and those that run more than once, nothing is changed.

    Source: Nagel et al., arXiv 1906.04721, section 4.2, with means measured on images.
    """
    readers = [node for node in network.nodes if node.is_module and node.name in layers]
    once = [n for n in readers if sum(o.name == n.name for o in readers) == 1 and _bias(network, n.name) is not None]
    rounding = {n.name: network.nodes[n.inputs[0] - 1] for n in once if n.inputs[0]}
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys((node.name for node in once), 0)

    def compare(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        layer, before = network.get_submodule(name), rounding.get(name)
        axis = -1 if isinstance(layer, nn.Linear) else 1

        def hook(module: nn.Module, given: tuple[Tensor, ...], whole: Tensor) -> None:
            x = given[0] if before is None else _rounded(given[0], before)
            missing = (whole - layer(x)).movedim(axis, 0).flatten(1)  # (channels, N * places)
            sums[name] = sums.get(name, 0) + missing.double().sum(1)
            counts[name] += missing.shape[1]

        return hook

    handles = [reference.get_submodule(node.name).register_forward_hook(compare(node.name)) for node in once]
    try:
        for x in _images(job, samples, "biases"):
            reference(x)
    finally:
        for handle in handles:
            handle.remove()
    for name, total in sums.items():
        bias = _bias(network, name)
        if bias is not None:
            bias.add_((total / counts[name]).to(bias))


def train_on_grids(
    network: GraphNetwork,
    job: Job,
    free: Mapping[str, Tensor],
    steps: Mapping[str, Tensor],
    most: int,
    *,
    epochs: int | None,
    lr: float | None,
) -> None:
    """Trains in place, straight through all rounding; weights that are exactly 0 in ``free`` stay 0.

    Args:
        free: Weights before they were rounded, by name.
        steps: Their grids.
    """
    if (job.training.epochs if epochs is None else epochs) == 0:
        return
    grids = tuple(Grid(name, steps[name], 0.0, most) for name in steps)
    kept = StraightThrough(grids, refresh=1 + job.steps(epochs))
    with torch.no_grad():
        for name, weight in free.items():
            network.get_parameter(name).copy_(weight)
    kept.prepare(network)
    try:
        # of what earlier methods ask to be kept, zeros are kept by the grids; values that are shared are not
        own = dataclasses.replace(job, constraints=())
        own.retrain(network, label="quantize", epochs=epochs, lr=lr, constraints=[kept])
    finally:
        kept.release(network)
    network.eval()


def _images(job: Job, samples: int, label: str) -> Any:
    """So many preprocessed training images in batches, without labels or gradients."""
    stream = job.stream(batch_size=BATCH, shuffle=True, split=Split(job.fit.images))
    count = max(1, min(len(stream), -(-samples // BATCH)))
    with job.progress.step(label, total=count) as bar, torch.no_grad():
        for number, (x, _) in enumerate(stream.batches(0)):
            if number == count:
                return
            yield x
            bar.advance()


def _bias(network: nn.Module, name: str) -> Tensor | None:
    found: Any = network.get_submodule(name)
    return found.bias if isinstance(found.bias, Tensor) else None


def _arguments(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Canonical arguments of ``fake_quantize`` behind its input."""
    return FUNCTIONS[ROUNDED].signature.normalise({"input": Ref(0), **values})[1:]


def _rounded(x: Tensor, before: Node) -> Tensor:
    """A value as the step before its reader rounds it, if it does."""
    return FUNCTIONS[before.op].call(x, *before.args[1:]) if before.op in (ROUNDED, MEASURED) else x
