"""What has to be said beside a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from netpress.compare import figures
from netpress.compare.table import SPEEDUP_WORTH_NAMING, TableRow


def notes(rows: Sequence[Mapping[str, Any]], table: Sequence[TableRow]) -> list[str]:
    """What has to be said beside the table: how it was counted and timed, where nothing got faster, what failed."""
    said = []
    if any(row.quality_after for row in table):
        said.append("Quality is of the test split; recipes are chosen by the held-out part alone.")
    if any(row.shows_percent and row.lost for row in table):
        said.append("Lost is in percentage points; a positive number is worse than the original.")
    if any(row.lost_finetuned for row in table):
        said.append(
            "Finetuned: the original network given the same extra training on the same data with the same seed."
        )
    if any(len(row.seeds) > 1 for row in table):
        said.append("± is the sample standard deviation over seeds; correct answers are summed over seeds.")
    said += [f"Latency is measured: median, {how}." for how in _timings(rows)]
    slow = [
        f"{r.recipe}{f' ({r.budget})' if r.budget else ''} on {r.network}, {r.data}: {figures.factor(r.speedup)}"
        for r in table
        if r.speedup is not None and r.speedup.mean < SPEEDUP_WORTH_NAMING and not r.reference
    ]
    if slow:
        said.append("No speed was gained by " + "; ".join(slow) + ".")
    for row in table:
        where = f"{row.recipe} on {row.network}, {row.data}{f', {row.budget}' if row.budget else ''}"
        said += [f"Failed: {where}: {error}" for error in row.errors]
    return said


def _timings(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    found = []
    for row in rows:
        latency = row["result"]["after"]["cost"].get("latency_ms") if row["status"] == "done" else None
        if latency:
            threads = latency.get("threads")
            how = f"batch of {latency.get('batch', 1)} on {latency.get('device', 'cpu')}"
            how += f", {threads} thread{'s' if threads != 1 else ''}" if threads else ""
            if how not in found:
                found.append(how)
    return found
