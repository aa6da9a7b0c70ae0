"""Row grids: the least squared error that is there, exact products, and steps and levels found again in the weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.errors import ConfigError
from netpress.maths.row_grids import CLIPS, grid_steps, on_grid, row_steps


def weights(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7, 5), (6, 3, 3, 3), (4, 2, 5), (1, 1), (5, 1)])
@pytest.mark.parametrize("most", [1, 7, 63, 127])
def test_what_is_on_a_grid_is_read_from_the_weights_alone(shape: tuple[int, ...], most: int) -> None:
    weight = weights(*shape)
    step = grid_steps(weight, most)
    put = on_grid(weight, step, most)
    found = row_steps(put, most)
    assert found is not None
    steps, levels = found
    assert (steps.shape, levels.shape, levels.dtype) == (shape[:1], put.shape, torch.int8)
    assert int(levels.abs().max()) <= most
    assert torch.equal(levels.float() * steps.reshape(step.shape), put)
    assert torch.equal(on_grid(put, step, most), put)
    assert not bool((steps % step.flatten()).any())  # a greater one only where all levels of a row can be divided


def test_by_hand() -> None:
    weight = torch.tensor([[0.5, -1.5, 0.0], [0.0, 0.0, 0.0], [-63.5, 0.25, 0.5]])
    steps, levels = row_steps(weight, 254) or pytest.fail("no grid")
    assert steps.tolist() == [0.5, 1.0, 0.25]
    assert levels.tolist() == [[1, -3, 0], [0, 0, 0], [-254, 1, 2]]
    assert row_steps(weight) is None  # 254 levels are too many for int8


def test_a_larger_grid_has_a_smaller_error_and_rows_are_better_than_one_step() -> None:
    weight = weights(8, 50) * torch.logspace(-2, 0, 8)[:, None]

    def error(most: int, per_row: bool = True) -> float:
        return float((on_grid(weight, grid_steps(weight, most, per_row=per_row), most) - weight).square().sum())

    errors = [error(most) for most in (1, 3, 7, 15, 31, 63, 127)]
    assert errors == sorted(errors, reverse=True)
    assert error(127) < 0.5 * error(127, per_row=False)


def test_no_clip_of_those_tried_is_better() -> None:
    weight = weights(3, 40)
    for most in (1, 7, 127):
        chosen = (on_grid(weight, grid_steps(weight, most), most) - weight).square().sum(1)
        for clip in CLIPS:
            step = (weight.abs().amax(1, keepdim=True) * clip / most).bfloat16().float()
            assert bool((chosen <= (on_grid(weight, step, most) - weight).square().sum(1) * 1.0001).all())


def test_zeros_stay_and_there_is_no_minus_zero() -> None:
    weight = weights(4, 30) * (weights(4, 30, seed=1) > 0)
    weight[2] = 0
    put = on_grid(weight, grid_steps(weight, 7), 7)
    assert bool((put[weight == 0] == 0).all())
    assert not bool(torch.signbit(put[put == 0]).any())
    assert grid_steps(weight, 7)[2].item() == 1.0


@pytest.mark.parametrize(
    "weight",
    [
        torch.randn(3, 40),
        torch.tensor([[1.0, -0.0]]),
        torch.tensor([[1.0, torch.nan]]),
        torch.tensor([[1.0, torch.inf]]),
        torch.tensor([[1e-40, 0.0]]),
        torch.tensor([[1.0, 2.0], [1.0, 1e-20]]),
        torch.tensor([[3e-38, 3e-38 * 1.5]]).mul(0.4),
        torch.zeros(0, 3),
        torch.ones(2, 3).double(),
        torch.tensor(1.0),
    ],
    ids=[
        "noise",
        "minus zero",
        "nan",
        "inf",
        "denormal",
        "far apart",
        "step too small",
        "empty",
        "double",
        "one number",
    ],
)
def test_what_is_on_no_grid(weight: torch.Tensor) -> None:
    assert row_steps(weight) is None


@given(
    levels=st.lists(st.lists(st.integers(-32767, 32767), min_size=4, max_size=4), min_size=1, max_size=4),
    mantissas=st.lists(st.integers(1, 511), min_size=4, max_size=4),
    exponents=st.lists(st.integers(-90, 90), min_size=4, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_any_exact_grid_is_found(levels: list[list[int]], mantissas: list[int], exponents: list[int]) -> None:
    rows = len(levels)
    steps = torch.ldexp(torch.tensor(mantissas[:rows]).float(), torch.tensor(exponents[:rows]))
    weight = torch.tensor(levels).float() * steps[:, None] + 0.0
    found = row_steps(weight, 32767)
    assert found is not None
    assert torch.equal(found[1].float() * found[0][:, None], weight)
    assert bool((found[0] >= steps)[(weight != 0).any(1)].all())  # the greatest there is


@pytest.mark.parametrize("most", [0, -1, 32768])
def test_levels_out_of_range(most: int) -> None:
    for call in (grid_steps, row_steps):
        with pytest.raises(ConfigError, match=f"the largest level is out of range; got: {most}; allowed: 1 to 32767"):
            call(torch.ones(2, 2), most)
