"""Ranges of a stream: ends seen in full, a histogram that does not depend on how the stream is cut, least squared error."""

from __future__ import annotations

import pytest
import torch

from netpress.errors import ConfigError, DataError
from netpress.maths.ranges import MOST_SAMPLES, OBSERVERS, StreamingRange, affine_grid, on_own_range


def observed(*batches: torch.Tensor) -> StreamingRange:
    made = StreamingRange()
    for batch in batches:
        made.update(batch)
    return made


def error(values: torch.Tensor, low: float, high: float, levels: int = 256) -> float:
    scale, zero = affine_grid(low, high, levels)
    grid = torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, levels - 1)
    return float((grid - values).square().mean())


def noise(count: int = 4000, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_minmax_is_the_range_with_zero_in_it() -> None:
    assert observed(torch.tensor([-1.0, 2.5]), torch.tensor([0.5, 7.0])).ends("minmax", 256) == (-1.0, 7.0)
    assert observed(torch.tensor([3.0, 2.5])).ends("minmax", 256) == (0.0, 3.0)
    assert observed(torch.tensor([-3.0, -2.5])).ends("minmax", 256) == (-3.0, 0.0)


def test_batches_do_not_matter() -> None:
    values = torch.cat([noise(), 100 * noise(40), torch.zeros(500)])
    whole, parts, turned = observed(values), observed(*values.split(77)), observed(*values.flip(0).split(500))
    for other in (parts, turned):
        moved = (whole.counts - other.counts).cumsum(0).abs()  # over an edge by rounding, to the next bin at most
        assert float(moved.sum()) < 0.02 * len(values)
        assert whole.counts.sum() == other.counts.sum()
        assert (whole.low, whole.high, whole.bound) == (other.low, other.high, other.bound)
    assert whole.counts.sum() == len(values)


@pytest.mark.parametrize("levels", [4, 16, 256])
@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
def test_mse_is_no_worse_than_the_others(levels: int, shift: float) -> None:
    values = torch.cat([noise(), torch.tensor([30.0])]) + shift
    errors = {name: error(values, *observed(values).ends(name, levels), levels) for name in OBSERVERS}
    assert errors["mse"] <= 1.02 * min(errors.values())
    if levels < 256:
        assert errors["mse"] < 0.5 * errors["minmax"]


def test_a_percentile_leaves_out_the_outliers_alone() -> None:
    low, high = observed(torch.cat([noise(50_000), torch.tensor([1000.0, -1000.0])])).ends("percentile", 256)
    assert 3 < high < 6
    assert -6 < low < -3
    low, high = observed(torch.linspace(0, 1, 1000)).ends("percentile", 256)
    assert (low, high) == (0.0, pytest.approx(1.0, abs=1e-3))


def test_large_batches_are_sampled_and_their_ends_are_not() -> None:
    values = torch.zeros(3_000_000)
    values[1_234_567] = 5.0
    made = observed(values)
    assert made.ends("minmax", 256) == (0.0, 5.0)
    assert 400_000 < made.samples <= MOST_SAMPLES


def test_a_stream_of_zeros_has_a_grid() -> None:
    for name in OBSERVERS:
        assert observed(torch.zeros(9)).ends(name, 256) == (0.0, 0.0)
    assert affine_grid(0.0, 0.0, 256) == (1.0, 0)
    mixed = observed(torch.zeros(9), torch.tensor([1.0]))
    assert mixed.counts.sum() == 10


def test_grids_by_hand() -> None:
    assert affine_grid(0.0, 25.5, 256) == (0.1, 0)
    assert affine_grid(-12.75, 12.75, 256) == (0.1, 128)
    assert affine_grid(-1.0, 0.0, 256) == (0.003922, 255)  # four digits, rounded up
    scale, zero = affine_grid(-0.3, 0.9, 16)
    assert (scale, zero) == (0.08, 4)


@pytest.mark.parametrize(("low", "high", "levels"), [(0.1, 1, 256), (-1, -0.1, 256), (0, 1, 1)])
def test_no_grid(low: float, high: float, levels: int) -> None:
    with pytest.raises(ConfigError, match="allowed: low <= 0 <= high, 2 or more levels"):
        affine_grid(low, high, levels)


def test_what_cannot_be_observed() -> None:
    with pytest.raises(DataError, match="activations are not finite"):
        observed(torch.tensor([1.0, torch.nan]))
    with pytest.raises(DataError, match="no activations were fed in"):
        StreamingRange().ends("mse", 256)
    with pytest.raises(ConfigError, match="unknown observer; got: 'max'; allowed: mse, minmax, percentile"):
        observed(torch.ones(1)).ends("max", 256)


def test_a_range_of_their_own_by_hand() -> None:
    # scale (2 + 0.55) / 255 = 0.01, zero at level 55; halves to even
    values = torch.tensor([-0.55, 0.0, 0.123, 2.0, 1.004])
    torch.testing.assert_close(on_own_range(values), torch.tensor([-0.55, 0.0, 0.12, 2.0, 1.0]))
    # 0 belongs to the range: 256 levels between 0 and 510
    assert on_own_range(torch.tensor([509.2, 510.0, 255.0, 257.0])).tolist() == [510.0, 510.0, 256.0, 256.0]
    assert on_own_range(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert on_own_range(torch.tensor(1e-45)).item() == 0.0


@pytest.mark.parametrize("shift", [-5.0, 0.0, 5.0])
def test_nothing_moves_by_more_than_a_step(shift: float) -> None:
    values = noise() + shift
    step = (values.max().clamp(min=0) - values.min().clamp(max=0)) / 255
    made = on_own_range(values)
    assert float((made - values).abs().max()) <= 1.001 * float(
        step
    )  # the zero point is rounded, too: half and half a step
    assert len(made.unique()) <= 256
    assert torch.equal(on_own_range(values.double()), made.double())
