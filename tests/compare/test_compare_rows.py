from __future__ import annotations

import json
from pathlib import Path

import pytest

from netpress.compare.results import Results
from netpress.compare.rows import read_jsonl, to_jsonl, without_paths
from netpress.errors import ConfigError


def test_the_first_line_is_of_the_comparison_then_teachers_then_the_grid(row, teacher) -> None:
    found = Results(title="t", rows=(row(),), teachers=(teacher,), choices=("c",))
    first, second, third = map(json.loads, to_jsonl(found).splitlines())
    assert first == {"kind": "comparison", "title": "t", "choices": ["c"]}
    assert (second, third) == (teacher, row())


def test_a_ledger_of_the_grid_alone_is_read_too(row, tmp_path: Path) -> None:
    plain = {name: value for name, value in row().items() if name != "kind"}
    (tmp_path / "l.jsonl").write_text(json.dumps(plain) + "\n", encoding="utf-8")
    assert read_jsonl(tmp_path / "l.jsonl") == Results(title="", rows=(row(),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}\n", "line 1 is no ledger row; got: no stage"),
        ('{"kind": "comparison", "title": ""}\n', "line 1 is no ledger row; got: no choices"),
        ('{"kind": ["job"]}\n', "line 1 is of an unknown kind; got: .'job'.; allowed: comparison, teacher, job"),
        ("\n", "line 1 is no JSON"),
        ("[1]\n", "line 1 is no ledger row; got: list"),
    ],
)
def test_files_of_other_rows_are_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "l.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        read_jsonl(tmp_path / "l.jsonl")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_jsonl(tmp_path / "none.jsonl")


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
