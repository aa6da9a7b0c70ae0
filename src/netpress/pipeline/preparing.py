"""Everything that is checked and set up before a network is changed: for `compress`, and for a plan that trains nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netpress import artifact
from netpress.artifact.disk import check_destination
from netpress.data import Data, Preprocess, open_data
from netpress.data import check as check_data
from netpress.errors import ConfigError, DataError, WeightsError
from netpress.graph import GraphNetwork, trace
from netpress.measure import Cost, cost, time_one
from netpress.pipeline.budget import Budget
from netpress.pipeline.inputs import first_answers, pick_device
from netpress.pipeline.job import Job
from netpress.pipeline.method import Method, method_name
from netpress.pipeline.recipe import Recipe
from netpress.progress import Progress, SilentProgress
from netpress.training import CrossEntropy, MatchOutput, MeanSquaredError, Objective


@dataclass(frozen=True)
class Prepared:
    """A network, data and a recipe that fit together.

    Attributes:
        teacher: The original, traced, on the job's device.
        job: What methods are given.
        before: Cost of the original, with the size of its file.
        example: Two preprocessed training images on the CPU. (2, ...)
    """

    teacher: GraphNetwork
    job: Job
    recipe: Recipe
    budget: Budget
    data: Data
    before: Cost
    example: Tensor


@contextlib.contextmanager
def prepared(
    network: nn.Module,
    recipe: str | Path | Mapping[str, Any] | Method | Recipe,
    data: str | Data,
    budget: str | Budget | None,
    *,
    at: str | None,
    preprocess: Preprocess | None,
    seed: int,
    device: str | torch.device,
    progress: Progress | None,
    work_dir: str | Path | None,
    out: str | Path | None,
) -> Iterator[Prepared]:
    """Checks all that can be checked, and holds the folder of checkpoints open; the arguments are those of `compress`.

    Raises:
        ConfigError, DataError, WeightsError, GraphError: As `compress`.
    """
    progress = progress or SilentProgress()
    recipe, budget = Recipe.read(recipe), Budget.parse(budget)
    data = open_data(data, seed=seed, progress=progress) if isinstance(data, str) else data
    check_data(data)
    device = pick_device(device)
    preprocess = preprocess or data.preprocess
    if not isinstance(network, nn.Module):
        raise ConfigError(
            "the network is no module",
            got=f"{type(network).__name__} {str(network)[:60]!r}",
            allowed="a torch.nn.Module",
            remedy="of a file, netpress.artifact.read(FILE).network, and its preprocess by Preprocess.from_dict",
        )
    check_finite(network)
    _check_labels(recipe, data)
    fit, held = data.train.hold_out(recipe.hold_out, seed=0)
    if len(fit) < 2:
        raise DataError(
            f"{data.name!r} has too few training images", got=f"{len(fit)} to train on", allowed="2 or more"
        )
    example = preprocess(fit.images[torch.arange(2).numpy()], torch.device("cpu"))
    first_answers(network, example, name=data.name)
    if not 0 <= seed < 2**63:
        raise ConfigError("seed is not a seed", got=seed, allowed="an integer from 0 to 2**63 - 1")
    torch.manual_seed(seed)
    teacher = trace(network, example).eval()
    outputs = _outputs(teacher, data)
    before = cost(teacher, size_bytes=artifact.size(teacher))
    original: dict[str, float] = {"params": before.params, "macs": before.macs, "bytes": before.size_bytes or 0}
    settings = [{**recipe.as_dict(), "name": ""}, str(budget), at, seed]
    with _scratch(work_dir, settings) as scratch:
        if out is not None:
            check_destination(out)
        if any(limit.metric == "latency_ms" for limit in budget.limits):
            original["latency_ms"] = time_one(teacher, teacher.input_shape, input_dtype=teacher.input_dtype).median
        job = Job(
            teacher=teacher.to(device),
            fit=fit,
            held_out=held,
            preprocess=preprocess,
            task=data.task,
            outputs=outputs,
            bounds=budget.bounds(original),
            cut=at,
            device=device,
            seed=seed,
            progress=progress,
            scratch=scratch,
            training=recipe.training,
            objective=_objective(recipe, data.task, teacher),
        )
        yield Prepared(job.teacher, job, recipe, budget, data, before, example)


def _objective(recipe: Recipe, task: str, teacher: GraphNetwork) -> Objective:
    """From the labels, or from the original: softened classes of a classifier, the plain outputs of a regression."""
    if task == "classification":
        plain = CrossEntropy(recipe.training.label_smoothing)
        return plain if recipe.distill is None else recipe.distill.objective(teacher)
    return MeanSquaredError() if recipe.distill is None else MatchOutput(teacher)


def _check_labels(recipe: Recipe, data: Data) -> None:
    """Raises DataError where the training of the whole network needs labels that are not there."""
    alpha = 0.0 if recipe.distill is None else 1.0 if data.task == "regression" else recipe.distill.alpha
    asking = [method_name(method) for method in recipe.methods if method.needs_labels]
    if data.train.labels is None and asking:
        raise DataError(
            f"{data.name!r} has no labels, and {asking[0]} learns from them",
            got=f"{asking[0]}.labels=true",
            allowed=f"{asking[0]}.labels=false",
            remedy="set labels=false: then it learns from the original's answers",
        )
    if data.train.labels is None and recipe.training.epochs > 0 and alpha < 1:
        raise DataError(
            f"{data.name!r} has no labels, and this recipe learns from them",
            got="distill: none" if recipe.distill is None else f"distill.alpha={alpha:g}",
            allowed="distill.alpha=1",
            remedy="set distill.alpha=1: then the network learns from the original's answers alone",
        )


def _outputs(teacher: GraphNetwork, data: Data) -> int:
    """Width of the output, checked against the data's classes."""
    width = teacher.output_shape[-1] if teacher.output_shape else 0
    if len(teacher.output_shape) != 1:
        raise ConfigError(
            "the network's output has the wrong shape", got=("N", *teacher.output_shape), allowed="(N, outputs)"
        )
    if data.task == "classification" and len(data.classes) > width:
        raise DataError(
            f"the data {data.name!r} has more classes than the network has outputs",
            got=f"{len(data.classes)} classes, {width} outputs",
            remedy="use the data the network was trained for, or train it for these",
        )
    return width


def check_finite(network: nn.Module) -> None:
    """Raises WeightsError when a parameter or buffer holds NaN or infinity."""
    bad = [name for name, t in network.state_dict().items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        shown = ", ".join(bad[:8]) + (f" and {len(bad) - 8} more" if len(bad) > 8 else "")
        raise WeightsError(
            "the network's weights are not finite", got=shown, remedy="train again or load other weights"
        )


@contextlib.contextmanager
def _scratch(work_dir: str | Path | None, settings: object) -> Iterator[Path]:
    """A folder for checkpoints, gone after success only: a temporary one, or one for these settings inside the user's."""
    if work_dir is None:
        with tempfile.TemporaryDirectory(prefix="netpress-") as temporary:
            yield Path(temporary)
        return
    # One a set of settings: a run that is started again with others must neither take up nor destroy what this one did.
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    folder = Path(work_dir) / f"run-{digest[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
        shutil.rmtree(folder)
    finally:
        for place in (*folder.glob("method-*"), folder, Path(work_dir)):
            with contextlib.suppress(OSError):  # there is something in it: checkpoints, or what is not ours
                place.rmdir()
