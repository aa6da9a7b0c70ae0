"""Column selection against least squares by hand, and the proximal operators against their closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.errors import DataError
from netpress.maths.columns import select_columns
from netpress.maths.thresholds import group_soft_threshold, soft_threshold


def unexplained(x: np.ndarray, chosen: list[int]) -> float:
    """What least squares from the chosen columns leaves of all columns."""
    if not chosen:
        return float((x**2).sum())
    found = np.linalg.lstsq(x[:, chosen], x, rcond=None)[0]
    return float(((x - x[:, chosen] @ found) ** 2).sum())


@pytest.mark.parametrize("seed", range(4))
def test_each_column_is_the_best_next_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 7)) @ np.diag(rng.uniform(0.1, 3, 7)) @ rng.normal(size=(7, 7))
    found = select_columns(torch.from_numpy(x.T @ x))
    assert sorted(found.order.tolist()) == list(range(7))
    for count in range(7):
        chosen = found.order[:count].tolist()
        assert float(found.left[count]) == pytest.approx(
            unexplained(x, chosen), rel=1e-6, abs=1e-8 * float(found.left[0])
        )
        best = min(unexplained(x, [*chosen, other]) for other in range(7) if other not in chosen)
        assert unexplained(x, found.order[: count + 1].tolist()) == pytest.approx(
            best, rel=1e-6, abs=1e-8 * float(found.left[0])
        )
    assert float(found.left[7]) == pytest.approx(0, abs=1e-8 * float(found.left[0]))


def test_columns_that_are_sums_of_others_come_last_and_gain_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    x = np.concatenate([x, x[:, :1] * 2 - x[:, 1:2], np.zeros((50, 1))], 1)
    found = select_columns(torch.from_numpy(x.T @ x))
    assert found.order[-1] == 4
    assert float(found.left[3]) == pytest.approx(0, abs=1e-8 * float(found.left[0]))
    gains = found.gains
    assert gains[found.order[3:]].abs().max() < 1e-9
    assert float(gains.sum()) <= 1 + 1e-9
    ordered = gains[found.order]
    assert bool((ordered[1:] <= ordered[:-1]).all())


def test_a_gram_matrix_of_nothing_and_wrong_ones() -> None:
    assert select_columns(torch.zeros(3, 3)).order.tolist() == [0, 1, 2]
    for wrong in (torch.zeros(2, 3), torch.zeros(0, 0), torch.full((2, 2), float("nan"))):
        with pytest.raises(DataError, match="Gram matrix"):
            select_columns(wrong)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.floats(0, 4))
def test_soft_threshold_is_the_minimiser(values: list[float], threshold: float) -> None:
    v = torch.tensor(values, dtype=torch.float64)
    found = soft_threshold(v, threshold)
    grid = torch.cat([torch.linspace(-6, 6, 2401, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    cost = 0.5 * (grid[:, None] - v) ** 2 + threshold * grid[:, None].abs()
    mine = 0.5 * (found - v) ** 2 + threshold * found.abs()
    assert bool((mine <= cost.min(0).values + 1e-9).all())
    assert bool((found[v.abs() <= threshold] == 0).all())


def test_group_soft_threshold_is_the_minimiser() -> None:
    v = torch.tensor([3.0, -4.0], dtype=torch.float64)
    for threshold in (0.0, 1.0, 4.9, 5.0, 7.0):
        x = v * group_soft_threshold(v.norm()[None], threshold)
        scales = torch.linspace(0, 1.2, 1201, dtype=torch.float64)[:, None] * v
        cost = 0.5 * (scales - v).square().sum(1) + threshold * scales.norm(dim=1)
        assert float(0.5 * (x - v).square().sum() + threshold * x.norm()) <= float(cost.min()) + 1e-9
    assert float(group_soft_threshold(torch.zeros(1, dtype=torch.float64), 1.0)) == 0
