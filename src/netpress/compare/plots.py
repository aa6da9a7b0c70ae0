"""What a group's plots show: quality against the size of the file, and against time where it was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from netpress.compare import figures
from netpress.compare.figures import Statistic
from netpress.compare.scatter import Plot, Point, scatter
from netpress.compare.table import Group, TableRow


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot with the names of its axes."""

    x_name: str
    y_name: str
    plot: Plot


def quality_name(group: Group) -> str:
    """The metric with its unit, such as ``accuracy, %``."""
    metric = group.original.metric
    return f"{metric}, %" if metric in figures.SHARES else metric


def figures_of(group: Group, series: Mapping[str, int]) -> list[Figure]:
    """The plots for which the group has points; empty before any job is done.

    Args:
        series: The number of each recipe, which is its colour and shape.
    """
    sized = any(row.size_bytes for row in group.rows)

    def written(value: float, unit: str) -> str:
        return figures.scaled(Statistic(value, None, 1), unit)

    def tick(value: float) -> str:
        number, _, prefix = written(value, "B" if sized else "").partition(" ")
        return f"{float(number):g} {prefix}".rstrip()

    def size(row: TableRow) -> float | None:
        found = row.size_bytes if sized else row.params
        return found.mean if found else None

    def time(row: TableRow) -> float | None:
        return 1.0 / row.speedup.mean if row.speedup and row.speedup.mean > 0 else None

    original = group.original.size_bytes if sized else group.original.params
    found = [
        _figure(
            group,
            series,
            name="file size, log scale" if sized else "parameters, log scale",
            x=size,
            original=original.mean if original else None,
            write=lambda value: written(value, "B" if sized else ""),
            tick=tick,
        )
    ]
    if any(row.speedup for row in group.rows):
        found.append(
            _figure(
                group,
                series,
                name="latency as a share of the original's, log scale",
                x=time,
                original=1.0,
                write=lambda value: f"{value * 100:.0f} % of the time",
                tick=lambda value: f"{value * 100:g} %",
            )
        )
    return [figure for figure in found if figure is not None]


def _figure(
    group: Group,
    series: Mapping[str, int],
    *,
    name: str,
    x: Callable[[TableRow], float | None],
    original: float | None,
    write: Callable[[float], str],
    tick: Callable[[float], str],
) -> Figure | None:
    points = []
    for row in group.rows:
        at = x(row)
        if at is None or at <= 0 or row.quality_after is None:
            continue
        label = f"{row.recipe}{f' ({row.budget})' if row.budget else ''}"
        points.append(
            Point(
                x=at,
                y=row.quality_after.mean,
                spread=row.quality_after.spread,
                series=series[row.recipe],
                label=row.recipe,
                detail=f"{label}: {write(at)}, {row.quality_text(row.quality_after)}",
            )
        )
    if not points:
        return None
    quality = group.original.quality
    if original is not None and original > 0 and quality is not None:
        detail = f"original: {write(original)}, {group.original.answers}"
        points.append(
            Point(x=original, y=quality.mean, spread=None, series=0, label="original", detail=detail, original=True)
        )
    return Figure(x_name=name, y_name=f"test {quality_name(group)}", plot=scatter(points, x_text=tick))
