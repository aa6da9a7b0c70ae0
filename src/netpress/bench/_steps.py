"""What one objective costs a training step beside another, on the same network and batch."""

from __future__ import annotations

import statistics
import time

import torch

from netpress.bench.reduction import OneBatch
from netpress.graph import GraphNetwork
from netpress.progress import Progress
from netpress.training import Objective, Trainer, TrainingPlan

BATCH, STEPS, REPEATS = 128, 6, 5


def image_batch(device: torch.device, outputs: int = 10) -> OneBatch:
    """Steps on one seeded batch of random 32-pixel images."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, 3, 32, 32, generator=generator).to(device, memory_format=torch.channels_last)
    return OneBatch(x, torch.randint(0, outputs, (BATCH,), generator=generator).to(device), STEPS)


def step_ratio(
    student: GraphNetwork, plain: Objective, other: Objective, device: torch.device, progress: Progress
) -> float:
    """Median over interleaved repeats: the time of ``STEPS`` steps with ``other`` over that with ``plain``; the student is trained."""
    loop, trainer = image_batch(device), Trainer(device=device)
    plan = TrainingPlan(epochs=1, optimizer="sgd", lr=0.001, momentum=0.9)
    ratios = []
    with progress.step("training steps", total=REPEATS + 1) as bar:
        for turn in range(REPEATS + 1):
            taken = []
            for objective in (plain, other):
                _wait(device)
                began = time.perf_counter()
                trainer.fit(student, loop, plan, objective)
                _wait(device)
                taken.append(time.perf_counter() - began)
            if turn > 0:  # the first turn warms up
                ratios.append(taken[1] / taken[0])
            bar.advance()
    return statistics.median(ratios)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
