"""Runs a comparison: teachers once, each job once, and again only what was not finished."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netpress.compare.choice import choose
from netpress.compare.jobs import CompareJob, JobContext, Keyed, Resolve, TeacherJob, jobs_of, keyed, versions
from netpress.compare.ledger import Claim, Ledger
from netpress.compare.rows import export, to_jsonl, write_text
from netpress.compare.spec import Spec, Stage
from netpress.compare.table import to_csv, to_json, to_markdown
from netpress.errors import ConfigError, NetpressError
from netpress.progress import Progress, SilentProgress

#: How long a process that has nothing left to claim waits before it looks again at what the others run.
POLL_S = 0.5

RunTeacher = Callable[[TeacherJob, JobContext], Mapping[str, Any]]
RunJob = Callable[[CompareJob, JobContext], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Results:
    """A comparison's outcome.

    Attributes:
        title: The spec's.
        rows: Exported ledger rows, in the order of the spec.
        choices: What each choosing stage chose, a sentence each.
    """

    title: str
    rows: tuple[Mapping[str, Any], ...]
    choices: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """How many jobs failed."""
        return sum(row["status"] == "failed" for row in self.rows)


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

    Raises:
        ConfigError: From ``resolve``; ``only_table`` without a ledger; a choice without held-out quality.
    """
    if only_table and not (out / "ledger.sqlite").is_file():
        raise ConfigError("there is no ledger to make a table of", got=str(out), remedy="run the comparison first")
    possible = {stage.name: _possible(spec, stage, resolve) for stage in spec.stages}
    with Ledger(out) as ledger:
        run = _Run(
            ledger=ledger,
            out=out,
            run_teacher=run_teacher,
            run_job=run_job,
            progress=progress or SilentProgress(),
            environment=dict(environment) if environment is not None else default_environment(),
            retry=_failed_keys(ledger, possible) if retry else set(),
        )
        rows: list[Mapping[str, Any]] = []
        choices: list[str] = []

        def write() -> None:
            write_tables(out, [*rows, *(export(k, ledger.row(k.key)) for k in jobs)])

        for stage in spec.stages:
            jobs = possible[stage.name]
            if stage.best is not None:
                jobs = _chosen(stage, jobs, rows, choices)
            if not only_table:
                for job in jobs:
                    ledger.add(job.key, job.content)
                try:
                    for _ in run.all(stage.name, jobs):
                        write()
                finally:
                    write()
            rows += [export(k, ledger.row(k.key)) for k in jobs]
        write_tables(out, rows)
    return Results(title=spec.title, rows=tuple(rows), choices=tuple(choices))


def write_tables(out: Path, rows: list[Mapping[str, Any]]) -> None:
    """Writes ``ledger.jsonl`` and the three tables made of it, each file as a whole."""
    for name, text in (
        ("ledger.jsonl", to_jsonl(rows)),
        ("table.md", to_markdown(rows)),
        ("table.csv", to_csv(rows)),
        ("table.json", to_json(rows)),
    ):
        write_text(out / name, text)


def default_environment() -> dict[str, Any]:
    """What a row says of the machine: no names, no paths."""
    return {
        **versions(),
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


def _chosen(stage: Stage, jobs: list[Keyed], rows: list[Mapping[str, Any]], choices: list[str]) -> list[Keyed]:
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


class _Run:
    """One process's work on the jobs of a ledger."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        out: Path,
        run_teacher: RunTeacher,
        run_job: RunJob,
        progress: Progress,
        environment: Mapping[str, Any],
        retry: set[str],
    ) -> None:
        self.ledger, self.out, self.progress = ledger, out, progress
        self.run_teacher, self.run_job = run_teacher, run_job
        self.environment, self.retry = environment, retry

    def all(self, stage: str, jobs: list[Keyed]) -> Iterator[Keyed]:
        """Sees every job ended, by this process or another; yields after each that this one ran."""
        again = sum(k.key in self.retry for k in jobs)
        if again:
            self.progress.say(f"{stage}: trying {again} job{'s' if again > 1 else ''} again that failed before")
        waiting = False
        with self.progress.step(stage, total=len(jobs)) as step:
            left = jobs
            while left:
                busy = []
                for job in left:
                    claim = self._one(job)
                    if claim is Claim.BUSY:
                        busy.append(job)
                        continue
                    step.advance()
                    if claim is Claim.TAKEN:
                        yield job
                if len(busy) == len(left):
                    if not waiting:
                        self.progress.say(f"{stage}: waiting for another process to end {len(busy)} of the jobs")
                    waiting = True
                    time.sleep(POLL_S)
                left = busy

    def _one(self, keyed: Keyed) -> Claim:
        row = self.ledger.row(keyed.key)
        if row is not None and row.status == "done":  # then its teacher is not needed any more, either
            return Claim.DONE
        if row is not None and row.status == "failed" and keyed.key not in self.retry:
            return Claim.FAILED
        teacher_error = None
        teacher = None
        if keyed.teacher is not None:
            ready = self._teacher(keyed.teacher)
            if ready is Claim.BUSY:
                return Claim.BUSY
            teacher = self._file(keyed.teacher)
            if ready is Claim.FAILED:
                failed = self.ledger.row(keyed.teacher.key)
                teacher_error = f"its teacher failed: {failed.error if failed else 'unknown'}"
        claim = self._claim(keyed)
        if claim is Claim.TAKEN and teacher_error is not None:
            self.ledger.fail(keyed.key, teacher_error, minutes=0.0)
        elif claim is Claim.TAKEN:
            self._attempt(keyed, teacher)
        return claim

    def _teacher(self, keyed: Keyed) -> Claim:
        self.ledger.add(keyed.key, keyed.content)
        if not self._file(keyed).is_file():
            self.ledger.reopen_teacher(keyed.key)
        claim = self._claim(keyed)
        if claim is Claim.TAKEN:
            self._attempt(keyed, None)
            claim = self._claim(keyed)  # done or failed now
        return claim

    def _claim(self, keyed: Keyed) -> Claim:
        claim = self.ledger.claim(keyed.key, retry=keyed.key in self.retry, environment=self.environment)
        if claim is Claim.TAKEN:
            self.retry.discard(keyed.key)  # once a run
        return claim

    def _file(self, keyed: Keyed) -> Path:
        if isinstance(keyed.job, TeacherJob):
            return self.out / "teachers" / f"{keyed.key}.safetensors"
        return self.out / "files" / f"{keyed.key}.netpress"

    def _attempt(self, keyed: Keyed, teacher: Path | None) -> None:
        """Runs a job that is claimed, and writes down how it ended."""
        context = JobContext(
            key=keyed.key,
            work=self.out / "work" / keyed.key,
            file=self._file(keyed),
            teacher=teacher,
            progress=self.progress,
        )
        context.work.mkdir(parents=True, exist_ok=True)
        context.file.parent.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        self.progress.say(keyed.job.label)
        try:
            result = self._result(keyed, context)
            self.ledger.finish(keyed.key, result, minutes=(time.monotonic() - begun) / 60)
        except NetpressError as error:
            self.ledger.fail(keyed.key, str(error), minutes=(time.monotonic() - begun) / 60)
            self.progress.say(f"{keyed.job.label} failed: {error}")
        except BaseException:
            self.ledger.release(keyed.key)
            raise
        else:
            shutil.rmtree(context.work, ignore_errors=True)  # its checkpoints are of no use any more

    def _result(self, keyed: Keyed, context: JobContext) -> dict[str, Any]:
        if isinstance(keyed.job, TeacherJob):
            result = dict(self.run_teacher(keyed.job, context))
            if not context.file.is_file():
                raise RuntimeError(f"run_teacher wrote no weights for {keyed.job.label}")
            return result
        result = dict(self.run_job(keyed.job, context))
        for side in ("before", "after"):
            if not {"cost", "quality"} <= result.get(side, {}).keys():
                raise RuntimeError(f"the result of {keyed.job.label} lacks the cost or quality {side}")
        if result.get("file") is not None:
            file = Path(result["file"])
            result["file"] = file.relative_to(self.out).as_posix() if file.is_relative_to(self.out) else file.name
        return result
