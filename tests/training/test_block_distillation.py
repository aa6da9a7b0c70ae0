"""Distillation block by block: against the formula, and against a student that is its teacher."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from netpress.errors import TrainingError
from netpress.graph import GraphNetwork, trace
from netpress.training import Distillation, DistillBlocks, Match, Trainer, TrainingPlan


@pytest.fixture
def teacher() -> GraphNetwork:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    return trace(net.eval(), torch.rand(2, 1, 6, 6))


def narrow(teacher: GraphNetwork, channels: tuple[int, ...]) -> GraphNetwork:
    net = nn.Sequential(nn.Conv2d(1, len(channels), 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * len(channels), 3))
    return trace(net.eval(), torch.rand(2, 1, 6, 6))


X, Y = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1])


def test_a_student_that_is_its_teacher_has_nothing_to_learn(teacher: GraphNetwork) -> None:
    objective = DistillBlocks(teacher, [Match(1, (0, 1, 2, 3))], Distillation(alpha=1.0))
    assert float(objective(copy.deepcopy(teacher), X, None)["loss"].detach()) == pytest.approx(0, abs=1e-6)


def test_the_blocks_part_is_the_mean_relative_squared_error(teacher: GraphNetwork) -> None:
    student, kept = narrow(teacher, (1, 3)), (1, 3)
    plain = DistillBlocks(teacher, [], Distillation())(student, X, Y)["loss"]
    both = DistillBlocks(teacher, [Match(0, kept), Match(1, kept)], Distillation(), weight=2.0)(student, X, Y)["loss"]
    with torch.no_grad():
        errors = []
        wanted, made = X, X
        for name in ("0", "1"):
            wanted, made = teacher.get_submodule(name)(wanted), student.get_submodule(name)(made)
            target = wanted[:, list(kept)]
            errors.append(float((made - target).square().mean() / target.var(unbiased=False)))
    assert float((both - plain).detach()) == pytest.approx(2.0 * sum(errors) / 2, rel=1e-4)


def test_a_training_with_blocks_comes_nearer_to_the_teachers_blocks(teacher: GraphNetwork) -> None:
    student, match = narrow(teacher, (0, 2)), Match(1, (0, 2))
    objective = DistillBlocks(teacher, [match], Distillation(alpha=1.0))

    class Again:
        def __len__(self) -> int:
            return 40

        def batches(self, epoch: int, start: int = 0):
            yield from ((X, None) for _ in range(start, 40))

    before = float(objective(student, X, None)["loss"].detach())
    Trainer().fit(student, Again(), TrainingPlan(epochs=1, optimizer="adam", lr=0.01), objective)
    assert float(objective(student, X, None)["loss"].detach()) < 0.5 * before


def test_a_student_with_another_program_is_refused(teacher: GraphNetwork) -> None:
    other = trace(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval(), torch.rand(2, 1, 6, 6))
    with pytest.raises(
        TrainingError, match="programs of one length; got: 2 nodes; allowed: a traced network of 4 nodes"
    ):
        DistillBlocks(teacher, [Match(1, (0,))])(other, X, Y)


def test_a_student_that_shares_tensors_is_refused(teacher: GraphNetwork) -> None:
    with pytest.raises(TrainingError, match="shares tensors"):
        DistillBlocks(teacher, [])(teacher, X, Y)


def test_a_block_of_another_width_is_refused(teacher: GraphNetwork) -> None:
    with pytest.raises(TrainingError, match="does not fit the teacher's"):
        DistillBlocks(teacher, [Match(1, (0, 1, 2))])(narrow(teacher, (0, 2)), X, Y)
