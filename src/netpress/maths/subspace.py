"""One subspace of flattened features: POD and active subspaces, streaming, in constant memory.

*POD* (proper orthogonal decomposition): the leading right singular vectors of the uncentred feature matrix X (N, n).
*Active subspace*: the leading eigenvectors of ``C = E[g g^T]`` of the loss gradients g at the cut (Constantine, Dow,
Wang, SIAM J. Sci. Comput. 36 (2014) A1500). Both are leading eigenvectors of ``sum x x^T``, over features or over
gradients, so one pair of accumulators serves both:

- ``ExactSubspace`` keeps the n x n Gram matrix in float64 (128 MiB at n = 4,096).
- ``SketchedSubspace`` keeps ``Y = (sum x x^T) W`` for a random n x l test matrix W, and takes a Nystroem approximation
  of the Gram matrix from it: one pass, n x l numbers (Halko, Martinsson, Tropp, SIAM Review 53 (2011) 217, section 5.5;
  in the stable form of Tropp, Yurtsever, Udell, Cevher, NeurIPS 2017). Exact when the rank of the data is at most l.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from netpress.errors import ConfigError, DataError
from netpress.maths.chunks import CHUNK_ELEMENTS, SampleChunks
from netpress.maths.eigen import eigenvalues, fix_signs, leading_eigenvectors
from netpress.maths.ranks import check_feature_shape, check_rank

EXACT_SIZE = 8192
"""Up to this flat size the Gram matrix is kept (512 MiB); above it, a sketch."""


class Subspace(Protocol):
    """What both accumulators are."""

    size: int
    samples: int

    def update(self, batch: Tensor) -> None:
        """Adds a batch (N, ...) of features or gradients; flattened to (N, size)."""

    def basis(self, rank: int) -> Tensor:
        """(rank, size), float64: orthonormal rows of decreasing energy, fixed signs."""
        ...

    def spectrum(self) -> Tensor:
        """Energies (squared singular values), float64, largest first: all of them, or the sketch's estimates."""
        ...

    def total_energy(self) -> float:
        """The sum of squares of all that was fed in."""
        ...


class ExactSubspace:
    """Gram matrix of the whole stream: exact up to rounding, and independent of how the stream was cut into batches.

    Products are taken in the batch's precision (at least float32) chunk by chunk, and added in float64.

    Args:
        feature_shape: Shape or size of one sample; flattened to n.

    Raises:
        ConfigError: If the shape is empty or a size is below 1.
    """

    def __init__(self, feature_shape: Sequence[int] | int) -> None:
        self.size = torch.Size(check_feature_shape(feature_shape)).numel()
        self.samples = 0
        # Few large chunks: each adds an n x n matrix.
        self._chunks = SampleChunks((self.size,), capacity=max(256, min(2**22 // self.size, 4096)))
        self._gram: Tensor | None = None

    def update(self, batch: Tensor) -> None:
        """Adds a batch (N, ...).

        Raises:
            DataError: If the shape or the dtype does not fit.
        """
        for chunk in self._chunks.push(batch.flatten(1)):  # (N, ...) -> (N, n)
            self._add(chunk)
        self.samples += len(batch)

    def basis(self, rank: int) -> Tensor:
        """(rank, n), float64: orthonormal rows of decreasing energy, fixed signs.

        Raises:
            ConfigError: If the rank is outside 1..n.
            DataError: If nothing was fed in, or it is not finite.
        """
        check_rank(self.size, rank)
        return leading_eigenvectors(self._finished(), rank).T.contiguous()

    def spectrum(self) -> Tensor:
        """(n,), float64: all energies, largest first. Takes a full decomposition: seconds from n = 4,096 on."""
        return eigenvalues(self._finished())

    def total_energy(self) -> float:
        """The sum of squares of all that was fed in."""
        return float(self._finished().trace())

    def _finished(self) -> Tensor:
        for chunk in self._chunks.flush():
            self._add(chunk)
        if self._gram is None:
            raise DataError("nothing was fed into the subspace", got="0 samples", allowed="1 or more")
        return self._gram

    def _add(self, chunk: Tensor) -> None:
        if self._gram is None:
            self._gram = torch.zeros(self.size, self.size, dtype=torch.float64, device=chunk.device)
        self._gram += (chunk.T @ chunk).to(self._gram)


class SketchedSubspace:
    """Randomised sketch of the Gram matrix, for flat sizes whose Gram matrix would not fit.

    Args:
        feature_shape: Shape or size of one sample; flattened to n.
        max_rank: The largest rank that will be asked for.
        oversample: Further columns of the sketch; None: ``max_rank + 16``, which keeps the captured energy close to the
            optimum also where the spectrum falls slowly.
        seed: Of the random test matrix.

    Raises:
        ConfigError: If the shape, the rank or ``oversample`` is out of range.
    """

    def __init__(
        self, feature_shape: Sequence[int] | int, max_rank: int, *, oversample: int | None = None, seed: int = 0
    ) -> None:
        self.size = torch.Size(check_feature_shape(feature_shape)).numel()
        self.max_rank = check_rank(self.size, max_rank)
        if oversample is not None and oversample < 0:
            raise ConfigError("the sketch's oversampling is out of range", got=oversample, allowed="0 or more")
        self.samples = 0
        width = min(self.size, max_rank + (max_rank + 16 if oversample is None else oversample))
        generator = torch.Generator().manual_seed(seed)
        self._test = torch.linalg.qr(torch.randn(self.size, width, generator=generator, dtype=torch.float64)).Q
        # Each chunk touches all of the n x l image, so that tiny chunks would be slow.
        self._chunks = SampleChunks((self.size,), capacity=max(128, CHUNK_ELEMENTS // self.size))
        self._image: Tensor | None = None
        self._energy = 0.0

    def update(self, batch: Tensor) -> None:
        """Adds a batch (N, ...).

        Raises:
            DataError: If the shape or the dtype does not fit.
        """
        for chunk in self._chunks.push(batch.flatten(1)):  # (N, ...) -> (N, n)
            self._add(chunk)
        self.samples += len(batch)

    def basis(self, rank: int) -> Tensor:
        """(rank, n), float64: orthonormal rows of decreasing energy, fixed signs.

        Raises:
            ConfigError: If the rank is outside 1..max_rank.
            DataError: If nothing was fed in, or it is not finite.
        """
        if not 1 <= rank <= self.max_rank:
            raise ConfigError("the sketch was not made for this rank", got=rank, allowed=f"1..{self.max_rank}")
        return fix_signs(self._decompose()[0][:, :rank]).T.contiguous()

    def spectrum(self) -> Tensor:
        """(max_rank,), float64: estimates of the leading energies, never above the true ones but for rounding."""
        return self._decompose()[1][: self.max_rank]

    def total_energy(self) -> float:
        """The sum of squares of all that was fed in."""
        self._finished()
        return self._energy

    def _decompose(self) -> tuple[Tensor, Tensor]:
        """Nystroem eigenvectors (n, l) and eigenvalues (l,), largest first."""
        image = self._finished()
        if not bool(torch.isfinite(image).all()):
            raise DataError("the features are not finite", remedy="check the network's weights and the data")
        # A small multiple of the identity, taken off again below, keeps the core invertible (Tropp et al.).
        shift = self.size**0.5 * torch.finfo(torch.float64).eps * float(torch.linalg.vector_norm(image))
        test = self._test.to(image)
        shifted = image + shift * test  # (n, l)
        core = test.T @ shifted  # (l, l)
        values, vectors = torch.linalg.eigh((core + core.T) / 2)
        kept = values > shift / 2
        roots = vectors[:, kept] / values[kept].sqrt()  # (l, l'): core^(-1/2) on its range
        left, singular, _ = torch.linalg.svd(shifted @ roots, full_matrices=False)  # (n, l'), (l',)
        energies = (singular.square() - shift).clamp_min(0)
        missing = image.shape[1] - left.shape[1]
        if missing:  # data of lower rank than the sketch: fill up with any orthonormal complement, of energy 0
            filler = test - left @ (left.T @ test)
            extra = torch.linalg.svd(filler, full_matrices=False).U[:, :missing]
            left = torch.cat([left, extra], 1)
            energies = torch.cat([energies, energies.new_zeros(missing)])
        return left, energies

    def _finished(self) -> Tensor:
        for chunk in self._chunks.flush():
            self._add(chunk)
        if self._image is None:
            raise DataError("nothing was fed into the subspace", got="0 samples", allowed="1 or more")
        return self._image

    def _add(self, chunk: Tensor) -> None:
        if self._image is None:
            self._test = self._test.to(chunk.device)
            self._image = torch.zeros_like(self._test)
        # In float64 throughout: the core of the sketch squares relative errors of single products.
        values = chunk.to(self._image)
        self._image.addmm_(values.T, values @ self._test)
        self._energy += float(values.square().sum())


def pod(
    feature_shape: Sequence[int] | int, max_rank: int, *, randomised: bool | None = None, seed: int = 0
) -> ExactSubspace | SketchedSubspace:
    """The accumulator for POD of features of this shape, or for an active subspace when fed with gradients.

    Args:
        feature_shape: Shape of one sample.
        max_rank: The largest rank that will be asked for.
        randomised: True for the sketch, False for the Gram matrix, None to take the Gram matrix up to ``EXACT_SIZE``.
        seed: Of the sketch.

    Raises:
        ConfigError: If a shape or a rank is out of range.
    """
    size = torch.Size(check_feature_shape(feature_shape)).numel()
    check_rank(size, max_rank)
    if randomised is None:
        randomised = size > EXACT_SIZE
    return SketchedSubspace(size, max_rank, seed=seed) if randomised else ExactSubspace(size)
