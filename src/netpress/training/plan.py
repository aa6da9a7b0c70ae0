"""How a network is trained, as a value: which optimizer, how fast, how long."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from netpress.data.augment import AUGMENTATIONS
from netpress.errors import ConfigError, UnknownNameError

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "one_cycle")
PRECISIONS = ("float32", "bf16")

#: Where ``one_cycle`` starts, as a share of ``lr`` (Smith and Topin, arXiv 1708.07120; the usual divisor of 25).
ONE_CYCLE_START = 1 / 25


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Everything about a training that is neither data nor loss.

    Attributes:
        epochs: Passes over the stream; 0 trains nothing.
        batch_size: For whoever makes the stream; the loop takes the batches as they come.
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        lr: Highest learning rate.
        momentum: Of ``sgd``; the first beta of the others.
        nesterov: Of ``sgd`` only.
        weight_decay: On parameters with two axes or more; biases and the scales of normalisation stay free.
        schedule: ``constant``, ``cosine`` (to 0) or ``one_cycle`` (up from ``lr`` / 25, then to 0; half cosines).
        warm_up: Share of all steps in which the rate rises; None: .3 for ``one_cycle``, else 0.
        augment: For whoever makes the stream; the names are those of ``netpress.data``.
        lr_scale: Factor on the rate by dotted prefix of the parameter's name; the longest prefix counts, ``""`` stands
            for all. A part with factor 0 is left exactly as it is: no gradients, no updates, and in eval mode, so that
            the statistics of its batch normalisations stay too.
        label_smoothing: For whoever makes the objective.
        grad_clip: Highest norm of all gradients together; None does not clip.
        channels_last: Keep images and 4-d parameters in channels-last order while training, if the network can run so.
        precision: ``float32``, or ``bf16`` for autocast (worth it on a GPU only).

    Raises:
        ConfigError: A value of the wrong type or out of range.
    """

    epochs: int = 1
    batch_size: int = 128
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "constant"
    warm_up: float | None = None
    augment: str = "none"
    lr_scale: Mapping[str, float] = field(default_factory=dict)
    label_smoothing: float = 0.0
    grad_clip: float | None = None
    channels_last: bool = True
    precision: str = "float32"

    def __post_init__(self) -> None:
        _whole(self, "epochs", least=0)
        _whole(self, "batch_size", least=1)
        _one_of(self, "optimizer", OPTIMIZERS)
        _one_of(self, "schedule", SCHEDULES)
        _one_of(self, "precision", PRECISIONS)
        _number(self, "lr", lambda v: v > 0, "above 0")
        _number(self, "momentum", lambda v: 0 <= v < 1, "0 or more and below 1")
        _number(self, "weight_decay", lambda v: v >= 0, "0 or more")
        _number(self, "label_smoothing", lambda v: 0 <= v < 1, "0 or more and below 1")
        _number(self, "warm_up", lambda v: 0 <= v < 1, "0 or more and below 1, or None", optional=True)
        _number(self, "grad_clip", lambda v: v > 0, "above 0, or None", optional=True)
        for name in ("nesterov", "channels_last"):
            if not isinstance(getattr(self, name), bool):
                _refuse(name, getattr(self, name), "true or false")
        _one_of(self, "augment", AUGMENTATIONS)
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ConfigError(
                "training.nesterov needs sgd with momentum",
                got=f"optimizer={self.optimizer!r}, momentum={self.momentum}",
                remedy="set nesterov=false, or optimizer='sgd' and a momentum above 0",
            )
        object.__setattr__(self, "lr_scale", _checked_scale(self.lr_scale))

    def as_dict(self) -> dict[str, Any]:
        """Every field as JSON knows it; ``from_dict`` gives an equal plan back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingPlan:
        """A plan from a mapping; fields that are missing take their defaults.

        Raises:
            UnknownNameError: A field that does not exist; the text names the nearest.
            ConfigError: A value of the wrong type or out of range.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise UnknownNameError("field of a training plan", str(name), names)
        return cls(**values)

    def rate(self, step: int, total: int) -> float:
        """Learning rate of step ``step`` (from 0) of ``total``: ``lr`` times ``schedule_factor``."""
        return self.lr * schedule_factor(self.schedule, step, total, self.warm_up)


def schedule_factor(schedule: str, step: int, total: int, warm_up: float | None = None) -> float:
    """Share of the highest rate at step ``step`` of ``total``; a pure function, so that a resumed run needs no state.

    With w = warm-up steps, the rate rises over steps 0..w-1 (linearly to 1, or by half a cosine from 1/25 for
    ``one_cycle``), is 1 at step w, and falls by half a cosine towards 0, which step ``total`` would reach.
    """
    share = warm_up if warm_up is not None else (0.3 if schedule == "one_cycle" else 0.0)
    rising = int(share * total)
    if step < rising:
        if schedule == "one_cycle":
            return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * (1 - math.cos(math.pi * step / rising)) / 2
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - rising) / max(1, total - rising))) / 2


def scale_of(name: str, lr_scale: Mapping[str, float]) -> float:
    """The factor of the longest dotted prefix of ``name`` in ``lr_scale``; 1 where there is none."""
    fitting = [prefix for prefix in lr_scale if _is_prefix(prefix, name)]
    return lr_scale[max(fitting, key=len)] if fitting else 1.0


def check_prefixes(lr_scale: Mapping[str, float], names: Iterable[str]) -> None:
    """Raises UnknownNameError where a prefix fits none of the parameter names."""
    names = list(names)
    for prefix in lr_scale:
        if not any(_is_prefix(prefix, name) for name in names):
            parts = {".".join(n.split(".")[:k]) for n in names for k in range(1, n.count(".") + 2)}
            raise UnknownNameError("prefix of a parameter's name in lr_scale", prefix, parts)


def published_plan(reduced: Iterable[str], *, batch_size: int = 128) -> TrainingPlan:
    """The distillation training of papers/1: Adam, 1e-4 for the pre-model, 1e-5 for what replaced the rest, 10 epochs.

    Args:
        reduced: Dotted prefixes of the projection and the input-output map.
    """
    return TrainingPlan(
        epochs=10,
        batch_size=batch_size,
        optimizer="adam",
        lr=1e-4,
        augment="crop_flip",
        lr_scale=dict.fromkeys(reduced, 0.1),
    )


def _is_prefix(prefix: str, name: str) -> bool:
    return prefix == "" or name == prefix or name.startswith(prefix + ".")


def _checked_scale(scale: Any) -> dict[str, float]:
    if not isinstance(scale, Mapping):
        _refuse("lr_scale", scale, "a mapping from a parameter-name prefix to a factor")
    checked = {}
    for prefix, factor in scale.items():
        if not isinstance(prefix, str) or not _is_number(factor) or not 0 <= factor < math.inf:
            _refuse("lr_scale", {prefix: factor}, "a name prefix with a finite factor of 0 or more")
        checked[prefix] = float(factor)
    return checked


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(plan: TrainingPlan, name: str, *, least: int) -> None:
    value = getattr(plan, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        _refuse(name, value, f"a whole number of {least} or more")


def _number(plan: TrainingPlan, name: str, fits: Any, allowed: str, *, optional: bool = False) -> None:
    value = getattr(plan, name)
    if optional and value is None:
        return
    if not _is_number(value) or not math.isfinite(value) or not fits(value):
        _refuse(name, value, allowed)
    object.__setattr__(plan, name, float(value))


def _one_of(plan: TrainingPlan, name: str, names: tuple[str, ...]) -> None:
    value = getattr(plan, name)
    if value not in names:
        raise UnknownNameError(f"training.{name}", str(value), names)


def _refuse(name: str, value: Any, allowed: str) -> None:
    raise ConfigError(f"training.{name} has a wrong value", got=f"{value!r}", allowed=allowed)
