"""Laws of the streaming AHOSVD."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from netpress.errors import ConfigError, DataError, UnknownNameError
from netpress.maths import (
    ModeGrams,
    ahosvd,
    contraction_macs,
    contraction_order,
    cumulative_energy,
    lift,
    project,
    ranks_by_energy,
    reconstruction_error,
)
from netpress.maths.hosvd import unfold


def low_rank(samples: int, shape: tuple[int, ...], ranks: tuple[int, ...], noise: float = 0.02) -> Tensor:
    """Features with a shared Tucker subspace of the given ranks, and some noise."""
    bases = [torch.linalg.qr(torch.randn(d, r)).Q.T for d, r in zip(shape, ranks, strict=True)]
    return lift(torch.randn(samples, *ranks), bases) + noise * torch.randn(samples, *shape)


def exact_projections(features: Tensor, ranks: tuple[int, ...]) -> list[Tensor]:
    return [torch.linalg.svd(unfold(features.double(), m), full_matrices=False).Vh[:r] for m, r in enumerate(ranks)]


def fit(features: Tensor, batch: int, ranks: tuple[int, ...]) -> list[Tensor]:
    grams = ModeGrams(features.shape[1:])
    for part in features.split(batch):
        grams.update(part)
    return grams.projections(ranks)


def test_two_by_two_by_hand() -> None:
    # X = diag(3, 4): both Gram matrices are diag(9, 16), so rank 1 keeps the second direction of each mode.
    grams = ModeGrams((2, 2))
    grams.update(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]))
    assert torch.equal(grams.grams()[0], torch.diag(torch.tensor([9.0, 16.0], dtype=torch.float64)))
    assert [s.tolist() for s in grams.spectra()] == [[16.0, 9.0], [16.0, 9.0]]
    projections = grams.projections((1, 1))
    assert [p.tolist() for p in projections] == [[[0.0, 1.0]], [[0.0, 1.0]]]
    features = torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])
    assert project(features, projections).tolist() == [[[4.0]]]
    assert reconstruction_error(features, projections) == pytest.approx(3 / 5)  # sqrt(9 / 25)
    assert ranks_by_energy(grams.spectra(), 0.64) == (1, 1)  # 16 / 25 = .64
    assert ranks_by_energy(grams.spectra(), 0.65) == (2, 2)


@settings(deadline=None, max_examples=25)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    samples=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_rows_orthonormal_and_full_rank_exact_for_any_order(shape: tuple[int, ...], samples: int, seed: int) -> None:
    features = torch.randn(samples, *shape, generator=torch.Generator().manual_seed(seed))
    projections = fit(features, 4, shape)
    for projection, size in zip(projections, shape, strict=True):
        assert projection.shape == (size, size)
        torch.testing.assert_close(projection @ projection.T, torch.eye(size, dtype=torch.float64))
        largest = projection.gather(1, projection.abs().argmax(1, keepdim=True))
        assert bool((largest > 0).all())
    assert reconstruction_error(features, projections) < 1e-10


def test_same_subspace_as_svd_of_the_unfolding() -> None:
    features = low_rank(60, (12, 5, 7), (4, 2, 3))
    for found, exact in zip(fit(features, 7, (4, 2, 3)), exact_projections(features, (4, 2, 3)), strict=True):
        torch.testing.assert_close(found.T @ found, exact.T @ exact, atol=1e-6, rtol=0)


def test_error_is_at_most_a_thousandth_above_exact_float64_grams() -> None:
    # All-positive features with a large mean: the hardest case for float32 sums.
    features = torch.relu(low_rank(400, (64, 4, 4), (10, 3, 3), 0.001) + 3)
    ranks = (10, 3, 3)
    found = reconstruction_error(features, fit(features, 50, ranks))
    assert found <= 1.001 * reconstruction_error(features, exact_projections(features, ranks))


def test_a_higher_rank_never_reconstructs_worse() -> None:
    features = torch.randn(40, 6, 4, 3)
    errors = {
        r: reconstruction_error(features, fit(features, 40, r)) for r in itertools.product((1, 3, 6), (1, 4), (1, 3))
    }
    for low, high in itertools.product(errors, errors):
        if all(a <= b for a, b in zip(low, high, strict=True)):
            assert errors[high] <= errors[low] + 1e-9


@pytest.mark.parametrize("batch", [1, 3, 64, 1000])
def test_batch_size_does_not_matter_to_a_bit(batch: int) -> None:
    features = torch.randn(1000, 64, 5, 3)  # several chunks, the last one partial
    whole = fit(features, 1000, (8, 2, 2))
    assert all(torch.equal(a, b) for a, b in zip(fit(features, batch, (8, 2, 2)), whole, strict=True))


def test_reading_does_not_disturb_the_stream() -> None:
    features = torch.randn(30, 4, 3)
    grams = ModeGrams((4, 3))
    for part in features.split(7):
        grams.update(part)
        grams.projections((2, 2))
    for found, exact in zip(grams.grams(), grams_of(features).grams(), strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-5)
    assert grams.samples == 30


def grams_of(features: Tensor) -> ModeGrams:
    grams = ModeGrams(features.shape[1:])
    grams.update(features)
    return grams


def test_the_callers_batch_may_be_reused() -> None:
    batch = torch.ones(2, 3)
    grams = ModeGrams(3)
    grams.update(batch)
    batch.zero_()
    assert torch.equal(grams.grams()[0], torch.full((3, 3), 2.0, dtype=torch.float64))


def test_mean_u_collapses_where_gram_and_projector_are_near_the_optimum() -> None:
    shape, ranks = (64, 4, 4), (8, 2, 2)
    features = low_rank(400, shape, ranks)
    optimum = reconstruction_error(features, exact_projections(features, ranks))
    parts = features.split(4)
    error = {a: reconstruction_error(features, ahosvd(parts, ranks, a)[0]) for a in ("gram", "projector", "mean_u")}
    assert optimum < 0.25
    assert error["gram"] <= 1.001 * optimum
    assert error["projector"] <= 1.05 * optimum
    assert error["mean_u"] > 0.9


def test_projector_ignores_directions_a_batch_does_not_span() -> None:
    # One direction a batch at rank 2: what completes the batch's basis is arbitrary and must leave no trace.
    basis = torch.linalg.qr(torch.randn(10, 2)).Q
    grams = ModeGrams(10, batch_ranks=2)
    for number in range(6):
        grams.update(basis[:, number % 2][None] * (1 + number))
    (found,) = grams.projections(2, "projector")
    torch.testing.assert_close(found.T @ found, (basis @ basis.T).double(), atol=1e-6, rtol=0)


def test_energy_is_a_rising_share() -> None:
    share = cumulative_energy(grams_of(torch.randn(9, 6, 5)).spectra()[0])
    assert bool((share.diff() >= 0).all())
    assert bool((share >= 0).all())
    assert float(share[-1]) == pytest.approx(1.0)
    assert cumulative_energy(torch.zeros(3)).tolist() == [1.0, 1.0, 1.0]
    assert ranks_by_energy([torch.zeros(3)], 1.0) == (1,)
    assert ranks_by_energy([torch.tensor([0.1] * 7)], 1.0) == (7,)


def test_half_precision_input() -> None:
    grams = ModeGrams(4)
    grams.update(torch.full((100, 4), 300.0, dtype=torch.float16))  # 300 squared is beyond float16
    torch.testing.assert_close(grams.grams()[0], torch.full((4, 4), 9e6, dtype=torch.float64))


@settings(deadline=None, max_examples=40)
@given(pairs=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=4))
def test_contraction_order_needs_the_fewest_macs(pairs: list[tuple[int, int]]) -> None:
    shape, ranks = [max(p) for p in pairs], [min(p) for p in pairs]
    orders = itertools.permutations(range(len(pairs)))
    chosen = contraction_macs(shape, ranks, contraction_order(shape, ranks))
    assert chosen == min(contraction_macs(shape, ranks, order) for order in orders)


def test_contraction_macs_by_hand() -> None:
    # W: 256*4*4*3 = 12,288, H: 256*4*3*3 = 9,216, C: 256*3*3*35 = 80,640
    assert contraction_macs((256, 4, 4), (35, 3, 3), (2, 1, 0)) == 102_144
    assert contraction_order((256, 4, 4), (35, 3, 3))[-1] == 0


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"rank of mode 2 .*\(4, 3\).*got: 4; allowed: 1\.\.3"):
        grams_of(torch.randn(2, 4, 3)).projections((1, 4))
    with pytest.raises(ConfigError, match=r"need 2 ranks.*got: 1 \(1,\)"):
        grams_of(torch.randn(2, 4, 3)).projections((1,))
    with pytest.raises(UnknownNameError, match=r"unknown aggregation; got: 'gramm'.*did you mean 'gram'"):
        grams_of(torch.randn(2, 4)).projections(1, "gramm")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"batch_ranks None; remedy: build with batch_ranks=\(1,\)"):
        grams_of(torch.randn(2, 4)).projections(1, "projector")
    with pytest.raises(DataError, match=r"wrong shape; got: \(2, 5\); allowed: \('N', 4\)"):
        ModeGrams(4).update(torch.randn(2, 5))
    with pytest.raises(DataError, match="floating-point"):
        ModeGrams(4).update(torch.ones(2, 4, dtype=torch.int64))
    with pytest.raises(DataError, match="no features were fed in"):
        ModeGrams(4).projections(1)
    with pytest.raises(DataError, match="0 batches"):
        ahosvd([], 1)
    with pytest.raises(DataError, match="not finite"):
        grams_of(torch.full((2, 3), float("nan"))).projections(1)
    with pytest.raises(ConfigError, match="share of energy"):
        ranks_by_energy([torch.ones(2)], 1.5)
    with pytest.raises(ConfigError, match="at least one size"):
        ModeGrams((4, 0))


MEASURE = """
import resource, statistics, sys, time, torch
from netpress.maths import ModeGrams
torch.set_num_threads(1)
grams, updates = ModeGrams((256, 4, 4)), []
for _ in range(int(sys.argv[1]) // 100):
    batch = torch.randn(100, 256, 4, 4)
    start = time.process_time()
    grams.update(batch)
    updates.append(time.process_time() - start)
start = time.process_time()
grams.projections((35, 3, 3))
finish = time.process_time() - start
print(statistics.median(updates), finish, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_time_grows_linearly_and_memory_stays() -> None:
    rows = [
        subprocess.run([sys.executable, "-c", MEASURE, samples], capture_output=True, text=True, check=True).stdout
        for samples in ("2000", "20000")
    ]
    (update_s, finish_s, mib), (late_update_s, _, late_mib) = (tuple(map(float, row.split())) for row in rows)
    assert finish_s <= 20 * update_s  # no more than all updates; of the processor's time, as other work may share it
    assert late_update_s <= 3 * update_s
    assert late_mib < 600
    assert late_mib < mib + 50
