"""What a training minimises: callables ``(network, x, y) -> {"loss", "output"}``.

The loop knows nothing of teachers; a distillation is one more objective (the shape that timm and composer use).
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpress.errors import ConfigError, DataError, TrainingError, UnknownNameError
from netpress.graph import GraphNetwork, fold_norms
from netpress.measure.layout import to_channels_last

#: What a stream yields beside ``x``: labels, values to match, (labels, teacher outputs), or nothing.
Targets: TypeAlias = Tensor | tuple[Tensor | None, Tensor] | None

REDUCTIONS = ("batchmean", "mean")


class Objective(Protocol):
    """Anything that runs the network on one batch and says how bad it was.

    ``loss`` is a scalar with a gradient, the mean over the batch; ``output`` (N, ...) is what the network answered.
    """

    def __call__(self, network: nn.Module, x: Tensor, y: Targets, /) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class CrossEntropy:
    """Cross entropy against integer labels (N,)."""

    label_smoothing: float = 0.0

    def __call__(self, network: nn.Module, x: Tensor, y: Targets) -> dict[str, Tensor]:
        labels = _labels(y)
        if labels is None:
            raise DataError(
                "cross entropy needs labels",
                got="data without labels",
                remedy="distil from a teacher with alpha=1, which needs none",
            )
        output = network(x)
        return {"loss": F.cross_entropy(output.float(), labels, label_smoothing=self.label_smoothing), "output": output}


@dataclass(frozen=True)
class MeanSquaredError:
    """Mean of the squared differences between the output and ``y`` of the same shape; (N,) may meet (N, 1)."""

    def __call__(self, network: nn.Module, x: Tensor, y: Targets) -> dict[str, Tensor]:
        output = network(x)
        target = y[1] if isinstance(y, tuple) else y
        return {"loss": _squared_error(output, target), "output": output}


@dataclass(frozen=True)
class Reconstruction:
    """Mean squared error of an autoencoder: the input itself is the target and ``y`` is not looked at."""

    def __call__(self, network: nn.Module, x: Tensor, y: Targets) -> dict[str, Tensor]:
        output = network(x)
        return {"loss": _squared_error(output, x), "output": output}


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor | None,
    *,
    alpha: float,
    temperature: float,
    reduction: str = "batchmean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """α·T²·KL(teacher ‖ student at temperature T) + (1-α)·cross entropy (Hinton et al., arXiv 1503.02531; papers/1).

    The teacher's softened probabilities are the target distribution of ``F.kl_div``. T² keeps the gradient's size when
    T grows.

    Args:
        student: Logits (N, C).
        teacher: Logits (N, C), without gradient.
        labels: (N,), or None when ``alpha`` is 1.
        reduction: ``batchmean`` divides the sum by N. ``mean``, as in the public code of papers/1, divides by N·C as
            well, which makes the term C times too weak beside the cross entropy.

    Raises:
        DataError: No labels although ``alpha`` is below 1, or logits of two widths.
    """
    if student.shape != teacher.shape:
        raise DataError(
            "student and teacher answer in different shapes",
            got=f"{tuple(student.shape)} and {tuple(teacher.shape)}",
            allowed="equal shapes",
        )
    loss = torch.zeros((), device=student.device)
    if alpha > 0:
        log_student = F.log_softmax(student.float() / temperature, dim=1)  # (N, C)
        soft_teacher = F.softmax(teacher.float() / temperature, dim=1)  # (N, C)
        # Summed and divided here: torch has announced another meaning of its reduction="mean".
        terms = student.numel() if reduction == "mean" else len(student)
        loss = alpha * temperature**2 * F.kl_div(log_student, soft_teacher, reduction="sum") / terms
    if alpha < 1:
        if labels is None:
            raise DataError(
                "a distillation with alpha below 1 needs labels",
                got=f"alpha={alpha} and data without labels",
                remedy="set alpha=1, which learns from the teacher alone",
            )
        loss = loss + (1 - alpha) * F.cross_entropy(student.float(), labels, label_smoothing=label_smoothing)
    return loss


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How a teacher teaches: the settings of :class:`Distill`, without the teacher.

    Attributes:
        alpha: Weight of the teacher's answers; 1 - ``alpha`` is the labels'.
        temperature: Softens both sides; above 1 the teacher's small probabilities count for more.
        reduction: See :func:`distillation_loss`.
        label_smoothing: Of the labels' part.
    """

    alpha: float = 0.9
    temperature: float = 4.0
    reduction: str = "batchmean"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ConfigError("distill.alpha is out of range", got=self.alpha, allowed="0 to 1")
        if not 0 < self.temperature < float("inf"):
            raise ConfigError("distill.temperature is out of range", got=self.temperature, allowed="above 0")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                "distill.label_smoothing is out of range", got=self.label_smoothing, allowed="0 or more and below 1"
            )
        if self.reduction not in REDUCTIONS:
            raise UnknownNameError("distill.reduction", str(self.reduction), REDUCTIONS)

    @classmethod
    def preset(cls, name: str) -> Distillation:
        """``default``, or ``published`` as in papers/1, whose ``mean`` makes the term C times too weak for C classes.

        ``published_plan`` gives the learning rates and epochs that belong to ``published``.
        """
        presets = {
            "default": cls(),
            "published": cls(alpha=0.1, temperature=1.0, reduction="mean"),
        }
        if name not in presets:
            raise UnknownNameError("preset of a distillation", name, presets)
        return presets[name]

    def objective(self, teacher: nn.Module) -> Distill:
        """The objective that distils ``teacher``."""
        return Distill(teacher, self)

    def stored(self) -> DistillStored:
        """The objective for a stream that carries the teacher's outputs beside the labels."""
        return DistillStored(self)


class Distill:
    """Distillation of ``teacher`` into the network that is trained; see :func:`distillation_loss`.

    Works on a private copy of the teacher, in eval mode and channels-last order, so that the teacher given keeps its
    bits, its layout and its mode. The copy follows the first batch to its device.

    Raises:
        TrainingError: When called with a network that shares tensors with the teacher, which training would change.
        DataError: See :func:`distillation_loss`.
    """

    def __init__(self, teacher: nn.Module, settings: Distillation | None = None) -> None:
        self.settings = settings or Distillation()
        self._teacher = _FrozenTeacher(teacher)

    def __call__(self, network: nn.Module, x: Tensor, y: Targets) -> dict[str, Tensor]:
        answer = self._teacher(network, x)
        output = network(x)
        labels = None if self.settings.alpha == 1 else _labels(y)
        return {"loss": _distil(output, answer, labels, self.settings), "output": output}

    def __repr__(self) -> str:
        return f"Distill({self.settings!r})"


class MatchOutput:
    """Mean squared error to the outputs of a frozen ``teacher``: a distillation for outputs of any meaning."""

    def __init__(self, teacher: nn.Module) -> None:
        self._teacher = _FrozenTeacher(teacher)

    def __call__(self, network: nn.Module, x: Tensor, y: Targets) -> dict[str, Tensor]:
        answer = self._teacher(network, x)
        output = network(x)
        return {"loss": _squared_error(output, answer), "output": output}

    def __repr__(self) -> str:
        return "MatchOutput()"


@dataclass(frozen=True)
class DistillStored:
    """Distillation from teacher outputs that the stream carries: ``y`` is (labels, logits); see ``FeatureStore``."""

    settings: Distillation = Distillation()

    def __call__(self, network: nn.Module, x: Tensor, y: Targets) -> dict[str, Tensor]:
        if not isinstance(y, tuple):
            raise DataError(
                "a stored distillation needs (labels, teacher outputs) with every batch", got=type(y).__name__
            )
        output = network(x)
        return {"loss": _distil(output, y[1], y[0], self.settings), "output": output}


class _FrozenTeacher:
    """A private copy of a network that only answers."""

    def __init__(self, teacher: nn.Module) -> None:
        self._given = teacher
        self._copy = frozen(teacher)
        self._layout: torch.memory_format = torch.contiguous_format
        self._checked: weakref.ref[nn.Module] | None = None

    def __call__(self, network: nn.Module, x: Tensor) -> Tensor:
        if self._checked is None or self._checked() is not network:
            refuse_shared(network, self._given)
            last = to_channels_last(self._copy.to(x.device), x)
            self._layout = torch.channels_last if last else torch.contiguous_format
            self._checked = weakref.ref(network)
        with torch.no_grad():  # inference_mode would forbid its output as a constant of the student's autograd graph
            return self._copy(x.contiguous(memory_format=self._layout))


def frozen(teacher: nn.Module, *, keep: Collection[int] = ()) -> nn.Module:
    """A private copy of a network that only answers: a traced one without its batch normalisations (see `fold_norms`)."""
    own = fold_norms(teacher, keep=keep) if isinstance(teacher, GraphNetwork) else copy.deepcopy(teacher).eval()
    return own.requires_grad_(False)


def refuse_shared(student: nn.Module, teacher: nn.Module) -> None:
    """Raises TrainingError where a parameter or buffer of both networks lies in the same memory."""
    places = {p: name for name, p in _storages(teacher)}
    for name, place in _storages(student):
        if place in places:
            raise TrainingError(
                "the network to be trained shares tensors with its teacher, which training would change",
                got=f"{name!r} of the network is {places[place]!r} of the teacher",
                remedy="give the network its own tensors: copy.deepcopy(network)",
            )


def _storages(network: nn.Module) -> list[tuple[str, tuple[torch.device, int]]]:
    tensors = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    return [(n, (t.device, t.untyped_storage().data_ptr())) for n, t in tensors if t.numel() > 0]


def _distil(student: Tensor, teacher: Tensor, labels: Tensor | None, settings: Distillation) -> Tensor:
    return distillation_loss(
        student,
        teacher,
        labels,
        alpha=settings.alpha,
        temperature=settings.temperature,
        reduction=settings.reduction,
        label_smoothing=settings.label_smoothing,
    )


def distil_answers(student: Tensor, teacher: Tensor, y: Targets, settings: Distillation | None) -> Tensor:
    """Distillation with labels where ``settings`` want them; without settings the squared error to the teacher's answers."""
    if settings is None:
        return _squared_error(student, teacher)
    return _distil(student, teacher, None if settings.alpha == 1 else _labels(y), settings)


def _labels(y: Targets) -> Tensor | None:
    labels = y[0] if isinstance(y, tuple) else y
    if labels is not None and labels.is_floating_point():
        raise DataError("class labels must be whole numbers", got=str(labels.dtype), allowed="torch.int64")
    return labels


def _squared_error(output: Tensor, target: Tensor | None) -> Tensor:
    if target is None:
        raise DataError("a mean squared error needs values to match", got="data without labels")
    if target.dim() == 1 and output.dim() == 2 and output.shape[1] == 1:
        target = target[:, None]  # (N,) -> (N, 1)
    if target.shape != output.shape:  # broadcasting would quietly compare every output with every target
        raise DataError(
            "outputs and targets differ in shape",
            got=f"{tuple(output.shape)} and {tuple(target.shape)}",
            allowed="equal shapes",
        )
    return F.mse_loss(output.float(), target.float())
