"""Widths meet bounds exactly, with nothing taken away that could stay."""

from __future__ import annotations

import itertools
import re
from functools import cache

import numpy as np
import pytest
from channel_networks import BUILDERS, traced
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from netpress.errors import BudgetError
from netpress.graph import GraphNetwork, count
from netpress.pipeline.widths import Bound, Widths, uniform
from netpress.structure import Channels, Costs, slice_network

NETWORKS = sorted(BUILDERS)


@cache
def costs_of(name: str) -> Costs:
    return Costs(Channels(traced(name)))


def random_scores(costs: Costs, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(int(size)) for name, size in zip(costs.names, costs.full, strict=True)}


def kept_of(costs: Costs, keep: dict[str, np.ndarray]) -> np.ndarray:
    return np.array([keep[name].sum() for name in costs.names], np.int64)


def share(costs: Costs, metric: str, part: float, within: tuple[str, ...] = ()) -> Bound:
    return Bound(metric=metric, most=part * costs.at(metric, costs.full, within), within=within)


def counted(network: GraphNetwork, metric: str, within: tuple[str, ...] = ()) -> int:
    """By `count` and by the tensors themselves, not by `Costs`."""
    if metric == "bytes":
        return sum(t.numel() * t.element_size() for t in network.state_dict().values())
    rows = count(network).layers
    inside = [r for r in rows if not within or any(f"{r.name}.".startswith(f"{m}.") for m in within)]
    return sum(getattr(row, metric) for row in inside)


@pytest.mark.parametrize("metric", ["params", "macs", "bytes"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_bound_holds_for_the_network_that_is_cut(name: str, metric: str) -> None:
    costs = costs_of(name)
    bound = share(costs, metric, 0.5)
    keep = Widths(costs).fit(random_scores(costs), [bound])
    found = counted(slice_network(costs.channels, keep), metric)
    assert found <= bound.most
    assert found == costs.at(metric, kept_of(costs, keep))
    if metric != "bytes":  # the totals that users see
        assert getattr(count(slice_network(costs.channels, keep)), metric) == found


def test_several_bounds_and_bounds_of_parts_hold_at_once() -> None:
    costs = costs_of("mixed")
    bounds = [
        share(costs, "macs", 0.3, ("block",)),
        share(costs, "params", 0.7, ("last", "head")),
        share(costs, "params", 0.75),
        share(costs, "macs", 0.6),
        share(costs, "bytes", 0.8),
    ]
    keep = Widths(costs).fit(random_scores(costs), bounds)
    network = slice_network(costs.channels, keep)
    for bound in bounds:
        assert counted(network, bound.metric, bound.within) <= bound.most


def test_bounds_that_hold_already_take_nothing_away() -> None:
    costs = costs_of("mixed")
    keep = Widths(costs).fit(random_scores(costs), [share(costs, "macs", 1.0), share(costs, "params", 1.0, ("block",))])
    assert all(kept.all() for kept in keep.values())
    assert all(kept.all() for kept in Widths(costs).fit(random_scores(costs), []).values())


def test_a_bound_of_a_part_takes_channels_from_that_part_alone() -> None:
    costs = costs_of("chain")
    keep = Widths(costs).fit(random_scores(costs), [share(costs, "macs", 0.5, ("8", "10"))])
    assert keep["0"].all()
    assert kept_of(costs, keep)[1:].sum() < costs.full[1:].sum()  # group "4" makes the inputs of "8"


@pytest.mark.parametrize(("least", "multiple"), [(1, 1), (3, 1), (1, 4), (2, 3)])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_step_that_was_taken_could_be_taken_back(name: str, least: int, multiple: int) -> None:
    costs = costs_of(name)
    widths = Widths(costs, least=least, multiple=multiple)
    smallest = costs.macs(widths.smallest)
    bounds = [
        Bound(metric="macs", most=smallest + 0.4 * (costs.macs(costs.full) - smallest)),
        share(costs, "params", 0.97),
    ]
    kept = kept_of(costs, widths.fit(random_scores(costs), bounds))
    for number, (now, full) in enumerate(zip(kept.tolist(), costs.full.tolist(), strict=True)):
        assert now == full or (now >= min(least, full) and now % multiple == 0)
        if now < full:
            more = kept.copy()
            more[number] = min(full, now + multiple) if now + multiple <= full - full % multiple else full
            assert any(costs.at(b.metric, more, b.within) > b.most for b in bounds), costs.names[number]


def test_the_best_channels_of_a_group_stay() -> None:
    costs = costs_of("chain")
    scores = random_scores(costs)
    keep = Widths(costs).fit(scores, [share(costs, "params", 0.4)])
    for name, kept in keep.items():
        if not kept.all():
            assert scores[name][kept].min() > scores[name][~kept].max()


def test_widths_of_groups_smaller_than_the_multiple_stay_or_go_by_multiples() -> None:
    costs = costs_of("chain")  # 6, 8 and 12 channels
    widths = Widths(costs, multiple=8)
    assert widths.smallest.tolist() == [6, 8, 8]
    assert Widths(costs, least=7).smallest.tolist() == [6, 7, 7]
    assert Widths(costs, least=5, multiple=4).smallest.tolist() == [6, 8, 8]


@pytest.mark.parametrize("metric", ["params", "macs", "bytes"])
@pytest.mark.parametrize("least", [1, 2])
def test_what_cannot_be_reached_is_refused_with_the_true_minimum(metric: str, least: int) -> None:
    tiny = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    channels = Channels(traced(tiny, (5,)))
    costs = Costs(channels)
    sizes = []
    for widths in itertools.product(range(least, 4), range(least, 5)):
        keep = {n: np.arange(int(s)) < w for n, s, w in zip(costs.names, costs.full, widths, strict=True)}
        sizes.append(counted(slice_network(channels, keep), metric))
    smallest = min(sizes)
    scores = random_scores(costs)
    reached = Widths(costs, least=least).fit(scores, [Bound(metric=metric, most=smallest)])
    assert kept_of(costs, reached).tolist() == [least, least]
    with pytest.raises(BudgetError) as caught:
        Widths(costs, least=least).fit(scores, [Bound(metric=metric, most=smallest - 1)])
    assert str(caught.value) == (
        "the budget cannot be met by taking channels away; "
        f"got: the smallest reachable {metric} is {smallest:,}, with {least} channels left in each group; "
        f"allowed: {metric} <= {smallest - 1:,}; "
        "remedy: allow more, let more layers shrink (whole, least, multiple), or use a method that removes layers"
    )


def test_what_cannot_be_reached_in_a_part_is_refused_with_its_name() -> None:
    costs = costs_of("mixed")
    least = costs.at("macs", np.ones_like(costs.full), ("block",))
    with pytest.raises(
        BudgetError, match=rf"the smallest reachable macs of block is {least:,}, .*macs of block <= 10;"
    ):
        Widths(costs).fit(random_scores(costs), [Bound(metric="macs", most=10, within=("block",))])
    with pytest.raises(BudgetError, match="with the fewest channels that groups may have"):
        Widths(costs, least=7).fit(random_scores(costs), [Bound(metric="macs", most=10)])


@pytest.mark.parametrize("name", ["chain", "mixed"])
def test_only_the_order_of_scores_counts(name: str) -> None:
    costs = costs_of(name)
    scores = random_scores(costs)
    bounds = [share(costs, "macs", 0.5), share(costs, "params", 0.6)]
    expected = Widths(costs).fit(scores, bounds)
    for stretched in (np.exp, np.cbrt, lambda values: 1e6 * values - 3):
        keep = Widths(costs).fit({group: stretched(values) for group, values in scores.items()}, bounds)
        assert all((keep[group] == expected[group]).all() for group in costs.names)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_larger_budget_is_spent(name: str) -> None:
    costs = costs_of(name)
    smallest, full = costs.macs(np.ones_like(costs.full)), costs.macs(costs.full)
    spent = []
    for part in np.linspace(0, 1, 9):
        bound = Bound(metric="macs", most=smallest + part * (full - smallest))
        spent.append(costs.macs(kept_of(costs, Widths(costs).fit(random_scores(costs), [bound]))))
    assert spent == sorted(spent)
    assert (spent[0], spent[-1]) == (smallest, full)


def test_per_cost_takes_the_dearer_of_two_that_are_worth_the_same() -> None:
    # a channel of "0" costs 10 + 1, one of "2" 4 + 1 multiplications with all others there
    network = traced(nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)), (10,))
    costs = Costs(Channels(network))
    scores = {"0": np.array([1.1, 5, 5, 5]), "2": np.array([1.0, 5, 5, 5])}
    bound = Bound(metric="macs", most=costs.macs(costs.full) - 1)
    plain = Widths(costs).fit(scores, [bound])
    assert (plain["0"].tolist(), plain["2"].tolist()) == ([True] * 4, [False, True, True, True])
    for_cost = Widths(costs).fit(scores, [bound], by_cost=1.0)
    assert (for_cost["0"].tolist(), for_cost["2"].tolist()) == ([False, True, True, True], [True] * 4)


def test_uniform_scores_are_ranks_and_narrow_all_groups_alike() -> None:
    scores = {"a": np.array([0.3, 100.0, 0.1, 0.2]), "b": np.array([7.0, 7.0])}
    ranked = uniform(scores)
    assert ranked["a"].tolist() == [0.75, 1.0, 0.25, 0.5]
    assert ranked["b"].tolist() == [0.5, 1.0]  # ties in order
    costs = costs_of("digits_cnn")
    keep = Widths(costs).fit(uniform(random_scores(costs)), [share(costs, "params", 0.3)])
    shares = kept_of(costs, keep) / costs.full
    assert shares.max() - shares.min() <= 1.5 / costs.full.min()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NETWORKS),
    seed=st.integers(0, 10_000),
    shares=st.dictionaries(st.sampled_from(["params", "macs", "bytes"]), st.floats(0.001, 1), min_size=1),
    least=st.integers(1, 3),
    multiple=st.sampled_from([1, 1, 2, 8]),
    by_cost=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_any_budget_is_met_closely_or_refused(
    name: str, seed: int, shares: dict[str, float], least: int, multiple: int, by_cost: float
) -> None:
    costs = costs_of(name)
    widths = Widths(costs, least=least, multiple=multiple)
    bounds = [share(costs, metric, part) for metric, part in shares.items()]
    smallest = {b.metric: costs.at(b.metric, widths.smallest) for b in bounds}
    missed = [b for b in bounds if smallest[b.metric] > b.most]
    if missed:
        with pytest.raises(BudgetError, match="cannot be met by taking channels away") as caught:
            widths.fit(random_scores(costs, seed), bounds, by_cost=by_cost)
        told = re.search(r"the smallest reachable (\w+) is ([\d,]+),", str(caught.value))
        assert told is not None
        assert int(told[2].replace(",", "")) == smallest[told[1]]
        assert told[1] == missed[0].metric
        return
    keep = widths.fit(random_scores(costs, seed), bounds, by_cost=by_cost)
    kept = kept_of(costs, keep)
    network = slice_network(costs.channels, keep)
    assert all(counted(network, b.metric) <= b.most for b in bounds)
    for number in np.flatnonzero(kept < costs.full).tolist():  # within one step of some bound, whichever group grows
        more = kept.copy()
        more[number] += multiple
        if more[number] > costs.full[number] - costs.full[number] % multiple:
            more[number] = costs.full[number]
        assert any(costs.at(b.metric, more) > b.most for b in bounds)
