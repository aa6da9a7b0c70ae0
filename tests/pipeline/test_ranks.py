from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from netpress.errors import BudgetError
from netpress.pipeline.budget import FILE_OVERHEAD_BYTES
from netpress.pipeline.ranks import channel_path, default_channel_ranks, energy_path, flat_path, largest_that_fits

spectra = st.lists(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=6).map(lambda v: torch.tensor(sorted(v, reverse=True))),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(spectra)
def test_a_path_by_energy_goes_from_ones_to_full_by_single_steps(modes: list[torch.Tensor]) -> None:
    path = energy_path(modes)
    assert path[0] == (1,) * len(modes)
    assert path[-1] == tuple(len(s) for s in modes)
    assert len(path) == 1 + sum(len(s) - 1 for s in modes)
    for a, b in itertools.pairwise(path):
        assert sorted(y - x for x, y in zip(a, b, strict=True)) == [0] * (len(modes) - 1) + [1]


def test_a_path_by_energy_by_hand() -> None:
    """Shares (.7, .2, .1) and (.9, .1). From (1, 1): gains .2·1 and .1·1, so mode 1; then .1·2 against .1·1, mode 1 again."""
    path = energy_path([torch.tensor([7.0, 2.0, 1.0]), torch.tensor([9.0, 1.0])])
    assert path == [(1, 1), (2, 1), (3, 1), (3, 2)]


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
def test_channel_paths(channels: int, height: int, width: int) -> None:
    path = channel_path((channels, height, width))
    assert [r[0] for r in path] == list(range(1, channels + 1))
    assert {r[1:] for r in path} == {(min(height, 3), min(width, 3))}
    assert default_channel_ranks((channels, height, width)) in path
    assert flat_path(3) == [(1,), (2,), (3,)]


def after_cut(size: int):
    """What follows a cut of ``size`` features: r of them, then three answers; r·size + 3r + 3 parameters."""

    def build(ranks: tuple[int, ...]) -> nn.Module:
        with torch.device("meta"):
            return nn.Sequential(nn.Flatten(), nn.Linear(size, ranks[0], bias=False), nn.Linear(ranks[0], 3))

    return build


@settings(deadline=None)
@given(st.sampled_from(["params", "macs", "bytes"]), st.integers(1, 12), st.integers(0, 50), st.integers(0, 20_000))
def test_the_largest_that_fits_is_what_a_search_through_all_finds(
    metric: str, size: int, before: int, bound: int
) -> None:
    def value(rank: int) -> int:
        params, macs = before + rank * size + 3 * rank + 3, 7 + rank * size + 3 * rank
        return {"params": params, "macs": macs, "bytes": params * 4 + FILE_OVERHEAD_BYTES}[metric]

    bound = bound if metric == "bytes" else bound // 40
    fitting = [rank for rank in range(1, size + 1) if value(rank) <= bound]
    arguments = (flat_path(size), after_cut(size), (size,))
    if fitting:
        assert largest_that_fits(*arguments, before=(before, 7), bounds={metric: bound}) == (max(fitting),)
        return
    with pytest.raises(BudgetError) as caught:
        largest_that_fits(*arguments, before=(before, 7), bounds={metric: bound})
    assert caught.value.got == f"{metric} {value(1):,.0f} (bound {bound:,.0f})"
    assert f"before the cut stay {before:,} parameters and 7 MACs" in str(caught.value.remedy)


def test_all_bounds_hold_at_once() -> None:
    assert largest_that_fits(
        flat_path(8), after_cut(8), (8,), before=(0, 0), bounds={"params": 58.0, "macs": 54.0, "latency_ms": 1e-9}
    ) == (4,)  # 8·4 + 3·4 + 3 = 47 parameters and 44 of 54; five would take 58, and 55
    assert math.prod(flat_path(8)[-1]) == 8
