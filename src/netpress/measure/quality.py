"""How well a network answers, and whether two networks differ by more than chance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from netpress.data import Preprocess, Split
from netpress.errors import DataError, UnknownNameError
from netpress.measure.concordance import concordance_index
from netpress.measure.layout import modes_kept
from netpress.progress import Progress, SilentProgress

METRICS = {"classification": "accuracy", "regression": "mse"}


@dataclass(frozen=True, kw_only=True)
class Quality:
    """One network on one split.

    Attributes:
        metric: ``accuracy`` (share of right answers) or ``mse`` (mean squared error).
        value: Of the metric.
        correct: Right answers; None for a metric that does not count any.
        count: Samples.
        split: Which part of the data, such as ``test``.
        concordance: Concordance index of a regression of one number; None for anything else, and where it is undefined
            (no two labels differ, outputs that are not finite).
    """

    metric: str
    value: float
    correct: int | None
    count: int
    split: str
    concordance: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The ``quality`` object of every ``--json``."""
        return {
            "metric": self.metric,
            "value": self.value,
            "correct": self.correct,
            "count": self.count,
            "split": self.split,
            "concordance": self.concordance,
        }


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two networks on the same labelled samples.

    Attributes:
        both, only_a, only_b, neither: How many samples each of them answers right.
        p_value: Exact two-sided McNemar test that a sample of the disputed ones is as likely right in a as in b.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float


def answers(
    network: nn.Module,
    split: Split,
    preprocess: Preprocess,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    progress: Progress | None = None,
    label: str = "evaluate",
) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    """Outputs (B, ...) on the device, and their row numbers (B,), in the order of the split.

    The network runs where it lies, in eval mode; its training flags are put back when the pass ends.

    Raises:
        DataError: An empty split.
    """
    if len(split) == 0:
        raise DataError("there is nothing to evaluate on", got="an empty split")
    progress = progress or SilentProgress()
    with modes_kept(network), progress.step(label, total=len(split)) as bar:
        for start in range(0, len(split), batch_size):
            rows = np.arange(start, min(start + batch_size, len(split)))
            network.eval()
            with torch.inference_mode():  # closed before each yield: the mode would hold for the caller's code too
                output = network(preprocess(split.images[rows], device))
            yield output, rows
            bar.advance(len(rows))


def quality(
    network: nn.Module,
    split: Split,
    preprocess: Preprocess,
    *,
    task: str = "classification",
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    split_name: str = "test",
    progress: Progress | None = None,
) -> Quality:
    """Accuracy of a classifier (largest output, the first among equals); mean squared error of a regression, and its
    concordance index where it gives one number a sample.

    Args:
        network: On ``device`` already.
        split_name: What the split is called in the result.

    Raises:
        UnknownNameError: Another task.
        DataError: An empty split, no labels, or labels that the outputs cannot answer.
    """
    if task not in METRICS:
        raise UnknownNameError("task", task, METRICS)
    if split.labels is None:
        raise DataError(f"the {split_name} split has no labels to judge by", remedy="give data with labels")
    labels = np.asarray(split.labels)
    correct, squares, numbers = 0, 0.0, 0
    answered: list[NDArray[Any]] = []
    passes = answers(network, split, preprocess, device=device, batch_size=batch_size, progress=progress)
    for output, rows in passes:
        expected = torch.from_numpy(labels[rows]).to(output.device)
        if task == "classification":
            if output.dim() != 2 or expected.dim() != 1:
                raise DataError(
                    "outputs and labels are no classification",
                    got=f"outputs {tuple(output.shape)}, labels {tuple(expected.shape)}",
                    allowed="(N, classes) and (N,)",
                )
            correct += int((output.argmax(1) == expected).sum())
        else:
            expected = expected[:, None] if expected.dim() == 1 and output.dim() == 2 else expected
            if expected.shape != output.shape:
                raise DataError(
                    "outputs and labels differ in shape", got=f"{tuple(output.shape)} and {tuple(expected.shape)}"
                )
            squares += float((output.double() - expected.double()).square().sum())
            numbers += output.numel()
            answered.append(output.double().cpu().numpy())
    counted = task == "classification"
    return Quality(
        metric=METRICS[task],
        value=correct / len(split) if counted else squares / numbers,
        correct=correct if counted else None,
        count=len(split),
        split=split_name,
        concordance=None if counted else _concordance(np.concatenate(answered), labels),
    )


def _concordance(answered: NDArray[Any], labels: NDArray[Any]) -> float | None:
    one_number = answered.size == len(answered) == labels.size
    if not one_number or not np.isfinite(answered).all() or not (labels != labels.flat[0]).any():
        return None
    return concordance_index(answered, labels)


def predictions(
    network: nn.Module,
    split: Split,
    preprocess: Preprocess,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Tensor:
    """All outputs (N, ...), float32 on the CPU, in the order of the split."""
    passes = answers(network, split, preprocess, device=device, batch_size=batch_size, progress=progress)
    return torch.cat([output.float().cpu() for output, _ in passes])


def agreement(a: Tensor, b: Tensor, labels: ArrayLike) -> Agreement:
    """Compares two networks sample by sample.

    Args:
        a, b: Outputs (N, classes), or chosen classes (N,), of the same samples.
        labels: (N,).

    Raises:
        DataError: Not the same number of samples, or none.
    """
    truth = torch.as_tensor(np.asarray(labels))
    right = [(x.argmax(1) if x.dim() == 2 else x) == truth if len(x) == len(truth) else None for x in (a, b)]
    if right[0] is None or right[1] is None or len(truth) == 0:
        raise DataError(
            "two networks can be compared on the same samples only", got=f"{len(a)}, {len(b)}, {len(truth)} labels"
        )
    both, only_a, only_b = (
        int((right[0] & right[1]).sum()),
        int((right[0] & ~right[1]).sum()),
        int((~right[0] & right[1]).sum()),
    )
    return Agreement(
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=len(truth) - both - only_a - only_b,
        p_value=mcnemar(only_a, only_b),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p value of McNemar's test: a fair coin's chance of a split at least as uneven (McNemar 1947).

    min(1, 2 · Σ_{i ≤ min} C(n, i) / 2ⁿ) with n = only_a + only_b; 1 when nothing is disputed.
    """
    n, fewer = only_a + only_b, min(only_a, only_b)
    term = tail = 1  # C(n, 0)
    for i in range(1, fewer + 1):
        term = term * (n - i + 1) // i  # C(n, i), exact in whole numbers
        tail += term
    # A shift keeps the quotient of two huge whole numbers within a float.
    return min(1.0, 2 * math.ldexp(tail >> max(0, tail.bit_length() - 64), max(0, tail.bit_length() - 64) - n))
