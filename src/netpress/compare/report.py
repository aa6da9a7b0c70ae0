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
from netpress.compare.figures import Statistic, median_ms, quality_value
from netpress.compare.notes import notes
from netpress.compare.results import Results
from netpress.compare.rows import write_text
from netpress.compare.scatter import Plot, Point, scatter, shape_of
from netpress.compare.table import SPEEDUP_WORTH_NAMING, TableRow, table_rows


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
    """One network on one data set in one stage: its original, plot and table."""

    anchor: str
    stage: str
    network: str
    data: str
    original: tuple[tuple[str, str], ...]
    headings: tuple[str, ...]
    lines: tuple[Line, ...]
    plot: Plot | None
    quality_name: str
    size_name: str


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
    series = {name: i for i, name in enumerate(dict.fromkeys(row.recipe for row in table))}
    started = sorted(row["started"] for row in results.rows if row["started"])
    page = environment.get_template("report.html").render(
        title=title or results.title,
        version=__version__,
        date=started[-1][:10] if started else None,
        summary=summary(results.rows),
        tiles=tiles(results.rows, table),
        sections=sections(results.rows, table, series),
        legend=[(name, i % 7, shape_of(i)) for name, i in series.items()],
        choices=results.choices,
        notes=notes(results.rows, table),
        recipes=recipes(results.rows),
        environments=environments(results.rows),
        several_stages=len({row.stage for row in table}) > 1,
    )
    return page.lstrip()  # a doctype after blank lines is one still, but a page begins with it


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on the extent of the grid.

    >>> summary([])
    'No jobs.'
    """
    if not rows:
        return "No jobs."
    parts = [
        _plural(len({row[name] for row in rows}), word)
        for name, word in (("network", "network"), ("data", "data set"), ("recipe", "recipe"), ("seed", "seed"))
    ]
    counts = {s: sum(row["status"] == s for row in rows) for s in ("done", "failed", "pending", "running")}
    states = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{', '.join(parts)}; {_plural(len(rows), 'job')}: {states}."


def tiles(rows: Sequence[Mapping[str, Any]], table: Sequence[TableRow]) -> list[tuple[str, str, str]]:
    """(what, figure, of what) for the head of the page: extremes of cost only, for the test set chooses nothing."""
    found = []
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
    minutes = sum(_minutes(row) for row in rows)
    if minutes:
        shown = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.3g} min"
        found.append(("time spent", shown, f"on {_plural(sum(r['status'] == 'done' for r in rows), 'job')} done"))
    failed = sum(row["status"] == "failed" for row in rows)
    if failed:
        found.append(("failed", str(failed), "see the notes"))
    return found


def sections(rows: Sequence[Mapping[str, Any]], table: Sequence[TableRow], series: Mapping[str, int]) -> list[Section]:
    """The page's sections in the order of the table."""
    groups: dict[tuple[str, str, str], list[TableRow]] = {}
    for row in table:
        groups.setdefault((row.stage, row.network, row.data), []).append(row)
    return [_section(f"s{i}", key, members, rows, series) for i, (key, members) in enumerate(groups.items())]


def _section(
    anchor: str,
    key: tuple[str, str, str],
    members: Sequence[TableRow],
    rows: Sequence[Mapping[str, Any]],
    series: Mapping[str, int],
) -> Section:
    befores = [
        row["result"]["before"]
        for row in rows
        if row["status"] == "done" and (row["stage"], row["network"], row["data"]) == key
    ]
    metric = next((row.metric for row in members if row.metric), "quality")
    bytes_known = any(row.size_bytes for row in members)
    quality_name = f"{metric}, %" if metric in figures.SHARES else metric
    headings, lines = _lines(members, series, quality_name)
    return Section(
        anchor=anchor,
        stage=key[0],
        network=key[1],
        data=key[2],
        original=_original(befores, metric),
        headings=headings,
        lines=lines,
        plot=_plot(members, befores, series, bytes_known),
        quality_name=f"test {quality_name}",
        size_name="file size, logarithmic" if bytes_known else "parameters, logarithmic",
    )


def _original(befores: Sequence[Mapping[str, Any]], metric: str) -> tuple[tuple[str, str], ...]:
    def cost(name: str) -> Statistic | None:
        return Statistic.of(b["cost"].get(name) for b in befores)

    quality = Statistic.of(quality_value(b["quality"]) for b in befores)
    latency = Statistic.of(median_ms(b["cost"]) for b in befores)
    found = (
        ("parameters", figures.integer(cost("params"))),
        ("MACs", figures.scaled(cost("macs"), "")),
        ("file", figures.scaled(cost("size_bytes"), "B")),
        (metric, figures.percent(quality) if metric in figures.SHARES else figures.number(quality)),
        ("latency", figures.number(_mean(latency)) + " ms" if latency else ""),
    )
    return tuple((name, text) for name, text in found if text)


def _lines(
    members: Sequence[TableRow], series: Mapping[str, int], quality_name: str
) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    headings = ("parameters", "MACs", "file", quality_name, "lost", "held out", "latency, ms", "minutes")
    cells = [_cells(row) for row in members]
    shown = [i for i in range(len(headings)) if any(row[i].main for row in cells)]
    lines = tuple(
        Line(
            recipe=row.recipe,
            sub=" · ".join(part for part in (row.budget or "", _seed_text(row)) if part),
            series=series[row.recipe] % 7,
            shape=shape_of(series[row.recipe]),
            status=row.status,
            reference=row.reference,
            cells=tuple(row_cells[i] for i in shown),
        )
        for row, row_cells in zip(members, cells, strict=True)
    )
    return tuple(headings[i] for i in shown), lines


def _cells(row: TableRow) -> tuple[Cell, ...]:
    quality = figures.hundredths if row.shows_percent else figures.number
    lost = figures.signed if row.shows_percent else figures.number
    kept = figures.share(row.density)
    zeros = f"{figures.integer(row.nonzeros)} nonzero" if row.nonzeros and row.nonzeros != row.params else ""
    gained = row.speedup is not None and row.speedup.mean >= SPEEDUP_WORTH_NAMING
    speed = figures.factor(_mean(row.speedup)) + (" faster" if gained else ", no gain")
    return (
        Cell(main=figures.integer(row.params), sub=zeros or kept),
        Cell(main=figures.scaled(row.macs, "")),
        Cell(
            main=figures.scaled(row.size_bytes, "B"),
            sub=figures.share(_mean(row.size_share)),
            bar=min(row.size_share.mean, 1.0) if row.size_share else None,
        ),
        Cell(main=quality(row.quality_after), sub=f"{row.correct:,}/{row.count:,}" if row.correct is not None else ""),
        Cell(
            main=lost(row.lost),
            sub=f"finetuned {lost(_mean(row.lost_finetuned))}" if row.lost_finetuned else "",
            tone="worse" if row.lost and row.lost.mean > 0 else "better" if row.lost and row.lost.mean < 0 else "",
        ),
        Cell(main=quality(_mean(row.held_out))),
        Cell(
            main=figures.number(_mean(row.latency_ms)),
            sub=speed if row.speedup and not row.reference else "",
            tone="" if gained or row.speedup is None or row.reference else "still",
        ),
        Cell(main=figures.number(_mean(row.minutes))),
    )


def _plot(
    members: Sequence[TableRow], befores: Sequence[Mapping[str, Any]], series: Mapping[str, int], bytes_known: bool
) -> Plot | None:
    name = "size_bytes" if bytes_known else "params"
    unit = "B" if bytes_known else ""

    def write(value: float) -> str:
        return figures.scaled(Statistic(value, None, 1), unit)

    points = []
    for row in members:
        size = row.size_bytes if bytes_known else row.params
        if size is not None and size.mean > 0 and row.quality_after is not None:
            shown = figures.percent(row.quality_after) if row.shows_percent else figures.number(row.quality_after)
            label = f"{row.recipe}{f' ({row.budget})' if row.budget else ''}"
            points.append(
                Point(
                    x=size.mean,
                    y=row.quality_after.mean,
                    spread=row.quality_after.spread,
                    series=series[row.recipe],
                    label=row.recipe,
                    detail=f"{label}: {write(size.mean)}, {shown}",
                )
            )
    size = Statistic.of(b["cost"].get(name) for b in befores)
    quality = Statistic.of(quality_value(b["quality"]) for b in befores)
    if not points:
        return None
    if size is not None and size.mean > 0 and quality is not None:
        detail = f"original: {write(size.mean)}, {quality.mean:.4g}"
        points.append(
            Point(x=size.mean, y=quality.mean, spread=None, series=0, label="original", detail=detail, original=True)
        )
    return scatter(points, x_text=write)


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


def _minutes(row: Mapping[str, Any]) -> float:
    own = row["result"].get("minutes") if row["result"] else None
    return float(own if own is not None else row["minutes"] or 0.0)


def _seed_text(row: TableRow) -> str:
    return f"{len(row.seeds)} seeds" if len(row.seeds) > 1 else ""


def _mean(statistic: Statistic | None) -> Statistic | None:
    """Without its spread, where there is no room for it."""
    return Statistic(statistic.mean, None, statistic.count) if statistic else None


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
