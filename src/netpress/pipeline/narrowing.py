"""What the methods that take channels away have in common.

::

    channels           traced, tied, counted                        (structure)
    scores             the method's own part: what each channel is worth
    widths             the channels that the budget leaves, exactly (widths)
    slice              smaller tensors, a plain module
    recalibrate        statistics of batch normalisations, from data
    training           of the whole network, by the pipeline
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from netpress import artifact
from netpress.errors import BudgetError, ConfigError, UnknownNameError
from netpress.graph import GraphNetwork
from netpress.measure import time_one
from netpress.pipeline.blocks import find_blocks
from netpress.pipeline.job import Job
from netpress.pipeline.method import Method
from netpress.pipeline.narrowed import Narrowed
from netpress.pipeline.recalibrate import recalibrate
from netpress.pipeline.reconstruct import reconstruct
from netpress.pipeline.widths import Bound, Scores, Widths
from netpress.structure import Channels, Costs, Keep, slice_network

MOST_TRIALS = 8  # of widths whose bytes or latency only a file or a clock can tell
COUNTED = ("params", "macs")
CLASS_BYTES, METADATA_BYTES = 24, 256  # room in the file for the name of a class, and for recipe, seed and budget


#: Time of the smaller network over the original's above which it is not called faster.
NO_GAIN = 0.95


def without_gain(ratio: float, methods: Sequence[Method]) -> str | None:
    """What to say of a network that takes ``ratio`` of the original's time: None where that is a gain."""
    if ratio <= NO_GAIN:
        return None
    said = f"no speed gained here: the smaller network takes {ratio:.2f} x the original's time"
    if any(isinstance(method, ChannelMethod) and method.multiple == 1 for method in methods):
        said += "; kernels compute channels in blocks, so widths that are multiples of 8 may be faster (multiple: 8)"
    return said


@dataclass(frozen=True, kw_only=True)
class ChannelMethod(Method):
    """A method that takes channels away until the budget holds.

    Attributes:
        whole: Layers that keep all of their channels, by dotted name or by the beginning of several.
        blocks: Bounds of parts of the network, beside the budget of the whole: by a module's dotted name the share of the budget's
            metric (of its MACs where there is no budget) that it may keep, such as ``{layer1: .5, layer2: .3}``.
        least: Channels that every group keeps.
        multiple: Widths that were changed are multiples of it; 8 suits most hardware.
        reconstruct: Training images from which layers learn, by least squares, what they gave before; 0 leaves the weights as cut.
        recalibrate: Training images from which batch normalisations find their statistics after the cut; 0 leaves the old ones.
    """

    whole: tuple[str, ...] = ()
    blocks: Mapping[str, float] = field(default_factory=dict, hash=False)
    least: int = 1
    multiple: int = 1
    reconstruct: int = 1024
    recalibrate: int = 4096

    def __post_init__(self) -> None:
        for name in ("least", "multiple"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is out of range", got=getattr(self, name), allowed="1 or more")
        for name in ("reconstruct", "recalibrate"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is out of range", got=getattr(self, name), allowed="0 or more images")
        for name, share in self.blocks.items():
            if not isinstance(name, str) or not isinstance(share, int | float) or not 0 < share <= 1:
                raise ConfigError(
                    "blocks has a wrong entry",
                    got=repr({name: share}),
                    allowed="a module's name: a share above 0, at most 1",
                )

    @property
    def by_block(self) -> bool:
        """Whether every block of the network, as it is found, keeps the same share of its own cost."""
        return False

    @property
    def decides(self) -> bool:
        """Whether scores below 0 say what goes, so that no budget is needed."""
        return False

    @abstractmethod
    def scores(self, channels: Channels, job: Job) -> Scores:
        """What each channel is worth, by group: (size,) each. Only the order counts; below 0 a channel goes whatever the budget."""

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        narrowed = self.narrowed(network, job)
        self.finish(narrowed, job)
        return narrowed.network

    def narrowed(self, network: GraphNetwork, job: Job) -> Narrowed:
        """The widths that the budget leaves, cut out; nothing is trained after the cut.

        Raises:
            BudgetError: A bound cannot be met, or there is none.
            UnknownNameError: A name in ``whole`` or ``blocks`` that no module has.
        """
        channels = Channels(network, self.whole)
        if not channels.groups:
            raise BudgetError(
                "the network has no channels that could be taken away",
                got="; ".join(f"{name}: {reason}" for name, reason in list(channels.kept_whole.items())[:5])
                or "no layers",
                remedy="use a method that changes values (prune, share)",
            )
        costs = Costs(channels)
        bounds = self.bounds(network, costs, job)
        widths = Widths(costs, least=self.least, multiple=self.multiple)
        scores = self.scores(channels, job)
        keep = _Fit(network, channels, widths, scores, self.cost_power, job).within(bounds)
        _say_whole(channels, job)
        return Narrowed(slice_network(channels, keep), channels, keep)

    def finish(self, narrowed: Narrowed, job: Job, *, say: bool = True) -> None:
        """Makes good in place what can be made good without training, and says what that did."""
        network = narrowed.network.to(job.device)

        def score() -> str | None:
            return _score(network, job) if say else None

        said = [("as cut", score())]
        if self.reconstruct and reconstruct(narrowed, job, samples=self.reconstruct):
            said.append(("after least squares", score()))
        if self.recalibrate and recalibrate(network, job, samples=self.recalibrate):
            said.append(("with statistics re-estimated", score()))
        if said[0][1] is not None:
            steps = ", ".join(f"{text} {what}" for what, text in said)
            job.progress.say(f"on held-out images, before any training: {steps}")

    @property
    def cost_power(self) -> float:
        """How far channels are compared by worth for cost; ``by_cost`` of ``Widths.fit``."""
        return 0.0

    def bounds(self, network: GraphNetwork, costs: Costs, job: Job) -> list[Bound]:
        """The counted bounds: of the parts that ``blocks`` names, then of the whole.

        Raises:
            BudgetError: There is nothing to be met.
            UnknownNameError: A name in ``blocks`` that no module has.
        """
        metric = next((m for m in (*COUNTED, "bytes") if m in job.bounds), "macs")
        modules = {name for name, _ in network.named_modules()} - {""}
        bounds = []
        for name, share in self.blocks.items():
            if name not in modules:
                raise UnknownNameError("module in blocks", name, modules)
            bounds.append(Bound(metric=metric, most=share * costs.at(metric, costs.full, (name,)), within=(name,)))
        whole = [Bound(metric=m, most=job.bounds[m]) for m in COUNTED if m in job.bounds]
        bounds += [*(_even(network, costs, whole) if self.by_block else ()), *whole]
        if not bounds and not self.decides and not {"bytes", "latency_ms"} & set(job.bounds):
            raise BudgetError(
                "a method that takes channels away needs to know how many",
                got="no budget",
                allowed="macs, params, bytes, latency_ms, each absolute or a share",
                remedy="give --budget macs=50%",
            )
        return bounds


def _even(network: GraphNetwork, costs: Costs, whole: Sequence[Bound]) -> Iterator[Bound]:
    """For each bound of the whole network one of each block: the same share of what the block costs."""
    fewest = np.ones_like(costs.full)
    for bound in whole:
        share = bound.most / costs.at(bound.metric, costs.full)
        for block in find_blocks(network):
            full, least = (costs.at(bound.metric, n, block.modules) for n in (costs.full, fewest))
            yield Bound(metric=bound.metric, most=max(share * full, least), within=block.modules)


@dataclass(frozen=True)
class _Fit:
    """Widths under counted bounds, and, around them, under those that only a file or a clock can decide."""

    network: GraphNetwork
    channels: Channels
    widths: Widths
    scores: Scores
    by_cost: float
    job: Job

    def within(self, bounds: Sequence[Bound]) -> dict[str, NDArray[np.bool_]]:
        bounds = list(bounds)
        if "bytes" in self.job.bounds:
            bounds.append(self._bytes(bounds))
        keep = self.widths.fit(self.scores, bounds, by_cost=self.by_cost)
        if "latency_ms" in self.job.bounds:
            keep = self._fast_enough(bounds, keep)
        return keep

    def _bytes(self, bounds: Sequence[Bound]) -> Bound:
        """The bytes that tensors may take so that the file keeps its bound; what the file says besides is found by writing it."""
        most = self.job.bounds["bytes"]
        costs = self.widths.costs
        full = {name: np.ones(int(size), bool) for name, size in zip(costs.names, costs.full, strict=True)}
        tensors = most - (self._file_bytes(full) - costs.at("bytes", costs.full))
        smallest = costs.at("bytes", self.widths.smallest)
        for _ in range(MOST_TRIALS):
            bound = Bound(metric="bytes", most=max(tensors, smallest))
            keep = self.widths.fit(self.scores, [*bounds, bound], by_cost=self.by_cost)
            size = self._file_bytes(keep)
            if size <= most:
                return bound
            if costs.at("bytes", self._counts(keep)) == smallest:
                break
            tensors = bound.most - (size - most)
        raise BudgetError(
            "the budget cannot be met by taking channels away",
            got=f"the file has up to {size:,} bytes with the fewest channels",
            allowed=f"bytes <= {most:,.0f}",
            remedy="allow more, let more layers shrink (whole, least, multiple), or add a method that chooses values (share)",
        )

    def _file_bytes(self, keep: Keep) -> int:
        """Bytes of the file with these channels, at most: with weights of noise, which no codec makes smaller, and with room for
        the words that stand beside the network."""
        sliced = slice_network(self.channels, keep)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for tensor in (*sliced.parameters(), *sliced.buffers()):
                if tensor.is_floating_point():
                    tensor.copy_(torch.randn(tensor.shape, generator=generator))
        words = len(str(self.job.preprocess.as_dict())) + CLASS_BYTES * self.job.outputs + METADATA_BYTES
        return artifact.size(sliced) + words

    def _fast_enough(self, bounds: Sequence[Bound], keep: dict[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
        """The most MACs found, by bisection, whose measured latency keeps the bound."""
        most = self.job.bounds["latency_ms"]
        costs = self.widths.costs
        high = costs.macs(self._counts(keep))
        if self._latency(keep) <= most:
            return keep
        low = costs.macs(self.widths.smallest)
        best, fastest = None, float("inf")
        for trial in range(MOST_TRIALS):
            middle = low if trial == 0 else (low + high) // 2  # the narrowest first: it tells whether there is any use
            keep = self.widths.fit(self.scores, [*bounds, Bound(metric="macs", most=middle)], by_cost=self.by_cost)
            found = self._latency(keep)
            fastest = min(fastest, found)
            if found <= most:
                low, best = middle, keep
            elif trial == 0:
                break
            else:
                high = middle
        if best is None:
            raise BudgetError(
                "the budget cannot be met by taking channels away",
                got=f"latency_ms is {fastest:.3g} with the fewest channels, on this machine",
                allowed=f"latency_ms <= {most:.3g}",
                remedy="allow more, or use a method that removes layers",
            )
        return best

    def _latency(self, keep: Keep) -> float:
        sliced = slice_network(self.channels, keep).to("cpu")
        return time_one(sliced, sliced.input_shape, input_dtype=sliced.input_dtype).median

    def _counts(self, keep: Keep) -> NDArray[np.int64]:
        return np.array([np.count_nonzero(keep[name]) for name in self.widths.costs.names], np.int64)


def _say_whole(channels: Channels, job: Job) -> None:
    told = list(channels.kept_whole.items())
    if told:
        more = f" and {len(told) - 3} more" if len(told) > 3 else ""
        job.progress.say("kept whole: " + "; ".join(f"{name} ({reason})" for name, reason in told[:3]) + more)


def _score(network: nn.Module, job: Job) -> str | None:
    """In words; None without labels."""
    if job.held_out.labels is None:
        return None
    score = job.score(network)
    return f"{100 * score:.2f} %" if job.task == "classification" else f"squared error {-score:.4g}"
