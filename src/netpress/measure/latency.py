"""Latency: networks timed side by side in one process, in turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from netpress.errors import ConfigError
from netpress.measure.layout import to_channels_last

LEAST_ROUNDS = 5
MOST_ROUNDS = 2000
WARM_UP_S = 0.2
LEAST_WARM_UP = 3

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class LatencyResult:
    """Times of one network.

    Attributes:
        times_ms: One a round; the networks of one call share their rounds.
        batch: Samples a run.
        threads: CPU threads of the run.
        device: Where it ran.
    """

    times_ms: tuple[float, ...]
    batch: int
    threads: int
    device: str

    @property
    def median(self) -> float:
        """In milliseconds for the whole batch."""
        return statistics.median(self.times_ms)

    @property
    def p95(self) -> float:
        """The time, in milliseconds, that 95 % of the runs keep (nearest rank)."""
        return _nearest_rank(self.times_ms, 0.95)

    @property
    def least(self) -> float:
        """The quickest run, in milliseconds: what a busy machine disturbs least."""
        return min(self.times_ms)

    def ratio(self, other: LatencyResult) -> float:
        """Median over the rounds of this network's time divided by the other's in the same round; below 1 is faster.

        Raises:
            ConfigError: The two were not timed in one call.
        """
        return statistics.median(self._quotients(other))

    def ratio_quartiles(self, other: LatencyResult) -> tuple[float, float]:
        """Between these lie half of the quotients that `ratio` is the median of (nearest ranks): far apart where it was disturbed.

        Raises:
            ConfigError: As for `ratio`.
        """
        quotients = self._quotients(other)
        return _nearest_rank(quotients, 0.25), _nearest_rank(quotients, 0.75)

    def _quotients(self, other: LatencyResult) -> list[float]:
        if len(self.times_ms) != len(other.times_ms):
            raise ConfigError(
                "latencies of two measurements cannot be compared round by round",
                got=f"{len(self.times_ms)} and {len(other.times_ms)} rounds",
                remedy="time both networks in one call",
            )
        return [a / b for a, b in zip(self.times_ms, other.times_ms, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """The ``latency_ms`` object of a cost."""
        return {
            "median": self.median,
            "p95": self.p95,
            "batch": self.batch,
            "threads": self.threads,
            "device": self.device,
        }


def _nearest_rank(values: Sequence[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def latency(
    networks: Mapping[str, nn.Module],
    input_shape: Sequence[int],
    *,
    batch: int = 1,
    threads: int | None = None,
    device: torch.device | str = "cpu",
    repeats: int = 30,
    least_s: float = 0.5,
    most_s: float = 20.0,
    channels_last: bool = True,
    input_dtype: torch.dtype = torch.float32,
) -> dict[str, LatencyResult]:
    """Times inference of several networks, each on private copies in eval mode: round after round, once each in turn.

    As `take_turns`, which see. On CUDA the device's own events are read.

    Args:
        input_shape: Of one sample, without N.
        batch: Samples a run.
        threads: CPU threads for all of them; None takes torch's setting. Put back afterwards.
        channels_last: Time each network in channels-last order if it can run in it.
        input_dtype: Whole numbers get zeros, others normal noise.

    Raises:
        ConfigError: No network, or a batch, number of threads or of repeats below 1.
    """
    for name, value in (("batch", batch), ("threads", 1 if threads is None else threads), ("repeats", repeats)):
        if value < 1:
            raise ConfigError(f"{name} of a latency is out of range", got=value, allowed="1 or more")
    if not networks:
        raise ConfigError("there is no network to time", got="an empty mapping")
    device = torch.device(device)
    with threads_set(threads), torch.inference_mode(False):
        x = example_input((batch, *input_shape), input_dtype).to(device)
        runs = {
            name: ready(copy.deepcopy(network).to(device), x, channels_last=channels_last)
            for name, network in networks.items()
        }
        time_ms = _cuda_time_ms if device.type == "cuda" else _wall_time_ms
        with torch.inference_mode():
            times = take_turns(runs, repeats=repeats, least_s=least_s, most_s=most_s, time_ms=time_ms)
        used = torch.get_num_threads()
    return {name: LatencyResult(tuple(t), batch, used, str(device)) for name, t in times.items()}


def time_one(network: nn.Module, input_shape: Sequence[int], **settings: Any) -> LatencyResult:
    """``latency`` of a single network; takes the same settings."""
    return latency({"network": network}, input_shape, **settings)["network"]


def ready(network: nn.Module, x: Tensor, *, channels_last: bool = True) -> Callable[[], Tensor]:
    """A call that runs the network on ``x`` (N, ...).

    The network itself, not a copy, is put into eval mode and, where asked to and able, into channels-last order.
    """
    network.eval().requires_grad_(False)
    if channels_last and to_channels_last(network, x):
        x = x.contiguous(memory_format=torch.channels_last)
    return lambda: network(x)


def _wall_time_ms(run: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - began) / 1e6


def take_turns(
    runs: Mapping[Name, Callable[[], object]],
    *,
    repeats: int,
    least_s: float = 0.5,
    most_s: float = 20.0,
    time_ms: Callable[[Callable[[], object]], float] = _wall_time_ms,
    before: Callable[[Name], object] | None = None,
) -> dict[Name, list[float]]:
    """Milliseconds of whatever can be called: round after round, once each in turn; the order turns around each round.

    Rounds go on until there are ``repeats`` of them and ``least_s`` have passed, or ``most_s`` are over (at least 5 rounds).

    Args:
        time_ms: Runs one and says what it took; wall time if not given.
        before: Called ahead of each timed run, untimed.
    """
    for run in runs.values():
        began, count = time.perf_counter(), 0
        while count < LEAST_WARM_UP or (time.perf_counter() - began < WARM_UP_S and count < repeats):
            time_ms(run)
            count += 1
    times: dict[Name, list[float]] = {name: [] for name in runs}
    names, began = list(runs), time.perf_counter()
    for rounds in range(MOST_ROUNDS):
        spent = time.perf_counter() - began
        if (rounds >= repeats and spent >= least_s) or (rounds >= LEAST_ROUNDS and spent >= most_s):
            break
        for name in names:
            if before is not None:
                before(name)
            times[name].append(time_ms(runs[name]))
        names.reverse()
    return times


def _cuda_time_ms(run: Callable[[], object]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def example_input(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """What networks are timed on: normal noise, the same each time; zeros where whole numbers are wanted."""
    if not dtype.is_floating_point:
        return torch.zeros(tuple(shape), dtype=dtype)
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(dtype)


@contextmanager
def threads_set(count: int | None) -> Iterator[None]:
    """Gives torch so many threads, and puts back what it had."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)
