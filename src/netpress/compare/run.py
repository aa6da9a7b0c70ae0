"""Runs a comparison: teachers once, each job once, and again only what was not finished."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from netpress.compare.choice import choose
from netpress.compare.formats import to_csv, to_json
from netpress.compare.jobs import CompareJob, Keyed, Resolve, jobs_of, keyed, versions
from netpress.compare.ledger import Ledger
from netpress.compare.markdown import to_markdown
from netpress.compare.results import Results
from netpress.compare.rows import export, read_jsonl, to_jsonl, without_paths, write_text
from netpress.compare.runner import RunJob, Runner, RunTeacher
from netpress.compare.spec import Spec, Stage
from netpress.errors import ConfigError
from netpress.measure import source_digest
from netpress.progress import Progress, SilentProgress


def run_comparison(
    spec: Spec,
    out: Path,
    *,
    resolve: Resolve,
    run_teacher: RunTeacher,
    run_job: RunJob,
    progress: Progress | None = None,
    environment: Mapping[str, Any] | None = None,
    only_table: bool = False,
    retry: bool = True,
    reuse: Sequence[Path] = (),
) -> Results:
    """Runs what is left of a comparison and writes ``ledger.jsonl`` and ``table.{md,csv,json}`` into ``out``.

    All jobs that may run are resolved first, so that a wrong recipe or plan is an error before any training. Several
    processes may work on one folder. A job that raises a NetpressError is kept as failed and the grid goes on; any
    other exception, and Ctrl-C, gives the job back and propagates.

    Args:
        out: The folder of this comparison: ledger, teachers, checkpoints, files, tables.
        resolve: Gives the deciding content of a job (see ``jobs.Resolve``).
        run_teacher: Trains an original network and writes its weights to ``context.file``.
        run_job: Does one job; its result is ``{"before": {"cost", "quality"}, "after": {"cost", "quality"}, "held_out",
            "recipe", "training", "minutes", "file"}``.
        environment: Kept with each row; by default Python, system, processors and versions.
        only_table: Run nothing; write the tables from what the ledger has.
        retry: Whether jobs that failed in an earlier run are tried again.
        reuse: Exported ledgers (``ledger.jsonl``) of other comparisons: a job that one of them has as done, which is to say one
            of the same key, is not run again but its row taken over, machine and minutes with it.

    Raises:
        ConfigError: From ``resolve``; a ledger to reuse that is none; ``only_table`` without a ledger; a choice without held-out
            quality.
    """
    if only_table and not (out / "ledger.sqlite").is_file():
        raise ConfigError("there is no ledger to make a table of", got=str(out), remedy="run the comparison first")
    possible = {stage.name: _possible(spec, stage, resolve) for stage in spec.stages}
    done = {row["key"]: row for file in reuse for row in read_jsonl(file).rows if row["status"] == "done"}
    with Ledger(out) as ledger:
        runner = Runner(
            ledger=ledger,
            out=out,
            run_teacher=run_teacher,
            run_job=run_job,
            progress=progress or SilentProgress(),
            environment=dict(environment) if environment is not None else default_environment(),
            retry=_failed_keys(ledger, possible) if retry else set(),
        )
        ended: list[Keyed] = []
        choices: list[str] = []

        def results(jobs: Iterable[Keyed]) -> Results:
            return _results(spec.title, [*ended, *jobs], choices, ledger)

        for stage in spec.stages:
            jobs = possible[stage.name]
            if stage.best is not None:
                jobs = _chosen(stage, jobs, results([]).rows, choices)
            if not only_table:
                for job in jobs:
                    ledger.add(job.key, job.content)
                    if job.key in done and ledger.adopt(done[job.key]):
                        runner.progress.say(f"{job.job.label}: taken over from another ledger")
                try:
                    for _ in runner.all(stage.name, jobs):
                        write_tables(out, results(jobs))
                finally:
                    write_tables(out, results(jobs))
            ended += jobs
        found = results([])
        write_tables(out, found)
    return found


def write_tables(out: Path, results: Results) -> None:
    """Writes ``ledger.jsonl`` and the three tables made of it, each file as a whole."""
    for name, text in (
        ("ledger.jsonl", to_jsonl(results)),
        ("table.md", to_markdown(results)),
        ("table.csv", to_csv(results.rows)),
        ("table.json", to_json(results)),
    ):
        write_text(out / name, text)


def _results(title: str, jobs: list[Keyed], choices: Iterable[str], ledger: Ledger) -> Results:
    # A teacher that many jobs share stands once, where the first of them needs it.
    teachers = {k.teacher.key: k.teacher for k in jobs if k.teacher is not None}
    return Results(
        title=without_paths(title),
        rows=tuple(export(k, ledger.row(k.key)) for k in jobs),
        teachers=tuple(export(k, ledger.row(k.key)) for k in teachers.values()),
        choices=tuple(without_paths(choice) for choice in choices),
    )


def default_environment() -> dict[str, Any]:
    """What a row says of the machine: no names, no paths."""
    return {
        **versions(),
        "source": source_digest(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
    }


def _possible(spec: Spec, stage: Stage, resolve: Resolve) -> list[Keyed]:
    pairs = [(network.name, recipe) for network in stage.networks for recipe in spec.candidates(stage)]
    return [keyed(job, resolve) for job in jobs_of(stage, pairs)]


def _failed_keys(ledger: Ledger, possible: Mapping[str, list[Keyed]]) -> set[str]:
    keys = {k.key for jobs in possible.values() for job in jobs for k in (job, job.teacher) if k is not None}
    rows = {key: ledger.row(key) for key in keys}
    return {key for key, row in rows.items() if row is not None and row.status == "failed"}


def _chosen(stage: Stage, jobs: list[Keyed], rows: Iterable[Mapping[str, Any]], choices: list[str]) -> list[Keyed]:
    """The jobs of a choosing stage, once the stage it chooses from has ended; none of the choice before that."""
    best = stage.best
    if best is None:
        return jobs
    pairs = {(network.name, recipe.name) for network in stage.networks for recipe in stage.recipes}
    source = [row for row in rows if row["stage"] == best.of]
    if all(row["status"] in ("done", "failed") for row in source):
        networks = [network.name for network in stage.networks]
        chosen = [c for c in choose(source, stage=best.of, best=best.count) if c.network in networks]
        pairs |= {(c.network, c.recipe) for c in chosen}
        for network in networks:
            named = [
                f"{c.recipe} ({c.held_out:.4g})" for c in chosen if c.network == network and c.held_out is not None
            ]
            what = ", ".join(named) or "nothing, for no recipe has ended on all data, budgets and seeds"
            choices.append(f"{stage.name} takes from {best.of}, by held-out quality on {network}: {what}.")
    else:
        choices.append(f"{stage.name} waits for {best.of} to end.")
    return [k for k in jobs if isinstance(k.job, CompareJob) and (k.job.network.name, k.job.recipe.name) in pairs]
