"""The path of LASSO: what counts as left, and what the last cut leaves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netpress.graph import GraphNetwork, trace
from netpress.pipeline.dead import without_dead_channels
from netpress.pipeline.proximal import LassoPath

NAMES = ("0.weight", "2.weight")


def chain(first: list[list[float]], second: list[list[float]]) -> GraphNetwork:
    """Two linear layers without biases and a rectifier between them."""
    network = nn.Sequential(
        nn.Linear(len(first[0]), len(first), bias=False),
        nn.ReLU(),
        nn.Linear(len(second[0]), len(second), bias=False),
    )
    with torch.no_grad():
        for layer, rows in ((network[0], first), (network[2], second)):
            layer.weight.copy_(torch.tensor(rows))
    return trace(network.eval(), torch.rand(2, len(first[0])))


def path(network: GraphNetwork, density: float) -> LassoPath:
    found = LassoPath.of(network, NAMES, density, 0.01, 10)
    return LassoPath(found.names, (1.0, 1.0), density, 0.01, 10, found.channels)


def test_what_nobody_reads_is_not_left() -> None:
    network = chain([[1.0, 2.0], [3.0, 4.0], [0.0, 5.0]], [[1.0, 0.0, 2.0], [1.0, 0.0, 0.0]])
    # 3 of the 6 weights before are not zero and read (channel 1 is not), and 3 of the 6 behind
    assert path(network, 0.5).left(network) == pytest.approx(6 / 12)


def test_the_last_cut_leaves_as_many_as_were_asked_for_and_all_of_them_are_read() -> None:
    # By size alone the 6 largest would be 9, 8, 7, 6, 5, 4: four of them make channels 0 and 1, which nothing left would read.
    network = chain([[9.0, 8.0], [7.0, 6.0], [0.5, 0.6], [0.7, 0.8]], [[0.1, 0.2, 5.0, 0.3], [0.2, 0.1, 0.4, 4.0]])
    path(network, 6 / 16).finish(network)
    kept = {name: network.get_parameter(name).detach() for name in NAMES}
    assert sum(int(w.count_nonzero()) for w in kept.values()) == 6
    assert kept["0.weight"][:2].eq(0).all()
    assert kept["0.weight"][2:].ne(0).all()
    assert kept["2.weight"].tolist() == [[0, 0, 5, 0], [0, 0, 0, 4]]
    smaller, removed = without_dead_channels(network, torch.rand(2, 2))
    assert removed == 2
    assert sum(int(p.count_nonzero()) for p in smaller.parameters()) == 6


def test_a_network_without_dead_ends_is_cut_by_size_alone() -> None:
    torch.manual_seed(0)
    network = chain(torch.randn(8, 8).tolist(), torch.randn(3, 8).tolist())
    before = torch.cat([network.get_parameter(name).detach().abs().reshape(-1) for name in NAMES])
    path(network, 0.75).finish(network)
    after = torch.cat([network.get_parameter(name).detach().abs().reshape(-1) for name in NAMES])
    assert torch.equal(after > 0, before >= before.sort(descending=True).values[65])  # .75 of 88 are 66
