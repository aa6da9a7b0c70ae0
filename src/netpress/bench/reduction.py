"""Fit of the reduction layers, cost of a distillation step, and whether training waits for data."""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import zoo
from netpress.bench import Row, at_least, at_most
from netpress.data import ImageStream, Preprocess, Split
from netpress.graph import split, trace
from netpress.layers import FNN, TuckerProjection
from netpress.maths import ModeGrams, reconstruction_error, unfold
from netpress.measure import peak_memory
from netpress.progress import Progress
from netpress.training import CrossEntropy, Distillation, Trainer, TrainingPlan

SUMMARY = "AHOSVD fit (time, memory, error), cost of a distillation step, images/s of the training loop"

SHAPE, RANKS, SAMPLES, BATCH = (256, 4, 4), (35, 3, 3), 2000, 100
TRAINING_BATCH, TRAINING_STEPS = 128, 12
REPEATS = 7


def feature_stream(samples: int, seed: int = 0) -> Iterator[Tensor]:
    """Correlated features with a tail: a Tucker core of (48, 4, 4) plus noise, made batch by batch. (100, 256, 4, 4) each."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(48, SHAPE[0], generator=generator) * torch.linspace(1.0, 0.05, 48)[:, None]  # (48, C)
    for start in range(0, samples, BATCH):
        core = torch.randn(min(BATCH, samples - start), 48, *SHAPE[1:], generator=generator)  # (N, 48, H, W)
        clean = torch.einsum("nkhw,kc->nchw", core, mixing)  # (N, C, H, W)
        yield clean + 0.1 * torch.randn(clean.shape, generator=generator)


def fit(batches: Iterator[Tensor] | list[Tensor]) -> list[Tensor]:
    """AHOSVD of a stream: the projections."""
    grams = ModeGrams(SHAPE)
    for batch in batches:
        grams.update(batch)
    return grams.projections(RANKS)


def rows(*, threads: int, device: str, progress: Progress) -> list[Row]:
    """All rows of the topic."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [*_fit_rows(progress), *_memory_rows(progress), *_training_rows(torch.device(device), progress)]
    finally:
        torch.set_num_threads(before)


def _fit_rows(progress: Progress) -> list[Row]:
    batches = list(feature_stream(SAMPLES))
    times = []
    with progress.step("AHOSVD fit", total=REPEATS) as bar:
        for _ in range(REPEATS):
            began = time.perf_counter()
            projections = fit(batches)
            times.append(time.perf_counter() - began)
            bar.advance()
    case = f"AHOSVD fit ({SAMPLES}, {', '.join(map(str, SHAPE))}) to {RANKS}"
    features = torch.cat(batches)
    optimum = reconstruction_error(features, _exact(features))
    error = reconstruction_error(features, projections)
    return [
        at_most(case, "wall time, median", statistics.median(times), "s", 0.5),
        Row(case=case, metric="relative reconstruction error", value=error, unit="1"),
        at_most(case, "error over that of exact float64 Gram matrices", error / optimum, "x", 1.001),
    ]


def _exact(features: Tensor) -> list[Tensor]:
    """Projections from one float64 Gram matrix a mode of all samples at once."""
    projections = []
    for mode, rank in enumerate(RANKS):
        rows = unfold(features.double(), mode)  # (N * others, d)
        vectors = torch.linalg.eigh(rows.T @ rows).eigenvectors  # (d, d), ascending
        projections.append(vectors[:, -rank:].T)
    return projections


def _memory_rows(progress: Progress) -> list[Row]:
    peaks = {}
    for samples in (SAMPLES, 10 * SAMPLES):
        progress.say(f"peak memory of a fresh process, {samples} samples")
        peaks[samples] = peak_memory([sys.executable, str(Path(__file__)), str(samples)]) / 1e6
    out = [
        at_most(f"AHOSVD fit of {samples:,} samples, own process", "peak memory", peak, "MB", 600)
        for samples, peak in peaks.items()
    ]
    growth = peaks[10 * SAMPLES] / peaks[SAMPLES]
    return [*out, at_most("ten times the samples", "peak memory ratio", growth, "x", 1.1)]


def _training_rows(device: torch.device, progress: Progress) -> list[Row]:
    teacher = trace(zoo.build("resnet20", seed=0), torch.rand(2, 3, 32, 32)).eval().to(device)
    body, _ = split(teacher, "layer3")
    shape = (32, 16, 16)
    student = nn.Sequential(
        OrderedDict(body=body, reduction=TuckerProjection(shape, (16, 4, 4)), map=FNN(256, 20, 10))
    ).to(device)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (TRAINING_BATCH * TRAINING_STEPS, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, len(images))
    preprocess = Preprocess(scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    stream = ImageStream(
        Split(images, labels), preprocess, batch_size=TRAINING_BATCH, shuffle=True, augment="crop_flip", device=device
    )
    x, y = next(iter(stream.batches(0)))
    x = x.contiguous(memory_format=torch.channels_last)
    plan = TrainingPlan(
        epochs=1, optimizer="sgd", lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, augment="crop_flip"
    )
    distil, plain, trainer = Distillation().objective(teacher), CrossEntropy(), Trainer(device=device)
    steps = len(stream)
    loop = OneBatch(x, y, steps)
    fast_teacher = copy.deepcopy(teacher).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    bare_student, bare_teacher = _bare(student, x, y, steps), _bare(fast_teacher, x, y, steps, train=False)
    works: dict[str, Callable[[], object]] = {
        "kd": lambda: trainer.fit(student, loop, plan, distil),
        "stream": lambda: trainer.fit(student, stream, plan, plain),
        "bare": bare_student,
        "teacher": bare_teacher,
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    with progress.step("training steps", total=REPEATS * len(works)) as bar:
        for turn in range(REPEATS):
            for name, work in works.items():
                _wait(device)
                began = time.perf_counter()
                work()
                _wait(device)
                if turn > 0:  # the first turn warms up
                    times[name].append(time.perf_counter() - began)
                bar.advance()
    median = {name: statistics.median(values) for name, values in times.items()}
    ratio = statistics.median(
        kd / (bare + teaching) for kd, bare, teaching in zip(times["kd"], times["bare"], times["teacher"], strict=True)
    )
    idle = statistics.median(bare / full for bare, full in zip(times["bare"], times["stream"], strict=True))
    speed = TRAINING_BATCH * steps
    case = f"ResNet-20 cut before layer3, batch {TRAINING_BATCH}"
    return [
        at_most(case, "distillation step over (student step + teacher forward)", ratio, "x", 1.15),
        Row(case=case, metric="training loop with crop and flip", value=speed / median["stream"], unit="images/s"),
        Row(case=case, metric="bare forward, backward and step", value=speed / median["bare"], unit="images/s"),
        at_least(case, "training loop over bare", idle, "x", 0.9),
    ]


class OneBatch:
    """One batch on the device, again and again: training without any data work."""

    def __init__(self, x: Tensor, y: Tensor | None, steps: int) -> None:
        self._x, self._y, self._steps = x, y, steps

    def __len__(self) -> int:
        return self._steps

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        for _ in range(start, self._steps):
            yield self._x, self._y


def _bare(network: nn.Module, x: Tensor, y: Tensor | None, steps: int, *, train: bool = True) -> Callable[[], object]:
    """Forward passes (and backward and optimizer steps) with nothing around them."""

    def forward() -> None:
        network.eval()
        with torch.no_grad():
            for _ in range(steps):
                network(x)

    def training() -> None:
        network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[arg-type]
            optimizer.step()

    return training if train else forward


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":  # the fresh process of the memory rows
    fit(feature_stream(int(sys.argv[1])))
