"""Measured and counted: cost, latency, peak memory, quality, and what it all ran on."""

from netpress.measure.concordance import concordance_index
from netpress.measure.cost import Cost, cost
from netpress.measure.environment import environment, source_digest
from netpress.measure.latency import LatencyResult, example_input, latency, ready, take_turns, threads_set, time_one
from netpress.measure.layout import lay_out, modes_kept, to_channels_last
from netpress.measure.memory import network_peak_memory, peak_memory
from netpress.measure.quality import Agreement, Quality, agreement, answers, mcnemar, predictions, quality

__all__ = [
    "Agreement",
    "Cost",
    "LatencyResult",
    "Quality",
    "agreement",
    "answers",
    "concordance_index",
    "cost",
    "environment",
    "example_input",
    "latency",
    "lay_out",
    "mcnemar",
    "modes_kept",
    "network_peak_memory",
    "peak_memory",
    "predictions",
    "quality",
    "ready",
    "source_digest",
    "take_turns",
    "threads_set",
    "time_one",
    "to_channels_last",
]
