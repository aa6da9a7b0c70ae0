from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.errors import BudgetError, ConfigError, UnknownNameError
from netpress.pipeline import Budget
from netpress.pipeline.budget import METRICS, Limit, check, fits

shares = st.floats(min_value=0, max_value=1, exclude_min=True, allow_nan=False)
amounts = st.floats(min_value=0, max_value=1e30, exclude_min=True, allow_nan=False)
limits = st.one_of(
    st.builds(Limit, metric=st.sampled_from(sorted(METRICS)), amount=shares, relative=st.just(True)),
    st.builds(Limit, metric=st.sampled_from(sorted(METRICS)), amount=amounts, relative=st.just(False)),
)


@settings(deadline=None)
@given(st.lists(limits, unique_by=lambda limit: limit.metric))
def test_what_is_written_reads_back_exactly(chosen: list[Limit]) -> None:
    budget = Budget(limits=tuple(chosen))
    assert Budget.parse(str(budget)) == budget
    assert bool(budget) == bool(chosen)


@pytest.mark.parametrize(
    ("text", "metric", "bound"),
    [
        ("params=13%", "params", 130),
        ("params=100%", "params", 1000),
        ("macs=10M", "macs", 10e6),
        ("macs=1.5G", "macs", 1.5e9),
        ("bytes=500kB", "bytes", 500e3),
        ("bytes=1MiB", "bytes", 2**20),
        ("bytes = 2 kib ", "bytes", 2048),
        ("latency_ms=2.5", "latency_ms", 2.5),
        ("latency_ms=.5", "latency_ms", 0.5),
        ("macs=1e6", "macs", 1e6),
        ("params=1_0", None, None),
    ],
)
def test_units(text: str, metric: str | None, bound: float | None) -> None:
    if metric is None:
        with pytest.raises(ConfigError, match="cannot be read"):
            Budget.parse(text)
        return
    original = dict.fromkeys(METRICS, 1000.0)
    assert Budget.parse(text).bounds(original) == {metric: bound}


def test_several_limits_in_one_text_or_in_a_list() -> None:
    both = Budget.parse("params=13%,macs=100M")
    assert str(both) == "params=13%,macs=100000000"
    assert Budget.parse(["params=13%", "macs=100M"]) == both == Budget.parse(both)
    assert Budget.parse(None) == Budget.parse("") == Budget.parse([]) == Budget()
    assert not Budget()
    assert str(Budget()) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "parms=3%",
            "unknown budget metric; got: 'parms'; allowed: bytes, latency_ms, macs, params; remedy: did you mean 'params'?",
        ),
        ("params", "a budget reads METRIC=AMOUNT; got: 'params'; allowed: such as params=30% or bytes=500kB"),
        (
            "params=lots",
            "the budget's amount for 'params' cannot be read; got: 'lots'; allowed: a positive number, with %",
        ),
        ("bytes=5parsec", "cannot be read; got: '5parsec'"),
        ("params=-3", "cannot be read; got: '-3'"),
        ("params=0%", "the budget's amount for 'params' is out of range; got: 0%; allowed: above 0, at most 100 %"),
        ("params=101%", "out of range; got: 101%"),
        ("params=1e999", "out of range; got: 1e999"),
        (
            "params=3%,params=4%",
            "the budget bounds 'params' twice; got: params=3%,params=4%; remedy: give each metric once",
        ),
    ],
)
def test_errors(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Budget.parse(text)
    assert said in str(caught.value)
    assert isinstance(caught.value, UnknownNameError) == text.startswith("parms")


def test_a_bound_holds_when_it_is_reached_exactly() -> None:
    check({"params": 100.0, "latency_ms": 1.0}, {"params": 100, "latency_ms": 1.0}, remedy="")
    check({"latency_ms": 1.0}, {"params": 10**9}, remedy="")  # what was not measured is not judged
    assert fits({"params": 100.0, "macs": 7.0}, params=100, macs=7)
    assert not fits({"params": 100.0, "macs": 7.0}, params=101, macs=7)
    assert not fits({"params": 100.0, "macs": 7.0}, params=100, macs=8)
    assert fits({"bytes": 4496.0}, params=100, macs=0)
    assert not fits({"bytes": 4495.0}, params=100, macs=0)


def test_a_missed_bound_says_by_how_much() -> None:
    with pytest.raises(BudgetError) as caught:
        check({"params": 1000.0, "macs": 50.0}, {"params": 1300, "macs": 40}, remedy="allow more")
    assert str(caught.value) == (
        "the budget cannot be met; got: params is 1,300, 300 (30 %) over; allowed: params <= 1,000, macs <= 50; "
        "remedy: allow more"
    )
