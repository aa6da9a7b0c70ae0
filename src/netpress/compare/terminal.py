"""The table for a terminal: as many columns as the console is wide, the most telling first, and no word broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netpress.compare import figures
from netpress.compare.table import Group, TableRow, groups, table_rows

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_GAP = 2
#: A name takes at most this share of the width; what is longer ends in an ellipsis.
_NAME_SHARE = 0.4


@dataclass(frozen=True)
class TerminalColumn:
    """One column.

    Attributes:
        heading: Its lines; ``name`` is the one-line name for the remark on what is left out.
        rank: Who goes first when there is no room for all; those of rank 0 are always there.
    """

    name: str
    heading: str
    rank: int
    cell: Callable[[TableRow], str]
    numeric: bool = True


#: In the order in which they are shown. Ranks up to ESSENTIAL are shown without ± before they are left out.
COLUMNS = (
    TerminalColumn("budget", "budget", 0, lambda r: r.budget or "", numeric=False),
    TerminalColumn("seeds", "seeds", 0, lambda r: str(len(r.seeds)) if r.seeds else ""),
    TerminalColumn("status", "", 0, lambda r: "" if r.status == "done" else r.status, numeric=False),
    TerminalColumn("params", "params", 9, lambda r: figures.integer(r.params)),
    TerminalColumn("params kept", "params\nkept", 3, lambda r: figures.share(r.density)),
    TerminalColumn("nonzeros", "nonzeros", 13, lambda r: figures.integer(r.nonzeros) if r.nonzeros != r.params else ""),
    TerminalColumn("MACs", "MACs", 14, lambda r: figures.scaled(r.macs, "")),
    TerminalColumn("MACs kept", "MACs\nkept", 10, lambda r: figures.share(r.macs_share)),
    TerminalColumn("file size", "file", 2, lambda r: figures.scaled(r.size_bytes, "B")),
    TerminalColumn("file kept", "file\nkept", 11, lambda r: figures.share(r.size_share)),
    TerminalColumn("test", "test", 1, lambda r: r.quality_text(r.quality_after)),
    TerminalColumn("lost to original", "lost to\noriginal", 4, lambda r: r.lost_text(r.lost)),
    TerminalColumn("lost to finetuned", "lost to\nfinetuned", 5, lambda r: r.lost_text(r.lost_finetuned)),
    TerminalColumn("held out", "held\nout", 8, lambda r: r.quality_text(r.held_out)),
    TerminalColumn("latency", "latency\nms", 12, lambda r: figures.three_digits(r.latency_ms)),
    TerminalColumn("speed", "speed", 6, lambda r: figures.factor(r.speedup)),
    TerminalColumn("time", "time", 7, lambda r: figures.duration(r.minutes.mean if r.minutes else None)),
)
ESSENTIAL = 7


@dataclass(frozen=True)
class Layout:
    """What is drawn in a given width.

    Attributes:
        rows: With or without spreads, as there is room.
        name_width: Of the column of names, in cells.
        left_out: Columns that have something to show, but no room.
    """

    rows: tuple[TableRow, ...]
    columns: tuple[TerminalColumn, ...]
    name_width: int
    left_out: tuple[str, ...]
    spreads_left_out: bool


def layout(group: Group, width: int) -> Layout:
    """The columns of a group's table that fit into ``width`` cells beside the recipes' names."""
    from rich.cells import cell_len

    longest = max(cell_len(" ".join(row.recipe.split())) for row in group.rows)
    name_width = max(min(longest, int(width * _NAME_SHARE)), cell_len("recipe"))

    def fitting(rows: Sequence[TableRow]) -> tuple[tuple[TerminalColumn, ...], tuple[TerminalColumn, ...]]:
        above = {"budget": group.budget is not None, "seeds": group.seeds is not None}
        known = [c for c in COLUMNS if not above.get(c.name) and any(c.cell(row) for row in rows)]
        left, taken = width - name_width, set()
        for column in sorted(known, key=lambda c: c.rank):
            lines = [*column.heading.split("\n"), *(column.cell(row) for row in rows)]
            need = _GAP + max(map(cell_len, lines))
            if column.rank == 0 or need <= left:
                taken.add(column.name)
                left -= need
        return tuple(c for c in known if c.name in taken), tuple(c for c in known if c.name not in taken)

    rows = group.rows
    shown, missing = fitting(rows)
    bare = tuple(row.without_spread for row in rows)
    spreads_left_out = bare != rows and any(column.rank <= ESSENTIAL for column in missing)
    if spreads_left_out:
        rows = bare
        shown, missing = fitting(rows)
    return Layout(
        rows=rows,
        columns=shown,
        name_width=name_width,
        left_out=tuple(column.name for column in missing),
        spreads_left_out=spreads_left_out,
    )


@dataclass(frozen=True)
class TerminalTable:
    """One group's table, laid out for whatever console it is printed on; ``stage`` is named where there are several."""

    group: Group
    stage: str | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        group, plan = self.group, layout(self.group, options.max_width)
        # Text, not str, for everything with a name in it: names are not to be read as rich's markup.
        title = f"{self.stage}: {group.title}" if self.stage else group.title
        yield Text("")
        yield Text("  ·  ".join([title, *group.facts()]), style="bold")
        facts = group.original.facts()
        if facts:
            yield Text("original: " + ", ".join(facts))
        drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        drawn.add_column("recipe", width=plan.name_width, no_wrap=True, overflow="ellipsis", vertical="bottom")
        for column in plan.columns:
            drawn.add_column(column.heading, justify="right" if column.numeric else "left", no_wrap=True)
        for row in plan.rows:
            style = "red" if row.status == "failed" else "dim" if row.status == "pending" else None
            drawn.add_row(
                Text(" ".join(row.recipe.split())), *(Text(column.cell(row)) for column in plan.columns), style=style
            )
        yield from (Text(""), drawn)
        remarks = self._remarks(plan)
        if remarks:
            yield from (Text(""), Text(remarks, style="dim"))
        for row in group.rows:
            for error in row.errors:
                yield Text(f"{row.recipe} failed: {error}", style="red")

    def _remarks(self, plan: Layout) -> str:
        said = []
        if any(row.shows_percent and row.lost for row in plan.rows):
            said.append("lost: percentage points; + is worse")
        count = max(len(row.seeds) for row in plan.rows)
        if plan.spreads_left_out:
            said.append(f"means over up to {count} seeds")
        elif count > 1:
            said.append("± standard deviation over seeds")
        if plan.left_out:
            said.append(f"no room for {', '.join(plan.left_out)}: see table.md")
        return "; ".join(said)


def terminal_tables(rows: Sequence[Mapping[str, Any]]) -> list[TerminalTable]:
    """One table for each stage, network and data of exported ledger rows, in order."""
    found = groups(rows, table_rows(rows))
    several = len({group.stage for group in found}) > 1
    return [TerminalTable(group, group.stage if several else None) for group in found]
