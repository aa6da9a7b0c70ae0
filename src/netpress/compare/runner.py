"""Runs jobs: each teacher once, each job once, in this process, beside others that work on the same ledger."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from netpress.compare import figures
from netpress.compare.figures import Statistic, median_ms, plural
from netpress.compare.jobs import CompareJob, JobContext, Keyed, TeacherJob
from netpress.compare.ledger import Claim, Ledger
from netpress.compare.table import lost_to
from netpress.errors import NetpressError
from netpress.progress import Progress

#: How long a process that has nothing left to claim waits before it looks again at what the others run.
POLL_S = 0.5

RunTeacher = Callable[[TeacherJob, JobContext], Mapping[str, Any]]
RunJob = Callable[[CompareJob, JobContext], Mapping[str, Any]]


class Runner:
    """One process's work on the jobs of a ledger.

    Args:
        retry: Keys of failed jobs that are tried once more.
    """

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
        self.progress.say(self._prospect(stage, jobs))
        waiting = False
        with self.progress.step(stage, total=len(jobs)) as step:
            left = list(enumerate(jobs, start=1))
            while left:
                busy = []
                for number, job in left:
                    claim = self._one(job, f"job {number} of {len(jobs)}")
                    if claim is Claim.BUSY:
                        busy.append((number, job))
                        continue
                    step.advance()
                    if claim is Claim.TAKEN:
                        yield job
                if len(busy) == len(left):
                    if not waiting:
                        self.progress.say(f"{stage}: waiting for another process to end {plural(len(busy), 'job')}")
                    waiting = True
                    time.sleep(POLL_S)
                left = busy

    def _prospect(self, stage: str, jobs: list[Keyed]) -> str:
        rows = [self.ledger.row(k.key) for k in jobs]
        done = sum(row is not None and row.status == "done" for row in rows)
        again = sum(k.key in self.retry for k in jobs)
        said = f"{stage}: {plural(len(jobs), 'job')}"
        said += f", {done} done already" if done else ""
        return said + (f", {again} tried again that failed before" if again else "")

    def _one(self, keyed: Keyed, name: str) -> Claim:
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
            self.progress.say(f"{name} failed, for {teacher_error}")
        elif claim is Claim.TAKEN:
            self._attempt(keyed, teacher, name)
        return claim

    def _teacher(self, keyed: Keyed) -> Claim:
        self.ledger.add(keyed.key, keyed.content)
        if not self._file(keyed).is_file():
            self.ledger.reopen_teacher(keyed.key)
        claim = self._claim(keyed)
        if claim is Claim.TAKEN:
            self._attempt(keyed, None, "teacher")
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

    def _attempt(self, keyed: Keyed, teacher: Path | None, name: str) -> None:
        """Runs a job that is claimed, writes down how it ended, and says so."""
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
        self.progress.say(f"{name}: {keyed.job.label}")
        try:
            result = self._result(keyed, context)
            minutes = (time.monotonic() - begun) / 60
            self.ledger.finish(keyed.key, result, minutes=minutes)
            self.progress.say(f"{name} done: {outcome(result, minutes)}")
        except NetpressError as error:
            minutes = (time.monotonic() - begun) / 60
            self.ledger.fail(keyed.key, str(error), minutes=minutes)
            self.progress.say(f"{name} failed after {figures.duration(minutes)}: {error}")
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
            return self._relative(result)
        result = dict(self.run_job(keyed.job, context))
        for side in ("before", "after"):
            if not {"cost", "quality"} <= result.get(side, {}).keys():
                raise RuntimeError(f"the result of {keyed.job.label} lacks the cost or quality {side}")
        return self._relative(result)

    def _relative(self, result: dict[str, Any]) -> dict[str, Any]:
        if result.get("file") is not None:
            file = Path(result["file"])
            result["file"] = file.relative_to(self.out).as_posix() if file.is_relative_to(self.out) else file.name
        return result


def outcome(result: Mapping[str, Any], minutes: float) -> str:
    """What came out of a job or a teacher's training, on one line.

    >>> outcome({"quality": {"metric": "accuracy", "value": 0.5, "correct": 1, "count": 2}}, 0.1)
    '50.00 % (1/2), 6.0 s'
    """
    if "after" not in result:
        return ", ".join(part for part in (figures.answers(result.get("quality")), figures.duration(minutes)) if part)
    before, after = result["before"], result["after"]
    lost = lost_to(before["quality"], after["quality"])
    shares = after["quality"] is not None and after["quality"]["metric"] in figures.SHARES
    quality = figures.answers(after["quality"]).partition(" (")[0]
    if quality and lost is not None:
        quality += f", lost {lost:+.2f}" if shares else f", lost {lost:.4g}"
    size, original = after["cost"].get("size_bytes"), before["cost"].get("size_bytes")
    stored = figures.scaled(Statistic.of([size]), "B")
    if size and original:
        stored += f" ({figures.share(Statistic(size / original, None, 1))})"
    was, now = median_ms(before["cost"]), median_ms(after["cost"])
    speed = f"speed {was / now:.2f}×" if was and now else ""
    return ", ".join(part for part in (quality, stored, speed, figures.duration(minutes)) if part)
