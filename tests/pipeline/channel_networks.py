"""Traced networks and jobs for what takes channels away: small, and with statistics that are not those of a fresh layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import zoo
from netpress.data import Preprocess, Split
from netpress.graph import GraphNetwork, trace
from netpress.pipeline.job import Job
from netpress.progress import SilentProgress
from netpress.training import CrossEntropy, TrainingPlan


class Heard(SilentProgress):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Mixed(nn.Module):
    """On (1, 8, 8): a stem, a residual block with a depthwise convolution in it, a plain convolution and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.block = nn.Sequential(
            nn.Conv2d(6, 10, 1, bias=False), nn.BatchNorm2d(10), nn.ReLU(),
            nn.Conv2d(10, 10, 3, padding=1, groups=10, bias=False), nn.BatchNorm2d(10), nn.ReLU(),
            nn.Conv2d(10, 6, 1, bias=False), nn.BatchNorm2d(6),
        )  # fmt: skip
        self.last = nn.Conv2d(6, 9, 3, stride=2, padding=1)
        self.head = nn.Linear(9 * 4 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, 1, 8, 8) -> (N, 6, 8, 8)
        x = torch.relu(x + self.block(x))
        return self.head(torch.relu(self.last(x)).flatten(1))  # (N, 4)


def chain() -> nn.Module:
    """On (1, 8, 8): two convolutions with norms, a hidden layer and a head; groups "0" of 6, "4" of 8 and "8" of 12."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Linear(128, 12), nn.ReLU(), nn.Linear(12, 4),
    )  # fmt: skip


BUILDERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "chain": (chain, (1, 8, 8)),
    "mixed": (Mixed, (1, 8, 8)),
    "lenet5": (lambda: zoo.build("lenet5", seed=0), (1, 28, 28)),
    "digits_cnn": (lambda: zoo.build("digits_cnn", classes=4, seed=0), (1, 8, 8)),
    "resnet8_tiny": (lambda: zoo.build("resnet8_tiny", seed=0), (3, 32, 32)),
}


def traced(network: str | nn.Module, shape: tuple[int, ...] = (), seed: int = 1) -> GraphNetwork:
    """One of `BUILDERS`, or a module on samples of ``shape``, in eval mode; norms have seen something, and differ."""
    torch.manual_seed(seed)
    if isinstance(network, str):
        build, shape = BUILDERS[network]
        network = build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.2, 0.6)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
    return trace(network.eval(), torch.rand(2, *shape))


def images(count: int = 64, shape: tuple[int, ...] = (8, 8), seed: int = 0) -> np.ndarray:
    """Noise with a bright corner that tells one of four classes."""
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 80, (count, *shape), dtype=np.uint8)
    made[np.arange(count), np.arange(count) % 4, np.arange(count) % 4] += 170
    return made


def job_for(
    network: GraphNetwork,
    bounds: Mapping[str, float] | None = None,
    *,
    fit: Split | None = None,
    seed: int = 0,
    shape: tuple[int, ...] = (8, 8),
    progress: SilentProgress | None = None,
) -> Job:
    """A job on 64 toy images, with absolute bounds."""
    labels = np.arange(64) % 4
    return Job(
        teacher=network,
        fit=fit or Split(images(shape=shape), labels),
        held_out=Split(images(32, shape, seed=1), labels[:32]),
        preprocess=Preprocess(1 / 255),
        task="classification",
        outputs=4,
        bounds=dict(bounds or {}),
        cut=None,
        device=torch.device("cpu"),
        seed=seed,
        progress=progress or SilentProgress(),
        scratch=Path("nowhere"),
        training=TrainingPlan(epochs=0),
        objective=CrossEntropy(0.0),
    )
