from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from netpress.errors import ConfigError
from netpress.measure import LatencyResult, latency, take_turns, time_one, to_channels_last


class Sleep(nn.Module):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return x


def test_slower_network_takes_longer_by_its_factor() -> None:
    found = latency({"a": Sleep(0.008), "b": Sleep(0.002)}, (3,), repeats=15, least_s=0)
    assert found["a"].median >= 8
    assert found["a"].ratio(found["b"]) == pytest.approx(4, rel=0.35)
    assert found["b"].ratio(found["a"]) < 1
    assert len(found["a"].times_ms) == len(found["b"].times_ms) == 15


def test_networks_take_turns() -> None:
    order: list[str] = []

    class Say(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x: Tensor) -> Tensor:
            order.append(self.name)
            return x

    latency({"a": Say("a"), "b": Say("b")}, (1,), repeats=6, least_s=0)
    assert "".join(order[-12:]) == "abbaabbaabba"


def test_whatever_can_be_called_takes_turns() -> None:
    order: list[str] = []
    runs = {"a": lambda: order.append("run a"), 2: lambda: order.append("run 2")}
    clock = itertools.count()

    def time_ms(run: Callable[[], object]) -> float:
        run()
        return next(clock)

    times = take_turns(runs, repeats=6, least_s=0, time_ms=time_ms, before=lambda name: order.append(f"before {name}"))
    there = ["before a", "run a", "before 2", "run 2"]
    back = ["before 2", "run 2", "before a", "run a"]
    assert order[-24:] == [*there, *back] * 3
    assert not any(said.startswith("before") for said in order[:-24])  # the warm-up
    began = times["a"][0]
    assert times == {
        "a": [began + k for k in (0, 3, 4, 7, 8, 11)],
        2: [began + k for k in (1, 2, 5, 6, 9, 10)],
    }


def test_median_and_nearest_rank_p95() -> None:
    result = LatencyResult(tuple(float(i) for i in range(1, 101)), 1, 1, "cpu")
    assert (result.least, result.median, result.p95) == (1.0, 50.5, 95.0)
    twice = LatencyResult(tuple(2 * t if t > 30 else t for t in result.times_ms), 1, 1, "cpu")
    assert (twice.ratio(result), twice.ratio_quartiles(result)) == (2, (1, 2))
    with pytest.raises(ConfigError, match="cannot be compared round by round"):
        result.ratio(LatencyResult((1.0,), 1, 1, "cpu"))


def test_thread_count_is_used_and_put_back() -> None:
    before, seen = torch.get_num_threads(), []

    class Threads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled(), self.training, tuple(x.shape)))
            return x

    assert time_one(Threads(), (4,), threads=before + 1, batch=3, repeats=3, least_s=0).threads == before + 1
    assert set(seen) == {(before + 1, True, False, (3, 4))}
    assert torch.get_num_threads() == before


def test_limit_of_time_ends_the_rounds() -> None:
    assert len(time_one(Sleep(0.01), (1,), repeats=1000, most_s=0.1).times_ms) <= 11


def test_whole_number_inputs() -> None:
    assert time_one(nn.Embedding(5, 2), (7,), input_dtype=torch.int64, repeats=3, least_s=0).median > 0


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"threads": 0}, {"repeats": 0}])
def test_values_out_of_range(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(wrong))} of a latency is out of range; got: 0"):
        time_one(nn.Identity(), (1,), **wrong)


def test_nothing_to_time() -> None:
    with pytest.raises(ConfigError, match="no network to time"):
        latency({}, (1,))


def test_channels_last_only_where_it_runs() -> None:
    class View(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(len(x), -1)

    x, conv = torch.randn(2, 3, 5, 5), nn.Conv2d(3, 4, 3)
    assert to_channels_last(conv, x)
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    viewing = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), View()).train()
    assert not to_channels_last(viewing, x)
    assert viewing[0].weight.is_contiguous()
    assert viewing[1].num_batches_tracked == 0
    assert viewing.training
    assert viewing[1].training
    assert time_one(viewing, (3, 5, 5), repeats=3, least_s=0).median > 0
    assert not to_channels_last(nn.Linear(2, 2), x)
