from __future__ import annotations

from pathlib import Path

from netpress.compare.markdown import render, to_markdown
from netpress.compare.rows import to_jsonl, write_text


def test_failed_and_pending_rows_are_shown_as_such(row) -> None:
    failed = row("b", 0, status="failed", result=None, error="too | large")
    pending = row("c", 0, status="pending", result=None, minutes=None)
    text = to_markdown([row("a"), row("b", 1), failed, pending])
    assert "| b | params=13% | 1 | partial |" in text
    assert "| c | params=13% |  | pending |" in text
    assert "- Failed: b on n, d, params=13%: too \\| large" in text


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


