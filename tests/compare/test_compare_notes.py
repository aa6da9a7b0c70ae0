from __future__ import annotations

from netpress.compare.notes import notes
from netpress.compare.table import table_rows


def test_where_nothing_got_faster_it_is_said(row) -> None:
    slow = row("a")
    slow["result"]["after"]["cost"]["latency_ms"]["median"] = 3.9
    said = notes([slow, row("b")], table_rows([slow, row("b")]))
    assert "No speed was gained by a (params=13%) on n, d: 1.03×." in said
    assert "Latency is measured: median, batch of 1 on cpu, 1 thread." in said
