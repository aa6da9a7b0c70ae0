"""Ledger rows as rows of a table, means over the seeds, in groups that are judged against one original network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from netpress.compare import figures
from netpress.compare.choice import LOWER_IS_BETTER
from netpress.compare.figures import Statistic, median_ms, minutes_of, quality_value

#: Below this ratio of medians a table does not speak of a gain: runs on one machine differ by as much.
SPEEDUP_WORTH_NAMING = 1.05


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row; quality in percent for accuracy, else in the metric's unit; ``lost`` is positive when it got worse.

    Attributes:
        status: ``done``, ``failed``, ``pending``, or ``partial`` when that differs between the seeds.
        seeds: The seeds that are done; all numbers are over these.
        params: Counted, after. ``density`` is their share of the original's.
        nonzeros: Counted, after.
        size_share: Bytes after as a share of the original's file; ``macs_share`` likewise.
        correct, count: Right answers and answers in all, summed over the seeds; None for other metrics.
        lost: Against the original network.
        lost_finetuned: Against the original given the same extra training: same data, seed and plan.
        speedup: Median latency before, divided by that after, of one run.
        errors: The texts of the jobs that failed.
    """

    stage: str
    network: str
    data: str
    recipe: str
    budget: str | None
    reference: bool
    status: str
    seeds: tuple[int, ...]
    metric: str | None
    params: Statistic | None
    density: Statistic | None
    nonzeros: Statistic | None
    macs: Statistic | None
    macs_share: Statistic | None
    size_bytes: Statistic | None
    size_share: Statistic | None
    quality_before: Statistic | None
    quality_after: Statistic | None
    correct: int | None
    count: int | None
    held_out: Statistic | None
    lost: Statistic | None
    lost_finetuned: Statistic | None
    latency_ms: Statistic | None
    speedup: Statistic | None
    minutes: Statistic | None
    errors: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it: a statistic is ``{mean, spread, count}``."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v.as_dict() if isinstance(v, Statistic) else v for k, v in values.items()}

    @property
    def shows_percent(self) -> bool:
        return self.metric in figures.SHARES

    def quality_text(self, statistic: Statistic | None) -> str:
        """A quality of this row's metric, as it is written."""
        return figures.percent(statistic) if self.shows_percent else figures.number(statistic)

    def lost_text(self, statistic: Statistic | None) -> str:
        """A loss in quality, as it is written: points of percent with their sign, else the metric's unit."""
        return figures.signed(statistic) if self.shows_percent else figures.number(statistic)

    @property
    def without_spread(self) -> TableRow:
        """The means alone."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        means: dict[str, Any] = {name: v.alone for name, v in values.items() if isinstance(v, Statistic)}
        return replace(self, **means)


def table_rows(rows: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    """The table of exported ledger rows, in the order in which they come."""
    rows = list(rows)
    finetuned = {_reference_of(r): r for r in rows if r["reference"] and r["status"] == "done"}
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[n] for n in ("stage", "network", "data", "recipe", "budget")), []).append(row)
    return [_table_row(group, finetuned) for group in groups.values()]


def _reference_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    # By content, not by name: the same network, data, plan and seed, whichever stage ran it.
    content = row["content"]
    same = [content.get(n) for n in ("network", "weights", "teacher", "data", "plan")]
    return (json.dumps(same, sort_keys=True), row["seed"])


def _table_row(group: Sequence[Mapping[str, Any]], finetuned: Mapping[tuple[Any, ...], Mapping[str, Any]]) -> TableRow:
    first = group[0]
    done = [row for row in group if row["status"] == "done"]
    results = [row["result"] for row in done]
    before, after = [r["before"] for r in results], [r["after"] for r in results]
    statuses = {"pending" if row["status"] == "running" else row["status"] for row in group}
    qualities = [a["quality"] for a in after]
    metric = next((q["metric"] for q in qualities if q), None)
    counted = bool(qualities) and all(q and q.get("correct") is not None for q in qualities)

    def cost(name: str) -> Statistic | None:
        return Statistic.of(a["cost"].get(name) for a in after)

    def ratio(name: str) -> Statistic | None:
        return Statistic.of(
            _ratio(a["cost"].get(name), b["cost"].get(name)) for a, b in zip(after, before, strict=True)
        )

    references = [finetuned.get(_reference_of(row)) if not row["reference"] else None for row in done]
    return TableRow(
        stage=first["stage"],
        network=first["network"],
        data=first["data"],
        recipe=first["recipe"],
        budget=first["budget"],
        reference=first["reference"],
        status=statuses.pop() if len(statuses) == 1 else "partial",
        seeds=tuple(row["seed"] for row in done),
        metric=metric,
        params=cost("params"),
        density=ratio("params"),
        nonzeros=cost("nonzeros"),
        macs=cost("macs"),
        macs_share=ratio("macs"),
        size_bytes=cost("size_bytes"),
        size_share=ratio("size_bytes"),
        quality_before=Statistic.of(quality_value(b["quality"]) for b in before),
        quality_after=Statistic.of(quality_value(q) for q in qualities),
        correct=sum(q["correct"] for q in qualities) if counted else None,
        count=sum(q["count"] for q in qualities) if counted else None,
        held_out=Statistic.of(quality_value(r.get("held_out")) for r in results),
        lost=Statistic.of(lost_to(b["quality"], q) for b, q in zip(before, qualities, strict=True)),
        lost_finetuned=Statistic.of(
            lost_to(reference["result"]["after"]["quality"], q) if reference else None
            for reference, q in zip(references, qualities, strict=True)
        ),
        latency_ms=Statistic.of(median_ms(a["cost"]) for a in after),
        speedup=Statistic.of(
            _ratio(median_ms(b["cost"]), median_ms(a["cost"])) for b, a in zip(before, after, strict=True)
        ),
        minutes=Statistic.of(map(minutes_of, done)),
        errors=tuple(row["error"] for row in group if row["status"] == "failed"),
    )


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def lost_to(reference: Mapping[str, Any] | None, quality: Mapping[str, Any] | None) -> float | None:
    """By how much a quality is worse than the reference's: points of percent for accuracy, else the metric's unit."""
    was, now = quality_value(reference), quality_value(quality)
    if was is None or now is None or quality is None:
        return None
    return now - was if quality["metric"] in LOWER_IS_BETTER else was - now


@dataclass(frozen=True, kw_only=True)
class Original:
    """The network that a group's rows are judged against, as its jobs found it before their work.

    Attributes:
        answers: Its quality on the test split in words, such as ``99.72 % (359/360)``.
        latency_ms: Measured anew by each job; the mean of their medians.
    """

    metric: str
    params: Statistic | None
    macs: Statistic | None
    size_bytes: Statistic | None
    quality: Statistic | None
    answers: str
    latency_ms: Statistic | None

    @classmethod
    def of(cls, befores: Sequence[Mapping[str, Any]]) -> Original:
        """From the ``before`` of each job's result."""

        def cost(name: str) -> Statistic | None:
            return Statistic.of(b["cost"].get(name) for b in befores)

        qualities = [b["quality"] for b in befores if b["quality"]]
        metric = qualities[0]["metric"] if qualities else "quality"
        quality = Statistic.of(map(quality_value, qualities))
        words = {figures.answers(q) for q in qualities}
        write = figures.percent if metric in figures.SHARES else figures.number
        return cls(
            metric=metric,
            params=cost("params"),
            macs=cost("macs"),
            size_bytes=cost("size_bytes"),
            quality=quality,
            answers=words.pop() if len(words) == 1 else write(quality),
            latency_ms=Statistic.of(median_ms(b["cost"]) for b in befores),
        )

    def facts(self) -> list[str]:
        """All that is known of it, in words."""
        latency = figures.three_digits(self.latency_ms.alone) if self.latency_ms else ""
        found = (
            (figures.integer(self.params), "", " parameters"),
            (figures.scaled(self.macs, ""), "", " MACs"),
            (figures.scaled(self.size_bytes, "B"), "", ""),
            (self.answers, f"test {self.metric} ", ""),
            (latency, "latency ", " ms"),
        )
        return [before + text + after for text, before, after in found if text]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The rows of one stage, network and data, and the original that all of them were made from."""

    stage: str
    network: str
    data: str
    rows: tuple[TableRow, ...]
    original: Original

    @property
    def title(self) -> str:
        return f"{self.network} on {self.data}"

    @property
    def budget(self) -> str | None:
        """The budget of every row but the references, which have none; None where that differs."""
        return _only({row.budget for row in self.rows if not row.reference})

    @property
    def seeds(self) -> tuple[int, ...] | None:
        """The seeds of every row that is done; None where that differs."""
        return _only({row.seeds for row in self.rows if row.seeds})

    def facts(self) -> list[str]:
        """What holds for every row and is therefore no column."""
        found = []
        if self.budget:
            found.append(f"budget {self.budget}")
        if self.seeds:
            found.append(f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}")
        return found


def _only(values: set[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else None


def groups(rows: Sequence[Mapping[str, Any]], table: Sequence[TableRow]) -> list[Group]:
    """The table of exported ledger rows in its groups, in order."""
    befores: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] == "done":
            befores.setdefault((row["stage"], row["network"], row["data"]), []).append(row["result"]["before"])
    members: dict[tuple[str, str, str], list[TableRow]] = {}
    for found in table:
        members.setdefault((found.stage, found.network, found.data), []).append(found)
    return [
        Group(stage=key[0], network=key[1], data=key[2], rows=tuple(own), original=Original.of(befores.get(key, [])))
        for key, own in members.items()
    ]
