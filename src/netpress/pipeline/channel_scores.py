"""What a channel is worth: by its weights, by the scales of its norms, or by what the loss would lose."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netpress.pipeline.job import Job
from netpress.pipeline.layer_columns import MATRIX_LAYERS
from netpress.pipeline.rdo_statistics import TEMPERATURE, calibration, drawn_direction
from netpress.structure import ChannelGroup, Channels, Place

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def magnitudes(channels: Channels, power: int) -> dict[str, NDArray[np.float64]]:
    """The L1 or L2 norm of all weights that make or read a channel, over the mean of its group. (size,) by group

    Args:
        power: 1 or 2.
    """

    def score(tensor: Tensor, axis: int) -> Tensor:
        rows = tensor.detach().double().movedim(axis, 0).reshape(tensor.shape[axis], -1).abs()
        return rows.pow(power).sum(1)

    summed = _over_places(channels, score, vectors=False)
    scores = {name: values ** (1 / power) for name, values in summed.items()}
    return {name: values / max(float(values.mean()), 1e-30) for name, values in scores.items()}


def scales(channels: Channels) -> dict[str, NDArray[np.float64]]:
    """Mean |γ| of the batch normalisations of a channel; groups without any have their L2 norm, with the mean of all γ. (size,)"""
    found: dict[str, NDArray[np.float64]] = {}
    for name, group in channels.groups.items():
        held = scale_places(channels, group)
        if held:
            total, rows = np.zeros(group.size), np.zeros(group.size)
            for place in held:
                values = channels.net.get_parameter(place.tensor).detach().double().abs().cpu().numpy()
                np.add.at(total, place.channel, values[place.rows])
                np.add.at(rows, place.channel, 1)  # a channel has many places behind a flatten
            found[name] = total / rows
    level = float(np.mean([values.mean() for values in found.values()])) if found else 1.0
    plain = magnitudes(channels, 2)
    return {name: found.get(name, plain[name] * level) for name in channels.groups}


def scale_places(channels: Channels, group: ChannelGroup) -> list[Place]:
    """Where the scales γ of a group's batch normalisations lie."""
    return [
        p
        for p in group.places
        if isinstance(channels.net.get_submodule(_owner(p.tensor)), NORMS) and _is_weight(p.tensor)
    ]


def streams(channels: Channels) -> frozenset[str]:
    """The groups that more than one matrix makes: what residual sums tie together, which many layers read and write."""
    found = set()
    for name, group in channels.groups.items():
        makers = {
            place.tensor
            for place in group.places
            if not place.consumes
            and is_plain_matrix(channels.net.get_submodule(_owner(place.tensor)))
            and _is_weight(place.tensor)
        }
        if len(makers) > 1:
            found.add(name)
    return frozenset(found)


def fisher(
    channels: Channels, job: Job, *, samples: int = 2048, batch_size: int = 16
) -> dict[str, NDArray[np.float64]]:
    """What the network's softened answers would lose without a channel, in nats, to second order. (size,) by group

    The gradient of randomly drawn answers, times the weights that make the channel, summed over them and squared: the
    curvature along the line on which the channel fades (Theis et al., arXiv 1801.05787; Molchanov et al., CVPR
    2019, with labels instead). Labels are not looked at. The network is not changed.
    """
    net = channels.net.eval()
    parameters = [p for p in net.parameters() if p.is_floating_point()]
    flags = [p.requires_grad for p in parameters]
    total = {name: np.zeros(group.size) for name, group in channels.groups.items()}
    images = calibration(job, min(samples, len(job.fit)))
    generator = torch.Generator().manual_seed(job.seed)
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        batches = images.split(batch_size)
        with job.progress.step("worth of channels", total=len(batches)) as bar:
            for x in batches:
                with torch.enable_grad():
                    output = net(x)
                direction = drawn_direction(output.detach(), job.task, TEMPERATURE, generator)
                slopes = torch.autograd.grad(output, parameters, direction, allow_unused=True)
                gradients = dict(zip(map(id, parameters), slopes, strict=True))

                def fading(tensor: Tensor, axis: int, gradients: Mapping[int, Tensor | None] = gradients) -> Tensor:
                    gradient = gradients.get(id(tensor))
                    if gradient is None:
                        return torch.zeros(tensor.shape[axis], dtype=torch.float64)
                    change = (tensor.detach() * gradient).double()
                    return change.movedim(axis, 0).reshape(tensor.shape[axis], -1).sum(1)

                for name, values in _over_places(channels, fading, vectors=True, consumed=False).items():
                    total[name] += values**2
                bar.advance()
    finally:
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)
    return {name: values / (2 * len(images)) for name, values in total.items()}


def _over_places(
    channels: Channels, score: Callable[[Tensor, int], Tensor], *, vectors: bool, consumed: bool = True
) -> dict[str, NDArray[np.float64]]:
    """The sum of ``score(tensor, axis)``, a number a row, over all parameters that hold a channel."""
    parameters = dict(channels.net.named_parameters(remove_duplicate=False))
    rows: dict[tuple[str, int], NDArray[np.float64]] = {}

    def of(group: ChannelGroup) -> NDArray[np.float64]:
        total = np.zeros(group.size)
        for place in group.places:
            tensor = parameters.get(place.tensor)
            if tensor is None or (tensor.dim() < 2 and not vectors) or (place.consumes and not consumed):
                continue
            key = (place.tensor, place.axis)
            if key not in rows:
                rows[key] = score(tensor, place.axis).cpu().numpy()
            np.add.at(total, place.channel, rows[key][place.rows])
        return total

    return {name: of(group) for name, group in channels.groups.items()}


def is_plain_matrix(module: nn.Module) -> bool:
    """Whether every output of a layer reads every input."""
    return isinstance(module, MATRIX_LAYERS) and getattr(module, "groups", 1) == 1


def _owner(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def _is_weight(tensor: str) -> bool:
    return tensor.rpartition(".")[2] == "weight"
