"""What a training counted: the record it gives back, and the counters it keeps while it runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What one training did.

    Attributes:
        epochs: Finished epochs.
        steps: Optimizer steps.
        samples: Samples seen, repeats counted.
        seconds: Spent in steps, without validation and checkpoints; over all starts of a resumed run.
        images_per_s: ``samples`` / ``seconds``.
        losses: Mean loss of each epoch.
        accuracies: Share of right answers while training, each epoch; empty without integer labels.
        validations: What ``validate`` gave after each epoch; empty without it.
        best_epoch: Whose weights the network has when the best were asked for (from 0), else None.
    """

    epochs: int = 0
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    images_per_s: float = 0.0
    losses: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()
    validations: tuple[float, ...] = ()
    best_epoch: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Every field as JSON knows it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


@dataclass
class Counters:
    """The loop's whole state beside weights and optimizer: what a checkpoint carries as JSON."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    epoch_samples: int = 0
    correct: int = 0
    labelled: int = 0
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    validations: list[float] = field(default_factory=list)
    best_epoch: int | None = None
