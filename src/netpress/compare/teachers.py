"""The original networks that a comparison trained itself: what their ledger rows say, for tables and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Fields of a plan that a table names, in this order, with the words before and after their values.
_PLAN = (
    ("epochs", "", " epochs"),
    ("optimizer", "", ""),
    ("lr", "lr ", ""),
    ("schedule", "", ""),
    ("batch_size", "batch ", ""),
    ("weight_decay", "decay ", ""),
    ("augment", "augment ", ""),
)


def plan_in_words(row: Mapping[str, Any]) -> str:
    """The main settings of a teacher's training; all of them stand in the row's ``content``."""
    plan = row["content"].get("plan") or {}
    return ", ".join(f"{before}{plan[name]}{after}" for name, before, after in _PLAN if plan.get(name) is not None)


def teacher_quality(row: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The quality object ``quality`` (of the test split) or ``held_out`` of a teacher that is trained, else None."""
    found: Mapping[str, Any] | None = row["result"].get(name) if row["result"] else None
    return found
