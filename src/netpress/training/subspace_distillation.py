"""Distillation of subspaces: the teacher's features should be linear in the student's, whatever the student's are.

For each batch the decoder D that gives the teacher's features T from the student's S by least squares is solved in closed form, and
the student is moved down the slope of what D leaves. At the best D that slope is the slope of the residual with D held fixed
(the envelope theorem; variable projection: Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973) 413), so nothing is differentiated through
the solve, no decoder has to be trained or carried from batch to batch, and a student of any width fits.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from netpress.graph import GraphNetwork
from netpress.training.feature_distillation import FeatureDistillation
from netpress.training.objectives import Distillation

RIDGE = 1e-3  # share of the student's mean energy: keeps decoders tame where channels are nearly alike
MOST_ROWS = 4096  # places of a batch that are compared, and at least SPARE rows a channel where there are as many
SPARE = 8


def unexplained(student: Tensor, teacher: Tensor) -> Tensor:
    """The share of the teacher's centred energy that no linear map of the student's explains; at most 1, differentiable in ``student``.

    Args:
        student: (rows, r).
        teacher: (rows, c), without gradient.

    Returns:
        0-d; 0 where the teacher's features never change.
    """
    student = student - student.mean(0)
    teacher = teacher - teacher.mean(0)
    with torch.no_grad():
        gram = student.T @ student
        gram.diagonal().add_(RIDGE * gram.diagonal().mean().clamp_min(1e-12))
        decoder = torch.linalg.solve(gram, student.T @ teacher)  # (r, c)
        energy = teacher.square().sum().clamp_min(1e-12)
    return (teacher - student @ decoder).square().sum() / energy


class DistillSubspaces(FeatureDistillation):
    """Distillation of answers and subspaces: ``answers + weight · mean over layers of the share that no decoder explains``.

    Source: inspired by Oyedotun, Aouada, Ottersten, Applied Intelligence 51 (2021) 834 (its abstract; the terms are ours).

    Args:
        teacher: The original; left as it is.
        axes: Where to compare: by number of a node the axis in which its channels lie.
        settings: Of the distillation of the answers; None: their squared error.
        weight: Of the features' part beside it.
    """

    def __init__(
        self, teacher: GraphNetwork, axes: Mapping[int, int], settings: Distillation | None, *, weight: float = 1.0
    ) -> None:
        self.axes = dict(axes)
        super().__init__(teacher, self.axes, settings, weight=weight)

    def error(self, node: int, made: Tensor, wanted: Tensor) -> Tensor:
        axis = self.axes[node]
        student, teacher = (value.movedim(axis, -1).flatten(0, -2) for value in (made, wanted))  # (rows, channels)
        most = max(MOST_ROWS, SPARE * student.shape[1])
        if len(student) > most:  # evenly spread, by a step that meets every row and column of images in turn
            step = len(student) // most | 1
            student, teacher = student[::step], teacher[::step]
        return unexplained(student.float(), teacher.float())

    def __repr__(self) -> str:
        return f"DistillSubspaces({self.settings!r}, weight={self.weight}, axes={self.axes})"
