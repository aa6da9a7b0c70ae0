"""Spectra of features beside the forward pass that they come from, and what distilling subspaces costs a step."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from netpress.bench import Row, at_most
from netpress.bench._steps import BATCH, step_ratio
from netpress.bench.structure import halved, traced
from netpress.data import ImageStream, Preprocess, Split
from netpress.graph import GraphNetwork
from netpress.pipeline.spectra import read_values, spectra
from netpress.progress import Progress
from netpress.structure import Channels, slice_network
from netpress.training import Distillation, DistillSubspaces

SUMMARY = "spectra of all features in one pass, a step of subspace distillation"

NETWORKS = ("resnet20", "vgg16_bn")
IMAGES, REPEATS = 256, 3


def rows(*, threads: int, device: str, progress: Progress) -> list[Row]:
    """All rows of the topic."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [row for name in NETWORKS for row in _rows_of(name, torch.device(device), progress)]
    finally:
        torch.set_num_threads(before)


def _rows_of(name: str, device: torch.device, progress: Progress) -> list[Row]:
    teacher = traced(name, (3, 32, 32)).to(device)
    channels = Channels(teacher)
    held = sum(spectrum.covariance.nbytes for spectrum in spectra(channels, _stream(device)).values())
    passes, alone = [], []
    with progress.step("spectra", total=REPEATS) as bar:
        for _ in range(REPEATS):
            alone.append(_forward_seconds(teacher, device))
            began = time.process_time()
            spectra(channels, _stream(device))
            passes.append(time.process_time() - began)
            bar.advance()
    student = slice_network(channels, halved(channels)).to(device)
    settings = Distillation(alpha=1.0)
    subspaces = DistillSubspaces(teacher, read_values(teacher), settings)
    ratio = step_ratio(student, settings.objective(teacher), subspaces, device, progress)
    return [
        Row(
            case=f"{name}, {IMAGES} images of 32 pixels",
            metric="spectra of all features over the forward pass alone, CPU time",
            value=statistics.median(p / a for p, a in zip(passes, alone, strict=True)),
            unit="x",
        ),
        Row(case=name, metric="covariances of all groups, whatever the number of images", value=held, unit="bytes"),
        at_most(
            f"{name} at half its MACs, batch {BATCH}",
            "subspace distillation step over plain distillation step",
            ratio,
            "x",
            1.3,
        ),
    ]


def _stream(device: torch.device) -> ImageStream:
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    return ImageStream(Split(images, None), Preprocess(scale=1 / 255), batch_size=BATCH, device=device)


def _forward_seconds(network: GraphNetwork, device: torch.device) -> float:
    began = time.process_time()
    with torch.inference_mode():
        for x, _ in _stream(device).batches(0):
            network(x)
    return time.process_time() - began
