"""Blockwise: a compact structure under an exact budget, learned block by block from the original."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from torch import nn

from netpress.errors import ConfigError
from netpress.graph import GraphNetwork
from netpress.pipeline.blocks import find_blocks
from netpress.pipeline.channel_scores import fisher, magnitudes, scales, streams
from netpress.pipeline.job import Job
from netpress.pipeline.narrowed import Narrowed, answer_distance
from netpress.pipeline.narrowing import ChannelMethod
from netpress.pipeline.pressure import Pressure
from netpress.pipeline.spectra import explained
from netpress.pipeline.widths import Scores
from netpress.progress import SilentProgress
from netpress.structure import Channels, Costs
from netpress.training import Distill, DistillBlocks, Match, Objective

Score = Literal["auto", "l1", "l2", "bn", "fisher", "explained"]
Streams = Literal["cut", "last"]
SCORES, STREAMS = get_args(Score), get_args(Streams)
#: Score, power of the cost, streams: what ``auto`` tries, for none of them is the best for every network and budget.
TRIED: tuple[tuple[Score, float, Streams], ...] = (
    ("l1", 0.0, "cut"),
    ("l2", 0.0, "cut"),
    ("explained", 0.0, "cut"),
    ("l1", 0.1, "cut"),
    ("l1", 0.25, "last"),
    ("l1", 0.1, "last"),
    ("l1", 0.4, "last"),
)
TRIAL_IMAGES = 512  # of least squares in a trial
LAST = 1e9  # added to the scores of streams that go last
SAMPLES = 2048  # images for ``explained``


@dataclass(frozen=True, kw_only=True)
class Blockwise(ChannelMethod):
    """Takes channels away under a budget, for the whole network or for each block, and distils the blocks as well as the answers.

    Idea: each block of the narrow network should give what the original's block gives, for the channels that it still has. The
    scales of batch normalisations are pressed by what their channels cost, as long as the budget is not met (``search``); the
    channels that matter least are cut out; what is left learns by least squares, then from the original's answers and blocks.
    Loss: (1-α)·CE + α·T²·KL(teacher ‖ student) + match · mean over blocks of the relative squared error.
    Helps: where half of the multiplications must go at no loss; blocks are the stages between which the size of the image changes.
    Fails: without a teacher that is worth imitating; on networks of one block it is ``magnitude`` with distillation.
    Source: inspired by Ahmed et al., ICPR 2020, arXiv 2104.09191; the terms are ours.

    Attributes:
        score: Of channels, after the search: ``l1``, ``l2`` (norms of weights), ``bn`` (scales), ``fisher`` (what answers would lose),
            ``explained`` (what they add to the features), or ``auto``: tries some of these, with several of the next two
            settings, and takes the cut that, after least squares, answers most like the original on held-out images.
        by_cost: Divides scores by cost to this power, 0 to 1: a channel that saves more goes earlier.
        streams: ``last`` takes channels of residual streams only when nothing else is left to take; ``cut`` takes them as others.
        scope: ``global`` spends the budget where it is worth most; ``block`` gives every block the same share of its own cost.
        search: Epochs under pressure before the cut; 0 cuts the network as it is.
        pressure: Strength of the pressure: the gradient of a scale that is added at the largest violation.
        match: Weight of the blocks' part of the loss; 0 distils the answers alone.
    """

    score: Score = "auto"
    by_cost: float = 0.0
    streams: Streams = "cut"
    scope: Literal["global", "block"] = "global"
    search: int = 0
    pressure: float = 1e-3
    match: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score not in SCORES:
            raise ConfigError("unknown score", got=repr(self.score), allowed=", ".join(SCORES))
        if self.streams not in STREAMS:
            raise ConfigError("unknown streams", got=repr(self.streams), allowed=", ".join(STREAMS))
        if not 0 <= self.by_cost <= 1:
            raise ConfigError("by_cost is out of range", got=self.by_cost, allowed="0 to 1")
        if self.scope not in ("global", "block"):
            raise ConfigError("unknown scope", got=repr(self.scope), allowed="global, block")
        if self.search < 0 or self.pressure < 0 or self.match < 0:
            raise ConfigError(
                "search, pressure or match is out of range",
                got=f"{self.search}, {self.pressure}, {self.match}",
                allowed="0 or more",
            )

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        if self.search:
            self._search(network, job)
        narrowed = self._best(network, job)
        # after another cut, numbers of channels are no longer those of the original's channels
        matches = _matches(narrowed) if _as_wide(network, job.teacher) else []
        kept = {str(m.node): [m.axis, list(m.channels)] for m in matches}
        (job.scratch / "matches.json").write_text(json.dumps(kept), encoding="utf-8")
        return narrowed.network

    def objective(self, network: GraphNetwork, job: Job) -> Objective | None:
        plain = job.objective
        if not self.match or not isinstance(plain, Distill) or len(network.nodes) != len(job.teacher.nodes):
            return None
        kept = json.loads((job.scratch / "matches.json").read_text(encoding="utf-8"))
        matches = [Match(int(node), tuple(channels), axis) for node, (axis, channels) in kept.items()]
        if not matches:
            return None
        return DistillBlocks(job.teacher, matches, plain.settings, weight=self.match)

    def scores(self, channels: Channels, job: Job) -> Scores:
        if self.score == "fisher":
            found = fisher(channels, job)
        elif self.score == "explained":
            channels.net.to(job.device)
            stream = job.stream(batch_size=128, shuffle=True)
            found = explained(channels, stream, samples=SAMPLES, progress=job.progress)
        elif self.score == "bn":
            found = scales(channels)
        else:
            found = magnitudes(channels, 2 if self.score == "l2" else 1)
        last = streams(channels) if self.streams == "last" else frozenset()
        return {name: values + LAST if name in last else values for name, values in found.items()}

    @property
    def cost_power(self) -> float:
        return self.by_cost

    @property
    def by_block(self) -> bool:
        return self.scope == "block"

    def _best(self, network: GraphNetwork, job: Job) -> Narrowed:
        """Cut out as the settings say, or as the best of those in ``TRIED`` do, and made good without training."""
        if self.score != "auto":
            return self._cut(network, job)
        found: list[tuple[float, Blockwise]] = []
        seen: set[bytes] = set()
        quiet = dataclasses.replace(job, progress=SilentProgress())
        with job.progress.step("cuts", total=len(TRIED)) as bar:
            for score, by_cost, how in TRIED:
                chosen = dataclasses.replace(self, score=score, by_cost=by_cost, streams=how)
                # least squares set the statistics of norms, too
                few, again = min(self.reconstruct, TRIAL_IMAGES), 0 if self.reconstruct else self.recalibrate
                trial = dataclasses.replace(chosen, reconstruct=few, recalibrate=again)
                narrowed = trial.narrowed(network, quiet)
                kept = b"".join(np.packbits(keep).tobytes() for keep in narrowed.keep.values())
                if kept not in seen:
                    seen.add(kept)
                    trial.finish(narrowed, quiet, say=False)
                    found.append((answer_distance(narrowed.network, job), chosen))
                bar.advance()
        away, best = min(found, key=lambda one: one[0])
        job.progress.say(
            f"of {len(found)} cuts the one by {best.score}, by_cost {best.by_cost:g}, streams {best.streams} answers most like the "
            f"original on held-out images ({away:.3g}; others {', '.join(f'{d:.3g}' for d, m in found if m is not best)})"
        )
        return best._cut(network, job)

    def _cut(self, network: GraphNetwork, job: Job) -> Narrowed:
        narrowed = self.narrowed(network, job)
        self.finish(narrowed, job)
        return narrowed

    def _search(self, network: GraphNetwork, job: Job) -> None:
        channels = Channels(network, self.whole)
        costs = Costs(channels)
        pressure = Pressure.of(channels, costs, self.bounds(network, costs, job), self.pressure, job.steps(self.search))
        objective = job.objective
        if self.match and isinstance(objective, Distill) and _as_wide(network, job.teacher):
            matches = _matches(Narrowed(network, channels, channels.everything()))
            objective = DistillBlocks(job.teacher, matches, objective.settings, weight=self.match)
        dataclasses.replace(job, objective=objective).retrain(
            network, label="search", epochs=self.search, constraints=[pressure], restore_best=False
        )
        network.eval()


def _as_wide(network: GraphNetwork, teacher: GraphNetwork) -> bool:
    return [p.shape for p in network.parameters()] == [p.shape for p in teacher.parameters()]


def _matches(narrowed: Narrowed) -> list[Match]:
    """Where blocks end, and which of the wide network's channels are left there; the last block's end is the answer itself."""
    channels, alive = narrowed.channels, narrowed.alive
    matches = []
    for block in find_blocks(channels.net)[:-1]:
        shape = channels.flow.shape(block.node + 1)
        axis = 1 if len(shape) != 3 else 2
        kept = np.ones(shape[axis], bool)
        for labels in channels.flow.of(block.node + 1):
            if labels.shape[axis] > 1:
                kept = alive[labels].reshape(-1)
        matches.append(Match(block.node, tuple(np.flatnonzero(kept).tolist()), axis))
    return matches
