"""Results as Markdown, to be committed: all that the ledger knows in numbers, and the same bytes for the same ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netpress.compare import figures
from netpress.compare.figures import Statistic, minutes_of
from netpress.compare.notes import notes
from netpress.compare.results import Results
from netpress.compare.rows import read_jsonl
from netpress.compare.table import Group, TableRow, groups, table_rows
from netpress.compare.teachers import plan_in_words, teacher_quality


@dataclass(frozen=True)
class Column:
    """One column: its heading, and the text of a row's cell (empty when there is nothing to show)."""

    heading: str
    cell: Callable[[TableRow], str]
    numeric: bool = True


def _fraction(row: TableRow) -> str:
    return f"{row.correct:,}/{row.count:,}" if row.correct is not None else ""


def _pruned(row: TableRow) -> str:
    # Said only where zeros are stored as parameters: else it repeats the column before.
    return figures.integer(row.nonzeros) if row.nonzeros != row.params else ""


def _seeds(row: TableRow) -> str:
    return ", ".join(map(str, row.seeds)) if len(row.seeds) <= 3 else f"{len(row.seeds)} seeds"


COLUMNS = (
    Column("recipe", lambda r: r.recipe, numeric=False),
    Column("budget", lambda r: r.budget or "", numeric=False),
    Column("seeds", _seeds, numeric=False),
    Column("status", lambda r: "" if r.status == "done" else r.status, numeric=False),
    Column("params", lambda r: figures.integer(r.params)),
    Column("params kept", lambda r: figures.share(r.density)),
    Column("nonzeros", _pruned),
    Column("MACs", lambda r: figures.scaled(r.macs, "")),
    Column("MACs kept", lambda r: figures.share(r.macs_share)),
    Column("file", lambda r: figures.scaled(r.size_bytes, "B")),
    Column("file kept", lambda r: figures.share(r.size_share)),
    Column("original", lambda r: r.quality_text(r.quality_before)),
    Column("test", lambda r: r.quality_text(r.quality_after)),
    Column("correct", _fraction),
    Column("lost", lambda r: r.lost_text(r.lost)),
    Column("lost to finetuned", lambda r: r.lost_text(r.lost_finetuned)),
    Column("held out", lambda r: r.quality_text(r.held_out)),
    Column("latency ms", lambda r: figures.three_digits(r.latency_ms)),
    Column("speedup", lambda r: figures.factor(r.speedup)),
    Column("minutes", lambda r: figures.three_digits(r.minutes)),
)


def shown_columns(group: Group) -> tuple[Column, ...]:
    """The columns that have something to show, less those whose one value stands above the table."""
    above = {"budget": group.budget is not None, "seeds": group.seeds is not None}
    above["original"] = len({row.quality_before.mean for row in group.rows if row.quality_before}) <= 1
    return tuple(c for c in COLUMNS if not above.get(c.heading) and any(c.cell(row) for row in group.rows))


def to_markdown(results: Results) -> str:
    """Results as Markdown: a table for each stage, network and data, then teachers, choices, and what the numbers mean.

    Nothing is left out for want of room: a value that all rows of a table share stands in the lines above it.
    """
    table = table_rows(results.rows)
    found = groups(results.rows, table)
    parts = [f"# {_escape(results.title)}"] if results.title else []
    if not found:
        parts.append("No jobs.")
    several = len({group.stage for group in found}) > 1
    stage = None
    for group in found:
        if several and group.stage != stage:
            stage = group.stage
            parts.append(f"## {_escape(stage)}")
        parts.append(f"##{'#' if several else ''} {_escape(group.title)}")
        parts.append("\n".join(f"- {line}" for line in _above(group)))
        columns = shown_columns(group)
        parts.append(
            _table([(c.heading, c.numeric) for c in columns], [[c.cell(row) for c in columns] for row in group.rows])
        )
    if results.teachers:
        parts.append("## Teachers\n\nThe original networks that this comparison trained itself.")
        parts.append(_teachers(results.teachers))
    if results.choices:
        parts.append("## Choices")
        parts.append("\n".join(f"- {_escape(choice)}" for choice in results.choices))
    remarks = notes(results.rows, table)
    if remarks:
        parts.append("## Notes")
        parts.append("\n".join(f"- {_escape(remark)}" for remark in remarks))
    return "\n\n".join(part for part in parts if part) + "\n"


def render(ledger: str | Path) -> str:
    """The Markdown of an exported ``ledger.jsonl``; the same file gives the same bytes.

    Raises:
        ConfigError: The file cannot be read or is no exported ledger.
    """
    return to_markdown(read_jsonl(ledger))


def _above(group: Group) -> list[str]:
    lines = []
    facts = group.original.facts()
    if facts:
        lines.append(f"original: {_escape(', '.join(facts))}")
    references = ", ".join(dict.fromkeys(row.recipe for row in group.rows if row.reference))
    if references:
        lines.append(f"reference: {_escape(references)}")
    if group.budget:
        lines.append(f"budget: {_escape(group.budget)}{' (the reference has none)' if references else ''}")
    if group.seeds:
        lines.append(f"seeds: {', '.join(map(str, group.seeds))}")
    return lines


def _teachers(teachers: Sequence[Mapping[str, Any]]) -> str:
    headings = ("network", "data", "seed", "status", "plan", "test", "held out", "minutes")
    rows = []
    for row in teachers:
        cells = (
            row["network"],
            row["data"],
            str(row["seed"]),
            "" if row["status"] == "done" else row["status"],
            plan_in_words(row),
            figures.answers(teacher_quality(row, "quality")),
            figures.answers(teacher_quality(row, "held_out")),
            figures.three_digits(Statistic.of([minutes_of(row)])),
        )
        rows.append(cells)
    shown = [i for i in range(len(headings)) if any(cells[i] for cells in rows)]
    numeric = ("seed", "test", "held out", "minutes")
    return _table([(headings[i], headings[i] in numeric) for i in shown], [[cells[i] for i in shown] for cells in rows])


def _table(headings: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(name for name, _ in headings) + " |"]
    lines.append("|" + "|".join("---:" if numeric else "---" for _, numeric in headings) + "|")
    lines += ["| " + " | ".join(map(_escape, cells)) + " |" for cells in rows]
    return "\n".join(lines)


def _escape(text: str) -> str:
    flat = " ".join(text.split())
    for mark in "\\|`*_<>[]":
        flat = flat.replace(mark, "\\" + mark)
    return flat
