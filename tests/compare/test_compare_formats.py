from __future__ import annotations

import csv
import json

import pytest

from netpress.compare.formats import to_csv, to_json


def test_csv_and_json_hold_the_numbers_in_full(row) -> None:
    rows = [row("a", s, 70 + s) for s in (0, 1)]
    [line] = csv.DictReader(to_csv(rows).splitlines())
    assert (line["recipe"], line["seeds"], float(line["quality_after"])) == ("a", "0 1", 70.5)
    assert float(line["quality_after_spread"]) == pytest.approx(0.5**0.5)
    assert json.loads(to_json(rows))["rows"][0]["params"] == {"mean": 130.0, "spread": 0.0, "count": 2}


