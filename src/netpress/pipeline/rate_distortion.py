"""Rate-distortion quantization of a whole network: every tensor on a grid, as coarse as the answers allow and the bytes demand.

::

    batch normalisations in normal form        four vectors become two and two constants
    sensitivities                              what an error of each tensor costs, from images without labels
    one pass for one trade-off                 steps and levels, layer after layer, errors made good (rdo_layerwise)
    search of the trade-off                    until the file's bytes, or the loss on the held-out part, are what was asked for
    with epochs: training on those grids       straight_through; then the vectors are put on theirs
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netpress import artifact
from netpress.errors import BudgetError, ConfigError
from netpress.graph import GraphNetwork
from netpress.kernels import adaptive
from netpress.pipeline.constraints import Constraint, ValuesHeld
from netpress.pipeline.job import Job
from netpress.pipeline.rdo_layerwise import NORMS, Outcome, Pass
from netpress.pipeline.rdo_normalise import normal_form
from netpress.pipeline.rdo_statistics import calibration, sensitivities
from netpress.pipeline.straight_through import Grid, StraightThrough

TYPICAL_COST = 0.03  # nats that all bits of a network may cost where nothing is asked for
VECTORS_COST = 0.001  # nats that biases, scales and shifts may cost after a training
MOST_PASSES = 14
CLOSE = 0.985  # of the bytes that are allowed: near enough
CLOSE_BEFORE_TRAINING = 0.8
ACTIVATION_BYTES = 1 << 30  # that the calibration images may take in one layer, both halves
RAMP = 0.6  # share of a training's steps in which the bits come down
SETTLE = 0.8  # share after which prices stay
LEAST_TRADEOFF, MOST_TRADEOFF = 1e-14, 1e2


@dataclass(frozen=True, kw_only=True)
class RateDistortion:
    """Options of rate-distortion quantization; ``apply`` does it.

    Attributes:
        tradeoff: Nats of the softened answers' divergence that a bit may cost (see ``rdo_statistics``); None searches for it.
        max_loss: Points of accuracy (percent of the squared error for a regression) that may be lost on the held-out part.
        compensate: Whether errors of weights are made good by other weights, by biases and by batch normalisations.
        samples: Calibration images, without labels.
        epochs: Of training on the grids; 0 for none.
        lr: Of that training; None takes the plan's.
        strength: With training: squared steps that a bit is worth, where no bytes are demanded.
        names: Parameters that are quantized; None takes all.
    """

    tradeoff: float | None = None
    max_loss: float | None = None
    compensate: bool = True
    samples: int = 2048
    epochs: int = 0
    lr: float | None = None
    strength: float = 0.06
    names: frozenset[str] | None = None

    def __post_init__(self) -> None:
        given = {"strength": self.strength, "tradeoff": self.tradeoff, "max_loss": self.max_loss, "lr": self.lr}
        for name, value in given.items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is out of range", got=value, allowed="above 0, or None")
        if self.tradeoff is not None and self.max_loss is not None:
            raise ConfigError(
                "tradeoff and max_loss are both given", remedy="give one; max_loss searches for the other"
            )
        if self.samples < 1 or self.epochs < 0:
            raise ConfigError(
                "samples or epochs is out of range",
                got=f"{self.samples}, {self.epochs}",
                allowed="samples >= 1, epochs >= 0",
            )

    def apply(self, network: GraphNetwork, job: Job) -> GraphNetwork:
        """Puts the network's tensors on their grids, in place, after training on them where ``epochs`` says so.

        Raises:
            BudgetError: The bytes cannot be met; the text names the smallest reachable.
            ConfigError: ``max_loss`` without labels to judge by.
        """
        network.eval()
        reference = copy.deepcopy(network)
        normal_form(reference)
        search = _Search.of(self, reference, job)
        if self.epochs == 0:
            outcome = search.outcome()
            normal_form(network)
            outcome.put_into(network)
        else:
            self._train(network, job, search)
        self._report(network, job)
        return network

    def constraints(self, network: nn.Module) -> tuple[Constraint, ...]:
        """Later trainings leave the quantized tensors as they are."""
        return (ValuesHeld(tuple(sorted(self._chosen(network)))),)

    def _chosen(self, network: nn.Module) -> frozenset[str]:
        found = frozenset(name for name, p in network.named_parameters() if p.is_floating_point() and p.numel() > 0)
        return found if self.names is None else found & self.names

    def _train(self, network: GraphNetwork, job: Job, search: _Search) -> None:
        """From the best levels without training on: matrices through straight-through steps, vectors as ever until the end."""
        outcome = search.outcome()
        matrices = [name for name, t in outcome.tensors.items() if len(t.shape) > 1]
        grids = tuple(Grid(name, outcome.tensors[name].step, self.strength) for name in matrices)
        bits = None
        if search.bytes is not None:
            outcome.put_into(search.student)
            matrix_bits = sum(
                adaptive.bits(t.levels.reshape(t.shape)) for t in map(outcome.tensors.__getitem__, matrices)
            )
            besides = artifact.size(search.student) * 8 - matrix_bits
            bits = max(1.0, search.bytes * 8 * CLOSE - besides)
        steps = self.epochs * len(job.stream(batch_size=job.training.batch_size))
        kept = StraightThrough(
            grids,
            ramp=max(1, int(RAMP * steps)),
            bits=bits,
            refresh=max(1, min(50, steps // 100)),
            settle=int(SETTLE * steps),
        )
        kept.prepare(network, {name: outcome.tensors[name].values() for name in matrices})
        with torch.no_grad():  # the biases that go with the levels; normalisations find their statistics themselves
            for name, tensor in outcome.tensors.items():
                if name not in matrices and not isinstance(network.get_submodule(name.rpartition(".")[0]), NORMS):
                    network.get_parameter(name).copy_(tensor.values())
        try:
            job = dataclasses.replace(job, constraints=())  # zeros are kept by the constraint's own list of them
            job.retrain(
                network, label="rate-distortion", epochs=self.epochs, lr=self.lr, constraints=[kept], restore_best=False
            )
        finally:
            kept.release(network)
        network.eval()
        normal_form(network)
        rest = dataclasses.replace(self, names=self._chosen(network) - set(matrices))
        _Search.of(rest, copy.deepcopy(network), job).vectors(outcome.tradeoff).put_into(network)
        if search.bytes is not None and artifact.size(network) > search.bytes:
            again = dataclasses.replace(self, tradeoff=None, epochs=0)
            _Search.of(again, copy.deepcopy(network), job).outcome().put_into(network)

    def _report(self, network: nn.Module, job: Job) -> None:
        for name, parameter in network.named_parameters():
            if name in self._chosen(network) and parameter.dim() > 1:
                job.progress.say(
                    f"{name}: density {float((parameter != 0).float().mean()):.3f}, {len(parameter.detach().unique()):,} values"
                )


@dataclass(eq=False)
class _Search:
    """Passes for one trade-off after the other.

    Attributes:
        reference: The network in normal form; never changed.
        student: A copy that passes write into.
        bytes: That the tensors and the structure may take; None where none are demanded.
    """

    options: RateDistortion
    reference: GraphNetwork
    student: GraphNetwork
    job: Job
    images: Tensor
    sensitivities: dict[str, Tensor]
    bytes: float | None
    smallest: float = math.inf

    @classmethod
    def of(cls, options: RateDistortion, reference: GraphNetwork, job: Job) -> _Search:
        images = calibration(job, _samples(reference, job, options.samples))
        found = sensitivities(reference, images, task=job.task, seed=job.seed)
        bound = job.bounds.get("bytes")
        if bound is not None:  # what the file says besides: preprocessing, classes, metadata
            bound -= len(json.dumps(job.preprocess.as_dict())) + 16 * job.outputs + 96
        return cls(options, reference, copy.deepcopy(reference), job, images, found, bound)

    def at(self, tradeoff: float) -> Outcome:
        """One pass."""
        return Pass(
            self.reference,
            self.sensitivities,
            tradeoff,
            self.options._chosen(self.reference),
            task=self.job.task,
            compensate=self.options.compensate,
        ).run(self.images)

    def outcome(self) -> Outcome:
        """The pass whose trade-off the options or the budget ask for."""
        guess = TYPICAL_COST / max(1, sum(t.numel() for t in self.sensitivities.values()))
        if self.options.tradeoff is not None:
            found = self.at(self.options.tradeoff)
            if self.bytes is None or self.options.epochs > 0 or self._bytes(found) <= self.bytes:
                return found
            return self._within_bytes(self.options.tradeoff)
        if self.bytes is not None:
            return self._within_bytes(guess)
        if self.options.epochs > 0 and self.options.max_loss is None:
            return self.at(guess)
        return self._within_loss(guess, self.options.max_loss if self.options.max_loss is not None else 0.5)

    def vectors(self, tradeoff: float) -> Outcome:
        """The coarsest vectors that the answers hardly notice, all matrices being what they are."""
        found = self.at(tradeoff)
        factor = 4.0 if found.divergence <= VECTORS_COST else 0.25
        for _ in range(MOST_PASSES):
            tradeoff *= factor
            other = self.at(tradeoff)
            if factor > 1 and other.divergence > VECTORS_COST:
                break
            found = other
            if factor < 1 and other.divergence <= VECTORS_COST:
                break
        return found

    def _bytes(self, outcome: Outcome) -> int:
        outcome.put_into(self.student)
        size = artifact.size(self.student)
        self.smallest = min(self.smallest, size)
        self.job.progress.say(f"trade-off {outcome.tradeoff:.2e}: {size:,} bytes, divergence {outcome.divergence:.4f}")
        return size

    def _within_bytes(self, tradeoff: float) -> Outcome:
        """The smallest trade-off found that keeps the bytes: along the slope of the last two, within the bracket."""
        bound = self.bytes if self.bytes is not None else math.inf
        close = CLOSE if self.options.epochs == 0 else CLOSE_BEFORE_TRAINING
        aim = max(0.5 * (1 + close) * bound, 1.0)
        best: Outcome | None = None
        low, high = 0.0, math.inf  # too many bytes at low, few enough at high
        power, last = 2.2, (0.0, 0)  # bytes fall about with the root of the trade-off
        for _ in range(MOST_PASSES):
            found = self.at(tradeoff)
            size = self._bytes(found)
            if size <= bound:
                high, best = tradeoff, found
                if size >= close * bound:
                    break
            else:
                low = tradeoff
            if low >= MOST_TRADEOFF or high <= LEAST_TRADEOFF or (low > 0 and high / low < 1.02):
                break
            if last[1] and size != last[1] and tradeoff != last[0]:
                slope = -math.log(size / last[1]) / math.log(tradeoff / last[0])
                power = 1 / min(1.0, max(0.05, slope))
            last = tradeoff, size
            tradeoff *= min(100.0, max(0.01, (size / aim) ** power))
            if not low < tradeoff < high:
                tradeoff = math.sqrt(low * high) if low > 0 else high / 10
            tradeoff = min(max(tradeoff, LEAST_TRADEOFF), MOST_TRADEOFF)
        if best is None:
            raise BudgetError(
                "the budget cannot be met by quantization",
                got=f"at the coarsest {self.smallest:,} bytes for tensors and structure",
                allowed=f"{bound:,.0f} bytes, descriptions not counted",
                remedy="allow more, or use a method that changes the structure first",
            )
        return best

    def _within_loss(self, tradeoff: float, points: float) -> Outcome:
        """The largest trade-off found that loses no more than ``points`` on the held-out part."""
        lost = self._loss_of()
        kept: tuple[float, Outcome] | None = None
        low, high = LEAST_TRADEOFF, MOST_TRADEOFF
        for _ in range(MOST_PASSES):
            found = self.at(tradeoff)
            found.put_into(self.student)
            loss = lost(self.student)
            self.job.progress.say(
                f"trade-off {tradeoff:.2e}: {found.bits / 8:,.0f} bytes of levels, {loss:.2f} points lost"
            )
            if loss <= points:
                low, kept = tradeoff, (tradeoff, found)
            else:
                high = tradeoff
            if high / low < 1.3:
                break
            if high == MOST_TRADEOFF or low == LEAST_TRADEOFF:
                tradeoff *= 3 if loss <= points else 1 / 3
            else:
                tradeoff = math.sqrt(low * high)
        if kept is None:
            raise BudgetError(
                "no quantization that was tried keeps the loss",
                got=f"{loss:.2f} points lost at a trade-off of {high:.2e}",
                allowed=f"{points} points",
                remedy="allow more, or hold out more images to judge by",
            )
        return kept[1]

    def _loss_of(self) -> Callable[[nn.Module], float]:
        if self.job.held_out.labels is None:
            raise ConfigError(
                "there are no labels to judge a loss by",
                remedy="give tradeoff, or a budget of bytes",
                allowed="labelled data",
            )
        before = self.job.score(self.reference)
        if self.job.task == "classification":
            return lambda network: 100 * (before - self.job.score(network))
        return lambda network: 100 * (self.job.score(network) / min(before, -1e-30) - 1)


def _samples(network: GraphNetwork, job: Job, most: int) -> int:
    """Images for which one layer's values, both halves, stay within the memory that may be taken."""
    largest = 1

    def watch(_: int, value: object) -> None:
        nonlocal largest
        if isinstance(value, Tensor) and len(value):
            largest = max(largest, value.numel() * value.element_size() // len(value))

    with torch.no_grad():
        network.run(job.example().to(job.device), watch)
    return max(1, min(most, len(job.fit), ACTIVATION_BYTES // (2 * largest)))
