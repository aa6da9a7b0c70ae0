"""The adaptive coder: streams, their size in bits, and quantization that weighs error against it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from netpress.errors import ConfigError
from netpress.kernels import _adaptive, adaptive
from netpress.kernels.adaptive import Reader, Scan, bits, choose_scan, encode, quantize, reader_bytes, scan_of


def laplace(shape: tuple[int, ...], scale: float, seed: int = 0) -> NDArray[np.int32]:
    return np.rint(np.random.default_rng(seed).laplace(0, scale, shape)).astype(np.int32)


def symbols_of(levels: NDArray[np.int32]) -> tuple[NDArray[np.uint16], int, int]:
    low, high = min(0, int(levels.min())), max(0, int(levels.max()))
    return (levels - low).astype(np.uint16).reshape(-1), low, high


def stream_of(levels: NDArray[np.int32], scan: Scan) -> bytes:
    symbols, low, high = symbols_of(levels)
    stream = encode(symbols, scan, low, high)
    assert stream is not None
    back = np.zeros_like(symbols)
    Reader(stream, scan, low, high).read(back, scan.rows)
    assert np.array_equal(back, symbols)
    return stream


@pytest.mark.parametrize(
    "shape", [(1,), (50,), (1, 9), (9, 1), (30, 41), (7, 5, 3, 3), (6, 4, 5, 5), (5, 6, 8), (4, 6, 1, 3)], ids=str
)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("flags", [0, 1, 2, 3])
@pytest.mark.parametrize("profile", range(adaptive.PROFILES))
def test_every_scan_comes_back(shape: tuple[int, ...], transposed: bool, flags: int, profile: int) -> None:
    levels = laplace(shape, 1.5)
    levels[::3] = 0
    stream_of(levels, scan_of(shape, transposed=transposed, flags=flags, profile=profile))


@pytest.mark.parametrize("period", [2, 4, 9, 10, 30, 36])
@pytest.mark.parametrize("transposed", [False, True])
def test_every_period_comes_back(period: int, transposed: bool) -> None:
    stream_of(laplace((20, 36), 1.5), scan_of((20, 36), transposed=transposed, period=period))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([0, 0, 0, 1, -1, 2, 4, 5, 6, 7, -8, 9, 255, -4096, 65535 - 4096]), min_size=1, max_size=60)
)
def test_any_levels_come_back(levels: list[int]) -> None:
    stream_of(np.array(levels, np.int32), scan_of((len(levels),)))


def test_a_carry_runs_through_the_bytes_before() -> None:
    # The likely answers lie at the top of the interval: long runs of them fill the number with ones, and the next answer carries.
    for seed in range(20):
        levels = (np.random.default_rng(seed).random(20000) < 0.0005).astype(np.int32)
        stream_of(levels, scan_of(levels.shape))


def test_reading_group_by_group_is_reading_at_once() -> None:
    levels = laplace((23, 17), 2)
    symbols, low, high = symbols_of(levels)
    for transposed in (False, True):
        scan = scan_of(levels.shape, transposed=transposed)
        stream = encode(symbols, scan, low, high)
        reader = Reader(stream, scan, low, high)
        matrix = symbols.reshape(23, 17).T if transposed else symbols.reshape(23, 17)
        for first in range(0, scan.rows, 5):
            lines = min(5, scan.rows - first)
            group = np.zeros(lines * scan.columns, np.uint16)
            reader.read(group, lines)
            got = group.reshape(scan.columns, lines).T if transposed else group.reshape(lines, scan.columns)
            assert np.array_equal(got, matrix[first : first + lines])
        with pytest.raises(ValueError, match="fewer rows left"):
            reader.read(np.zeros(scan.columns, np.uint16), 1)


def test_a_stream_stops_at_what_is_allowed() -> None:
    symbols, low, high = symbols_of(laplace((100, 100), 3))
    scan = scan_of((100, 100))
    whole = encode(symbols, scan, low, high)
    assert whole is not None
    assert encode(symbols, scan, low, high, len(whole)) == whole
    assert encode(symbols, scan, low, high, len(whole) - 1) is None


def test_certain_answers_cost_almost_nothing() -> None:
    zeros = np.zeros((300, 300), np.int32)
    zeros[0, 0] = 1
    assert len(stream_of(zeros, scan_of(zeros.shape))) <= 12
    assert len(stream_of(zeros, scan_of(zeros.shape, flags=3))) <= 16


@pytest.mark.parametrize("flags", [0, 3])
@pytest.mark.parametrize("shape", [(80, 90), (10, 8, 3, 3), (700,)], ids=str)
def test_bits_are_the_size_of_the_stream(shape: tuple[int, ...], flags: int) -> None:
    levels = laplace(shape, 0.7)
    levels[::2] = 0
    scan = scan_of(shape, flags=flags)
    assert abs(bits(levels, scan) - 8 * len(stream_of(levels, scan))) <= 16
    assert bits(np.zeros((0, 3), np.int32)) == 0


def test_the_chosen_scan_knows_an_image() -> None:
    rng = np.random.default_rng(1)
    row, column = np.mgrid[:28, :28] - 13.5
    scale = np.exp(-(row**2 + column**2) / 40).reshape(-1)
    levels = np.rint(rng.standard_normal((60, 784)) * scale * 3).astype(np.int32)
    symbols, low, high = symbols_of(levels)
    scan, stream = choose_scan(symbols, levels.shape, low, high)
    assert stream == encode(symbols, scan, low, high)
    sampled = choose_scan(symbols, levels.shape, low, high, sample=9000)[0]
    assert 28 in (sampled.period, sampled.row_period)
    assert 28 in (scan.period, scan.row_period)
    assert bits(levels, scan) < bits(levels)


def test_the_chosen_scan_of_scales_by_column_and_kernel_signs() -> None:
    rng = np.random.default_rng(2)
    smooth = np.repeat(rng.standard_normal((40, 30, 1, 1)), 9, 2).reshape(40, 30, 3, 3) + 0.5 * rng.standard_normal(
        (40, 30, 3, 3)
    )
    levels = np.rint(2 * smooth).astype(np.int32)
    assert bits(levels) < 0.93 * bits(levels.reshape(40, 270)[:, rng.permutation(270)])


@pytest.mark.parametrize(
    "change",
    [{"rows": 0}, {"columns": 0}, {"rows": 7}, {"columns": 2**45}, {"profile": 4}, {"profile": -1}, {"flags": 4}],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int]) -> None:
    scan = Scan(**({"rows": 5, "columns": 6} | change))
    with pytest.raises(ValueError, match=r"rows|matrix"):
        encode(np.zeros(30, np.uint16), scan, 0, 3)


@pytest.mark.parametrize(("low", "high"), [(1, 3), (-70000, 3), (0, 70000), (-3, -1)])
def test_ranges_without_zero_or_too_wide_are_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="low"):
        encode(np.zeros(30, np.uint16), scan_of((5, 6)), low, high)
    with pytest.raises(ValueError, match="low"):
        reader_bytes(scan_of((5, 6)), low, high)


def test_symbols_above_the_range_are_refused() -> None:
    with pytest.raises(ValueError, match="above the palette"):
        encode(np.full(30, 4, np.uint16), scan_of((5, 6)), -1, 2)


def test_buffers_of_other_sizes_are_refused() -> None:
    scan = scan_of((5, 6))
    stream = encode(np.zeros(30, np.uint16), scan, 0, 3)
    with pytest.raises(ValueError, match="a matrix by rows or by columns"):
        Reader(stream, scan, 0, 3).read(np.zeros(29, np.uint16), 5)
    with pytest.raises(ValueError, match="a matrix by rows or by columns"):
        _adaptive.encode(np.zeros(30, np.uint16), 6, 2, 99, 5, 6, 1, 1, 1, 0, 3, 0, 0)


# Quantization.


@pytest.fixture(scope="module")
def weights() -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    return (rng.laplace(0, 1.2, (60, 90)) * np.exp(rng.standard_normal((60, 1)))).astype(np.float32)


def test_no_price_rounds_to_the_nearest(weights: NDArray[np.float32]) -> None:
    levels, spent = quantize(weights, 1.0, 0.0)
    assert np.abs(levels - weights).max() <= 0.5
    assert spent == pytest.approx(bits(levels), rel=1e-3)


def test_halves_go_towards_zero_when_bits_are_free() -> None:
    assert quantize(np.array([0.5, -0.5, 1.5, -2.5, 0.51], np.float32), 1.0, 0.0)[0].tolist() == [0, 0, 1, -2, 1]


@pytest.mark.parametrize("passes", [1, 2])
def test_a_higher_price_buys_fewer_bits_and_more_error(weights: NDArray[np.float32], passes: int) -> None:
    sizes, errors = [], []
    for price in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0, 3.0):
        levels, _ = quantize(weights, 1.0, price, passes=passes)
        sizes.append(bits(levels))
        errors.append(float(((levels - weights) ** 2).sum()))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


def test_it_beats_a_dead_zone_of_the_same_size(weights: NDArray[np.float32]) -> None:
    levels, _ = quantize(weights, 1.0, 0.15)
    size, error = bits(levels), float(((levels - weights) ** 2).sum())
    for zone in np.linspace(0.5, 0.95, 10):  # every dead zone that is no larger errs more
        rounded = (np.sign(weights) * np.floor(np.abs(weights) + 1 - zone)).astype(np.int32)
        assert bits(rounded) > size or float(((rounded - weights) ** 2).sum()) > error


def test_only_zero_and_the_neighbours_are_taken(weights: NDArray[np.float32]) -> None:
    levels, _ = quantize(weights, 1.0, 0.3)
    assert ((levels == 0) | (np.abs(weights) - np.abs(levels) >= -0.65) & (np.abs(weights - levels) < 1)).all()


def test_sensitive_weights_keep_their_values(weights: NDArray[np.float32]) -> None:
    sensitivity = np.ones_like(weights)
    sensitivity[:, ::2] = 1000
    levels, _ = quantize(weights, sensitivity, 0.5)
    assert np.abs(levels - weights)[:, ::2].max() <= 0.6
    assert np.abs(levels - weights)[:, 1::2].max() > 0.9
    assert np.array_equal(quantize(weights, 2.0, 1.0)[0], quantize(weights, np.ones_like(weights), 0.5)[0])


@pytest.mark.parametrize("seed", range(6))
def test_each_step_is_the_best_by_brute_force(seed: int) -> None:
    """The last weight, the levels before it being as they are: the cost of each candidate counted by the whole tensor's bits."""
    rng = np.random.default_rng(seed)
    weights = rng.laplace(0, 2, 40).astype(np.float32)
    weights[-1] = rng.uniform(0.2, 6)
    chosen, _ = quantize(weights, 1.0, 0.2, low=-100, high=100)
    costs = {}
    for candidate in sorted({0, int(weights[-1]), int(weights[-1] + 0.65)}):
        levels = np.append(chosen[:-1], candidate).astype(np.int32)
        spent = _adaptive.bits(levels, 40, 1, 1, 40, 1, 1, 1, -100, 100, 0, 0)
        costs[candidate] = (weights[-1] - candidate) ** 2 + 0.2 * spent
    assert (
        costs[int(chosen[-1])] <= min(costs.values()) + 0.2 * 0.1
    )  # counting may have woken other slots than choosing did


def test_the_first_choices_are_made_before_anything_is_known() -> None:
    # Nothing seen: every answer costs one bit, so 0 costs 1 and 1 costs 3 (not zero, positive, not above one).
    for weight, price in itertools.product((0.55, 0.7, 0.9), (0.05, 0.15, 0.3, 0.5)):
        expected = int((weight - 1) ** 2 + 3 * price < weight**2 + price)
        level = quantize(np.array([weight], np.float32), 1.0, price)[0][0]
        margin = abs((weight - 1) ** 2 + 2 * price - weight**2)
        assert level == expected or margin < 0.02


def test_levels_stay_in_range() -> None:
    weights = np.array([[-9.0, 9.0, 1e30, -1e30, 0.4, 3.0]], np.float32)
    assert quantize(weights, 1.0, 0.0, low=-2, high=3)[0].tolist() == [[-2, 3, 3, -2, 0, 3]]
    assert quantize(weights, 1.0, 0.1, low=0, high=3)[0].min() == 0


def test_quantizing_is_deterministic_and_leaves_its_input(weights: NDArray[np.float32]) -> None:
    before = weights.copy()
    first, again = (
        quantize(weights, 1.0, 0.1, scan=scan_of(weights.shape, transposed=True, flags=3)) for _ in range(2)
    )
    assert np.array_equal(first[0], again[0])
    assert first[1] == again[1]
    assert np.array_equal(weights, before)
    assert quantize(np.zeros((0, 4), np.float32), 1.0, 0.1)[0].shape == (0, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="finite"):
        quantize(np.array([1.0, value], np.float32), 1.0, 0.1)
    with pytest.raises(ConfigError, match="finite"):
        quantize(np.ones(2, np.float32), np.array([1.0, value], np.float32), 0.1)
    with pytest.raises(ConfigError, match="lambda"):
        quantize(np.ones(2, np.float32), 1.0, value)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="lambda"):
        quantize(np.ones(2, np.float32), 1.0, -1.0)
    with pytest.raises(ConfigError, match="passes"):
        quantize(np.ones(2, np.float32), 1.0, 0.1, passes=0)
    with pytest.raises(ConfigError, match="another shape"):
        quantize(np.ones((2, 3), np.float32), np.ones((3, 2), np.float32), 0.1)
    with pytest.raises(ConfigError, match="reach too far"):
        bits(np.array([70000], np.int32))
