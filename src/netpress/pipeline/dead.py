"""Channels that nobody reads, cut out: the network computes what it did."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from netpress.graph import GraphNetwork
from netpress.pipeline.proximal import reading_norms
from netpress.structure import Channels, slice_network

ALIKE = 1e-4  # of the largest output


def without_dead_channels(network: GraphNetwork, example: Tensor) -> tuple[GraphNetwork, int]:
    """The network without channels whose readers have only zeros for them, and how many there were; at least one of a group stays.

    What such a channel read itself may then be read by nobody: this goes on until nothing more is dead. The network given is not
    changed; without dead channels it is the result. So it is where products of features with each other read the channels, too: what
    the smaller network answers to ``example`` (N, ...) decides.
    """
    whole = network
    removed = 0
    while True:
        channels = Channels(network)
        keep = {}
        for name, group in channels.groups.items():
            places = [place for place in group.places if place.consumes]
            if not places:
                continue
            read = reading_norms(network, places, group.size).numpy() > 0
            if not read.any():
                read[0] = True
            if not read.all():
                keep[name] = read
        if not keep:
            return (network, removed) if _same_answers(whole, network, example) else (whole, 0)
        removed += sum(int(np.count_nonzero(~read)) for read in keep.values())
        network = slice_network(channels, keep)


def _same_answers(whole: GraphNetwork, network: GraphNetwork, example: Tensor) -> bool:
    with torch.inference_mode():
        before, after = whole.eval()(example), network.eval()(example)
    return float((before - after).abs().max()) <= ALIKE * max(float(before.abs().max()), 1e-12)
