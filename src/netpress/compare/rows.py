"""Ledger rows as text: a JSON object a line, the same bytes for the same rows, and no path of any machine in it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from netpress.compare.jobs import CompareJob, Keyed
from netpress.compare.ledger import Row
from netpress.errors import ConfigError

#: The fields of a row, in their order in the file.
FIELDS = (
    "stage",
    "network",
    "data",
    "recipe",
    "budget",
    "seed",
    "reference",
    "status",
    "result",
    "error",
    "minutes",
    "started",
    "environment",
    "content",
    "key",
)

# An absolute path with at least one folder in it, POSIX or Windows; not what follows a host name, a word or a slash.
_ABSOLUTE = re.compile(r"(?<![\w/.}~…])(?:[A-Za-z]:[\\/]|\\\\|/(?!/))(?:[^\s\\/'\":;,?()\[\]{}<>|]+[\\/])+")


def export(keyed: Keyed, row: Row | None) -> dict[str, Any]:
    """One row of the exported ledger: the names of a job and what the ledger knows of it, without machine paths."""
    job = keyed.job
    if not isinstance(job, CompareJob):
        raise TypeError(f"only the cells of the grid are exported, not {job.label!r}")
    known = {
        "status": row.status if row else "pending",
        "result": row.result if row else None,
        "error": row.error if row else None,
        "minutes": row.minutes if row else None,
        "started": row.started if row else None,
        "environment": row.environment if row else None,
    }
    found = {**job.names, "reference": job.recipe.reference, **known, "content": keyed.content, "key": keyed.key}
    return {name: without_paths(found[name]) for name in FIELDS}


def without_paths(value: Any) -> Any:
    """``value`` with every absolute path in its texts cut down to the file's name.

    >>> without_paths("no file /home/ada/data/c.npz?train=x")
    'no file …/c.npz?train=x'
    """
    if isinstance(value, str):
        home = os.path.expanduser("~")
        if len(home) > 1:
            value = value.replace(home + os.sep, "…/")
        return _ABSOLUTE.sub("…/", value)
    if isinstance(value, Mapping):
        return {without_paths(str(k)): without_paths(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(v) for v in value]
    return value


def to_jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as lines of JSON, in the order given."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def read_jsonl(file: str | Path) -> list[dict[str, Any]]:
    """The rows of an exported ledger.

    Raises:
        ConfigError: The file cannot be read, or a line is no row; the text names the line.
    """
    file = Path(file)
    try:
        # Not splitlines(): it also splits at characters that JSON leaves as they are, such as U+2028.
        written = file.read_text(encoding="utf-8")
        lines = written.removesuffix("\n").split("\n") if written else []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("the ledger cannot be read", got=str(file), allowed="a file ledger.jsonl") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{file.name}, line {number} is no JSON", got=str(error)) from error
        missing = [name for name in FIELDS if name not in row] if isinstance(row, dict) else list(FIELDS)
        if missing:
            raise ConfigError(f"{file.name}, line {number} is no ledger row", got=f"no {', '.join(missing)}")
        rows.append(row)
    return rows


def write_text(file: Path, text: str) -> None:
    """Writes a file as a whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
