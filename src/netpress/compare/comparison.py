"""Whole comparisons: from a spec, or from a committed ledger, to tables and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netpress.compare.choice import best_rows
from netpress.compare.report import write_report
from netpress.compare.results import Results
from netpress.compare.rows import read_jsonl
from netpress.compare.run import run_comparison, write_tables
from netpress.compare.spec_reader import read_spec
from netpress.compare.work import Work
from netpress.errors import ConfigError
from netpress.measure import environment
from netpress.progress import Progress

REPORT = "report.html"


def compare_spec(
    spec: str | Path,
    out: str | Path,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    only_table: bool = False,
    retry: bool = True,
    reuse: Sequence[Path] = (),
) -> Results:
    """Runs what is left of a comparison; ledger, tables and page are in ``out`` afterwards.

    What a ledger of ``reuse`` has as done is taken over from it.

    Raises:
        ConfigError, UnknownNameError: The spec is wrong; nothing was run.
    """
    work = Work(data_root=data_root, device=device)
    results = run_comparison(
        read_spec(Path(spec)),
        Path(out),
        resolve=work.resolve,
        run_teacher=work.run_teacher,
        run_job=work.run_job,
        progress=progress,
        environment=environment(work.device),
        only_table=only_table,
        retry=retry,
        reuse=reuse,
    )
    write_report(results, Path(out) / REPORT)
    return results


def compare_ledger(ledger: str | Path, out: str | Path) -> Results:
    """Tables and page of an exported ledger, without running anything.

    Raises:
        ConfigError: The file is no exported ledger.
    """
    results = read_jsonl(ledger)
    write_tables(Path(out), results)
    write_report(results, Path(out) / REPORT)
    return results


def best_of(results: Results) -> Mapping[str, Any]:
    """The row whose small network has the best held-out quality, the first of the spec where several tie.

    Raises:
        ConfigError: There is none.
    """
    best = best_rows(results.rows)
    if not best:
        raise ConfigError("no job of the comparison gave a network", remedy="see the errors in the table")
    return best[0]
