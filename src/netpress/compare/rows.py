"""Ledger rows as text: a JSON object a line, the same bytes for the same rows, and no path of any machine in it.

The first line is of the comparison (title, choices), then come the original networks that it trained, then the grid. The
field ``kind`` tells them apart.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netpress.compare.jobs import CompareJob, Keyed
from netpress.compare.ledger import Row
from netpress.compare.results import Results
from netpress.errors import ConfigError

_OUTCOME = ("status", "result", "error", "minutes", "started", "environment", "content", "key")
#: The fields of each kind of row, in their order in the file.
JOB_FIELDS = ("kind", "stage", "network", "data", "recipe", "budget", "seed", "reference", *_OUTCOME)
TEACHER_FIELDS = ("kind", "network", "data", "seed", *_OUTCOME)
COMPARISON_FIELDS = ("kind", "title", "choices")
_FIELDS = {"comparison": COMPARISON_FIELDS, "teacher": TEACHER_FIELDS, "job": JOB_FIELDS}

# An absolute path with at least one folder in it, POSIX or Windows; not what follows a host name, a word or a slash.
_ABSOLUTE = re.compile(r"(?<![\w/.}~…])(?:[A-Za-z]:[\\/]|\\\\|/(?!/))(?:[^\s\\/'\":;,?()\[\]{}<>|]+[\\/])+")


def export(keyed: Keyed, row: Row | None) -> dict[str, Any]:
    """One row of the exported ledger: the names of a job and what the ledger knows of it, without machine paths."""
    job = keyed.job
    known = {
        "status": row.status if row else "pending",
        "result": row.result if row else None,
        "error": row.error if row else None,
        "minutes": row.minutes if row else None,
        "started": row.started if row else None,
        "environment": row.environment if row else None,
    }
    if isinstance(job, CompareJob):
        named = {"kind": "job", **job.names, "reference": job.recipe.reference}
    else:
        named = {"kind": "teacher", "network": job.network.name, "data": job.data.name, "seed": job.seed}
    found = {**named, **known, "content": keyed.content, "key": keyed.key}
    return {name: without_paths(found[name]) for name in _FIELDS[named["kind"]]}


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


def to_jsonl(results: Results) -> str:
    """Results as lines of JSON."""
    first = {"kind": "comparison", "title": results.title, "choices": list(results.choices)}
    lines = (first, *results.teachers, *results.rows)
    return "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)


def read_jsonl(file: str | Path) -> Results:
    """The results of an exported ledger.

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
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _FIELDS}
    for number, line in enumerate(lines, start=1):
        row = _row(line, f"{file.name}, line {number}")
        found[row["kind"]].append(row)
    named = found["comparison"][0] if found["comparison"] else {"title": "", "choices": ()}
    return Results(
        title=str(named["title"]),
        rows=tuple(found["job"]),
        teachers=tuple(found["teacher"]),
        choices=tuple(str(choice) for choice in named["choices"]),
    )


def _row(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{place} is no JSON", got=str(error)) from error
    if not isinstance(row, dict):
        raise ConfigError(f"{place} is no ledger row", got=type(row).__name__, allowed="a JSON object")
    kind = row.get("kind", "job")  # ledgers of the grid alone do not say it
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ConfigError(f"{place} is of an unknown kind", got=repr(kind), allowed=", ".join(_FIELDS))
    fields = _FIELDS[kind]
    row["kind"] = kind
    missing = [name for name in fields if name not in row]
    if missing:
        raise ConfigError(f"{place} is no ledger row", got=f"no {', '.join(missing)}", allowed=", ".join(fields))
    return {name: row[name] for name in fields}


def write_text(file: Path, text: str) -> None:
    """Writes a file as a whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
