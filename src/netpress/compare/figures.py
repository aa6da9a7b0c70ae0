"""Numbers of one table row: means over seeds, and how numbers are written."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: Metrics whose value is a share of right answers; shown in percent, lost in percentage points.
SHARES = ("accuracy", "top1", "top5")


@dataclass(frozen=True)
class Statistic:
    """A mean over seeds. ``spread`` is the sample standard deviation (divisor n - 1), None for one value."""

    mean: float
    spread: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Statistic | None:
        """The statistic of the values that are there; None when there are none.

        >>> Statistic.of([1.0, None, 3.0])
        Statistic(mean=2.0, spread=1.4142135623730951, count=2)
        """
        found = [float(v) for v in values if v is not None]
        if not found:
            return None
        return cls(statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, len(found))

    @property
    def alone(self) -> Statistic:
        """The mean without its spread, for where there is no room for it."""
        return Statistic(self.mean, None, self.count)

    def as_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "spread": self.spread, "count": self.count}


def quality_value(quality: Mapping[str, Any] | None) -> float | None:
    """The value of a quality object: in percent for shares of right answers, else in the metric's own unit."""
    if quality is None:
        return None
    if quality["metric"] not in SHARES:
        return float(quality["value"])
    if quality.get("correct") is not None and quality.get("count"):
        return 100.0 * quality["correct"] / quality["count"]
    return 100.0 * float(quality["value"])


def median_ms(cost: Mapping[str, Any]) -> float | None:
    """The measured median latency of a cost object, None when it was not timed."""
    latency = cost.get("latency_ms")
    return float(latency["median"]) if latency else None


def minutes_of(row: Mapping[str, Any]) -> float | None:
    """How long an exported row's work took: as it says itself, over all its runs, else the wall time of its last run."""
    own = row["result"].get("minutes") if row["result"] else None
    minutes = own if own is not None else row["minutes"]
    return None if minutes is None else float(minutes)


def integer(statistic: Statistic | None) -> str:
    """``1,751,002``; several seeds that differ: ``1,751,002 ± 12``."""
    return _written(statistic, lambda v: f"{v:,.0f}")


def share(statistic: Statistic | None) -> str:
    """A share of 1 in percent, three digits that count: ``11.9 %``, ``40.0 %``."""
    return _written(statistic, lambda v: _digits(v * 100, 3), unit=" %")


def percent(statistic: Statistic | None) -> str:
    """``83.63 %``."""
    return _written(statistic, lambda v: f"{v:.2f}", unit=" %")


def hundredths(statistic: Statistic | None) -> str:
    """``83.63``, where the unit stands elsewhere."""
    return _written(statistic, lambda v: f"{v:.2f}")


def signed(statistic: Statistic | None) -> str:
    """``+3.88`` or ``-0.12``."""
    return _written(statistic, lambda v: f"{v:+.2f}", spread=lambda v: f"{v:.2f}")


def number(statistic: Statistic | None) -> str:
    """Four digits that count."""
    return _written(statistic, lambda v: f"{v:.4g}", spread=lambda v: f"{v:.2g}")


def scaled(statistic: Statistic | None, unit: str) -> str:
    """With a decimal prefix, from a factor of one for all of the cell: ``7.004 MB``, ``190.5 M``."""
    if statistic is None:
        return ""
    step = min(max(int(math.log10(statistic.mean) // 3), 0), 4) if statistic.mean > 0 else 0
    factor, prefix = 1000.0**step, ("", "k", "M", "G", "T")[step]
    suffix = f" {prefix}{unit}".rstrip()
    return _written(statistic, lambda v: _digits(v / factor, 4) if step else f"{v:.4g}", unit=suffix)


def factor(statistic: Statistic | None) -> str:
    """``1.84×``."""
    return _written(statistic, lambda v: f"{v:.2f}", unit="×")


def three_digits(statistic: Statistic | None) -> str:
    """Three digits that count, for times: ``0.139``, ``12.0``."""
    return _written(statistic, lambda v: _digits(v, 3), spread=lambda v: _digits(v, 2))


def duration(minutes: float | None) -> str:
    """Minutes in the unit that suits them.

    >>> duration(0.024), duration(12.3), duration(150.0)
    ('1.4 s', '12 min', '2.5 h')
    """
    if minutes is None:
        return ""
    value, unit = next(
        (minutes * scale, unit)
        for scale, unit, most in ((60.0, "s", 1.5), (1.0, "min", 90.0), (1 / 60, "h", math.inf))
        if minutes < most
    )
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def plural(count: int, word: str) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def answers(quality: Mapping[str, Any] | None) -> str:
    """A quality object in words: ``99.72 % (359/360)``, or the value in the metric's own unit."""
    value = quality_value(quality)
    if quality is None or value is None:
        return ""
    if quality["metric"] not in SHARES:
        return f"{value:.4g}"
    counted = f" ({quality['correct']:,}/{quality['count']:,})" if quality.get("correct") is not None else ""
    return f"{value:.2f} %{counted}"


def _digits(value: float, count: int) -> str:
    if value >= 10**count:
        return f"{value:.0f}"
    # '#' keeps the zeros that count (40.0), but leaves a bare point where there are no decimals (100.).
    return f"{value:#.{count}g}".rstrip(".") if value else "0"


def _written(
    statistic: Statistic | None,
    form: Callable[[float], str],
    *,
    spread: Callable[[float], str] | None = None,
    unit: str = "",
) -> str:
    if statistic is None:
        return ""
    if not statistic.spread:
        return form(statistic.mean) + unit
    return f"{form(statistic.mean)} ± {(spread or form)(statistic.spread)}{unit}"
