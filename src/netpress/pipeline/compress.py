"""compress(): network, recipe, data and budget in; a smaller network and what was measured out."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netpress import artifact
from netpress.artifact.disk import read_file, write_file
from netpress.data import Data, Preprocess, Split
from netpress.graph import GraphNetwork, count, trace
from netpress.measure import Cost, Quality, cost, quality
from netpress.measure import latency as measure_latency
from netpress.pipeline.budget import Budget, check
from netpress.pipeline.integer_points import MEASURED, ROUNDED
from netpress.pipeline.job import Job
from netpress.pipeline.method import Method, method_name
from netpress.pipeline.narrowing import without_gain
from netpress.pipeline.preparing import prepared
from netpress.pipeline.recipe import Recipe
from netpress.progress import Progress
from netpress.training import TrainingRecord


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out of one compression.

    Attributes:
        network: The smaller network, in eval mode: an ordinary module that needs nothing of what made it.
        before: Cost of the original.
        after: Cost of the smaller network; ``size_bytes`` is the size of its file.
        quality_before: Of the original on the test split; None where the data has no labels.
        quality_after: Of the smaller network on the same images.
        held_out: Of the smaller network on the held-out part of the training images: what may be selected by.
        training: Of the whole network; None when nothing was trained.
        warnings: What the user should know, such as a step that brought no speed.
        codec: How the file stores tensors.
    """

    network: GraphNetwork
    recipe: Recipe
    budget: Budget
    seed: int
    input_shape: tuple[int, ...]
    preprocess: Preprocess
    task: str
    classes: tuple[str, ...]
    before: Cost
    after: Cost
    quality_before: Quality | None
    quality_after: Quality | None
    held_out: Quality | None
    training: TrainingRecord | None
    minutes: float
    warnings: tuple[str, ...] = ()
    codec: str = "auto"
    file: Path | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of this result: ``before``, ``after``, ``recipe``, ``training``, ``warnings``."""

        def side(counted: Cost, judged: Quality | None) -> dict[str, Any]:
            return {"cost": counted.as_dict(), "quality": None if judged is None else judged.as_dict()}

        return {
            "before": side(self.before, self.quality_before),
            "after": side(self.after, self.quality_after),
            "held_out": None if self.held_out is None else self.held_out.as_dict(),
            "recipe": self.recipe.as_dict(),
            "budget": str(self.budget) or None,
            "seed": self.seed,
            "training": None if self.training is None else self.training.as_dict(),
            "minutes": self.minutes,
            "warnings": list(self.warnings),
            "file": None if self.file is None else str(self.file),
            **self.source,
        }

    def save(self, path: str | Path) -> int:
        """Writes the ``.netpress`` file; its size in bytes."""
        metadata = {"recipe": self.recipe.name, "seed": self.seed}
        if self.budget:
            metadata["budget"] = str(self.budget)
        return artifact.save(
            path,
            self.network,
            input_shape=self.input_shape,
            preprocess=self.preprocess.as_dict(),
            task=self.task,
            classes=self.classes,
            metadata=metadata,
            codec=self.codec,
        )


def compress(
    network: nn.Module,
    recipe: str | Path | Mapping[str, Any] | Method | Recipe,
    data: str | Data,
    budget: str | Budget | None = None,
    *,
    at: str | None = None,
    preprocess: Preprocess | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    work_dir: str | Path | None = None,
    out: str | Path | None = None,
    latency: bool = True,
    quality_before: Quality | None = None,
    codec: str = "auto",
) -> Result:
    """Makes a smaller network out of a trained one.

    Everything that can be checked is checked before anything is trained. The network given is not changed, not by one bit.

    Args:
        network: Any module that maps one tensor (N, ...) to one tensor (N, outputs).
        recipe: A method, its name, a recipe, a recipe's mapping or its YAML file.
        data: A ``Data`` or its spec, such as ``"digits"`` or ``"npz:FILE"``.
        budget: What must hold at the end, such as ``"params=13%"``.
        at: Where to cut, for methods that cut.
        preprocess: From stored images to the network's input; the data's own by default.
        seed: Of everything random.
        device: Where training and evaluation run.
        progress: Where progress is shown; silent by default.
        work_dir: Folder of checkpoints: a run that is killed and started again with the same arguments goes on. Temporary by default.
        out: Where to write the ``.netpress`` file; without it the file is written to a temporary place and only measured.
        latency: Whether to time the original and the smaller network side by side.
        quality_before: The original's quality on this test split, when it is known already.
        codec: How the file stores tensors: ``auto`` (fewest bytes), ``fast`` (of those that multiply fast), or a codec's name.

    Raises:
        ConfigError, DataError, WeightsError, GraphError, BudgetError: Each before any training starts, except for bounds that
            only a measurement can decide (bytes, latency_ms).
    """
    began = time.monotonic()
    with prepared(
        network,
        recipe,
        data,
        budget,
        at=at,
        preprocess=preprocess,
        seed=seed,
        device=device,
        progress=progress,
        work_dir=work_dir,
        out=out,
    ) as ready:
        job, teacher, recipe, data = ready.job, ready.teacher, ready.recipe, ready.data
        scratch, wants_latency = job.scratch, "latency_ms" in job.bounds
        student = _pressed(teacher, recipe, job, ready.example)
        student, teacher = student.to("cpu").eval(), teacher.to("cpu")
        result = Result(
            network=student,
            recipe=recipe,
            budget=ready.budget,
            seed=seed,
            input_shape=teacher.input_shape,
            preprocess=job.preprocess,
            task=data.task,
            classes=data.classes,
            before=ready.before,
            after=cost(student),
            quality_before=quality_before or _judged(teacher, data.test, "test", job),
            quality_after=_judged(student, data.test, "test", job),
            held_out=_judged(student, job.held_out, "held_out", job),
            training=job.records[-1] if job.records else None,
            codec=codec,
            minutes=0.0,
        )
        weighed = scratch / "result.netpress"
        result = _weighed(result, teacher, weighed, latency=latency or wants_latency)
        values = {"bytes": result.after.size_bytes, "latency_ms": (result.after.latency_ms or {}).get("median")}
        check(
            job.bounds,
            {metric: value for metric, value in values.items() if value is not None},
            remedy="allow more, or cut earlier",
        )
        if out is not None:  # only now: what misses its budget must not take the place of a file that was there
            write_file(out, [read_file(weighed)])  # the bytes that `save` would write again
    return dataclasses.replace(
        result, minutes=(time.monotonic() - began) / 60, file=Path(out) if out is not None else None
    )


def _pressed(teacher: GraphNetwork, recipe: Recipe, job: Job, example: torch.Tensor) -> GraphNetwork:
    """All methods in order, each on a plain traced network, and the trainings between them.

    The whole network is trained once after each run of methods that changed its structure; methods that choose values train it
    themselves. The counted bounds are checked when the structure stands, before any training of the whole.
    """
    student = trace(copy.deepcopy(teacher).to("cpu"), example)
    untrained, plain = False, job.objective
    for index, method in enumerate(recipe.methods, start=1):
        if method.stage == "values":
            if untrained:
                _trained(student, job, f"training-{index - 1}")
                untrained = False
        else:
            untrained = True
        job.progress.say(f"{method_name(method)} ({index} of {len(recipe.methods)})")
        # A folder each: two methods may both train a map.
        own = dataclasses.replace(job, scratch=job.scratch / f"method-{index}")
        own.scratch.mkdir(parents=True, exist_ok=True)
        if method.stage == "structure":  # what an earlier method matched is no longer there
            own = dataclasses.replace(own, objective=plain)
            if any(m.stage == "values" for m in recipe.methods):  # bytes are theirs to meet
                own = dataclasses.replace(own, bounds={m: b for m, b in job.bounds.items() if m != "bytes"})
        made = method.apply(student.to(job.device), own).to("cpu")
        student = trace(made, example)
        if method.stage != "values":
            chosen = method.objective(student, own)
            job = dataclasses.replace(
                job, objective=chosen or (plain if method.stage == "structure" else job.objective)
            )
        job = dataclasses.replace(job, constraints=(*job.constraints, *method.constraints(student)))
        if index == recipe.structured:
            counted = count(student)
            check(
                job.bounds,
                {"params": counted.params, "macs": counted.macs},
                remedy="allow more, or use a method that can shrink further; the whole network was not trained yet",
            )
    if untrained:
        _trained(student, job, "training")
    return student


def _trained(student: GraphNetwork, job: Job, label: str) -> None:
    """The recipe's training of the whole network, in place."""
    job.retrain(student.to(job.device), label=label, restore_best=False)
    student.to("cpu")


def _judged(network: GraphNetwork, split: Split, name: str, job: Job) -> Quality | None:
    if split.labels is None:
        return None
    network.to(job.device)
    judged = quality(
        network, split, job.preprocess, task=job.task, device=job.device, split_name=name, progress=job.progress
    )
    network.to("cpu")
    return judged


def _weighed(result: Result, teacher: GraphNetwork, target: Path, *, latency: bool) -> Result:
    """The result with what only its file and a clock can tell: bytes on disk, and latencies from one interleaved run."""
    after = dataclasses.replace(result.after, size_bytes=result.save(target))
    before, warnings = result.before, list(result.warnings)
    if latency:
        networks = {"before": teacher, "after": result.network}
        timed = measure_latency(networks, result.input_shape, input_dtype=teacher.input_dtype)
        before = dataclasses.replace(before, latency_ms=timed["before"].as_dict())
        after = dataclasses.replace(after, latency_ms=timed["after"].as_dict())
        ratio = timed["after"].median / timed["before"].median
        if slow := without_gain(ratio, result.recipe.methods):
            rounds = any(node.op in (ROUNDED, MEASURED) for node in result.network.nodes)
            warnings.append(f"{slow}; PyTorch computes integers as floats, so time it as exported" if rounds else slow)
    if before.size_bytes is not None and after.size_bytes is not None and after.size_bytes >= before.size_bytes:
        warnings.append("the file did not get smaller")
    return dataclasses.replace(result, before=before, after=after, warnings=tuple(warnings))
