"""Training a network from labels: teachers, and every network that is to be compared with one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from netpress.artifact import Artifact
from netpress.data import Data, ImageStream, Preprocess, check
from netpress.errors import ConfigError, DataError
from netpress.measure import Quality, quality
from netpress.pipeline.fields import parse_assignment
from netpress.pipeline.inputs import Opened, first_answers, pick_device, shape_of
from netpress.pipeline.preparing import check_finite
from netpress.progress import Progress
from netpress.training import CrossEntropy, MeanSquaredError, Objective, Trainer, TrainingPlan
from netpress.zoo import save_weights

#: Share of the training images that no teacher is trained on.
HOLD_OUT = 0.05


def default_teacher_plan() -> TrainingPlan:
    """SGD with Nesterov momentum, one cycle, crop and flip: what small image networks are trained with."""
    return TrainingPlan(
        epochs=30,
        batch_size=128,
        optimizer="sgd",
        lr=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        schedule="one_cycle",
        augment="crop_flip",
    )


def plan_with(settings: Iterable[str] | Mapping[str, Any]) -> TrainingPlan:
    """The default plan of teachers with fields set, ``epochs=3`` or ``training.epochs=3``.

    Raises:
        UnknownNameError, ConfigError: A field that does not exist, or a wrong value.
    """
    pairs = dict(settings) if isinstance(settings, Mapping) else dict(parse_assignment(s) for s in settings)
    values = {name.removeprefix("training."): value for name, value in pairs.items()}
    defaults = default_teacher_plan().as_dict()
    if values.get("optimizer", "sgd") != "sgd":
        defaults["nesterov"] = False  # of sgd only: who names another optimizer need not take it back
    return TrainingPlan.from_dict({**defaults, **values})


def train_network(
    opened: Opened,
    data: Data,
    plan: TrainingPlan,
    *,
    out: Path,
    device: str | torch.device = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Trains a network from the labels and writes its weights; goes on from the checkpoint beside ``out`` when there is one.

    Returns:
        A JSON-able document: ``quality`` on the test split, ``held_out``, ``training``, ``minutes``, ``file``.

    Raises:
        DataError: The data has no labels, or none that fit.
        ConfigError: ``out`` is no ``.safetensors`` path.
    """
    if out.suffix != ".safetensors":
        raise ConfigError("weights are written as .safetensors", got=out.name, remedy=f"-o {out.stem}.safetensors")
    began = time.monotonic()
    check(data)
    if data.train.labels is None:
        raise DataError(f"{data.name!r} has no labels to train a teacher from")
    check_finite(opened.network)
    picked = pick_device(device)
    preprocess = opened.preprocess or data.preprocess
    fit, held = data.train.hold_out(HOLD_OUT, seed=0)
    answers = first_answers(opened.network.to("cpu"), preprocess(fit.images[np.arange(1)], "cpu"), name=data.name)
    if data.task == "classification" and len(data.classes) > answers.shape[-1]:
        raise DataError(
            f"the data {data.name!r} has more classes than the network has outputs",
            got=f"{len(data.classes)} classes, {answers.shape[-1]} outputs",
            remedy="build the network with as many outputs as there are classes",
        )
    stream = ImageStream(
        fit,
        preprocess,
        batch_size=plan.batch_size,
        shuffle=True,
        augment="none" if preprocess.indices else plan.augment,  # there is nothing to crop in row numbers
        seed=seed,
        device=picked,
        min_batch=2,
    )
    objective: Objective = CrossEntropy(plan.label_smoothing) if data.task == "classification" else MeanSquaredError()
    kept = checkpoint or out.with_name(out.name + ".checkpoint")
    kept.parent.mkdir(parents=True, exist_ok=True)
    network: nn.Module = opened.network.to(picked)
    record = Trainer(device=picked, seed=seed, progress=progress, checkpoint=kept).fit(network, stream, plan, objective)
    judged = {
        name: quality(
            network, split, preprocess, task=data.task, device=picked, split_name=name, progress=progress
        ).as_dict()
        for name, split in (("test", data.test), ("held_out", held))
    }
    save_weights(network.to("cpu"), out)
    kept.unlink(missing_ok=True)
    return {
        "network": opened.name,
        "data": data.name,
        "seed": seed,
        "quality": judged["test"],
        "held_out": judged["held_out"],
        "training": record.as_dict(),
        "minutes": (time.monotonic() - began) / 60,
        "file": str(out),
    }


def judge_file(
    stored: Artifact,
    data: Data,
    *,
    split: str = "test",
    device: torch.device | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Quality:
    """Quality of a file's network with the file's own preprocessing.

    Raises:
        DataError: The split has no labels, or labels that the network cannot answer; inputs of another shape.
    """
    part = data.test if split == "test" else data.train
    if part.labels is None:
        raise DataError(f"the {split} part of {data.name!r} has no labels to judge by")
    if stored.task == "classification" and stored.classes and len(data.classes) > len(stored.classes):
        raise DataError(
            f"{data.name!r} has classes the file's network does not know",
            got=f"{len(data.classes)} classes",
            allowed=f"{len(stored.classes)}: {', '.join(stored.classes[:10])}",
        )
    if (found := shape_of(data)) != tuple(stored.input_shape):
        raise DataError(
            f"the data {data.name!r} does not fit the file's network",
            got=f"inputs of shape {found}",
            allowed=f"{tuple(stored.input_shape)}, without the batch",
            remedy="choose the data that the network was made for",
        )
    preprocess = data.preprocess if stored.preprocess is None else Preprocess.from_dict(dict(stored.preprocess))
    return quality(
        stored.network,
        part,
        preprocess,
        task=stored.task,
        device=device or torch.device("cpu"),
        batch_size=batch_size,
        split_name=split,
        progress=progress,
    )
