from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from netpress.compare.ledger import Claim, Ledger
from netpress.compare.markdown import render
from netpress.compare.rows import read_jsonl
from netpress.errors import BudgetError, ConfigError
from netpress.progress import SilentProgress

ALL = ["main/finetune/0", "main/finetune/1", "main/thin/0", "main/thin/1", "main/mixer/0", "main/mixer/1"]
STAGES = """
networks: [{name: small, net: tiny, weights: w}]
data: [digits]
recipes: [finetune, a, b, c]
seeds: [0]
stages:
  - {name: screen}
  - {name: final, best: 2, of: screen, by: held_out, data: [more], seeds: [0, 1]}
"""


def test_each_job_runs_once_and_the_second_run_runs_nothing(make_spec, compare, work, tmp_path: Path) -> None:
    first = compare(make_spec())
    assert work.ran == ALL
    assert [row["status"] for row in first.rows] == ["done"] * 6
    written = {
        f.name: f.read_bytes() for f in (tmp_path / "out").glob("*") if f.suffix in (".md", ".csv", ".json", ".jsonl")
    }
    assert set(written) == {"table.md", "table.csv", "table.json", "ledger.jsonl"}
    second = compare(make_spec())
    assert work.ran == ALL
    assert second == first
    assert {name: (tmp_path / "out" / name).read_bytes() for name in written} == written


def test_interrupted_it_goes_on_with_the_same_work_folder(make_spec, compare, work, tmp_path: Path) -> None:
    def interrupted(job, context):
        if (job.recipe.name, job.seed) == ("thin", 0):
            (context.work / "checkpoint").write_text("epoch 1", encoding="utf-8")
            raise KeyboardInterrupt
        return None

    work.behave = interrupted
    with pytest.raises(KeyboardInterrupt):
        compare(make_spec())
    assert work.ran == ALL[:3]
    exported = read_jsonl(tmp_path / "out" / "ledger.jsonl").rows
    assert [row["status"] for row in exported] == ["done", "done", "pending", "pending", "pending", "pending"]
    assert list((tmp_path / "out" / "owners").iterdir()) == []

    found = []

    def going_on(job, context):
        if (context.work / "checkpoint").exists():
            found.append((job.recipe.name, job.seed))
        return None

    work.behave = going_on
    results = compare(make_spec())
    assert work.ran == ALL[:3] + ALL[2:]
    assert found == [("thin", 0)]
    assert results.failed == 0
    assert list((tmp_path / "out" / "work").iterdir()) == []  # checkpoints are gone once the jobs are done


def test_an_expected_error_is_a_failed_row_and_the_grid_goes_on(make_spec, compare, work) -> None:
    def too_large(job, context):
        if job.recipe.name == "thin":
            raise BudgetError("the budget cannot be met", got="params is 99 in /home/ada/net.pt")
        return None

    work.behave = too_large
    results = compare(make_spec())
    assert work.ran == ALL
    assert results.failed == 2
    assert results.rows[2]["error"] == "the budget cannot be met; got: params is 99 in …/net.pt"
    work.behave = lambda job, context: None
    assert compare(make_spec(), retry=False).failed == 2
    assert work.ran == ALL
    assert compare(make_spec()).failed == 0
    assert work.ran == [*ALL, *ALL[2:4]]


def test_a_failed_job_is_not_tried_twice_in_one_run(make_spec, compare, work) -> None:
    def fails(job, context):
        raise BudgetError("no")

    work.behave = fails
    compare(make_spec())
    compare(make_spec())
    assert work.ran == ALL + ALL


def test_a_programming_error_propagates_and_frees_the_job(make_spec, compare, work) -> None:
    def broken(job, context):
        raise ZeroDivisionError

    work.behave = broken
    with pytest.raises(ZeroDivisionError):
        compare(make_spec())
    work.behave = lambda job, context: {"before": {}}
    with pytest.raises(RuntimeError, match="lacks the cost or quality before"):
        compare(make_spec())
    assert work.ran == [ALL[0], ALL[0]]


def test_a_wrong_recipe_is_an_error_before_anything_runs(make_spec, compare, work, stand_ins) -> None:
    resolve, _ = stand_ins

    def checked(job):
        if job.recipe.name == "mixer":
            raise ConfigError("no such field")
        return resolve(job)

    with pytest.raises(ConfigError, match="no such field"):
        compare(make_spec(), resolve=checked)
    assert work.ran == []


def test_what_another_process_runs_is_left_to_it_and_waited_for(
    make_spec, compare, work, tmp_path: Path, stand_ins
) -> None:
    _, result_of = stand_ins
    compare(make_spec())  # once, to learn the keys
    keys = [row["key"] for row in read_jsonl(tmp_path / "out" / "ledger.jsonl").rows]
    work.ran.clear()
    out = tmp_path / "out"
    for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"):
        (out / name).unlink(missing_ok=True)
    with Ledger(out) as other:
        other.add(keys[2], {"kind": "job"})
        assert other.claim(keys[2]) is Claim.TAKEN

        def last(job, context):
            if (job.recipe.name, job.seed) == ("mixer", 1):
                other.finish(keys[2], result_of(99), minutes=1.0)
            return None

        work.behave = last
        results = compare(make_spec())
    assert "main/thin/0" not in work.ran
    assert len(work.ran) == 5
    assert results.rows[2]["result"]["after"]["quality"]["correct"] == 99


def test_the_best_are_chosen_by_held_out_quality_alone(make_spec, compare, work, stand_ins) -> None:
    _, result_of = stand_ins
    # On the test set the order is a > b > c, on the held-out part c > b > a; the reference is best in both.
    test = {"finetune": 95, "a": 90, "b": 80, "c": 70}
    held = {"finetune": 0.99, "a": 0.1, "b": 0.2, "c": 0.3}
    work.behave = lambda job, context: result_of(test[job.recipe.name], held_out=held[job.recipe.name])
    results = compare(make_spec(STAGES))
    assert work.ran[:4] == ["screen/finetune/0", "screen/a/0", "screen/b/0", "screen/c/0"]
    assert sorted(work.ran[4:]) == [f"final/{r}/{s}" for r in ("b", "c", "finetune") for s in (0, 1)]
    assert results.choices == ("final takes from screen, by held-out quality on small: c (0.3), b (0.2).",)


def test_a_recipe_that_failed_cannot_be_chosen(make_spec, compare, work, stand_ins) -> None:
    _, result_of = stand_ins

    def one_fails(job, context):
        if job.recipe.name == "c":
            raise BudgetError("no")
        return result_of(70, held_out=0.5)

    work.behave = one_fails
    compare(make_spec(STAGES))
    assert {name.split("/")[1] for name in work.ran[4:]} == {"finetune", "a", "b"}


def test_without_held_out_quality_there_is_no_choice(make_spec, compare, work, stand_ins) -> None:
    _, result_of = stand_ins
    work.behave = lambda job, context: {**result_of(70), "held_out": None}
    with pytest.raises(ConfigError, match="'a' on 'small' lacks"):
        compare(make_spec(STAGES))


TEACHER = "networks: [{name: n, net: t, train: {epochs: 1}}]\ndata: [d]\nrecipes: [a, b]\nseeds: [0, 1]\n"


def test_a_teacher_is_trained_once_and_again_only_when_its_file_is_gone(
    make_spec, compare, work, tmp_path: Path
) -> None:
    used = set()

    def with_teacher(job, context):
        used.add(context.teacher)
        assert context.teacher.read_bytes() == b"teacher"
        return None

    work.behave = with_teacher
    compare(make_spec(TEACHER))
    assert work.teachers == ["n on d"]
    [file] = used
    assert file.parent == tmp_path / "out" / "teachers"
    file.unlink()
    compare(make_spec(TEACHER))  # all jobs are done: nobody needs it
    assert work.teachers == ["n on d"]
    compare(make_spec(TEACHER.replace("[a, b]", "[a, b, c]")))
    assert work.teachers == ["n on d"] * 2
    assert work.ran[-2:] == ["main/c/0", "main/c/1"]


def test_jobs_of_a_failed_teacher_fail_with_its_text(make_spec, compare, work) -> None:
    def fails(job, context):
        raise BudgetError("the loss is not finite")

    results = compare(make_spec(TEACHER), run_teacher=fails)
    assert work.ran == []
    assert [row["error"] for row in results.rows] == ["its teacher failed: the loss is not finite"] * 4
    assert compare(make_spec(TEACHER)).failed == 0


def test_only_the_table_runs_nothing(make_spec, compare, work, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no ledger"):
        compare(make_spec(), only_table=True)
    full = compare(make_spec())
    for name in ("ledger.jsonl", "table.md"):
        (tmp_path / "out" / name).unlink()
    assert compare(make_spec(), only_table=True) == full
    assert work.ran == ALL
    table = tmp_path / "out" / "table.md"
    assert render(tmp_path / "out" / "ledger.jsonl") == table.read_text("utf-8")
    more = compare(make_spec(STAGES), only_table=True)
    assert {row["status"] for row in more.rows} == {"pending"}
    assert more.choices == ("final waits for screen to end.",)
    assert work.ran == ALL


def test_files_are_kept_relative_to_the_folder(make_spec, compare, work, stand_ins) -> None:
    _, result_of = stand_ins
    work.behave = lambda job, context: {**result_of(70), "file": str(context.file)}
    [row, *_] = compare(make_spec()).rows
    assert row["result"]["file"] == f"files/{row['key']}.netpress"


def test_teachers_are_exported_once_each(make_spec, compare, tmp_path: Path) -> None:
    found = compare(make_spec(TEACHER))
    [teacher] = found.teachers
    assert (teacher["network"], teacher["data"], teacher["seed"], teacher["status"]) == ("n", "d", 0, "done")
    assert teacher["result"]["held_out"]["correct"] == 15
    assert teacher["result"]["file"] == f"teachers/{teacher['key']}.safetensors"
    assert read_jsonl(tmp_path / "out" / "ledger.jsonl") == found
    assert "80.00 % (80/100)" in (tmp_path / "out" / "table.md").read_text("utf-8").split("## Teachers")[1]


class Heard(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_each_job_says_its_number_when_it_starts_and_its_result_when_it_ends(make_spec, compare, work) -> None:
    heard = Heard()

    def second_fails(job, context):
        if job.recipe.name == "b" and job.seed == 0:
            raise BudgetError("too large")
        return None

    work.behave = second_fails
    compare(make_spec(TEACHER), progress=heard)
    said = [re.sub(r"\d+\.\d s", "T s", line) for line in heard.lines]
    assert said == [
        "main: 4 jobs",
        "teacher: n on d",
        "teacher done: 80.00 % (80/100), T s",
        "job 1 of 4: a on n, d, seed 0",
        "job 1 of 4 done: 70.00 %, lost +10.00, 600 B (15.0 %), speed 2.00×, T s",
        "job 2 of 4: a on n, d, seed 1",
        "job 2 of 4 done: 71.00 %, lost +9.00, 600 B (15.0 %), speed 2.00×, T s",
        "job 3 of 4: b on n, d, seed 0",
        "job 3 of 4 failed after T s: too large",
        "job 4 of 4: b on n, d, seed 1",
        "job 4 of 4 done: 71.00 %, lost +9.00, 600 B (15.0 %), speed 2.00×, T s",
    ]
    heard.lines.clear()
    work.behave = lambda job, context: None
    compare(make_spec(TEACHER), progress=heard)
    assert heard.lines[:2] == [
        "main: 4 jobs, 3 done already, 1 tried again that failed before",
        "job 3 of 4: b on n, d, seed 0",
    ]


def test_jobs_of_a_failed_teacher_say_so(make_spec, compare, work) -> None:
    heard = Heard()

    def fails(job, context):
        raise BudgetError("the loss is not finite")

    compare(make_spec(TEACHER), run_teacher=fails, progress=heard)
    assert heard.lines[2].startswith("teacher failed after ")
    assert heard.lines[3] == "job 1 of 4 failed, for its teacher failed: the loss is not finite"


def test_what_another_ledger_has_as_done_is_taken_over_and_the_rest_is_run(
    make_spec, compare, work, tmp_path: Path
) -> None:
    whole = make_spec()
    compare(dataclasses.replace(whole, stages=tuple(dataclasses.replace(s, seeds=(0,)) for s in whole.stages)))
    first = (tmp_path / "out").rename(tmp_path / "earlier")
    ran, work.ran = work.ran, []
    results = compare(whole, reuse=[first / "ledger.jsonl"])
    assert work.ran == [name for name in ALL if name not in ran]
    assert ran
    assert [row["status"] for row in results.rows] == ["done"] * 6
    earlier = {row["key"]: row for row in read_jsonl(first / "ledger.jsonl").rows}
    taken = [row for row in results.rows if row["seed"] == 0]
    assert [(row["result"], row["minutes"], row["started"]) for row in taken] == [
        (earlier[row["key"]]["result"], earlier[row["key"]]["minutes"], earlier[row["key"]]["started"]) for row in taken
    ]
    assert compare(whole, reuse=[first / "ledger.jsonl"]) == results  # a second time changes nothing
