"""Finding and cutting channels, what a narrower network gains in time, and what block-wise distillation costs a step."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from netpress import zoo
from netpress.bench import Row, at_most
from netpress.bench._steps import BATCH, step_ratio
from netpress.graph import GraphNetwork, trace
from netpress.measure import latency
from netpress.pipeline.blocks import find_blocks
from netpress.pipeline.channel_scores import magnitudes
from netpress.pipeline.widths import Bound, Widths, uniform
from netpress.progress import Progress
from netpress.structure import Channels, Costs, Keep, slice_network
from netpress.training import Distillation, DistillBlocks, Match

SUMMARY = "channel groups and slicing of ResNet-50, latency at half the MACs, a step of block-wise distillation"

LARGE, LARGE_SHAPE = "resnet50", (3, 224, 224)
TIMED = (("vgg16_bn", (3, 32, 32)), ("resnet20", (3, 32, 32)), ("resnet50", (3, 224, 224)))
STEP_NETWORK = "resnet20"
REPEATS = 5


def rows(*, threads: int, device: str, progress: Progress) -> list[Row]:
    """All rows of the topic."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [
            *_cutting_rows(progress),
            *_latency_rows(threads, progress),
            *_step_rows(torch.device(device), progress),
        ]
    finally:
        torch.set_num_threads(before)


def traced(name: str, shape: tuple[int, ...]) -> GraphNetwork:
    """A network of the zoo with random weights, in eval mode."""
    return trace(zoo.build(name, seed=0).eval(), torch.rand(2, *shape)).eval()


def halved(channels: Channels) -> Keep:
    """What is kept at half the MACs, every layer narrowed by one share."""
    costs = Costs(channels)
    bound = Bound(metric="macs", most=costs.macs(costs.full) // 2)
    return Widths(costs).fit(uniform(magnitudes(channels, 2)), [bound])


def _cutting_rows(progress: Progress) -> list[Row]:
    net = traced(LARGE, LARGE_SHAPE)
    keep = halved(Channels(net))  # also warms up
    found: list[float] = []
    cut: list[float] = []
    with progress.step("channels", total=REPEATS) as bar:
        for _ in range(REPEATS):
            began = time.process_time()
            channels = Channels(net)
            between = time.process_time()
            slice_network(channels, keep)
            cut.append(time.process_time() - between)
            found.append(between - began)
            bar.advance()
    both = [a + b for a, b in zip(found, cut, strict=True)]
    return [
        Row(case=LARGE, metric="channel groups found, CPU time, median", value=statistics.median(found), unit="s"),
        Row(case=LARGE, metric="sliced, CPU time, median", value=statistics.median(cut), unit="s"),
        at_most(LARGE, "found and sliced, CPU time, median", statistics.median(both), "s", 0.5),
    ]


def _latency_rows(threads: int, progress: Progress) -> list[Row]:
    out = []
    for name, shape in TIMED:
        progress.say(f"latency of {name} at half its MACs")
        net = traced(name, shape)
        channels = Channels(net)
        small = slice_network(channels, halved(channels)).eval()
        times = latency({"original": net, "sliced": small}, shape, threads=threads)
        case = f"{name}, batch 1, torch on cpu"
        out += [
            Row(case=case, metric="original, median", value=times["original"].median, unit="ms"),
            Row(case=case, metric="sliced to half its MACs, median", value=times["sliced"].median, unit="ms"),
            Row(case=case, metric="sliced over original", value=times["sliced"].ratio(times["original"]), unit="x"),
        ]
    return out


def _step_rows(device: torch.device, progress: Progress) -> list[Row]:
    teacher = traced(STEP_NETWORK, (3, 32, 32)).to(device)
    channels = Channels(teacher)
    keep = halved(channels)
    student = slice_network(channels, keep).to(device)
    alive = channels.alive(keep)
    matches = [
        Match(block.node, tuple(np.flatnonzero(alive[channels.flow.of(block.node + 1)[0]].reshape(-1)).tolist()))
        for block in find_blocks(teacher)[:-1]
    ]
    settings = Distillation()
    plain, blocks = settings.objective(teacher), DistillBlocks(teacher, matches, settings)
    ratio = step_ratio(student, plain, blocks, device, progress)
    case = f"{STEP_NETWORK} at half its MACs, batch {BATCH}"
    return [at_most(case, "block-wise distillation step over plain distillation step", ratio, "x", 1.35)]
