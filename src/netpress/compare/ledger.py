"""The ledger: one row a job in an SQLite file, shared by all processes that work on one folder.

::

    pending ──claim──> running ──finish──> done      (final: the database itself refuses to change the row)
       ^                  │  └─────fail──> failed ──claim with retry──> running
       └──release─────────┘        a running row whose process is dead can be claimed by anyone
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

from netpress.compare.jobs import canonical
from netpress.errors import ConfigError

SCHEMA_VERSION = 1
_PATIENCE_S = 30.0
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS jobs (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('job', 'teacher')),
    status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'done', 'failed')),
    content TEXT NOT NULL,
    result TEXT,
    environment TEXT,
    started TEXT,
    minutes REAL,
    error TEXT,
    owner TEXT
);
CREATE TRIGGER IF NOT EXISTS done_is_final BEFORE UPDATE ON jobs WHEN OLD.status = 'done' AND OLD.kind = 'job'
BEGIN SELECT RAISE(ABORT, 'a row that is done is never changed'); END;
CREATE TRIGGER IF NOT EXISTS done_is_kept BEFORE DELETE ON jobs WHEN OLD.status = 'done'
BEGIN SELECT RAISE(ABORT, 'a row that is done is never removed'); END;
PRAGMA user_version = {SCHEMA_VERSION};
"""


class Claim(Enum):
    """What became of the wish to run a job."""

    TAKEN = "taken"  # it is ours
    BUSY = "busy"  # a living process runs it
    DONE = "done"
    FAILED = "failed"  # and no retry was asked for


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row. ``minutes`` is wall time of the last run; ``started`` its beginning, ISO 8601, UTC."""

    key: str
    status: str
    content: Mapping[str, Any]
    result: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None
    started: str | None
    minutes: float | None
    error: str | None


class Ledger:
    """The ledger in ``folder/ledger.sqlite``; one instance a process, used by one thread.

    Whether the owner of a running row still lives is asked of the operating system: each instance holds a lock on a
    file of its own in ``folder/owners``, and a lock ends with its process, however that ended.

    Raises:
        ConfigError: The file is no ledger, or one of a later version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "owners").mkdir(parents=True, exist_ok=True)
        self.owner = uuid.uuid4().hex
        self._lock = _connect(self._owner_file(self.owner))
        self._lock.execute("BEGIN EXCLUSIVE")
        try:
            self._db = self._open(folder / "ledger.sqlite")
        except BaseException:
            self._end_ownership()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file and gives up ownership: rows still running can be claimed by others from now on."""
        self._db.close()
        self._end_ownership()

    def add(self, key: str, content: Mapping[str, Any]) -> None:
        """Adds a pending row, if there is none of that key."""
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO jobs (key, kind, status, content) VALUES (?, ?, 'pending', ?)",
                (key, content["kind"], canonical(content)),
            )

    def adopt(self, row: Mapping[str, Any]) -> bool:
        """Takes over a job that another ledger has as done (a row of its ``ledger.jsonl``), unless this one has it as done, too.

        Returns:
            Whether it was taken over.
        """
        with self._transaction():
            return bool(
                self._db.execute(
                    "UPDATE jobs SET status = 'done', result = ?, environment = ?, started = ?, minutes = ?, error = NULL, "
                    "owner = NULL WHERE key = ? AND kind = 'job' AND status IN ('pending', 'failed')",
                    (
                        json.dumps(row["result"], ensure_ascii=False, allow_nan=False),
                        canonical(row["environment"] or {}),
                        row["started"],
                        row["minutes"],
                        row["key"],
                    ),
                ).rowcount
            )

    def claim(self, key: str, *, retry: bool = False, environment: Mapping[str, Any] | None = None) -> Claim:
        """Takes a row to run it. Of all processes that try at once, one gets ``TAKEN``.

        Args:
            retry: Whether a failed row is taken too.
            environment: Kept with the row.
        """
        with self._transaction():
            status, owner = self._db.execute("SELECT status, owner FROM jobs WHERE key = ?", (key,)).fetchone()
            if status == "done":
                return Claim.DONE
            if status == "failed" and not retry:
                return Claim.FAILED
            if status == "running" and self._lives(owner):
                return Claim.BUSY
            started = datetime.now(UTC).isoformat(timespec="seconds")
            self._db.execute(
                "UPDATE jobs SET status = 'running', owner = ?, started = ?, environment = ?, "
                "error = NULL, minutes = NULL WHERE key = ?",
                (self.owner, started, canonical(environment or {}), key),
            )
            return Claim.TAKEN

    def finish(self, key: str, result: Mapping[str, Any], *, minutes: float) -> None:
        """Makes our running row done, for good.

        Raises:
            ValueError: ``result`` is no JSON, or holds a number that is not finite.
        """
        self._end(key, "done", result=json.dumps(result, ensure_ascii=False, allow_nan=False), minutes=minutes)

    def fail(self, key: str, error: str, *, minutes: float) -> None:
        """Makes our running row failed."""
        self._end(key, "failed", error=error, minutes=minutes)

    def release(self, key: str) -> None:
        """Makes our running row pending again: it was interrupted."""
        self._end(key, "pending")

    def reopen_teacher(self, key: str) -> None:
        """Makes a teacher's done row pending, for when its file of weights is gone."""
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET status = 'pending', result = NULL "
                "WHERE key = ? AND kind = 'teacher' AND status = 'done'",
                (key,),
            )

    def row(self, key: str) -> Row | None:
        """The row of a key, None when there is none."""
        columns = "key, status, content, result, environment, started, minutes, error"
        found = self._db.execute(f"SELECT {columns} FROM jobs WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        key, status, content, result, environment, started, minutes, error = found
        return Row(
            key=key,
            status=status,
            content=json.loads(content),
            result=json.loads(result) if result else None,
            environment=json.loads(environment) if environment else None,
            started=started,
            minutes=minutes,
            error=error,
        )

    def _end(
        self,
        key: str,
        status: str,
        *,
        result: str | None = None,
        minutes: float | None = None,
        error: str | None = None,
    ) -> None:
        with self._transaction():
            changed = self._db.execute(
                "UPDATE jobs SET status = ?, result = ?, minutes = ?, error = ?, owner = NULL "
                "WHERE key = ? AND status = 'running' AND owner = ?",
                (status, result, minutes, error, key, self.owner),
            ).rowcount
        if changed != 1:
            raise RuntimeError(f"the job {key} is not run by this process")

    @staticmethod
    def _open(file: Path) -> sqlite3.Connection:
        db = _connect(file, timeout=_PATIENCE_S)
        try:
            _use_wal(db)
            (found,) = db.execute("PRAGMA user_version").fetchone()
            if found > SCHEMA_VERSION:
                raise ConfigError(
                    f"{file.name} was made by a later netpress",
                    got=f"version {found}",
                    allowed=f"version {SCHEMA_VERSION} or earlier",
                    remedy="update netpress, or name another folder",
                )
            if found < SCHEMA_VERSION:
                db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            db.close()
            raise ConfigError(
                f"{file.name} is no ledger", got=str(error), remedy="move it away, or name another folder"
            ) from error
        except ConfigError:
            db.close()
            raise
        return db

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")  # the write lock now: what is read cannot change until the commit
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _owner_file(self, owner: str) -> Path:
        return self.folder / "owners" / f"{owner}.lock"

    def _lives(self, owner: str | None) -> bool:
        if owner == self.owner:
            return True
        file = self._owner_file(owner or "none")
        if owner is None or not file.exists():
            return False
        with closing(_connect(file)) as probe:
            try:
                probe.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:  # locked, hence its process lives
                return True
        file.unlink(missing_ok=True)
        return False

    def _end_ownership(self) -> None:
        self._lock.close()
        self._owner_file(self.owner).unlink(missing_ok=True)


def _use_wal(db: sqlite3.Connection) -> None:
    # SQLite does not wait for the lock of this one change, so that two processes that start together would collide.
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _connect(file: Path, timeout: float = 0.0) -> sqlite3.Connection:
    # isolation_level=None: no implicit transactions; each one here is begun and ended in sight.
    return sqlite3.connect(file, timeout=timeout, isolation_level=None)
