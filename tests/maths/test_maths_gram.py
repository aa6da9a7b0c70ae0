"""Gram matrices in halves: the same numbers as the whole product, symmetric, and solves that leave nothing."""

from __future__ import annotations

import pytest
import torch

from netpress.maths.gram import TILE, gram, solve_gram


@pytest.mark.parametrize("size", [1, 3, TILE, TILE + 1, 2 * TILE + 7])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_it_is_the_product(size: int, batch: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    y = torch.randn(*batch, size, 9, dtype=torch.float64)
    found = gram(y)
    assert torch.allclose(found, y @ y.transpose(-1, -2), atol=1e-12)
    if size > TILE:
        assert torch.equal(found, found.transpose(-1, -2))


def test_no_columns_are_no_energy() -> None:
    assert torch.equal(gram(torch.zeros(TILE + 2, 0)), torch.zeros(TILE + 2, TILE + 2))


def test_a_solve_leaves_nothing() -> None:
    torch.manual_seed(1)
    matrix = gram(torch.randn(2, 6, 20, dtype=torch.float64))
    right = torch.randn(2, 6, 3, dtype=torch.float64)
    assert torch.allclose(matrix @ solve_gram(matrix, right), right, atol=1e-10)


def test_an_indefinite_matrix_is_solved_as_any_other() -> None:
    matrix = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)  # eigenvalues 3 and -1
    right = torch.tensor([[3.0], [3.0]], dtype=torch.float64)
    assert torch.allclose(solve_gram(matrix, right), torch.ones(2, 1, dtype=torch.float64))
