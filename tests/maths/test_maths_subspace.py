"""Laws of POD and active subspaces, exact and sketched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from netpress.errors import ConfigError, DataError
from netpress.maths import ExactSubspace, SketchedSubspace, pod, reconstruction_error
from netpress.maths.eigen import DENSE_SIZE, leading_eigenvectors


def decaying(samples: int, size: int, power: float = 1.0) -> Tensor:
    """Samples whose singular values fall as 1 / k^power, in random directions."""
    rank = min(samples, size)
    left, right = torch.linalg.qr(torch.randn(samples, rank)).Q, torch.linalg.qr(torch.randn(size, rank)).Q
    return left * torch.arange(1, rank + 1).float() ** -power @ right.T


def test_two_by_two_by_hand() -> None:
    # X^T X = [[1, 1], [1, 1]] + [[1, -1], [-1, 1]] / 4: eigenvalues 2 along (1, 1) and 1/2 along (1, -1).
    features = torch.tensor([[1.0, 1.0], [0.5, -0.5]])
    for accumulator in (ExactSubspace(2), SketchedSubspace(2, 2)):
        accumulator.update(features)
        assert accumulator.spectrum().tolist() == pytest.approx([2.0, 0.5])
        torch.testing.assert_close(accumulator.basis(1).abs(), torch.full((1, 2), 0.5**0.5, dtype=torch.float64))
        assert accumulator.total_energy() == pytest.approx(2.5)


@pytest.mark.parametrize("randomised", [False, True])
@pytest.mark.parametrize("rank", [1, 8, 20])
def test_reconstructs_as_well_as_the_svd(randomised: bool, rank: int) -> None:
    features = decaying(300, 120)
    accumulator = pod((10, 4, 3), 20, randomised=randomised)
    for part in features.split(37):
        accumulator.update(part.reshape(-1, 10, 4, 3))
    basis = accumulator.basis(rank)
    torch.testing.assert_close(basis @ basis.T, torch.eye(rank, dtype=torch.float64))
    best = reconstruction_error(features, [torch.linalg.svd(features.double(), full_matrices=False).Vh[:rank]])
    assert best <= reconstruction_error(features, [basis]) * (1 + 1e-9)
    assert reconstruction_error(features, [basis]) <= (1.02 if randomised else 1.00001) * best


def test_exact_does_not_depend_on_batches_and_higher_rank_is_never_worse() -> None:
    features = torch.randn(700, 40)
    whole, parts = ExactSubspace(40), ExactSubspace(40)
    whole.update(features)
    for part in features.split(11):
        parts.update(part)
    assert torch.equal(whole.basis(7), parts.basis(7))
    errors = [reconstruction_error(features, [whole.basis(r)]) for r in (1, 5, 20, 40)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6


def test_sketch_is_exact_on_data_of_low_rank_and_fills_up_the_basis() -> None:
    features = torch.randn(50, 3) @ torch.randn(3, 200)
    sketch = SketchedSubspace(200, 8, oversample=2)
    for part in features.split(9):
        sketch.update(part)
    assert reconstruction_error(features, [sketch.basis(3)]) < 1e-6
    exact = torch.linalg.svdvals(features.double()).square()
    torch.testing.assert_close(sketch.spectrum()[:3], exact[:3], rtol=1e-6, atol=0)
    assert float(sketch.spectrum()[3:].max()) < 1e-6 * float(exact[0])
    basis = sketch.basis(8)
    torch.testing.assert_close(basis @ basis.T, torch.eye(8, dtype=torch.float64))


def test_sketch_of_zeros_still_gives_a_basis() -> None:
    sketch = SketchedSubspace(12, 3)
    sketch.update(torch.zeros(5, 12))
    basis = sketch.basis(3)
    torch.testing.assert_close(basis @ basis.T, torch.eye(3, dtype=torch.float64))
    assert sketch.spectrum().tolist() == [0.0, 0.0, 0.0]


def test_sketched_energies_stay_below_the_true_ones() -> None:
    features = decaying(200, 150, 0.5)
    sketch = SketchedSubspace(150, 12, seed=3)
    sketch.update(features)
    exact = torch.linalg.svdvals(features.double()).square()[:12]
    assert bool((sketch.spectrum() <= exact * (1 + 1e-6)).all())
    assert sketch.total_energy() == pytest.approx(float(features.square().sum()), rel=1e-5)


def test_active_subspace_finds_the_directions_the_function_depends_on() -> None:
    # f(x) = sin(a.x) + (b.x)^2 has gradients in span{a, b}.
    a, b = torch.randn(30), torch.randn(30)
    points = torch.randn(500, 30, requires_grad=True)
    (torch.sin(points @ a).sum() + (points @ b).square().sum()).backward()
    assert points.grad is not None
    for randomised in (False, True):
        accumulator = pod(30, 2, randomised=randomised)
        accumulator.update(points.grad)
        basis = accumulator.basis(2)
        for direction in (a.double(), b.double()):
            assert float((basis @ direction).norm() / direction.norm()) == pytest.approx(1.0, abs=1e-6)


def test_iterated_eigenvectors_match_the_full_decomposition() -> None:
    size = DENSE_SIZE + 176
    features = decaying(400, size).double()
    matrix = features.T @ features
    found = leading_eigenvectors(matrix, 10)
    exact = torch.linalg.svd(features, full_matrices=False).Vh[:10].T
    torch.testing.assert_close(found.T @ found, torch.eye(10, dtype=torch.float64))
    captured = float((found.T @ matrix @ found).trace())
    assert captured == pytest.approx(float((exact.T @ matrix @ exact).trace()), rel=1e-8)


@pytest.mark.parametrize("kind", ["zero", "identity", "rank 3"])
def test_iterated_eigenvectors_of_degenerate_matrices_are_orthonormal(kind: str) -> None:
    size = DENSE_SIZE + 1
    factor = torch.randn(size, 3, dtype=torch.float64)
    matrix = {
        "zero": torch.zeros(size, size).double(),
        "identity": torch.eye(size).double(),
        "rank 3": factor @ factor.T,
    }
    found = leading_eigenvectors(matrix[kind], 9)
    torch.testing.assert_close(found.T @ found, torch.eye(9, dtype=torch.float64))
    if kind == "rank 3":
        torch.testing.assert_close(found @ (found.T @ factor), factor)


def test_the_gram_matrix_is_kept_up_to_a_size() -> None:
    assert isinstance(pod((2, 4096), 5), ExactSubspace)
    assert isinstance(pod((3, 4096), 5), SketchedSubspace)


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"does not fit features of 12 numbers; got: 13; allowed: 1\.\.12"):
        pod((3, 4), 13)
    sketch = SketchedSubspace(12, 3)
    with pytest.raises(ConfigError, match=r"not made for this rank; got: 4; allowed: 1\.\.3"):
        sketch.basis(4)
    with pytest.raises(ConfigError, match="oversampling"):
        SketchedSubspace(12, 3, oversample=-1)
    for empty in (sketch, ExactSubspace(12)):
        with pytest.raises(DataError, match="nothing was fed"):
            empty.basis(1)
        empty.update(torch.full((1, 12), float("inf")))
        with pytest.raises(DataError, match="not finite"):
            empty.basis(1)
        with pytest.raises(DataError, match="wrong shape"):
            empty.update(torch.randn(2, 5))
