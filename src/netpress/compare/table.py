"""Ledger rows as a table: one row for each network, data, recipe and budget, with means over the seeds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netpress.compare import figures
from netpress.compare.choice import LOWER_IS_BETTER
from netpress.compare.figures import Statistic, median_ms, quality_value
from netpress.compare.rows import read_jsonl

if TYPE_CHECKING:
    import rich.table

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
        size_share: Bytes after as a share of the original's file.
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
        size_bytes=cost("size_bytes"),
        size_share=ratio("size_bytes"),
        quality_before=Statistic.of(quality_value(b["quality"]) for b in before),
        quality_after=Statistic.of(quality_value(q) for q in qualities),
        correct=sum(q["correct"] for q in qualities) if counted else None,
        count=sum(q["count"] for q in qualities) if counted else None,
        held_out=Statistic.of(quality_value(r.get("held_out")) for r in results),
        lost=Statistic.of(_lost(b["quality"], q) for b, q in zip(before, qualities, strict=True)),
        lost_finetuned=Statistic.of(
            _lost(reference["result"]["after"]["quality"], q) if reference else None
            for reference, q in zip(references, qualities, strict=True)
        ),
        latency_ms=Statistic.of(median_ms(a["cost"]) for a in after),
        speedup=Statistic.of(
            _ratio(median_ms(b["cost"]), median_ms(a["cost"])) for b, a in zip(before, after, strict=True)
        ),
        minutes=Statistic.of(
            row["result"]["minutes"] if row["result"].get("minutes") is not None else row["minutes"] for row in done
        ),
        errors=tuple(row["error"] for row in group if row["status"] == "failed"),
    )


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def _lost(reference: Mapping[str, Any] | None, quality: Mapping[str, Any] | None) -> float | None:
    was, now = quality_value(reference), quality_value(quality)
    if was is None or now is None or quality is None:
        return None
    return now - was if quality["metric"] in LOWER_IS_BETTER else was - now


@dataclass(frozen=True)
class Column:
    """One column: its heading, and the text of a row's cell (empty when there is nothing to show)."""

    heading: str
    cell: Callable[[TableRow], str]
    numeric: bool = True


def _quality(row: TableRow, statistic: Statistic | None) -> str:
    return figures.percent(statistic) if row.shows_percent else figures.number(statistic)


def _lost_text(row: TableRow, statistic: Statistic | None) -> str:
    return figures.signed(statistic) if row.shows_percent else figures.number(statistic)


def _fraction(row: TableRow) -> str:
    return f"{row.correct:,}/{row.count:,}" if row.correct is not None else ""


def _pruned(row: TableRow) -> str:
    # Said only where zeros are stored as parameters: else it repeats the column before.
    return figures.integer(row.nonzeros) if row.nonzeros != row.params else ""


def _seeds_text(row: TableRow) -> str:
    return ", ".join(map(str, row.seeds)) if len(row.seeds) <= 3 else f"{len(row.seeds)} seeds"


def _status(row: TableRow) -> str:
    return "" if row.status == "done" else row.status


COLUMNS = (
    Column("network", lambda r: r.network, numeric=False),
    Column("data", lambda r: r.data, numeric=False),
    Column("recipe", lambda r: r.recipe, numeric=False),
    Column("budget", lambda r: r.budget or "", numeric=False),
    Column("seeds", _seeds_text, numeric=False),
    Column("status", _status, numeric=False),
    Column("params", lambda r: figures.integer(r.params)),
    Column("params kept", lambda r: figures.share(r.density)),
    Column("nonzeros", _pruned),
    Column("MACs", lambda r: figures.scaled(r.macs, "")),
    Column("file", lambda r: figures.scaled(r.size_bytes, "B")),
    Column("file kept", lambda r: figures.share(r.size_share)),
    Column("before", lambda r: _quality(r, r.quality_before)),
    Column("after", lambda r: _quality(r, r.quality_after)),
    Column("correct", _fraction),
    Column("lost", lambda r: _lost_text(r, r.lost)),
    Column("lost to finetuned", lambda r: _lost_text(r, r.lost_finetuned)),
    Column("held out", lambda r: _quality(r, r.held_out)),
    Column("latency ms", lambda r: figures.number(r.latency_ms)),
    Column("speedup", lambda r: figures.factor(r.speedup)),
    Column("minutes", lambda r: figures.number(r.minutes)),
)


def shown_columns(rows: Sequence[TableRow]) -> tuple[Column, ...]:
    """The columns that have something to show in at least one row."""
    return tuple(column for column in COLUMNS if any(column.cell(row) for row in rows))


def by_stage(rows: Iterable[TableRow]) -> dict[str, list[TableRow]]:
    """The rows of each stage, in order."""
    stages: dict[str, list[TableRow]] = {}
    for row in rows:
        stages.setdefault(row.stage, []).append(row)
    return stages


def to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Exported ledger rows as Markdown: a table a stage, what failed, and what the numbers mean."""
    table = table_rows(rows)
    parts = []
    for stage, members in by_stage(table).items():
        columns = shown_columns(members)
        parts.append(f"## {_escape(stage)}")
        lines = ["| " + " | ".join(c.heading for c in columns) + " |"]
        lines.append("|" + "|".join("---:" if c.numeric else "---" for c in columns) + "|")
        lines += ["| " + " | ".join(_escape(c.cell(row)) for c in columns) + " |" for row in members]
        parts.append("\n".join(lines))
    remarks = [_escape(remark) for remark in notes(rows, table)]
    if remarks:
        parts.append("\n".join(f"- {remark}" for remark in remarks))
    return "\n\n".join(parts) + "\n" if parts else "No jobs.\n"


def notes(rows: Sequence[Mapping[str, Any]], table: Sequence[TableRow]) -> list[str]:
    """What has to be said beside the table: how it was counted and timed, where nothing got faster, what failed."""
    said = []
    if any(row.quality_after for row in table):
        said.append("Quality is of the test split; recipes are chosen by the held-out part alone.")
    if any(row.shows_percent and row.lost for row in table):
        said.append("Lost is in percentage points; a positive number is worse than the original.")
    if any(row.lost_finetuned for row in table):
        said.append(
            "Finetuned: the original network given the same extra training on the same data with the same seed."
        )
    if any(len(row.seeds) > 1 for row in table):
        said.append("± is the sample standard deviation over seeds; correct answers are summed over seeds.")
    said += [f"Latency is measured: median, {how}." for how in _timings(rows)]
    slow = [
        f"{r.recipe}{f' ({r.budget})' if r.budget else ''} on {r.network}, {r.data}: {figures.factor(r.speedup)}"
        for r in table
        if r.speedup is not None and r.speedup.mean < SPEEDUP_WORTH_NAMING and not r.reference
    ]
    if slow:
        said.append("No speed was gained by " + "; ".join(slow) + ".")
    for row in table:
        where = f"{row.recipe} on {row.network}, {row.data}{f', {row.budget}' if row.budget else ''}"
        said += [f"Failed: {where}: {error}" for error in row.errors]
    return said


def _timings(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    found = []
    for row in rows:
        latency = row["result"]["after"]["cost"].get("latency_ms") if row["status"] == "done" else None
        if latency:
            threads = latency.get("threads")
            how = f"batch of {latency.get('batch', 1)} on {latency.get('device', 'cpu')}"
            how += f", {threads} thread{'s' if threads != 1 else ''}" if threads else ""
            if how not in found:
                found.append(how)
    return found


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Exported ledger rows as CSV, numbers in full; a statistic takes two columns, ``NAME`` and ``NAME_spread``."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f.name for f in fields(TableRow)]
    statistics = {f.name for f in fields(TableRow) if "Statistic" in str(f.type)}
    writer.writerow([h for n in names for h in ((n, f"{n}_spread") if n in statistics else (n,))])
    for row in table_rows(rows):
        cells: list[Any] = []
        for name in names:
            value = getattr(row, name)
            if name in statistics:
                cells += [value.mean, value.spread] if value is not None else [None, None]
            else:
                cells.append(" ".join(map(str, value)) if isinstance(value, tuple) else value)
        writer.writerow(cells)
    return out.getvalue()


def to_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Exported ledger rows as JSON: ``{"rows": [...], "notes": [...]}``."""
    table = table_rows(rows)
    document = {"rows": [row.as_dict() for row in table], "notes": notes(rows, table)}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_terminal(rows: Sequence[Mapping[str, Any]], stage: str) -> rich.table.Table:
    """The table of one stage for a terminal."""
    import rich.table
    import rich.text

    members = [row for row in table_rows(rows) if row.stage == stage]
    drawn = rich.table.Table(title=rich.text.Text(stage))
    columns = shown_columns(members)
    for column in columns:
        drawn.add_column(column.heading, justify="right" if column.numeric else "left", overflow="fold")
    for row in members:
        style = "red" if row.status == "failed" else "dim" if row.status == "pending" else None
        # Text, not str: names are not to be read as rich's markup.
        drawn.add_row(*(rich.text.Text(column.cell(row)) for column in columns), style=style)
    return drawn


def terminal_tables(rows: Sequence[Mapping[str, Any]]) -> list[rich.table.Table]:
    """One table a stage, in order."""
    return [to_terminal(rows, stage) for stage in by_stage(table_rows(rows))]


def render(ledger: str | Path) -> str:
    """The Markdown table of an exported ``ledger.jsonl``; the same file gives the same bytes.

    Raises:
        ConfigError: The file cannot be read or is no exported ledger.
    """
    return to_markdown(read_jsonl(ledger))


def _escape(text: str) -> str:
    flat = " ".join(text.split())
    for mark in "\\|`*_<>[]":
        flat = flat.replace(mark, "\\" + mark)
    return flat
