"""What a method is given to work with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from netpress.data import ImageStream, Preprocess, Split
from netpress.graph import GraphNetwork
from netpress.measure import Quality, quality
from netpress.pipeline.constraints import Constraint
from netpress.progress import Progress
from netpress.training import Objective, Trainer, TrainingPlan, TrainingRecord


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a method may use; nothing here is the method's to change.

    Attributes:
        teacher: The original network, traced, in eval mode on ``device``.
        fit: What may be trained on.
        held_out: What may be selected on; never trained on. The test split is not here.
        preprocess: From stored images to the network's input.
        task: ``classification`` or ``regression``.
        outputs: Width of the network's output.
        bounds: Absolute bounds by metric (see ``Budget.bounds``); empty when there is no budget.
        cut: Where the user wants the network cut, when a method cuts.
        scratch: A folder for checkpoints and stored features; gone when the job has ended well.
        training: The recipe's plan for training the whole network.
        objective: What that training minimises: distillation from the teacher, or the labels' loss.
        constraints: What earlier methods ask every training to keep.
        records: Every training of the whole network so far, in order.
    """

    teacher: GraphNetwork
    fit: Split
    held_out: Split
    preprocess: Preprocess
    task: str
    outputs: int
    bounds: Mapping[str, float]
    cut: str | None
    device: torch.device
    seed: int
    progress: Progress
    scratch: Path
    training: TrainingPlan
    objective: Objective
    constraints: tuple[Constraint, ...] = ()
    records: list[TrainingRecord] = field(default_factory=list)

    def stream(
        self, *, batch_size: int, shuffle: bool = False, augment: str = "none", split: Split | None = None
    ) -> ImageStream:
        """Batches of the training images (or of ``split``) on the device."""
        return ImageStream(
            self.fit if split is None else split,
            self.preprocess,
            batch_size=batch_size,
            shuffle=shuffle,
            augment="none" if self.preprocess.indices else augment,  # there is nothing to crop in row numbers
            seed=self.seed,
            device=self.device,
        )

    def trainer(self, label: str) -> Trainer:
        """The one training loop, with a checkpoint of its own under ``label``."""
        return Trainer(
            device=self.device, seed=self.seed, progress=self.progress, checkpoint=self.scratch / f"{label}.checkpoint"
        )

    def example(self) -> torch.Tensor:
        """Two preprocessed training images on the CPU, for tracing. (2, ...)"""
        indices = torch.arange(min(2, len(self.fit))).numpy()
        return self.preprocess(self.fit.images[indices], torch.device("cpu"))

    def retrain(
        self,
        network: nn.Module,
        *,
        label: str,
        epochs: int | None = None,
        lr: float | None = None,
        constraints: Sequence[Constraint] = (),
        restore_best: bool = True,
    ) -> TrainingRecord | None:
        """Trains the whole network in place by the recipe's plan and objective.

        Args:
            label: Names the checkpoint; once in each method.
            epochs: In place of the plan's; 0 trains nothing.
            lr: In place of the plan's.
            constraints: To be kept beside those of earlier methods.
            restore_best: End with the epoch that did best on the held-out part, not with the last. Only for a network that is
                as small from the first epoch on as in the last.

        Returns:
            The training's record, None when nothing was trained.
        """
        plan = self.training
        plan = dataclasses.replace(
            plan, epochs=plan.epochs if epochs is None else epochs, lr=plan.lr if lr is None else lr
        )
        if plan.epochs == 0:
            return None
        kept = (*self.constraints, *constraints)
        selects = restore_best and plan.epochs > 1 and self.held_out.labels is not None
        record = self.trainer(label).fit(
            network,
            self.stream(batch_size=plan.batch_size, shuffle=True, augment=plan.augment),
            plan,
            self.objective,
            validate=self.score if selects else None,
            restore_best=selects,
            after_backward=[c.after_backward for c in kept],
            after_step=[c.after_step for c in kept],
            label=label,
        )
        self.records.append(record)
        return record

    def steps(self, epochs: int | None = None) -> int:
        """Steps that ``retrain`` takes for so many epochs; the plan's without a number."""
        plan = self.training
        batches = len(self.stream(batch_size=plan.batch_size, shuffle=True, augment=plan.augment))
        return batches * (plan.epochs if epochs is None else epochs)

    def score(self, network: nn.Module) -> float:
        """Quality on the held-out part, larger is better: the share of right answers, or minus the squared error."""
        judged = self.judge(network, self.held_out, "held_out")
        return judged.value if self.task == "classification" else -judged.value

    def judge(self, network: nn.Module, split: Split, name: str) -> Quality:
        """Quality of a network, on the job's device, on labelled images."""
        return quality(
            network, split, self.preprocess, task=self.task, device=self.device, split_name=name, progress=self.progress
        )
