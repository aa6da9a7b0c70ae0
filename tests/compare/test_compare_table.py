from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from netpress.compare.choice import choose
from netpress.compare.figures import Statistic, integer, percent, scaled, share
from netpress.compare.rows import FIELDS, read_jsonl, to_jsonl, without_paths, write_text
from netpress.compare.table import notes, render, table_rows, to_csv, to_json, to_markdown, to_terminal
from netpress.errors import ConfigError


@pytest.fixture
def row(stand_ins):
    """One exported row, by hand."""
    _, result_of = stand_ins

    def make(
        recipe: str = "a", seed: int = 0, correct: int = 70, reference: bool = False, **changes: Any
    ) -> dict[str, Any]:
        values = {
            "stage": "main",
            "network": "n",
            "data": "d",
            "recipe": recipe,
            "budget": None if reference else "params=13%",
            "seed": seed,
            "reference": reference,
            "status": "done",
            "result": result_of(correct),
            "error": None,
            "minutes": 9.0,
            "started": "2026-01-01T00:00:00+00:00",
            "environment": {"torch": "2"},
            "content": {
                "network": "n",
                "data": "d",
                "plan": {"epochs": 1},
                "recipe": {"methods": [recipe]},
                "device": "cpu",
            },
            "key": f"{recipe}{seed}",
            **changes,
        }
        return {name: values[name] for name in FIELDS}

    return make


def test_one_row_by_hand(row) -> None:
    rows = [row("finetune", s, 84 + s, reference=True) for s in (0, 1)] + [row("a", s, 70 + 2 * s) for s in (0, 1)]
    reference, found = table_rows(rows)
    # 70 and 72 right of 100, the original 80, finetuned 84 and 85.
    assert (found.quality_after, found.correct, found.count) == (Statistic(71.0, 2**0.5, 2), 142, 200)
    assert found.quality_before == Statistic(80.0, 0.0, 2)
    assert found.lost is not None
    assert found.lost.mean == pytest.approx(9.0)
    assert found.lost_finetuned is not None
    assert (found.lost_finetuned.mean, found.lost_finetuned.spread) == pytest.approx((13.5, 0.5**0.5))
    assert (found.density, found.size_share, found.speedup) == (
        Statistic(0.13, 0.0, 2),
        Statistic(0.15, 0.0, 2),
        Statistic(2.0, 0.0, 2),
    )
    assert found.minutes == Statistic(1.5, 0.0, 2)  # the job's own, not the last run's wall time
    assert reference.lost_finetuned is None


def test_a_reference_of_another_plan_or_seed_does_not_count(row) -> None:
    other_plan = {"network": "n", "data": "d", "plan": {"epochs": 2}, "recipe": {}}
    for reference in (row("f", 0, 90, reference=True, content=other_plan), row("f", 1, 90, reference=True)):
        assert table_rows([reference, row("a", 0)])[1].lost_finetuned is None


def test_lower_is_better_for_errors(row) -> None:
    one = row("a")
    for side, value in (("before", 1.0), ("after", 1.5)):
        one["result"][side]["quality"] = {"metric": "mse", "value": value, "split": "test"}
    [found] = table_rows([one])
    assert found.lost == Statistic(0.5, None, 1)
    assert found.correct is None
    assert "0.5" in to_markdown([one])


def test_failed_and_pending_rows_are_shown_as_such(row) -> None:
    failed = row("b", 0, status="failed", result=None, error="too | large")
    pending = row("c", 0, status="pending", result=None, minutes=None)
    text = to_markdown([row("a"), row("b", 1), failed, pending])
    assert "| b | params=13% | 1 | partial |" in text
    assert "| c | params=13% |  | pending |" in text
    assert "- Failed: b on n, d, params=13%: too \\| large" in text


def test_where_nothing_got_faster_it_is_said(row) -> None:
    slow = row("a")
    slow["result"]["after"]["cost"]["latency_ms"]["median"] = 3.9
    said = notes([slow, row("b")], table_rows([slow, row("b")]))
    assert "No speed was gained by a (params=13%) on n, d: 1.03×." in said
    assert "Latency is measured: median, batch of 1 on cpu, 1 thread." in said


def test_columns_without_content_are_left_out(row) -> None:
    plain = row("a")
    for side in ("before", "after"):
        plain["result"][side]["cost"]["latency_ms"] = None
    header = to_markdown([plain]).splitlines()[2]
    assert "latency" not in header
    assert "nonzeros" not in header
    assert "file kept" in header


def test_a_table_made_again_from_committed_rows_is_the_same_to_the_byte(row, tmp_path: Path) -> None:
    rows = [row("a|*<b>\u2028", s, 70 + s) for s in (0, 1)] + [row("ü", 0, status="failed", result=None, error="x\ny")]
    write_text(tmp_path / "ledger.jsonl", to_jsonl(rows))
    assert read_jsonl(tmp_path / "ledger.jsonl") == rows
    assert to_jsonl(read_jsonl(tmp_path / "ledger.jsonl")).encode() == (tmp_path / "ledger.jsonl").read_bytes()
    assert render(tmp_path / "ledger.jsonl") == to_markdown(rows)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}\n", "line 1 is no ledger row; got: no stage"),
        ("\n", "line 1 is no JSON"),
        ("[1]\n", "line 1 is no ledger row"),
    ],
)
def test_files_of_other_rows_are_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "l.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        render(tmp_path / "l.jsonl")
    with pytest.raises(ConfigError, match="cannot be read"):
        render(tmp_path / "none.jsonl")


def test_csv_and_json_hold_the_numbers_in_full(row) -> None:
    rows = [row("a", s, 70 + s) for s in (0, 1)]
    [line] = csv.DictReader(to_csv(rows).splitlines())
    assert (line["recipe"], line["seeds"], float(line["quality_after"])) == ("a", "0 1", 70.5)
    assert float(line["quality_after_spread"]) == pytest.approx(0.5**0.5)
    assert json.loads(to_json(rows))["rows"][0]["params"] == {"mean": 130.0, "spread": 0.0, "count": 2}


def test_the_terminal_shows_names_as_they_are(row) -> None:
    import rich.console

    console = rich.console.Console(width=250, no_color=True)
    with console.capture() as capture:
        console.print(to_terminal([row("[red]a[/]")], "main"))
    assert "[red]a[/]" in capture.get()
    assert "70.00 %" in capture.get()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("no file /home/ada/data/c.npz?train=x", "no file …/c.npz?train=x"),
        ("npz:/a/b/c.npz", "npz:…/c.npz"),
        ("C:\\Users\\ada\\c.npz is gone", "…/c.npz is gone"),
        ("see https://example.org/a/b/c", "see https://example.org/a/b/c"),
        ("${DATA}/a/b and 3/4 of w/o", "${DATA}/a/b and 3/4 of w/o"),
        ("'/x/y.pt', (/x/z.pt)", "'…/y.pt', (…/z.pt)"),
    ],
)
def test_no_machine_paths(text: str, clean: str) -> None:
    assert without_paths({"k": [text]}) == {"k": [clean]}
    assert without_paths(clean) == clean


def test_how_numbers_are_written() -> None:
    assert integer(Statistic.of([1751002, 1751002])) == "1,751,002"
    assert percent(Statistic.of([83.0, 84.0])) == "83.50 ± 0.71 %"
    assert scaled(Statistic.of([7004008]), "B") == "7.004 MB"
    assert scaled(Statistic.of([190513152]), "") == "190.5 M"
    assert scaled(Statistic.of([0]), "B") == "0 B"
    assert share(Statistic.of([0.11895])) == "11.9 %"
    assert integer(None) == ""


def test_choice_goes_by_the_mean_over_all_jobs_and_ties_keep_their_order(row) -> None:
    def held(recipe: str, *values: float) -> list[dict[str, Any]]:
        rows = [row(recipe, seed) for seed in range(len(values))]
        for one, value in zip(rows, values, strict=True):
            one["result"]["held_out"] = {"metric": "accuracy", "value": value}
        return rows

    rows = [*held("a", 0.9, 0.1), *held("b", 0.6, 0.6), *held("c", 0.6, 0.6)]
    assert [c.recipe for c in choose(rows, stage="main", best=2)] == ["b", "c"]
    for one in rows:
        one["result"]["held_out"]["metric"] = "mse"
    assert [c.recipe for c in choose(rows, stage="main", best=2)] == ["a", "b"]
    assert choose(rows, stage="other", best=2) == []
