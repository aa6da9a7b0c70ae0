"""Leading eigenvectors of symmetric positive semidefinite matrices, with fixed signs."""

from __future__ import annotations

import torch
from torch import Tensor

from netpress.errors import DataError

DENSE_SIZE = 1024
"""Up to this size the full decomposition is quicker than iterating."""


def fix_signs(vectors: Tensor) -> Tensor:
    """Flips columns so that the entry of largest magnitude (the first of equals) is positive.

    An eigenvector has no sign of its own; this makes results repeatable from run to run.

    Args:
        vectors: (d, r), one vector a column.
    """
    if vectors.numel() == 0:
        return vectors
    largest = vectors.abs().argmax(dim=0, keepdim=True)  # (1, r)
    return vectors * torch.where(vectors.gather(0, largest) < 0, -1.0, 1.0).to(vectors.dtype)


def eigenvalues(matrix: Tensor) -> Tensor:
    """All eigenvalues of a symmetric positive semidefinite (d, d) matrix, largest first, rounding below zero cut off.

    Raises:
        DataError: If the matrix is not finite.
    """
    return torch.linalg.eigvalsh(_finite(matrix)).flip(0).clamp_min(0)  # (d,)


def leading_eigenvectors(matrix: Tensor, rank: int) -> Tensor:
    """The ``rank`` eigenvectors of largest eigenvalue of a symmetric positive semidefinite matrix.

    Small matrices are decomposed in full. Large ones, of which few vectors are wanted, go through a block Lanczos
    iteration from a random block, with full orthogonalisation, until the captured energy stands still (Musco and Musco,
    NeurIPS 2015, on why few rounds do also where eigenvalues are close). That is several times quicker than ``eigh`` at
    4,096; should it not settle, the full decomposition is taken.

    Args:
        matrix: (d, d).
        rank: Between 1 and d.

    Returns:
        (d, rank), orthonormal columns, largest first, signs as by ``fix_signs``.

    Raises:
        DataError: If the matrix is not finite.
    """
    matrix = _finite(matrix)
    size = len(matrix)
    if size > DENSE_SIZE and 8 * rank <= size:
        vectors = _block_lanczos(matrix, rank)
        if vectors is not None:
            return fix_signs(vectors)
    return fix_signs(torch.linalg.eigh(matrix).eigenvectors.flip(1)[:, :rank])  # (d, rank)


def _block_lanczos(matrix: Tensor, rank: int, tolerance: float = 1e-9) -> Tensor | None:
    """Ritz vectors (d, rank), or None where they have not settled on a Krylov space of a quarter of d."""
    width = rank + 8
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(len(matrix), width, generator=generator, dtype=torch.float64)
    block = torch.linalg.qr(start.to(matrix)).Q  # (d, width)
    basis, images = block, matrix @ block  # (d, width), (d, width); a block wider every round
    before = float("-inf")
    while basis.shape[1] <= len(matrix) // 4:
        block = images[:, -width:]
        for _ in range(2):  # twice is enough to stay orthogonal to rounding
            block = block - basis @ (basis.T @ block)
            block = torch.linalg.qr(block).Q
        basis = torch.cat([basis, block], 1)
        images = torch.cat([images, matrix @ block], 1)
        small = basis.T @ images
        values, rotation = torch.linalg.eigh((small + small.T) / 2)
        captured = float(values[-rank:].sum())
        if captured - before <= tolerance * captured:
            return basis @ rotation.flip(1)[:, :rank]  # (d, rank)
        before = captured
    return None


def _finite(matrix: Tensor) -> Tensor:
    if not bool(torch.isfinite(matrix).all()):
        raise DataError(
            "the features are not finite (NaN or infinite values reached the accumulated matrix)",
            remedy="check the network's weights and the data, or cut at another layer",
        )
    return matrix
