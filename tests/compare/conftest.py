"""A spec, and work that stands in for the pipeline: pure arithmetic instead of training."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from netpress.compare.jobs import CompareJob, JobContext, TeacherJob
from netpress.compare.results import Results
from netpress.compare.rows import JOB_FIELDS
from netpress.compare.run import run_comparison
from netpress.compare.spec import Spec
from netpress.compare.spec_reader import read_spec

SPEC = """
title: Two methods
networks: [{name: small, net: tiny, weights: tiny.safetensors, at: block2}]
data: [digits]
recipes:
  - finetune
  - {name: thin, recipe: ahosvd, set: {ranks: [4, 2, 2]}}
  - mixer
budgets: ["params=13%"]
seeds: [0, 1]
train: {epochs: 2}
"""


@pytest.fixture
def make_spec(tmp_path: Path) -> Callable[..., Spec]:
    """Reads a spec from its text, with the file of weights it names beside it."""

    def make(text: str = SPEC, **variables: str) -> Spec:
        folder = tmp_path / "spec"
        folder.mkdir(exist_ok=True)
        (folder / "tiny.safetensors").write_bytes(b"weights")
        (folder / "grid.yaml").write_text(text, encoding="utf-8")
        return read_spec(folder / "grid.yaml", variables=variables)

    return make


def resolve(job: CompareJob | TeacherJob) -> dict[str, Any]:
    """What the caller resolves; the data's fingerprint is of its name, standing in for its content."""
    weights = job.network.weights
    content: dict[str, Any] = {
        "network": {"net": job.network.net},
        "weights": str(zlib.crc32(weights.read_bytes())) if isinstance(weights, Path) else weights,
        "data": {"train": f"of {job.data.name}"},
        "plan": dict(job.train),
        "device": "cpu",
    }
    if isinstance(job, CompareJob):
        content["recipe"] = {"name": job.recipe.name, "methods": [job.recipe.recipe], **job.recipe.settings}
    return content


def result_of(correct: int, *, params: int = 130, held_out: float = 0.5, size_bytes: int = 600) -> dict[str, Any]:
    """A result in the shape that jobs give; the original has 80 right answers of 100."""

    def cost(params: int, size_bytes: int, median: float) -> dict[str, Any]:
        latency = {"median": median, "p95": median, "batch": 1, "threads": 1, "device": "cpu"}
        return {
            "params": params,
            "nonzeros": params,
            "macs": params * 10,
            "size_bytes": size_bytes,
            "latency_ms": latency,
        }

    def quality(right: int) -> dict[str, Any]:
        return {"metric": "accuracy", "value": right / 100, "correct": right, "count": 100, "split": "test"}

    return {
        "before": {"cost": cost(1000, 4000, 4.0), "quality": quality(80)},
        "after": {"cost": cost(params, size_bytes, 2.0), "quality": quality(correct)},
        "held_out": {"metric": "accuracy", "value": held_out, "split": "held_out"},
        "minutes": 1.5,
        "file": None,
    }


#: What training a teacher gives.
TEACHER_RESULT = {
    "quality": {"metric": "accuracy", "value": 0.8, "correct": 80, "count": 100, "split": "test"},
    "held_out": {"metric": "accuracy", "value": 0.75, "correct": 15, "count": 20, "split": "held_out"},
    "minutes": 1.0,
}


class Work:
    """Counts what is run; ``behave`` may answer for a job, or raise."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.teachers: list[str] = []
        self.behave: Callable[[CompareJob, JobContext], Mapping[str, Any] | None] = lambda job, context: None

    def run_job(self, job: CompareJob, context: JobContext) -> Mapping[str, Any]:
        self.ran.append(f"{job.stage}/{job.recipe.name}/{job.seed}")
        return self.behave(job, context) or result_of(70 + job.seed)

    def run_teacher(self, job: TeacherJob, context: JobContext) -> Mapping[str, Any]:
        self.teachers.append(job.label)
        context.file.write_bytes(b"teacher")
        return {**TEACHER_RESULT, "file": str(context.file)}


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def compare(work: Work, tmp_path: Path) -> Callable[..., Results]:
    """Runs a comparison with the stand-ins."""

    def run(spec: Spec, **options: Any) -> Results:
        given = {"resolve": resolve, "run_teacher": work.run_teacher, "run_job": work.run_job, **options}
        return run_comparison(spec, tmp_path / "out", **given)

    return run


@pytest.fixture
def stand_ins() -> tuple[Any, Any]:
    """``resolve`` and ``result_of``, for tests that change what they give."""
    return resolve, result_of


@pytest.fixture
def row():
    """One exported row, by hand."""

    def make(
        recipe: str = "a", seed: int = 0, correct: int = 70, reference: bool = False, **changes: Any
    ) -> dict[str, Any]:
        values = {
            "kind": "job",
            "stage": "main",
            "network": "n",
            "data": "d",
            "recipe": recipe,
            "budget": None if reference else "params=13%",
            "seed": seed,
            "reference": reference,
            "status": "done",
            "result": result_of(correct),
            "error": None,
            "minutes": 9.0,
            "started": "2026-01-01T00:00:00+00:00",
            "environment": {"torch": "2"},
            "content": {
                "network": "n",
                "data": "d",
                "plan": {"epochs": 1},
                "recipe": {"methods": [recipe]},
                "device": "cpu",
            },
            "key": f"{recipe}{seed}",
            **changes,
        }
        return {name: values[name] for name in JOB_FIELDS}

    return make


@pytest.fixture
def teacher() -> dict[str, Any]:
    """One exported row of a network that the run trained itself."""
    return {
        "kind": "teacher",
        "network": "n",
        "data": "d",
        "seed": 3,
        "status": "done",
        "result": TEACHER_RESULT,
        "error": None,
        "minutes": 2.0,
        "started": "2026-01-01T00:00:00+00:00",
        "environment": {"torch": "2"},
        "content": {"plan": {"epochs": 30, "optimizer": "sgd", "lr": 0.1, "batch_size": 64, "augment": None}},
        "key": "t",
    }
