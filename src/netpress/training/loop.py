"""The training loop: everything in netpress that trains goes through :class:`Trainer`.

::

    for epoch in epochs:
        for x, y in stream.batches(epoch, start):      # a pure function of (seed, epoch, batch number)
            seed(run seed, step)                       # dropout: a pure function of (seed, step) too
            lr = plan.rate(step, steps)
            loss = objective(network, x, y)["loss"]
            loss.backward()
            -> after_backward hooks                    # masks on gradients, sums over shared values
            clip gradients
            optimizer.step()
            -> after_step hooks                        # masks on weights, shared values written back
            every 50 steps or second: loss finite? progress
            every 60 s, and when asked to stop: checkpoint
        validate(network)

Nothing random or counted lives outside the checkpoint, so a run that is killed and started again with the same
arguments ends with the same bytes as one that was not. Hooks keep no state of their own; they see (network, step).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from netpress.errors import ConfigError, DataError, TrainingError
from netpress.measure.layout import modes_kept, to_channels_last
from netpress.progress import Progress, SilentProgress, Step
from netpress.training.checkpoint import load_state, read_checkpoint, run_key, write_checkpoint
from netpress.training.interruption import StopRequests
from netpress.training.objectives import Objective, Targets
from netpress.training.plan import TrainingPlan, check_prefixes
from netpress.training.preparation import build_optimizer, training_state
from netpress.training.record import Counters, TrainingRecord

#: Losses stay on the device for this many steps, or for a second; reading one waits for the device.
WINDOW_STEPS = 50
WINDOW_S = 1.0


class Stream(Protocol):
    """Batches to train on: images, stored features, anything."""

    def __len__(self) -> int:
        """Batches an epoch."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Any]]:
        """(x, y) of one epoch from batch number ``start`` on; y as in ``objectives.Targets``."""


class Hook(Protocol):
    """Called with the network and the step's number, from 0; a pure function of both: a checkpoint keeps no hook."""

    def __call__(self, network: nn.Module, step: int, /) -> None: ...


class Trainer:
    """Trains networks in place.

    Args:
        device: Where to train; the network is moved there and stays there.
        seed: Of everything random inside the network, such as dropout.
        progress: Where progress is shown; silent by default.
        checkpoint: File of the running state. Where it exists the run goes on from it, where its run is done the result
            is taken from it; it is kept afterwards: whoever named it deletes it. None keeps no checkpoint.
        checkpoint_every_s: Seconds between checkpoints. SIGINT and SIGTERM write one after the running step, too.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        seed: int = 0,
        progress: Progress | None = None,
        checkpoint: Path | None = None,
        checkpoint_every_s: float = 60.0,
    ) -> None:
        self.device, self.seed = torch.device(device), seed
        self.progress = progress or SilentProgress()
        self.checkpoint = checkpoint
        self.checkpoint_every_s = checkpoint_every_s

    def fit(
        self,
        network: nn.Module,
        stream: Stream,
        plan: TrainingPlan,
        objective: Objective,
        *,
        validate: Callable[[nn.Module], float] | None = None,
        restore_best: bool = False,
        after_backward: Sequence[Hook] = (),
        after_step: Sequence[Hook] = (),
        label: str = "train",
    ) -> TrainingRecord:
        """Trains ``network`` in place; its training flags are put back afterwards.

        Parameters with ``requires_grad=False``, or a factor of 0 in ``plan.lr_scale``, stay as they are.

        Args:
            stream: Batches; see :class:`Stream`.
            objective: Loss of one batch; see ``objectives``.
            validate: Called after each epoch with the network in eval mode; larger is better.
            restore_best: End with the weights of the epoch that ``validate`` liked best, not with the last.
            after_backward: Called in order once gradients are there, before they are clipped.
            after_step: Called in order after the optimizer's step.
            label: For the progress bar.

        Raises:
            DataError: An empty stream, or one that yields fewer batches than its length.
            ConfigError: ``restore_best`` without ``validate``; a prefix in ``lr_scale`` that fits no parameter.
            TrainingError: Nothing to train; a loss that is not finite; a checkpoint of another run or a damaged one.
        """
        if restore_best and validate is None:
            raise ConfigError("restore_best needs a measure of what is best", remedy="give validate=")
        check_prefixes(plan.lr_scale, (name for name, _ in network.named_parameters()))
        if plan.epochs == 0:
            return TrainingRecord()
        if len(stream) == 0:
            raise DataError("there is nothing to train on", got="a stream without batches")
        with training_state(network, plan, self.device), StopRequests(self.checkpoint is not None) as stop:
            run = _Run(self, network, stream, plan, objective, (tuple(after_backward), tuple(after_step)), stop)
            run.start()
            with self.progress.step(label, total=plan.epochs * len(stream)) as bar:
                bar.advance(run.counters.step)
                while not run.done:
                    run.finish_epoch(bar)
                    if validate is not None:
                        run.judge(validate, keep_best=restore_best)
                    if run.done:
                        run.save()
            if restore_best and run.best is not None:
                load_state(network, run.best)
        return run.record(restore_best)


class _Run:
    """One training under way."""

    def __init__(
        self,
        trainer: Trainer,
        network: nn.Module,
        stream: Stream,
        plan: TrainingPlan,
        objective: Objective,
        hooks: tuple[tuple[Hook, ...], tuple[Hook, ...]],
        stop: StopRequests,
    ) -> None:
        self.trainer, self.network, self.stream, self.plan, self.objective = trainer, network, stream, plan, objective
        self.after_backward, self.after_step = hooks
        self.stop = stop
        self.device = trainer.device
        self.optimizer = build_optimizer(network, plan, self.device)
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.steps = plan.epochs * len(stream)
        self.counters = Counters()
        self.best: dict[str, Tensor] | None = None
        self.key = ""
        self.channels_last = False
        self._recent = torch.zeros(WINDOW_STEPS, device=self.device)  # losses of the steps since the last look
        self._right = torch.zeros(WINDOW_STEPS, device=self.device, dtype=torch.int64)
        self._sizes: list[tuple[int, int]] = []  # (samples, labelled samples) of the same steps
        self._clock = self._saved = time.monotonic()

    @property
    def done(self) -> bool:
        return self.counters.epoch == self.plan.epochs

    def start(self) -> None:
        """Settles the memory layout, then takes the state of the checkpoint, where there is one."""
        path = self.trainer.checkpoint
        if path is None and not self.plan.channels_last:
            return
        first = next(iter(self.stream.batches(0, start=0)))
        # Before the optimizer has any state: that takes its parameter's layout.
        self.channels_last = self.plan.channels_last and to_channels_last(self.network, first[0].to(self.device))
        if path is None:
            return
        self.key = run_key(self.network, self.plan, self.objective, self.trainer.seed, len(self.stream), first)
        if path.exists():
            counters, self.best = read_checkpoint(path, self.key, self.network, self.optimizer)
            self.counters = Counters(**counters)
        self._clock = self._saved = time.monotonic()

    def finish_epoch(self, bar: Step) -> None:
        """The steps of the running epoch that are still to do, and its means."""
        state = self.counters
        if state.batch < len(self.stream):
            for x, y in self.stream.batches(state.epoch, start=state.batch):
                self._step(x.to(self.device, non_blocking=True), _moved(y, self.device))
                state.batch += 1
                state.step += 1
                due = self._checkpoint_due()
                if due or len(self._sizes) == WINDOW_STEPS or time.monotonic() - self._clock > WINDOW_S:
                    loss = self._look()
                    bar.advance(1, loss=round(loss, 4), images_per_s=round(state.samples / state.seconds))
                else:
                    bar.advance(1)
                if due:
                    self.save()
        if state.batch != len(self.stream):
            raise DataError(
                "the stream ended early",
                got=f"{state.batch} batches",
                allowed=f"{len(self.stream)}, as its length says",
            )
        self._look()
        self._refuse_broken_weights()
        state.losses.append(state.loss_sum / state.epoch_samples)
        if state.labelled:
            state.accuracies.append(state.correct / state.labelled)
        state.epoch, state.batch = state.epoch + 1, 0
        state.loss_sum, state.epoch_samples, state.correct, state.labelled = 0.0, 0, 0, 0

    def _step(self, x: Tensor, y: Targets) -> None:
        step, plan = self.counters.step, self.plan
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        torch.manual_seed(_step_seed(self.trainer.seed, step))
        rate = plan.rate(step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=plan.precision == "bf16"):
            result = self.objective(self.network, x, y)
        self.optimizer.zero_grad(set_to_none=True)
        result["loss"].backward()
        for hook in self.after_backward:
            hook(self.network, step)
        if plan.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.trained, plan.grad_clip)
        self.optimizer.step()
        for hook in self.after_step:
            hook(self.network, step)
        place = len(self._sizes)
        self._recent[place] = result["loss"].detach()
        labels, output = y[0] if isinstance(y, tuple) else y, result["output"]
        counts = labels is not None and not labels.is_floating_point() and labels.dim() == 1 and output.dim() == 2
        if counts and labels is not None:
            self._right[place] = (output.detach().argmax(1) == labels).sum()
        self._sizes.append((len(x), len(x) if counts else 0))

    def _look(self) -> float:
        """Reads the losses that wait on the device, adds them up, and gives their mean."""
        state, count = self.counters, len(self._sizes)
        losses, right = self._recent[:count].tolist(), self._right[:count].tolist()
        for place, (loss, correct, (samples, labelled)) in enumerate(zip(losses, right, self._sizes, strict=True)):
            if not math.isfinite(loss):
                raise self._diverged("loss", f"{loss}", state.step - count + place)
            state.loss_sum += loss * samples
            state.epoch_samples += samples
            state.samples += samples
            state.correct += correct if labelled else 0
            state.labelled += labelled
        self._sizes.clear()
        now = time.monotonic()
        state.seconds, self._clock = state.seconds + max(now - self._clock, 1e-9), now
        return sum(losses) / max(1, count)

    def _refuse_broken_weights(self) -> None:
        # The last step of an epoch can break what no later loss shows.
        whole = torch.stack([p.detach().isfinite().all() for p in self.trained])
        if not bool(whole.all()):
            broken = {id(p) for p, ok in zip(self.trained, whole.tolist(), strict=True) if not ok}
            names = [name for name, p in self.network.named_parameters() if id(p) in broken]
            raise self._diverged("network's weights", f"{names[0]!r} and {len(names) - 1} more", self.counters.step - 1)

    def _diverged(self, what: str, found: str, step: int) -> TrainingError:
        rate = self.plan.rate(step, self.steps)
        return TrainingError(
            f"training diverged: not finite any more is the {what}",
            got=f"{found} in step {step} of {self.steps} at a learning rate of {rate:.3g}",
            remedy="lower lr, set grad_clip (such as 1.0) or a longer warm_up; look for NaN in the data",
        )

    def judge(self, validate: Callable[[nn.Module], float], *, keep_best: bool) -> None:
        """Validates after an epoch, in eval mode, and keeps the weights when they are the best so far."""
        state = self.counters
        with modes_kept(self.network), torch.no_grad():
            self.network.eval()
            value = float(validate(self.network))
        state.validations.append(value)
        if keep_best and (state.best_epoch is None or value > state.validations[state.best_epoch]):
            state.best_epoch = state.epoch - 1
            self.best = {name: t.detach().clone() for name, t in self.network.state_dict().items()}
        self._clock = time.monotonic()

    def _checkpoint_due(self) -> bool:
        if self.trainer.checkpoint is None:
            return False
        return self.stop.noted is not None or time.monotonic() - self._saved >= self.trainer.checkpoint_every_s

    def save(self) -> None:
        """Writes the checkpoint; then hands on the signal, where one asked to stop."""
        path = self.trainer.checkpoint
        if path is None:
            return
        write_checkpoint(path, self.key, self.network, self.optimizer, dataclasses.asdict(self.counters), self.best)
        self._clock = self._saved = time.monotonic()
        self.stop.deliver()

    def record(self, restored: bool) -> TrainingRecord:
        state = self.counters
        return TrainingRecord(
            epochs=state.epoch,
            steps=state.step,
            samples=state.samples,
            seconds=state.seconds,
            images_per_s=state.samples / state.seconds,
            losses=tuple(state.losses),
            accuracies=tuple(state.accuracies),
            validations=tuple(state.validations),
            best_epoch=state.best_epoch if restored else None,
        )


def _step_seed(seed: int, step: int) -> int:
    # Hashed, since the CPU's generator looks at the low 32 bits only: shifted sums would make some seeds the same.
    return int.from_bytes(hashlib.blake2b(f"{seed} {step}".encode(), digest_size=7).digest(), "little")


def _moved(y: Targets, device: torch.device) -> Targets:
    if isinstance(y, tuple):
        first, second = y
        return (None if first is None else first.to(device, non_blocking=True)), second.to(device, non_blocking=True)
    return None if y is None else y.to(device, non_blocking=True)
