from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from netpress.errors import ConfigError, DataError, TrainingError, UnknownNameError
from netpress.training import (
    CrossEntropy,
    Distill,
    Distillation,
    DistillStored,
    MatchOutput,
    MeanSquaredError,
    Reconstruction,
    distillation_loss,
)

LN3 = math.log(3)


def small(classes: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


def state_bytes(network: nn.Module) -> dict[str, bytes]:
    return {name: t.contiguous().numpy().tobytes() for name, t in network.state_dict().items()}


def test_hand_computed_loss() -> None:
    # At T = 2 the teacher's logits (2 ln 3, 0) soften to (3/4, 1/4), the student's (0, 0) to (1/2, 1/2).
    student, teacher = torch.zeros(1, 2), torch.tensor([[2 * LN3, 0.0]])
    loss = distillation_loss(student, teacher, torch.tensor([0]), alpha=0.5, temperature=2.0)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert loss.item() == pytest.approx(0.5 * 4 * kl + 0.5 * math.log(2), rel=1e-6)


def test_equal_answers_cost_nothing() -> None:
    logits = torch.randn(5, 7)
    assert distillation_loss(logits, logits, None, alpha=1, temperature=3).item() == pytest.approx(0, abs=1e-6)


def test_published_reduction_is_ten_times_weaker_on_ten_classes() -> None:
    student, teacher = torch.randn(8, 10), torch.randn(8, 10)

    def term(reduction: str) -> float:
        return distillation_loss(student, teacher, None, alpha=1, temperature=1, reduction=reduction).item()

    assert Distillation.preset("published").reduction == "mean"
    assert term("batchmean") == pytest.approx(10 * term("mean"), rel=1e-5)


def test_gradient_keeps_its_size_when_the_temperature_grows() -> None:
    sizes = []
    for temperature in (20.0, 40.0):
        student, teacher = torch.tensor([[0.1, 0.0, -0.1]], requires_grad=True), torch.tensor([[0.0, 0.2, 0.3]])
        distillation_loss(student, teacher, None, alpha=1, temperature=temperature).backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)  # without the factor T squared: a quarter


def test_alpha_0_is_cross_entropy() -> None:
    student, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss = distillation_loss(student, torch.randn(4, 3), labels, alpha=0, temperature=4)
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(student, labels).item())


def test_missing_labels_need_alpha_1() -> None:
    network, teacher, x = small(), small(), torch.randn(2, 1, 6, 6)
    with pytest.raises(DataError, match=r"alpha below 1 needs labels.*remedy: set alpha=1"):
        Distill(teacher)(network, x, None)
    assert Distill(teacher, Distillation(alpha=1))(network, x, None)["loss"].item() > 0
    with pytest.raises(DataError, match="cross entropy needs labels"):
        CrossEntropy()(network, x, None)


def test_teacher_keeps_bits_mode_and_layout() -> None:
    teacher = small().train()
    before, stride = state_bytes(teacher), teacher[0].weight.stride()
    objective = Distill(teacher)
    out = objective(small(), torch.randn(4, 1, 6, 6), torch.tensor([0, 1, 2, 0]))
    out["loss"].backward()
    assert state_bytes(teacher) == before
    assert teacher.training
    assert teacher[0].weight.stride() == stride
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())


def test_teacher_answers_in_eval_mode() -> None:
    teacher = small().train()
    teacher[1].running_mean.fill_(5.0)
    x, student = torch.randn(4, 1, 6, 6), small()
    with torch.no_grad():
        expected = distillation_loss(student(x), copy.deepcopy(teacher).eval()(x), None, alpha=1, temperature=4)
    got = Distill(teacher, Distillation(alpha=1))(student, x, None)["loss"]
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_shared_modules_are_refused() -> None:
    teacher = small()
    student = nn.Sequential(*teacher[:5], nn.Linear(4, 3))
    with pytest.raises(TrainingError, match=r"shares tensors with its teacher.*'0.weight'.*remedy: .*deepcopy"):
        Distill(teacher)(student, torch.randn(2, 1, 6, 6), torch.tensor([0, 1]))
    with pytest.raises(TrainingError, match="shares tensors"):
        MatchOutput(teacher)(teacher, torch.randn(2, 1, 6, 6), None)


def test_shared_buffer_alone_is_refused() -> None:
    teacher, student = small(), small()
    student[1].running_var = teacher[1].running_var
    with pytest.raises(TrainingError, match=r"'1\.running_var'"):
        Distill(teacher)(student, torch.randn(2, 1, 6, 6), torch.tensor([0, 1]))


def test_all_parameters_get_gradients() -> None:
    student = small()
    Distill(small())(student, torch.randn(4, 1, 6, 6), torch.tensor([0, 1, 2, 0]))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in student.named_parameters() if n != "0.bias")


def test_stored_outputs_give_the_same_loss_as_the_teacher() -> None:
    teacher, student, x, y = small().eval(), small().eval(), torch.randn(4, 1, 6, 6), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        logits = teacher(x)
    live, stored = Distill(teacher)(student, x, y)["loss"], DistillStored()(student, x, (y, logits))["loss"]
    assert live.item() == pytest.approx(stored.item(), rel=1e-5)
    with pytest.raises(DataError, match="needs \\(labels, teacher outputs\\)"):
        DistillStored()(student, x, y)


def test_squared_errors() -> None:
    identity, x = nn.Identity(), torch.tensor([[1.0], [3.0]])
    assert MeanSquaredError()(identity, x, torch.tensor([0.0, 1.0]))["loss"].item() == pytest.approx(2.5)
    assert Reconstruction()(identity, x, None)["loss"].item() == 0
    with pytest.raises(DataError, match=r"differ in shape; got: \(2, 1\) and \(3, 1\)"):
        MeanSquaredError()(identity, x, torch.zeros(3, 1))
    teacher = nn.Linear(1, 1)
    assert MatchOutput(teacher)(copy.deepcopy(teacher), x, None)["loss"].item() == pytest.approx(0, abs=1e-12)


def test_answers_of_different_width() -> None:
    with pytest.raises(DataError, match=r"different shapes; got: \(2, 3\) and \(2, 4\)"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 4), None, alpha=1, temperature=1)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"distill.alpha is out of range; got: 1.5; allowed: 0 to 1"):
        Distillation(alpha=1.5)
    with pytest.raises(ConfigError, match=r"distill.temperature"):
        Distillation(temperature=0)
    with pytest.raises(UnknownNameError, match="did you mean 'batchmean'"):
        Distillation(reduction="batch_mean")
    with pytest.raises(UnknownNameError, match="did you mean 'published'"):
        Distillation.preset("publishd")
