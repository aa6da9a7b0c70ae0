"""Distillation of subspaces: the share that no linear map explains, its gradient, and students that need nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from netpress.graph import trace
from netpress.training import Distillation, DistillSubspaces
from netpress.training.subspace_distillation import unexplained


def test_the_share_is_that_of_least_squares() -> None:
    torch.manual_seed(0)
    s, t = torch.randn(200, 3, dtype=torch.float64), torch.randn(200, 5, dtype=torch.float64)
    t[:, :2] += s[:, :2] * 2 + 7
    centred_s, centred_t = s - s.mean(0), t - t.mean(0)
    left = centred_t - centred_s @ torch.linalg.lstsq(centred_s, centred_t).solution
    assert float(unexplained(s, t)) == pytest.approx(float(left.square().sum() / centred_t.square().sum()), abs=1e-5)


def test_what_is_linear_in_the_student_is_explained() -> None:
    torch.manual_seed(0)
    s = torch.randn(300, 4)
    assert float(unexplained(s, s @ torch.randn(4, 9) + 3)) < 1e-5
    assert float(unexplained(s, torch.ones(300, 2))) == 0
    assert float(unexplained(torch.ones(300, 2), s)) == pytest.approx(1)


def test_the_slope_is_that_of_the_whole_with_the_decoder_moving() -> None:
    torch.manual_seed(1)
    s = torch.randn(60, 2, dtype=torch.float64, requires_grad=True)
    t = torch.randn(60, 4, dtype=torch.float64) + torch.randn(60, 2, dtype=torch.float64) @ torch.randn(
        2, 4, dtype=torch.float64
    )
    unexplained(s, t).backward()
    direction, step = torch.randn(60, 2, dtype=torch.float64), 1e-5
    with torch.no_grad():
        rise = (unexplained(s + step * direction, t) - unexplained(s - step * direction, t)) / (2 * step)
    assert s.grad is not None
    assert float((s.grad * direction).sum()) == pytest.approx(float(rise), rel=0.02)  # the ridge is all that differs


def test_a_student_that_is_its_teacher_has_nothing_to_learn_and_no_label_is_asked_for() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    teacher = trace(net.eval(), torch.rand(2, 1, 6, 6))
    objective = DistillSubspaces(teacher, {1: 1, 2: -1}, Distillation(alpha=1.0))
    x = torch.rand(200, 1, 6, 6)
    assert float(objective(copy.deepcopy(teacher), x, None)["loss"].detach()) == pytest.approx(0, abs=2e-3)
    squared = DistillSubspaces(teacher, {}, None)
    assert float(squared(copy.deepcopy(teacher), x, None)["loss"].detach()) == 0
