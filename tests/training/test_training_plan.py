from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.errors import ConfigError, UnknownNameError
from netpress.training import TrainingPlan, published_plan, schedule_factor
from netpress.training.plan import check_prefixes, scale_of


def test_dict_round_trip() -> None:
    plan = TrainingPlan(
        epochs=3, optimizer="sgd", lr=1, nesterov=True, schedule="cosine", warm_up=0.1, lr_scale={"a.b": 0, "": 2}
    )
    assert TrainingPlan.from_dict(plan.as_dict()) == plan
    assert plan.lr == 1.0
    assert isinstance(plan.lr, float)


def test_unknown_field_names_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown field of a training plan; got: 'epoch'.*did you mean 'epochs'"
    ):
        TrainingPlan.from_dict({"epoch": 3})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"epochs": -1}, "training.epochs has a wrong value; got: -1; allowed: a whole number of 0 or more"),
        ({"epochs": 1.5}, "training.epochs"),
        ({"epochs": True}, "training.epochs"),
        ({"batch_size": 0}, "training.batch_size"),
        ({"lr": 0}, "training.lr has a wrong value; got: 0; allowed: above 0"),
        ({"lr": math.nan}, "training.lr"),
        ({"lr": "fast"}, "training.lr"),
        ({"momentum": 1}, "training.momentum"),
        ({"weight_decay": -0.1}, "training.weight_decay"),
        ({"warm_up": 1.0}, "training.warm_up"),
        ({"grad_clip": 0}, "training.grad_clip"),
        ({"channels_last": 1}, "training.channels_last"),
        ({"optimizer": "sdg"}, "did you mean 'sgd'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"precision": "fp16"}, "unknown training.precision"),
        ({"augment": "crop-flip"}, "did you mean 'crop_flip'"),
        ({"nesterov": True}, "needs sgd with momentum"),
        ({"lr_scale": {"head": -1}}, "training.lr_scale"),
        ({"lr_scale": 3}, "training.lr_scale"),
    ],
)
def test_wrong_values_are_named(values: dict, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingPlan.from_dict(values)
    assert text in str(caught.value)


def test_cosine_closed_form() -> None:
    assert [schedule_factor("cosine", s, 4) for s in range(4)] == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    )


def test_linear_warm_up() -> None:
    assert [schedule_factor("constant", s, 8, 0.375) for s in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_one_cycle_closed_form() -> None:
    # 10 steps, 3 of them rising by half a cosine from 1/25.
    factors = [schedule_factor("one_cycle", s, 10) for s in range(10)]
    assert factors[0] == pytest.approx(1 / 25)
    assert factors[1] == pytest.approx(1 / 25 + 24 / 25 * 0.25)  # (1 - cos 60°) / 2 = 1/4
    assert factors[3] == pytest.approx(1)
    assert factors[9] == pytest.approx((1 + math.cos(math.pi * 6 / 7)) / 2)


@given(
    st.sampled_from(["constant", "cosine", "one_cycle"]),
    st.integers(1, 200),
    st.none() | st.floats(0, 0.99),
)
def test_every_schedule_rises_then_falls_within_0_and_1(schedule: str, total: int, warm_up: float | None) -> None:
    factors = [schedule_factor(schedule, s, total, warm_up) for s in range(total)]
    assert all(0 < f <= 1 for f in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_longest_prefix_counts_and_respects_dots() -> None:
    scale = {"": 0.5, "body": 0.0, "body.last": 0.1}
    assert scale_of("body.last.weight", scale) == 0.1
    assert scale_of("body.first.weight", scale) == 0.0
    assert scale_of("body2.weight", scale) == 0.5
    assert scale_of("head.weight", {"body": 0.0}) == 1.0


def test_prefix_that_fits_nothing() -> None:
    with pytest.raises(UnknownNameError, match=r"got: 'reducton'.*did you mean 'reduction'"):
        check_prefixes({"reducton": 0.1}, ["body.0.weight", "reduction.c.weight"])


def test_published_plan_is_the_papers() -> None:
    plan = published_plan(["reduction", "map"])
    assert (plan.optimizer, plan.lr, plan.epochs, plan.augment) == ("adam", 1e-4, 10, "crop_flip")
    assert plan.lr * scale_of("reduction.weight", plan.lr_scale) == pytest.approx(1e-5)
    assert plan.lr * scale_of("body.0.weight", plan.lr_scale) == pytest.approx(1e-4)
