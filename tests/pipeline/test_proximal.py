"""The path of LASSO: what counts as left, and what the last cut leaves."""

from __future__ import annotations

import dataclasses

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


def test_a_step_shrinks_by_what_it_takes_to_leave_as_many_as_the_schedule_wants() -> None:
    network = chain([[8.0, -1.0], [2.0, 7.0]], [[6.0, -3.0], [4.0, 5.0]])
    wide = dataclasses.replace(path(network, 0.5), strength=10.0)
    wide.after_step(network, 9)  # the last of 10: half of the 8 weights stay
    assert network.get_parameter("0.weight").tolist() == [[4, 0], [0, 3]]  # by the largest of those to go, which is 4
    assert network.get_parameter("2.weight").tolist() == [[2, 0], [0, 1]]


def test_a_step_shrinks_by_no_more_than_its_strength() -> None:
    network = chain([[8.0, -1.0], [2.0, 7.0]], [[6.0, -3.0], [4.0, 5.0]])
    dataclasses.replace(path(network, 0.5), strength=1.5).after_step(network, 9)
    assert network.get_parameter("0.weight").tolist() == [[6.5, 0], [0.5, 5.5]]
    assert network.get_parameter("2.weight").tolist() == [[4.5, -1.5], [2.5, 3.5]]


def test_what_nobody_reads_is_not_left() -> None:
    # by size alone 8, 7 and 6 would be the three that stay; channel 0, which 8 and 7 make, is read by a weight of .1
    network = chain([[8.0, 7.0], [1.0, 6.0]], [[0.1, 5.0]])
    wide = dataclasses.replace(path(network, 0.5), strength=10.0)
    wide.after_step(network, 9)
    left = {name: network.get_parameter(name).detach() for name in NAMES}
    assert left["2.weight"][0, 1] > 0  # 5 stays, too: with 6 it makes something that is read
    assert left["0.weight"][1, 1] > 0


def test_before_the_schedule_begins_nothing_shrinks() -> None:
    network = chain([[8.0, -1.0], [2.0, 7.0]], [[6.0, -3.0], [4.0, 5.0]])
    slow = dataclasses.replace(path(network, 0.5), steps=10_000, strength=1.0)
    slow.after_step(network, 0)
    assert network.get_parameter("0.weight").tolist() == [[8, -1], [2, 7]]


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
