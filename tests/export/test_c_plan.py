"""The arena's law: as long as a value is still to be read, nothing else is written to its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from c_building import lively, on_rows, stored
from c_networks import NETWORKS, SHAPE

from netpress.export._c_fuse import fuse
from netpress.export._c_integers import as_bytes
from netpress.export._c_lower import lower
from netpress.export._c_plan import plan
from netpress.export._c_steps import Conv, Linear, Program, Round
from netpress.graph import GraphNetwork
from netpress.zoo import build


def network_of(name: str) -> GraphNetwork:
    torch.manual_seed(0)
    if name in NETWORKS:
        return stored((on_rows if "rounded" in name else lively)(NETWORKS[name]()), SHAPE).network
    return stored(build(name, classes=10, seed=0), (3, 32, 32)).network


def program_of(name: str) -> Program:
    return lower(network_of(name))


@pytest.mark.parametrize("made", [lower, lambda net: fuse(lower(net)), lambda net: as_bytes(fuse(lower(net)))])
@pytest.mark.parametrize("name", [*NETWORKS, "resnet20"])
def test_what_is_still_to_be_read_is_not_overwritten(name: str, made: Callable[[GraphNetwork], Program]) -> None:
    program = made(network_of(name))
    places = plan(program)
    first = places.values[0]
    holds = dict.fromkeys(range(first, first + program.room(0)), 0)  # of each place the value that it holds
    for at, step in enumerate(program.steps):
        for value in step.inputs:
            begin = places.values[value]
            assert all(holds.get(begin + i) == value for i in range(program.room(value)))
        written = [(places.values[step.output], program.room(step.output), step.output)]
        if at in places.planes and isinstance(step.work, Conv):
            written.append((places.planes[at], step.work.out[1] * step.work.out[2], -1))
            plane = range(places.planes[at], places.planes[at] + written[1][1])
            result = range(written[0][0], written[0][0] + written[0][1])
            assert plane.stop <= result.start or result.stop <= plane.start
            for value in step.inputs:
                source = range(places.values[value], places.values[value] + program.room(value))
                assert plane.stop <= source.start or source.stop <= plane.start
        for begin, size, value in reversed(written):
            assert begin + size <= places.size
            holds.update(dict.fromkeys(range(begin, begin + size), value))
    begin = places.values[program.output]
    assert all(holds.get(begin + i) == program.output for i in range(program.room(program.output)))


def test_a_residual_network_needs_two_values_and_a_plane() -> None:
    # the sum is taken in place of its operand, so that block input and what is within the block is all there is
    places = plan(fuse(program_of("resnet20")))
    assert places.size == 2 * 16 * 32 * 32 + 32 * 32


def test_fused_programs_have_fewer_steps_and_no_more_memory() -> None:
    for name in NETWORKS:
        program = program_of(name)
        assert len(fuse(program).steps) <= len(program.steps)
        assert plan(fuse(program)).size <= plan(program).size + 64  # a plane, where one is needed


@pytest.mark.parametrize(
    ("name", "rounds", "floats"), [("rounded", 1, 0), ("rounded_shortcut", 1, 1), ("rounded_parts", 0, 0)]
)
def test_rounded_values_are_bytes_where_all_their_readers_take_them(name: str, rounds: int, floats: int) -> None:
    program = as_bytes(fuse(program_of(name)))
    layers = [step for step in program.steps if isinstance(step.work, Conv | Linear)]
    assert sum(isinstance(step.work, Round) for step in program.steps) == rounds  # what a pool or a mean reads, too
    assert sum(program.integers(step) is None for step in layers) == floats  # what reads a pool's result, unrounded
    assert len(program.grids) >= 4
    bare = as_bytes(fuse(lower(stored(lively(NETWORKS[name]()), SHAPE).network)))  # weights on no grid
    assert not any(bare.integers(step) for step in bare.steps)
