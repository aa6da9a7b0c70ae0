from __future__ import annotations

import csv
import json

import pytest

from netpress.compare.formats import to_csv, to_json
from netpress.compare.results import Results


def test_csv_and_json_hold_the_numbers_in_full(row, teacher) -> None:
    rows = tuple(row("a", s, 70 + s) for s in (0, 1))
    [line] = csv.DictReader(to_csv(rows).splitlines())
    assert (line["recipe"], line["seeds"], float(line["quality_after"])) == ("a", "0 1", 70.5)
    assert float(line["quality_after_spread"]) == pytest.approx(0.5**0.5)
    document = json.loads(to_json(Results(title="t", rows=rows, teachers=(teacher,), choices=("c",))))
    assert document["rows"][0]["params"] == {"mean": 130.0, "spread": 0.0, "count": 2}
    assert document["teachers"][0]["result"]["quality"]["correct"] == 80
    assert (document["title"], document["choices"]) == ("t", ["c"])
