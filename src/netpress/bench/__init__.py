"""Timed claims: one file a topic, each row beside its target.

A topic is a module with ``SUMMARY`` (one line) and ``rows(threads, device, progress) -> list[Row]``; one that measures files of yours
has ``compare_files`` instead (`netpress.bench.latency`).
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import asdict, dataclass
from typing import Any

from netpress.errors import ConfigError, UnknownNameError
from netpress.progress import Progress, SilentProgress


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        target: What it should be, as text such as ``<= 0.5``; None where there is none.
        ok: Whether the target holds; None without one.
    """

    case: str
    metric: str
    value: float
    unit: str
    target: str | None = None
    ok: bool | None = None


def at_most(case: str, metric: str, value: float, unit: str, bound: float) -> Row:
    """A row whose target is an upper bound."""
    return Row(case=case, metric=metric, value=value, unit=unit, target=f"<= {bound:g}", ok=value <= bound)


def at_least(case: str, metric: str, value: float, unit: str, bound: float) -> Row:
    """A row whose target is a lower bound."""
    return Row(case=case, metric=metric, value=value, unit=unit, target=f">= {bound:g}", ok=value >= bound)


def topic_names() -> list[str]:
    """A file is a topic; one with a leading underscore is what topics share."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def topics() -> list[tuple[str, str]]:
    """Name and one-line summary of every topic."""
    return [(name, importlib.import_module(f"{__name__}.{name}").SUMMARY) for name in topic_names()]


def takes_files(name: str) -> bool:
    """Whether the topic measures files that it is given.

    Raises:
        UnknownNameError: No such topic.
    """
    if name not in topic_names():
        raise UnknownNameError("benchmark", name, topic_names())
    return hasattr(importlib.import_module(f"{__name__}.{name}"), "compare_files")


def run_bench(name: str, *, threads: int = 2, device: str = "cpu", progress: Progress | None = None) -> dict[str, Any]:
    """Runs one topic.

    Returns:
        ``{"environment": {...}, "rows": [{"case", "metric", "value", "unit", "target", "ok"}, ...]}``

    Raises:
        UnknownNameError: No such topic.
        ConfigError: A topic that takes files.
    """
    from netpress.measure import environment

    if takes_files(name):
        raise ConfigError(
            f"the benchmark {name!r} needs files", got="none", remedy=f"netpress.bench.{name}.compare_files(files)"
        )
    module = importlib.import_module(f"{__name__}.{name}")
    rows = module.rows(threads=threads, device=device, progress=progress or SilentProgress())
    return {"environment": {**environment(), "bench_threads": threads}, "rows": [asdict(row) for row in rows]}
