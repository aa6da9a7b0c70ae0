"""Results as CSV and JSON, numbers in full: for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from netpress.compare.notes import notes
from netpress.compare.results import Results
from netpress.compare.table import TableRow, table_rows


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the grid as CSV; a statistic takes two columns, ``NAME`` and ``NAME_spread``."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f.name for f in fields(TableRow)]
    statistics = {f.name for f in fields(TableRow) if "Statistic" in str(f.type)}
    writer.writerow([h for n in names for h in ((n, f"{n}_spread") if n in statistics else (n,))])
    for row in table_rows(rows):
        cells: list[Any] = []
        for name in names:
            value = getattr(row, name)
            if name in statistics:
                cells += [value.mean, value.spread] if value is not None else [None, None]
            else:
                cells.append(" ".join(map(str, value)) if isinstance(value, tuple) else value)
        writer.writerow(cells)
    return out.getvalue()


def to_json(results: Results) -> str:
    """Results as JSON: ``{"title", "rows", "teachers", "choices", "notes"}``; ``rows`` are those of the table."""
    table = table_rows(results.rows)
    teachers = [
        {k: row[k] for k in ("network", "data", "seed", "status", "result", "error")} for row in results.teachers
    ]
    document = {
        "title": results.title,
        "rows": [row.as_dict() for row in table],
        "teachers": teachers,
        "choices": list(results.choices),
        "notes": notes(results.rows, table),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
