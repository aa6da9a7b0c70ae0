"""Grids, and levels chosen by rate and distortion."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.kernels import _compensate
from netpress.maths.compensation import CONTEXTS, MOST_LEVEL, SIZES, Curvature, choose_levels, nearest_levels
from netpress.maths.rate_distortion import MANTISSA_BITS, fine_step, grid_step, on_grid


def problem(rows: int = 12, columns: int = 18, seed: int = 0) -> tuple[np.ndarray, Curvature]:
    """Weights, and the curvature of correlated inputs."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(columns, columns)) / 3 + np.eye(columns)
    inputs = mixing @ rng.normal(size=(columns, 4 * columns))
    weight = rng.laplace(size=(rows, columns)).astype(np.float32)
    return weight, Curvature((inputs @ inputs.T).astype(np.float32) / 100, rng.uniform(0.5, 2, rows).astype(np.float32))


# Grids ----------------------------------------------------------------------------------------------------------------


@given(st.floats(1e-20, 1e20), st.integers(-MOST_LEVEL, MOST_LEVEL))
def test_multiples_of_a_grid_step_are_exact_in_float32(step: float, level: int) -> None:
    step = grid_step(step)
    value = on_grid(np.array([level], np.int32), step)[0]
    assert float(value) == level * step
    assert math.frexp(step)[0] * 2**MANTISSA_BITS == round(math.frexp(step)[0] * 2**MANTISSA_BITS)
    assert not (level == 0 and np.signbit(value))


@given(st.floats(1e-20, 1e20))
def test_a_grid_step_is_within_a_part_in_two_thousand(step: float) -> None:
    assert abs(grid_step(step) / step - 1) <= 2.0**-MANTISSA_BITS


def test_a_fine_step_pays_for_its_last_bit_just_what_it_gains() -> None:
    sensitivity, tradeoff = 3.0, 0.01
    step = fine_step(sensitivity, tradeoff)

    def cost(d: float) -> float:  # of one value: distortion, and bits that a finer step takes
        return sensitivity * d * d / 12 - tradeoff * math.log2(d)

    assert cost(step) < min(cost(step * 1.05), cost(step / 1.05))


# Costs and prices -----------------------------------------------------------------------------------------------------


def test_the_factor_is_the_upper_cholesky_factor_of_the_damped_inverse() -> None:
    _, curvature = problem()
    upper = curvature.factor.astype(np.float64)
    assert np.array_equal(np.triu(upper), upper)
    damped = curvature.hessian + 0.01 * np.trace(curvature.hessian) / len(upper) * np.eye(len(upper))
    np.testing.assert_allclose(upper.T @ upper @ damped, np.eye(len(upper)), atol=1e-4)


def test_the_cost_is_the_quadratic_form_by_hand() -> None:
    curvature = Curvature(np.array([[2, 1], [1, 3]], np.float32), np.array([1, 10], np.float32))
    errors = np.array([[1, -1], [0.5, 0]], np.float32)
    assert curvature.cost(errors) == pytest.approx(1 * (2 - 2 + 3) + 10 * (0.25 * 2))


def test_prices_of_levels_are_near_their_entropy() -> None:
    rng = np.random.default_rng(1)
    levels = (rng.random((60, 100)) < 0.2).astype(np.int32) * rng.choice([-1, 1], (60, 100)).astype(np.int32)
    rates = np.zeros((CONTEXTS, SIZES), np.float32)
    bits = _compensate.price(levels, *levels.shape, 1, rates)
    p = (levels != 0).mean()
    entropy = levels.size * (-p * math.log2(p) - (1 - p) * math.log2(1 - p) + p)
    assert entropy * 0.97 < bits < entropy * 1.05
    assert (np.diff(rates[:, 1:], axis=1) >= 0).all()


def test_wrong_lengths_are_refused() -> None:
    rates = np.zeros((CONTEXTS, SIZES), np.float32)
    with pytest.raises(ValueError, match="levels"):
        _compensate.price(np.zeros(5, np.int32), 2, 3, 1, rates)
    with pytest.raises(ValueError, match="rows, columns and places"):
        _compensate.price(np.zeros(0, np.int32), 0, 3, 1, rates)


# Choice of levels -----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.1, 0.4, 1.0, 3.0]))
def test_without_a_price_errors_are_never_worse_than_rounding(seed: int, step: float) -> None:
    weight, curvature = problem(seed=seed)
    found = choose_levels(weight, curvature, step=step, tradeoff=0.0)
    rounded = curvature.cost(weight - nearest_levels(weight, step) * np.float32(step))
    assert found.distortion <= rounded * (1 + 1e-6)
    assert found.distortion == pytest.approx(curvature.cost(weight - on_grid(found.levels, step)), rel=1e-9)


def test_errors_are_made_good_by_other_weights() -> None:
    weight, curvature = problem()
    found = choose_levels(weight, curvature, step=1.0, tradeoff=0.0)
    rounded = curvature.cost(weight - nearest_levels(weight, 1.0).astype(np.float32))
    assert found.distortion < 0.5 * rounded


def test_two_weights_come_to_the_best_of_all_pairs_of_levels() -> None:
    weight = np.array([[0.45, 0.45]], np.float32)  # rounding gives (0, 0); the inputs ask for the sum
    curvature = Curvature(np.array([[1, 0.9], [0.9, 1]], np.float32), np.ones(1, np.float32))
    found = choose_levels(weight, curvature, step=1.0, tradeoff=0.0)
    every = {
        pair: curvature.cost(weight - np.array([pair], np.float32))
        for pair in itertools.product(range(-2, 3), repeat=2)
    }
    assert found.distortion == pytest.approx(min(every.values()))


def test_a_higher_price_never_takes_more_bits() -> None:
    weight, curvature = problem(24, 27)
    bits = [
        choose_levels(weight, curvature, step=0.5, tradeoff=tradeoff, places=9).bits
        for tradeoff in (0.0, 0.01, 0.1, 1.0, 10.0, 1e4)
    ]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < 30  # all zero


def test_fixed_places_stay_zero() -> None:
    weight, curvature = problem()
    fixed = np.random.default_rng(3).random(weight.shape) < 0.4
    for options in ({}, {"start": nearest_levels(weight, 0.3)}):
        assert not choose_levels(weight, curvature, step=0.3, tradeoff=0.01, fixed=fixed, **options).levels[fixed].any()


def test_outputs_that_hang_together_count_together() -> None:
    weight, curvature = problem(rows=6)
    rng = np.random.default_rng(5)
    root = rng.normal(size=(6, 6)) + np.eye(6)
    joint = Curvature(curvature.hessian, (root @ root.T).astype(np.float32))
    alone = choose_levels(weight, Curvature(curvature.hessian, joint.row_importance), step=1.0, tradeoff=0.0)
    together = choose_levels(weight, joint, step=1.0, tradeoff=0.0, start=alone.levels)
    assert together.distortion < joint.cost(weight - on_grid(alone.levels, 1.0))


def test_inputs_that_are_always_zero_take_no_levels() -> None:
    weight, curvature = problem()
    curvature.hessian[3] = curvature.hessian[:, 3] = 0
    found = choose_levels(weight, curvature, step=0.2, tradeoff=1e-3)
    assert not found.levels[:, 3].any()


def test_the_same_problem_gives_the_same_levels() -> None:
    weight, curvature = problem(seed=9)
    again, same = problem(seed=9)
    first = choose_levels(weight, curvature, step=0.3, tradeoff=0.05)
    second = choose_levels(again, same, step=0.3, tradeoff=0.05)
    assert first.levels.tobytes() == second.levels.tobytes()
