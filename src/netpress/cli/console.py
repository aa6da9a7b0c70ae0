"""What the command line shows: progress and words on stderr, the result on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table

ERR = Console(stderr=True, highlight=False)
OUT = Console(highlight=False)


class _BarStep:
    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: int = 1, **notes: float | str) -> None:
        shown = "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in notes.items())
        if shown:
            self._bars.update(self._task, advance=amount, notes=shown)
        else:
            self._bars.update(self._task, advance=amount)


class TerminalProgress:
    """Bars with the time left, on stderr; without a terminal, one line when a piece of work ends."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: RichProgress | None = None

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[_BarStep]:
        outermost = self._bars is None
        if self._bars is None:
            self._bars = RichProgress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[notes]}"),
                console=ERR,
                transient=True,
                disable=self._quiet or not ERR.is_terminal,
            )
            self._bars.start()
        bars = self._bars
        task = bars.add_task(label, total=total, notes="")
        try:
            yield _BarStep(bars, task)
        finally:
            bars.remove_task(task)
            if outermost:
                bars.stop()
                self._bars = None

    def say(self, text: str) -> None:
        if not self._quiet:
            ERR.print(text, style="dim", markup=False)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout, and nothing else."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    right: Sequence[int] = (),
    whole: Sequence[int] = (),
) -> None:
    """A table on stdout; the columns whose numbers are in ``right`` are set flush right, neither they nor ``whole`` ones broken."""
    drawn = Table(
        title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for index, column in enumerate(columns):
        number = index in right
        drawn.add_column(
            column, justify="right" if number else "left", overflow="fold", no_wrap=number or index in whole
        )
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell) for cell in row))
    OUT.print(drawn)


def size(count: float | None) -> str:
    """Bytes for people: ``1,751,002`` as ``1.75 MB``."""
    if count is None:
        return "-"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count:.0f} B"


def amount(count: float | None) -> str:
    """A count with thousands separated."""
    return "-" if count is None else f"{count:,.0f}"


def share(part: float | None, whole: float | None) -> str:
    """``part`` as a percentage of ``whole``."""
    return "-" if not whole or part is None else f"{100 * part / whole:.1f} %"


def judged(quality: Mapping[str, Any] | None) -> str:
    """A quality object for people: ``86.15 % (8,615 of 10,000)``, ``mse 0.2614, concordance index 0.8780``."""
    if quality is None:
        return "-"
    if quality.get("correct") is not None:
        return f"{100 * quality['value']:.2f} % ({quality['correct']:,} of {quality['count']:,})"
    ordered = "" if quality.get("concordance") is None else f", concordance index {quality['concordance']:.4f}"
    return f"{quality['metric']} {quality['value']:.4g}{ordered}"
