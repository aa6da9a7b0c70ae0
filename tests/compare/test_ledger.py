from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from netpress.compare.ledger import Claim, Ledger
from netpress.errors import ConfigError

JOB = {"kind": "job", "seed": 0}


def test_of_two_processes_one_gets_the_job(tmp_path: Path) -> None:
    with Ledger(tmp_path) as mine, Ledger(tmp_path) as other:
        mine.add("k", JOB)
        other.add("k", JOB)
        assert mine.claim("k") is Claim.TAKEN
        assert other.claim("k") is Claim.BUSY
        with pytest.raises(RuntimeError, match="not run by this process"):
            other.finish("k", {}, minutes=0.0)
        mine.finish("k", {"a": 1}, minutes=2.0)
        assert other.claim("k") is Claim.DONE
        row = other.row("k")
    assert row is not None
    assert (row.status, row.result, row.minutes, row.content) == ("done", {"a": 1}, 2.0, JOB)


def test_many_claims_at_once_have_one_winner(tmp_path: Path) -> None:
    with Ledger(tmp_path) as first:
        for k in range(5):
            first.add(str(k), JOB)
    taken: list[str] = []
    ready = threading.Barrier(4)

    def claim_all() -> None:
        with Ledger(tmp_path) as ledger:
            ready.wait()
            taken.extend(str(k) for k in range(5) if ledger.claim(str(k)) is Claim.TAKEN)
            ready.wait()  # nobody leaves, and so frees its rows, before all have tried

    threads = [threading.Thread(target=claim_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == ["0", "1", "2", "3", "4"]


def test_a_killed_process_gives_its_job_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from netpress.compare.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1])); ledger.add('k', {'kind': 'job'}); print(ledger.claim('k').value, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "taken\n"
            with Ledger(tmp_path) as ledger:
                assert ledger.claim("k") is Claim.BUSY
                process.send_signal(signal.SIGKILL)
                process.wait()
                assert ledger.claim("k") is Claim.TAKEN
                assert [f.stem for f in (tmp_path / "owners").glob("*.lock")] == [ledger.owner]
        finally:
            process.kill()


def test_failed_rows_are_taken_again_only_when_asked(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.add("k", JOB)
        ledger.claim("k")
        ledger.fail("k", "too large", minutes=1.0)
        assert ledger.claim("k") is Claim.FAILED
        row = ledger.row("k")
        assert row is not None
        assert row.error == "too large"
        assert ledger.claim("k", retry=True) is Claim.TAKEN
        row = ledger.row("k")
        assert row is not None
        assert (row.status, row.error, row.minutes) == ("running", None, None)


def test_a_done_row_is_final_even_for_sql(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.add("k", JOB)
        ledger.claim("k")
        ledger.finish("k", {"a": 1}, minutes=1.0)
        ledger.add("k", {**JOB, "seed": 9})
        row = ledger.row("k")
        assert row is not None
        assert row.content == JOB
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    for statement, says in (
        ("UPDATE jobs SET result = '{}'", "never changed"),
        ("DELETE FROM jobs", "never removed"),
    ):
        with pytest.raises(sqlite3.IntegrityError, match=says):
            db.execute(statement)
    db.close()


def test_a_result_that_is_no_json_leaves_the_row_running(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.add("k", JOB)
        ledger.claim("k")
        with pytest.raises(ValueError, match="not JSON compliant"):
            ledger.finish("k", {"loss": float("nan")}, minutes=1.0)
        ledger.release("k")
        row = ledger.row("k")
    assert row is not None
    assert row.status == "pending"


def test_files_that_are_no_ledger_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"this is no database, but long enough to be looked at" * 20)
    with pytest.raises(ConfigError, match=r"ledger\.sqlite is no ledger"):
        Ledger(tmp_path)
    assert list((tmp_path / "owners").iterdir()) == []


def test_a_ledger_of_a_later_version_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(ConfigError, match="made by a later netpress; got: version 2; allowed: version 1"):
        Ledger(tmp_path)
