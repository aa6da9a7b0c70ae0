"""What a comparison gave, as one value: what tables and page are made of, and what ``ledger.jsonl`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Results:
    """A comparison's outcome.

    Attributes:
        title: The spec's; empty when the ledger does not say it.
        rows: Exported rows of the grid, in the order of the spec (see ``rows.JOB_FIELDS``).
        teachers: Exported rows of the original networks that the run trained itself (see ``rows.TEACHER_FIELDS``).
        choices: What each choosing stage chose, a sentence each.
    """

    title: str
    rows: tuple[Mapping[str, Any], ...]
    teachers: tuple[Mapping[str, Any], ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """How many jobs of the grid failed."""
        return sum(row["status"] == "failed" for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it: ``title``, ``choices``, ``teachers``, ``rows``."""
        return {
            "title": self.title,
            "choices": list(self.choices),
            "teachers": list(self.teachers),
            "rows": list(self.rows),
        }
