"""The pipeline bound to the runner, on the handwritten digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from netpress.compare.comparison import best_of, compare_ledger, compare_spec
from netpress.compare.jobs import CompareJob, TeacherJob, jobs_of, keyed
from netpress.compare.results import Results
from netpress.compare.rows import read_jsonl
from netpress.compare.spec_reader import read_spec
from netpress.compare.work import Work, recipe_of
from netpress.errors import ConfigError, UnknownNameError
from netpress.zoo import build, save_weights

SPEC = """
title: Digits
networks: [{name: small, net: digits_cnn, train: {epochs: 1, lr: 0.1, batch_size: 64, augment: none}}]
data: [digits]
recipes: [finetune, {name: two, recipe: ahosvd, set: {ranks: [8, 2, 2], map_epochs: 1, epochs: 2}}]
budgets: [null]
train: {epochs: 1, augment: none, distill: none, hold_out: 0.2}
latency: false
"""


@pytest.fixture
def jobs(tmp_path: Path):
    """The jobs of a spec's first stage."""

    def of(text: str = SPEC) -> list[CompareJob]:
        (tmp_path / "grid.yaml").write_text(text, encoding="utf-8")
        return jobs_of(read_spec(tmp_path / "grid.yaml").stages[0])

    return of


@pytest.fixture(scope="module")
def work() -> Work:
    return Work(device="cpu")


def test_a_recipe_takes_the_grids_settings_first_and_its_own_after_them(jobs) -> None:
    finetune, two = map(recipe_of, jobs())
    assert (finetune.training.epochs, finetune.hold_out, finetune.distill) == (1, 0.2, None)
    assert (two.training.epochs, two.hold_out, two.distill) == (2, 0.2, None)
    assert two.training.augment == "none"
    assert two.name == "two"
    assert two.as_dict()["methods"][0]["ahosvd"]["ranks"] == [8, 2, 2]


def test_a_grids_setting_means_the_training_and_not_a_methods_field_of_that_name(jobs) -> None:
    text = SPEC.replace("epochs: 1, augment: none, distill", "lr: 0.125, distill.temperature: 2.0, distill")
    recipe = recipe_of(jobs(text.replace("distill: none, ", ""))[1])
    assert recipe.training.lr == 0.125
    assert recipe.distill is not None
    assert recipe.distill.temperature == 2.0


def test_resolved_is_all_that_decides_and_nothing_of_names(jobs, work: Work) -> None:
    _, job = jobs()
    content = work.resolve(job)
    assert (content["network"], content["weights"], content["device"]) == ("digits_cnn", None, "cpu")
    assert len(content["data"]) == len(set(content["data"])) == 2  # of the training images and of the test images
    assert content["plan"]["epochs"] == content["recipe"]["training"]["epochs"] == 2
    assert isinstance(job.teacher, TeacherJob)
    assert work.resolve(job.teacher)["plan"]["lr"] == 0.1
    key = keyed(job, work.resolve).key
    renamed = SPEC.replace("name: two", "name: other").replace("name: small", "name: cnn")
    assert keyed(jobs(renamed)[1], work.resolve).key == key
    assert keyed(jobs(SPEC.replace("lr: 0.1", "lr: 0.2"))[1], work.resolve).key != key  # another teacher
    assert keyed(jobs(SPEC.replace("[8, 2, 2]", "[7, 2, 2]"))[1], work.resolve).key != key


def test_weights_and_files_are_known_by_their_content(jobs, work: Work, tmp_path: Path) -> None:
    lines = "from netpress import zoo\ndef net():\n    return zoo.build('digits_cnn', seed=0)\n"
    (tmp_path / "mine.py").write_text(lines, encoding="utf-8")
    save_weights(build("digits_cnn", seed=0), tmp_path / "w.safetensors")
    train = SPEC[SPEC.index("networks") : SPEC.index("data:")]
    text = SPEC.replace(train, "networks: [{net: 'mine.py:net', weights: w.safetensors}]\n")
    [job, _] = jobs(text)
    assert job.network.name == "mine.py:net"
    first = Work(device="cpu").resolve(job)
    assert (first["network"]["file"], first["network"]["callable"]) == ("mine.py", "net")
    assert str(tmp_path) not in str(first)
    (tmp_path / "mine.py").write_text(lines + "# changed\n", encoding="utf-8")
    save_weights(build("digits_cnn", seed=1), tmp_path / "w.safetensors")
    second = Work(device="cpu").resolve(job)
    assert second["network"] != first["network"]
    assert second["weights"] != first["weights"]


@pytest.mark.parametrize(
    ("old", "new", "error", "says"),
    [
        ("net: digits_cnn", "net: digit_cnn", UnknownNameError, "did you mean 'digits_cnn'"),
        ("recipe: ahosvd", "recipe: ahosv", UnknownNameError, "did you mean 'ahosvd'"),
        ("{epochs: 1, lr", "{epoch: 1, lr", ConfigError, "epoch"),
        (
            "ranks: [8, 2, 2], map_epochs",
            "rank: 8, map_epochs",
            UnknownNameError,
            "unknown field of ahosvd; got: 'rank'",
        ),
    ],
)
def test_what_is_wrong_in_a_spec_shows_before_anything_runs(jobs, work: Work, old, new, error, says) -> None:
    found = jobs(SPEC.replace(old, new))
    with pytest.raises(error, match=says):
        keyed(found[-1], work.resolve)


def test_a_whole_comparison_and_its_tables_made_again(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(SPEC, encoding="utf-8")
    found = compare_spec(tmp_path / "grid.yaml", tmp_path / "out", device="cpu")
    assert [row["status"] for row in found.rows] == ["done", "done"]
    [teacher] = found.teachers
    # The original's quality is the teacher's: measured once, when it was trained, and again for the first job.
    assert [row["result"]["before"]["quality"] for row in found.rows] == [teacher["result"]["quality"]] * 2
    assert best_of(found)["recipe"] == "two"
    assert (tmp_path / "out" / found.rows[1]["result"]["file"]).is_file()
    again = compare_ledger(tmp_path / "out" / "ledger.jsonl", tmp_path / "again")
    assert again == found
    for name in ("ledger.jsonl", "table.md", "table.csv", "table.json", "report.html"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_the_best_is_the_best_in_the_metrics_own_direction(row) -> None:
    def of(metric: str) -> Results:
        rows = [row(name) for name in ("a", "b")] + [row("f", reference=True)]
        for one, value in zip(rows, (0.2, 0.4, 0.9), strict=True):
            one["result"]["held_out"] = {"metric": metric, "value": value}
        return Results(title="", rows=tuple(rows))

    assert best_of(of("accuracy"))["recipe"] == "b"
    assert best_of(of("mse"))["recipe"] == "a"
    with pytest.raises(ConfigError, match="no job of the comparison gave a network"):
        best_of(Results(title="", rows=()))


def test_a_budget_that_cannot_be_met_is_a_failed_row(tmp_path: Path) -> None:
    save_weights(build("digits_cnn", seed=0), tmp_path / "w.safetensors")
    (tmp_path / "grid.yaml").write_text(
        "networks: [{net: digits_cnn, weights: w.safetensors}]\ndata: [digits]\nrecipes: [pod]\nbudgets: ['params=5']\n",
        encoding="utf-8",
    )
    found = compare_spec(tmp_path / "grid.yaml", tmp_path / "out", device="cpu")
    assert found.failed == 1
    assert "params" in found.rows[0]["error"]
    assert read_jsonl(tmp_path / "out" / "ledger.jsonl") == found
    with pytest.raises(ConfigError, match="no job of the comparison gave a network"):
        best_of(found)
