from __future__ import annotations

import re

import pytest
import rich.console

from netpress.compare.table import groups, table_rows
from netpress.compare.terminal import layout, terminal_tables

RECIPES = ("original + epochs", "ahosvd", "active_subspace", "mixer")


def drawn(rows, width: int) -> str:
    console = rich.console.Console(width=width, no_color=True)
    with console.capture() as capture:
        for table in terminal_tables(rows):
            console.print(table)
    return capture.get()


def grid(row, seeds: int = 1) -> list:
    return [row(n, s, 70 + s, reference=n == RECIPES[0]) for n in RECIPES for s in range(seeds)]


@pytest.mark.parametrize("seeds", [1, 3])
def test_at_80_columns_the_essential_numbers_are_there_and_no_word_is_broken(row, seeds: int) -> None:
    text = drawn(grid(row, seeds), 80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    for recipe in RECIPES:
        [line] = [line for line in lines if line.startswith(recipe)]
        assert re.search(r" 13\.0 % +600 B +7[01]\.00 % .*2\.00× +1\.5 min", line)
    headings = " ".join(lines)
    for word in ("params", "kept", "file", "test", "original", "finetuned", "speed", "time"):
        assert word in headings


def test_what_all_share_is_said_once_and_what_had_no_room_is_named(row) -> None:
    text = drawn(grid(row), 80)
    assert "n on d  ·  budget params=13%  ·  seed 0\n" in text
    flat = " ".join(text.split())
    assert "original: 1,000 parameters, 10.00 k MACs, 4.000 kB, test accuracy 80.00 % (80/100), latency 4.00 ms" in flat
    assert "no room for params, MACs, MACs kept, file kept, held out, latency: see table.md" in flat
    assert text.count("params=13%") == 1


def test_a_wide_console_shows_every_column(row) -> None:
    text = drawn(grid(row, 3), 250)
    assert "no room" not in text
    assert "71.00 ± 1.00 %" in text
    assert "± standard deviation over seeds" in text


def test_spreads_give_way_before_essential_columns_do(row) -> None:
    text = drawn(grid(row, 3), 80)
    assert "±" not in text
    assert "means over up to 3 seeds" in text
    assert "71.00 %" in text


def test_what_differs_is_a_column(row) -> None:
    rows = [row("a"), row("a", budget="params=50%"), row("a", 1, budget="params=50%")]
    text = drawn(rows, 100)
    assert "n on d\n" in text
    assert re.search(r"a +params=50% +2 ", text)


def test_names_are_shown_as_they_are_and_long_ones_are_cut(row) -> None:
    text = drawn([row("[red]a[/]"), row("x" * 90)], 80)
    assert "[red]a[/]" in text
    assert "x" * 31 + "…" in text
    assert max(map(len, text.splitlines())) <= 80


def test_failed_rows_say_why_below_the_table(row) -> None:
    text = drawn([row("a"), row("b", status="failed", result=None, error="the budget [x] cannot be met")], 80)
    assert re.search(r"^b +failed *$", text, flags=re.MULTILINE)
    assert "b failed: the budget [x] cannot be met" in text


def test_stages_are_named_where_there_are_several(row) -> None:
    text = drawn([row(stage="screen"), row(stage="final", network="m")], 80)
    assert "screen: n on d" in text
    assert "final: m on d" in text


def test_in_every_width_each_column_is_shown_or_named_and_what_is_shown_fits(row) -> None:
    rows = grid(row, 2)
    [group] = groups(rows, table_rows(rows))
    everything = layout(group, 1000)
    assert everything.left_out == ()
    for width in range(30, 260):
        found = layout(group, width)
        names = {column.name for column in found.columns}
        assert names | set(found.left_out) == {column.name for column in everything.columns}
        assert not names & set(found.left_out)
        assert max(map(len, drawn(rows, width).split("\n\n")[2].splitlines())) <= width  # the table alone
        assert "…" not in drawn(rows, width) or width < 45
