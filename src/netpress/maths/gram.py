"""Gram matrices, of which one half says all."""

from __future__ import annotations

import torch
from torch import Tensor

TILE = 512  # rows at a time: large enough for a fast product, small enough to leave out nearly half of it


def gram(columns: Tensor) -> Tensor:
    """y yᵀ of columns y, each block on one side of the diagonal computed once: for many rows little more than half of the work.

    Args:
        columns: (..., d, n).

    Returns:
        (..., d, d), symmetric to the last bit where d is above ``TILE``.
    """
    size = columns.shape[-2]
    turned = columns.transpose(-1, -2)
    if size <= TILE:
        return columns @ turned
    product = columns.new_empty(*columns.shape[:-2], size, size)
    for start in range(0, size, TILE):
        rows = slice(start, min(start + TILE, size))
        block = columns[..., rows, :] @ turned[..., start:]  # (..., TILE, d - start)
        product[..., rows, start:] = block
        product[..., start:, rows] = block.transpose(-1, -2)
        corner = product[..., rows, rows]
        corner.copy_((corner + corner.transpose(-1, -2)) / 2)
    return product


def solve_gram(matrix: Tensor, right: Tensor) -> Tensor:
    """X with ``matrix`` X = ``right``, for a symmetric positive definite matrix: half the work of a general solve.

    Where rounding has left the matrix indefinite the general solve is taken.

    Args:
        matrix: (..., d, d).
        right: (..., d, k).
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed.any()):
        return torch.linalg.solve(matrix, right)
    return torch.cholesky_solve(right, factor)
