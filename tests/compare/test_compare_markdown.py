from __future__ import annotations

from pathlib import Path

from netpress.compare.markdown import render, to_markdown
from netpress.compare.results import Results
from netpress.compare.rows import read_jsonl, to_jsonl, write_text


def results(*rows) -> Results:
    return Results(title="", rows=rows)


def test_what_all_rows_share_stands_above_the_table(row) -> None:
    rows = [row("f", 0, 84, reference=True), row("a", 0, 71), row("b", 0, 72)]
    assert to_markdown(Results(title="A *title*", rows=tuple(rows))).splitlines()[:11] == [
        "# A \\*title\\*",
        "",
        "## n on d",
        "",
        "- original: 1,000 parameters, 10.00 k MACs, 4.000 kB, test accuracy 80.00 % (80/100), latency 4.00 ms",
        "- reference: f",
        "- budget: params=13% (the reference has none)",
        "- seeds: 0",
        "",
        "| recipe | params | params kept | MACs | MACs kept | file | file kept | test | correct | lost | "
        "lost to finetuned | held out | latency ms | speedup | minutes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]


def test_what_differs_between_rows_is_a_column(row) -> None:
    other = row("a", 1, 71, budget="params=50%")
    other["result"]["before"]["quality"] = {**other["result"]["before"]["quality"], "correct": 81, "value": 0.81}
    text = to_markdown(results(row("a"), other))
    assert "| recipe | budget | seeds | params |" in text
    assert "| original | test |" in text
    assert "| a | params=50% | 1 |" in text
    assert "test accuracy 80.50 ± 0.71 %" in text
    assert "- budget" not in text
    assert "- seeds" not in text


def test_each_stage_network_and_data_has_its_own_table(row) -> None:
    text = to_markdown(results(row(), row(network="m"), row(data="e"), row(stage="final")))
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == ["## main", "### n on d", "### m on d", "### n on e", "## final", "### n on d", "## Notes"]


def test_failed_and_pending_rows_are_shown_as_such(row) -> None:
    failed = row("b", 0, status="failed", result=None, error="too | large")
    pending = row("c", 0, status="pending", result=None, minutes=None)
    text = to_markdown(results(row("a"), row("b", 1), failed, pending))
    assert "| b | 1 | partial |" in text
    assert "| c |  | pending |" in text
    assert "- budget: params=13%\n" in text
    assert "- Failed: b on n, d, params=13%: too \\| large" in text


def test_columns_without_content_are_left_out(row) -> None:
    plain = row("a")
    for side in ("before", "after"):
        plain["result"][side]["cost"]["latency_ms"] = None
    header = next(line for line in to_markdown(results(plain)).splitlines() if line.startswith("| recipe"))
    assert "latency" not in header
    assert "nonzeros" not in header
    assert "file kept" in header


def test_teachers_and_choices_have_their_sections(row, teacher) -> None:
    failed = {**teacher, "seed": 4, "status": "failed", "result": None, "error": "no", "minutes": None}
    text = to_markdown(Results(title="", rows=(row(),), teachers=(teacher, failed), choices=("final takes a_b.",)))
    assert "| network | data | seed | status | plan | test | held out | minutes |" in text
    assert "| n | d | 3 |  | 30 epochs, sgd, lr 0.1, batch 64 | 80.00 % (80/100) | 75.00 % (15/20) | 1.00 |" in text
    assert "| n | d | 4 | failed |" in text
    assert "## Choices\n\n- final takes a\\_b.\n" in text


def test_a_table_made_again_from_committed_rows_is_the_same_to_the_byte(row, teacher, tmp_path: Path) -> None:
    rows = [row("a|*<b>\u2028", s, 70 + s) for s in (0, 1)] + [row("ü", 0, status="failed", result=None, error="x\ny")]
    found = Results(title="T\u2028", rows=tuple(rows), teachers=(teacher,), choices=("c took a.",))
    write_text(tmp_path / "ledger.jsonl", to_jsonl(found))
    assert read_jsonl(tmp_path / "ledger.jsonl") == found
    assert to_jsonl(read_jsonl(tmp_path / "ledger.jsonl")).encode() == (tmp_path / "ledger.jsonl").read_bytes()
    assert render(tmp_path / "ledger.jsonl") == to_markdown(found)


def test_without_jobs_it_says_so() -> None:
    assert to_markdown(results()) == "No jobs.\n"
