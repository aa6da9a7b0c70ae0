from __future__ import annotations

from pathlib import Path

import pytest

from netpress.compare.rows import without_paths
from netpress.errors import ConfigError


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


