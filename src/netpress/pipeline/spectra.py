"""How many dimensions the channels of a network really use: spectra of features, in one streaming pass without labels.

A group of channels is looked at where layers read it, behind its rectifier, its pool or its sum: those are the representations that
the layers behind can tell apart. Means are taken out, since a bias makes them good. Memory: a matrix of channels by channels for each
place that reads them, in float64; images come by one batch after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netpress.data import ImageStream
from netpress.graph import GraphNetwork
from netpress.maths.columns import Selection, select_columns
from netpress.maths.eigen import eigenvalues
from netpress.pipeline.channel_scores import is_plain_matrix, magnitudes
from netpress.progress import Progress, SilentProgress
from netpress.structure import ChannelGroup, Channels, Place


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """The features of one group of channels.

    Attributes:
        group: Its name.
        size: Channels.
        covariance: Of the channels over images and places: the mean over all layers that read them, each scaled to trace 1. (size,
            size), float64
        samples: Images.
    """

    group: str
    size: int
    covariance: Tensor
    samples: int

    def energies(self) -> Tensor:
        """Shares of the energy in principal directions, falling, with sum 1 (all 0 where features never change). (size,), float64"""
        values = eigenvalues(self.covariance).clamp_min(0)
        return values / values.sum().clamp_min(1e-300)

    def dimensions(self, energy: float) -> int:
        """How many principal directions hold this share of the energy, at least 1; all of them hold 1, also where some hold nothing."""
        if energy >= 1:
            return self.size
        reached = self.energies().cumsum(0) >= energy - 1e-12
        return int(reached.int().argmax()) + 1 if bool(reached.any()) else self.size

    def selection(self) -> Selection:
        """Channels in the order in which they explain all of them."""
        return select_columns(self.covariance)


def spectra(
    channels: Channels, stream: ImageStream, *, samples: int | None = None, progress: Progress | None = None
) -> dict[str, Spectrum]:
    """Of every group that a linear layer or a convolution reads; labels are not looked at. The network is not changed.

    Args:
        stream: Of images, on the device of the network, best in random order.
        samples: How many images are enough; None takes one epoch of the stream.
    """
    network, progress = channels.net.eval(), progress or SilentProgress()
    readers = {name: list(_readers(channels, group)) for name, group in channels.groups.items()}
    moments = {
        (name, place.tensor): _Moments(group, place)
        for name, group in channels.groups.items()
        for place in readers[name]
    }
    by_module: dict[str, list[_Moments]] = {}
    for (_, tensor), held in moments.items():
        by_module.setdefault(tensor.rpartition(".")[0], []).append(held)

    def watch(held: list[_Moments]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            columns = given[0] if isinstance(module, nn.Linear) else given[0].movedim(1, -1)
            rows = columns.reshape(-1, columns.shape[-1])  # (samples, channels)
            for one in held:
                one.update(rows)

        return hook

    handles = [network.get_submodule(name).register_forward_pre_hook(watch(held)) for name, held in by_module.items()]
    count = stream.samples if samples is None else min(samples, stream.samples)
    seen = 0
    try:
        with torch.inference_mode(), progress.step("spectra", total=count) as bar:
            for x, _ in stream.batches(0):
                x = x[: count - seen]
                network(x)
                seen += len(x)
                bar.advance(len(x))
                if seen >= count:
                    break
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for name, places in readers.items():
        if places:
            parts = [moments[name, place.tensor].covariance() for place in places]
            mean = torch.stack([part / part.trace().clamp_min(1e-300) for part in parts]).mean(0)
            found[name] = Spectrum(group=name, size=channels.groups[name].size, covariance=mean, samples=seen)
    return found


def explained(
    channels: Channels,
    stream: ImageStream,
    *,
    samples: int,
    energy: float | None = None,
    progress: Progress | None = None,
) -> dict[str, NDArray[np.float64]]:
    """The share of its group's energy that a channel adds to those chosen before it. (size,) by group

    Args:
        energy: Channels beyond the number of principal directions that hold this share are worth 1 less, which is below 0.
    """
    found = spectra(channels, stream, samples=samples, progress=progress)
    plain = magnitudes(channels, 2)
    scores: dict[str, NDArray[np.float64]] = {}
    for name in channels.groups:
        if name not in found:  # read by products of tensors alone, such as queries and keys
            scores[name] = plain[name] ** 2 / max(float((plain[name] ** 2).sum()), 1e-300)
            continue
        selection = found[name].selection()
        scores[name] = selection.gains.numpy()
        if energy is not None:
            scores[name][selection.order[found[name].dimensions(energy) :].numpy()] -= 1.0
    return scores


def read_values(network: GraphNetwork) -> dict[int, int]:
    """Where layers read features: by number of the node that makes them the axis in which their channels lie."""
    found: dict[int, int] = {}
    for node in network.nodes:
        module = network.get_submodule(node.name) if node.is_module else None
        if module is not None and is_plain_matrix(module) and node.inputs[0] > 0:
            found.setdefault(node.inputs[0] - 1, -1 if isinstance(module, nn.Linear) else 1)
    return found


class _Moments:
    """Sums over samples of the channels that one layer reads, and of their products."""

    def __init__(self, group: ChannelGroup, place: Place) -> None:
        order = place.channel.argsort(kind="stable")
        self._rows = torch.from_numpy(place.rows[order])
        self._each = len(self._rows) // group.size
        self._size = group.size
        self._count = 0
        self._sum = torch.zeros(group.size, dtype=torch.float64)
        self._products = torch.zeros(group.size, group.size, dtype=torch.float64)

    def update(self, columns: Tensor) -> None:
        """Adds samples (n, columns of the layer)."""
        x = columns.index_select(1, self._rows.to(columns.device))
        if self._each > 1:  # behind a flatten a channel has many places: each is a sample
            x = x.reshape(len(x), self._size, self._each).transpose(1, 2).reshape(-1, self._size)
        self._count += len(x)
        self._sum += x.sum(0).double().cpu()
        self._products += (x.T @ x).double().cpu()

    def covariance(self) -> Tensor:
        """(size, size), float64, on the CPU."""
        mean = self._sum / max(1, self._count)
        return self._products / max(1, self._count) - mean[:, None] * mean


def _readers(channels: Channels, group: ChannelGroup) -> Iterator[Place]:
    """Where plain matrices read all channels of the group."""
    for place in group.places:
        module = channels.net.get_submodule(place.tensor.rpartition(".")[0])
        if is_plain_matrix(module) and place.consumes and place.axis == 1 and len(place.rows) % group.size == 0:
            yield place
