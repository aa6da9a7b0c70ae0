"""What a method is given to work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from netpress.data import ImageStream, Preprocess, Split
from netpress.graph import GraphNetwork
from netpress.progress import Progress
from netpress.training import Trainer


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

    def stream(
        self, *, batch_size: int, shuffle: bool = False, augment: str = "none", split: Split | None = None
    ) -> ImageStream:
        """Batches of the training images (or of ``split``) on the device."""
        return ImageStream(
            self.fit if split is None else split,
            self.preprocess,
            batch_size=batch_size,
            shuffle=shuffle,
            augment=augment,
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
