"""What a network costs: what can be counted, what was weighed on disk, and what was timed, each apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from netpress.errors import ConfigError
from netpress.graph import GraphNetwork, count, trace
from netpress.measure.latency import time_one


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Numbers of one network; None where nothing was measured.

    Attributes:
        params: Elements of all parameters, shared ones once.
        nonzeros: Those of them that are not 0. They save bytes only in a format that leaves zeros out, and no time on dense
            kernels.
        macs: Multiply-accumulates of one sample.
        size_bytes: On disk, of everything that is needed to run.
        latency_ms: ``{median, p95, batch, threads, device}``, as ``LatencyResult.as_dict`` gives it.
        peak_memory_bytes: Of a process that does nothing else.
    """

    params: int
    nonzeros: int
    macs: int
    size_bytes: int | None = None
    latency_ms: dict[str, Any] | None = None
    peak_memory_bytes: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The ``cost`` object of every ``--json``."""
        return {
            "params": self.params,
            "nonzeros": self.nonzeros,
            "macs": self.macs,
            "size_bytes": self.size_bytes,
            "latency_ms": None if self.latency_ms is None else dict(self.latency_ms),
            "peak_memory_bytes": self.peak_memory_bytes,
        }


def cost(
    network: nn.Module,
    input_shape: Sequence[int] | None = None,
    *,
    size_bytes: int | None = None,
    latency: bool = False,
    batch: int = 1,
    threads: int | None = None,
    device: torch.device | str = "cpu",
    peak_memory_bytes: int | None = None,
    input_dtype: torch.dtype = torch.float32,
) -> Cost:
    """Counts a network and, if asked to, times it; the network is not changed.

    Args:
        input_shape: Of one sample, without N; a traced network knows its own.
        size_bytes: Of the network's file, weighed by whoever wrote it.
        latency: Whether to time it, with ``batch``, ``threads`` and ``device`` (see ``latency``).
        peak_memory_bytes: Measured by whoever ran it (see ``peak_memory``).
        input_dtype: What the network takes; a traced network knows that, too.

    Raises:
        ConfigError: No input shape for a network that was not traced.
        GraphError: The network cannot be traced.
    """
    if isinstance(network, GraphNetwork):
        traced = network
    elif input_shape is None:
        raise ConfigError("the cost of a network that was not traced needs an input shape", remedy="give input_shape=")
    else:
        place = next((p.device for p in network.parameters()), torch.device("cpu"))
        traced = trace(network, torch.zeros((2, *input_shape), dtype=input_dtype, device=place))
    counts = count(traced)
    timed = None
    if latency:
        timed = time_one(
            traced, traced.input_shape, batch=batch, threads=threads, device=device, input_dtype=traced.input_dtype
        ).as_dict()
    return Cost(
        params=counts.params,
        nonzeros=counts.nonzeros,
        macs=counts.macs,
        size_bytes=size_bytes,
        latency_ms=timed,
        peak_memory_bytes=peak_memory_bytes,
    )
