"""What must hold at the end: limits on counts and measurements, absolute or as a share of the original."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from netpress.errors import BudgetError, ConfigError, UnknownNameError

METRICS = {
    "params": "trainable and fixed parameters, counted",
    "macs": "multiply-accumulates of one sample, counted",
    "bytes": "bytes on disk of everything needed to run",
    "latency_ms": "median time of one batch of one sample, measured",
}
_UNITS = {
    "": 1,
    "k": 1e3,
    "m": 1e6,
    "g": 1e9,
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
_NUMBER = re.compile(r"^\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(%|[a-z]*)\s*$", re.IGNORECASE)

# Structure, checksum and table of a file, assumed while nothing is written yet; the true bytes are checked at the end.
FILE_OVERHEAD_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One upper bound.

    Attributes:
        metric: A name of ``METRICS``.
        amount: The bound; a share in (0, 1] of the original's when ``relative``.
        relative: Whether ``amount`` is a share.
    """

    metric: str
    amount: float
    relative: bool

    def __str__(self) -> str:
        # In decimals: a product with 100 in floating point would not read back as the same share.
        amount = Decimal(repr(float(self.amount))) * (100 if self.relative else 1)
        return f"{self.metric}={amount.normalize():f}{'%' if self.relative else ''}"

    def bound(self, original: Mapping[str, float]) -> float:
        """The bound in the metric's unit, given the original's values by metric."""
        return self.amount * original[self.metric] if self.relative else self.amount


@dataclass(frozen=True, kw_only=True)
class Budget:
    """All limits that must hold at once.

    >>> str(Budget.parse("params=13%,macs=100M"))
    'params=13%,macs=100000000'
    """

    limits: tuple[Limit, ...] = ()

    @classmethod
    def parse(cls, text: str | Iterable[str] | Budget | None) -> Budget:
        """Reads ``"params=30%"``, ``"macs=10M,bytes=1MiB"`` or a list of such texts.

        Raises:
            UnknownNameError: A metric that does not exist.
            ConfigError: A value that is no positive number, a share above 100 %, or a metric bounded twice.
        """
        if text is None:
            return cls()
        if isinstance(text, Budget):
            return text
        pieces = text.split(",") if isinstance(text, str) else [p for t in text for p in t.split(",")]
        limits = tuple(_limit(piece.strip()) for piece in pieces if piece.strip())
        metrics = [limit.metric for limit in limits]
        for metric in set(metrics):
            if metrics.count(metric) > 1:
                raise ConfigError(f"the budget bounds {metric!r} twice", got=text, remedy="give each metric once")
        return cls(limits=limits)

    def __str__(self) -> str:
        return ",".join(map(str, self.limits))

    def __bool__(self) -> bool:
        return bool(self.limits)

    def bounds(self, original: Mapping[str, float]) -> dict[str, float]:
        """Absolute bounds by metric, given the original's values by metric."""
        return {limit.metric: limit.bound(original) for limit in self.limits}


def fits(bounds: Mapping[str, float], *, params: int, macs: int) -> bool:
    """Whether counts hold the bounds that counting can decide (params, macs, and bytes as dense float32)."""
    values = {"params": params, "macs": macs, "bytes": params * 4 + FILE_OVERHEAD_BYTES}
    return all(values[m] <= bound for m, bound in bounds.items() if m in values)


def check(bounds: Mapping[str, float], values: Mapping[str, float], *, remedy: str) -> None:
    """Raises BudgetError when a value is above its bound; values that are absent are not judged.

    Raises:
        BudgetError: Names each bound that is missed and by how much.
    """
    missed = [
        f"{m} is {_show(values[m])}, {_show(values[m] - bound)} ({(values[m] / bound - 1) * 100:.2g} %) over"
        for m, bound in bounds.items()
        if m in values and values[m] > bound
    ]
    if missed:
        wanted = ", ".join(f"{m} <= {_show(b)}" for m, b in bounds.items())
        raise BudgetError("the budget cannot be met", got="; ".join(missed), allowed=wanted, remedy=remedy)


def _limit(text: str) -> Limit:
    metric, sign, amount = text.partition("=")
    metric = metric.strip()
    if not sign:
        raise ConfigError("a budget reads METRIC=AMOUNT", got=repr(text), allowed="such as params=30% or bytes=500kB")
    if metric not in METRICS:
        raise UnknownNameError("budget metric", metric, METRICS)
    match = _NUMBER.match(amount)
    unit = match.group(2).lower() if match else ""
    if match is None or (unit != "%" and unit not in _UNITS):
        raise ConfigError(
            f"the budget's amount for {metric!r} cannot be read",
            got=repr(amount),
            allowed="a positive number, with % or one of k, M, G, kB, MB, kiB, MiB",
        )
    relative = unit == "%"
    value = float(Decimal(match.group(1)) / 100) if relative else float(match.group(1)) * _UNITS[unit]
    if not math.isfinite(value) or value <= 0 or (relative and value > 1):
        raise ConfigError(
            f"the budget's amount for {metric!r} is out of range", got=amount.strip(), allowed="above 0, at most 100 %"
        )
    return Limit(metric=metric, amount=value, relative=relative)


def _show(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
