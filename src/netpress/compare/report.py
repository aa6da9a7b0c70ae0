"""A comparison as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from netpress._version import __version__
from netpress.compare import figures
from netpress.compare.choice import best_rows
from netpress.compare.figures import Statistic, minutes_of, plural
from netpress.compare.notes import notes
from netpress.compare.plots import Figure, figures_of, quality_name
from netpress.compare.results import Results
from netpress.compare.rows import write_text
from netpress.compare.scatter import shape_of
from netpress.compare.table import SPEEDUP_WORTH_NAMING, Group, TableRow, groups, table_rows
from netpress.compare.teachers import plan_in_words, teacher_quality


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: its main figure, a smaller one under it, and the filled share of its bar."""

    main: str
    sub: str = ""
    bar: float | None = None
    tone: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a section's table."""

    recipe: str
    sub: str
    series: int
    shape: str
    status: str
    reference: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One network on one data set in one stage: its original, plots and table."""

    anchor: str
    title: str
    original: tuple[str, ...]
    facts: tuple[str, ...]
    figures: tuple[Figure, ...]
    headings: tuple[str, ...]
    lines: tuple[Line, ...]


def write_report(results: Results, path: str | Path, title: str | None = None) -> None:
    """Writes the page of a comparison, as a whole or not at all.

    Args:
        title: The results' own when None.
    """
    write_text(Path(path), report_html(results, title))


def report_html(results: Results, title: str | None = None) -> str:
    """The page of a comparison. The same results give the same text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("netpress.compare", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    table = table_rows(results.rows)
    found = groups(results.rows, table)
    series = {name: i for i, name in enumerate(dict.fromkeys(row.recipe for row in table))}
    started = sorted(row["started"] for row in results.rows if row["started"])
    page = environment.get_template("report.html").render(
        title=title or results.title or "Comparison",
        version=__version__,
        date=started[-1][:10] if started else None,
        summary=summary(results),
        tiles=tiles(results, table),
        sections=sections(found, series),
        teachers=teachers(results.teachers),
        choices=results.choices,
        notes=notes(results.rows, table),
        recipes=recipes(results.rows),
        environments=environments((*results.teachers, *results.rows)),
    )
    return page.lstrip()  # a doctype after blank lines is one still, but a page begins with it


def summary(results: Results) -> str:
    """One sentence on the extent of the grid.

    >>> summary(Results(title="", rows=()))
    'No jobs.'
    """
    rows = results.rows
    if not rows:
        return "No jobs."
    parts = [
        plural(len({row[name] for row in rows}), word)
        for name, word in (("network", "network"), ("data", "data set"), ("recipe", "recipe"), ("seed", "seed"))
    ]
    counts = {s: sum(row["status"] == s for row in rows) for s in ("done", "failed", "pending", "running")}
    states = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{', '.join(parts)}; {plural(len(rows), 'job')}: {states}."


def tiles(results: Results, table: Sequence[TableRow]) -> list[tuple[str, str, str]]:
    """(what, figure, of what) for the head of the page: extremes of cost, and the best by held-out quality, for the test
    set chooses nothing."""
    found = []
    if len({(row.stage, row.network, row.data) for row in table}) == 1:
        found += _best_tile(results, table)
    sized = [row for row in table if row.size_share is not None and not row.reference]
    if sized:
        least = min(sized, key=lambda row: row.size_share.mean if row.size_share else math.inf)
        lost = f", {figures.hundredths(_mean(least.lost))} points lost" if least.lost and least.shows_percent else ""
        found.append(
            ("smallest file", figures.share(_mean(least.size_share)), f"of the original: {least.recipe}{lost}")
        )
    timed = [row for row in table if row.speedup is not None and not row.reference]
    if timed:
        fastest = max(timed, key=lambda row: row.speedup.mean if row.speedup else 0.0)
        gained = fastest.speedup is not None and fastest.speedup.mean >= SPEEDUP_WORTH_NAMING
        figure = figures.factor(_mean(fastest.speedup)) if gained else "none"
        found.append(
            ("largest speedup", figure, f"measured: {fastest.recipe}" if gained else "measured on this machine")
        )
    minutes = sum(minutes_of(row) or 0.0 for row in (*results.teachers, *results.rows))
    if minutes:
        jobs = plural(sum(row["status"] == "done" for row in results.rows), "job")
        trained = f" and {plural(len(results.teachers), 'teacher')}" if results.teachers else ""
        found.append(("time spent", figures.duration(minutes), f"on {jobs}{trained}"))
    if results.failed:
        found.append(("failed", str(results.failed), "see the notes"))
    return found


def _best_tile(results: Results, table: Sequence[TableRow]) -> list[tuple[str, str, str]]:
    names = list(dict.fromkeys((row["recipe"], row["budget"]) for row in best_rows(results.rows)))
    if not names:
        return []
    [row, *_] = [row for row in table if (row.recipe, row.budget) == names[0]]
    ties = f"; {len(names) - 1} more as good" if len(names) > 1 else ""
    held, test = row.quality_text(_mean(row.held_out)), row.quality_text(_mean(row.quality_after))
    return [("best by held-out quality", row.recipe, f"held out {held}, test {test}{ties}")]


def sections(found: Sequence[Group], series: Mapping[str, int]) -> list[Section]:
    """The page's sections in the order of the table."""
    several = len({group.stage for group in found}) > 1
    return [
        Section(
            anchor=f"s{i}",
            title=f"{group.stage}: {group.title}" if several else group.title,
            original=tuple(group.original.facts()),
            facts=tuple(_facts(group)),
            figures=tuple(figures_of(group, series)),
            headings=headings,
            lines=lines,
        )
        for i, group in enumerate(found)
        for headings, lines in [_lines(group, series)]
    ]


def _facts(group: Group) -> list[str]:
    excepted = group.budget is not None and any(row.reference for row in group.rows)
    return [f"{fact}{', except the reference' if excepted and not i else ''}" for i, fact in enumerate(group.facts())]


def teachers(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """(network, data, plan, test, held out, time) of each original that was trained, or how it stands."""
    return [
        (
            row["network"],
            f"{row['data']}, seed {row['seed']}",
            plan_in_words(row),
            figures.answers(teacher_quality(row, "quality")) if row["status"] == "done" else row["status"],
            figures.answers(teacher_quality(row, "held_out")),
            figures.duration(minutes_of(row)),
        )
        for row in rows
    ]


def _lines(group: Group, series: Mapping[str, int]) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    headings = (quality_name(group), "lost", "held out", "file", "parameters", "MACs", "latency, ms", "time")
    cells = [_cells(row) for row in group.rows]
    shown = [i for i in range(len(headings)) if any(row[i].main for row in cells)]
    lines = tuple(
        Line(
            recipe=row.recipe,
            sub=" · ".join(part for part in _particulars(group, row) if part),
            series=series[row.recipe] % 7,
            shape=shape_of(series[row.recipe]),
            status=row.status,
            reference=row.reference,
            cells=tuple(row_cells[i] for i in shown),
        )
        for row, row_cells in zip(group.rows, cells, strict=True)
    )
    return tuple(headings[i] for i in shown), lines


def _particulars(group: Group, row: TableRow) -> tuple[str, ...]:
    # What all rows share stands above the table.
    budget = "" if group.budget else row.budget or ""
    return (budget, "" if group.seeds or not row.seeds else plural(len(row.seeds), "seed"))


def _cells(row: TableRow) -> tuple[Cell, ...]:
    quality = figures.hundredths if row.shows_percent else figures.number
    zeros = f"{figures.integer(row.nonzeros)} nonzero" if row.nonzeros and row.nonzeros != row.params else ""
    return (
        Cell(main=quality(row.quality_after), sub=f"{row.correct:,}/{row.count:,}" if row.correct is not None else ""),
        Cell(
            main=row.lost_text(row.lost),
            sub=f"to finetuned {row.lost_text(_mean(row.lost_finetuned))}" if row.lost_finetuned else "",
            tone="worse" if row.lost and row.lost.mean > 0 else "better" if row.lost and row.lost.mean < 0 else "",
        ),
        Cell(main=quality(_mean(row.held_out))),
        Cell(
            main=figures.scaled(row.size_bytes, "B"),
            sub=figures.share(_mean(row.size_share)),
            bar=min(row.size_share.mean, 1.0) if row.size_share else None,
        ),
        Cell(main=figures.integer(row.params), sub=zeros or figures.share(row.density)),
        Cell(main=figures.scaled(row.macs, ""), sub=figures.share(_mean(row.macs_share))),
        Cell(main=figures.three_digits(_mean(row.latency_ms)), sub="" if row.reference else _speed(row)),
        Cell(main=figures.duration(row.minutes.mean if row.minutes else None)),
    )


def _speed(row: TableRow) -> str:
    if row.speedup is None:
        return ""
    if row.speedup.mean >= SPEEDUP_WORTH_NAMING:
        return f"{figures.factor(_mean(row.speedup))} faster"
    slower = row.speedup.mean * SPEEDUP_WORTH_NAMING <= 1
    return f"{figures.factor(_mean(row.speedup))}, {'slower' if slower else 'no gain'}"


def recipes(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(name, YAML of the whole recipe with its defaults) for each that differs."""
    found: dict[tuple[str, str], None] = {}
    for row in rows:
        written = yaml.safe_dump(
            row["content"].get("recipe"), sort_keys=False, default_flow_style=None, width=100, allow_unicode=True
        )
        found.setdefault((row["recipe"], written))
    return list(found)


def environments(rows: Sequence[Mapping[str, Any]]) -> list[list[tuple[str, str]]]:
    """The environments that rows were made in, each once, as (name, value)."""
    found: dict[tuple[tuple[str, str], ...], None] = {}
    for row in rows:
        if row["status"] == "done":
            device = row["content"].get("device")
            items = {**(row["environment"] or {}), **({"device": device} if device is not None else {})}
            found.setdefault(tuple((k, str(v)) for k, v in items.items()))
    return [list(items) for items in found]


def _mean(statistic: Statistic | None) -> Statistic | None:
    """Without its spread, where there is no room for it."""
    return statistic.alone if statistic else None
