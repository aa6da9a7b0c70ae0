"""Averaged higher-order SVD (AHOSVD) of a stream of features: one projection a mode, one pass, constant memory.

For features x of shape (d1, ..., dk), mode n of the whole stream is unfolded to X_(n) of shape (d_n, N * prod of the
other sizes). Its left singular vectors are the eigenvectors of the Gram matrix ``G_n = sum X_(n) X_(n)^T``, which adds
up over batches; the first r_n of them, as rows, are the projection P_n. Reduced features are ``x x_1 P_1 ... x_k P_k``
(De Lathauwer, De Moor, Vandewalle, SIAM J. Matrix Anal. Appl. 21 (2000) 1253; as a network layer: Meneghetti, Bianchi,
Demo, Rozza, J. Systems Architecture 175 (2026) 103778).

The published code instead averages the matrices U of the batches entry by entry. Singular vectors have no fixed sign
(and, where values are close, no fixed direction), so that average decays towards zero; it is here as ``"mean_u"`` for
comparison only. ``"projector"`` averages U U^T, which has neither freedom, and takes the leading eigenvectors.

Precision: each chunk of about half a million numbers is multiplied in float32 (float64 input: float64) and the chunks
are added in float64. The relative error of G_n is then near 1e-7 of its largest eigenvalue, which turns the subspace by
an angle of that order, and the reconstruction error changes with the square of the angle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from netpress.errors import ConfigError, DataError, UnknownNameError
from netpress.maths.chunks import SampleChunks
from netpress.maths.eigen import eigenvalues, leading_eigenvectors
from netpress.maths.ranks import check_feature_shape, check_ranks

Aggregation = Literal["gram", "projector", "mean_u"]


def unfold(features: Tensor, mode: int) -> Tensor:
    """Mode-n unfolding of a batch, transposed: (N, d1, ..., dk) -> (N * prod of the others, d_mode), mode from 0."""
    return features.movedim(mode + 1, -1).reshape(-1, features.shape[mode + 1])


def mode_gram(features: Tensor, mode: int) -> Tensor:
    """``X_(n) X_(n)^T`` of a batch: (N, d1, ..., dk) -> (d_mode, d_mode), in the dtype of the features."""
    rows = unfold(features, mode)
    return rows.T @ rows


class ModeGrams:
    """Streaming accumulator of the Gram matrices of all modes.

    Memory: the sum of d_n squared in float64, and one chunk of features. The result for ``"gram"`` does not depend on
    how the stream is cut into batches.

    Args:
        feature_shape: (d1, ..., dk), without the batch dimension; any k from 1.
        batch_ranks: Give the ranks here to keep also what ``"projector"`` and ``"mean_u"`` need: both are made of one
            decomposition a batch, so they cannot be had afterwards.

    Raises:
        ConfigError: If the shape or the ranks are out of range.
    """

    def __init__(self, feature_shape: Sequence[int] | int, *, batch_ranks: Sequence[int] | int | None = None) -> None:
        self.feature_shape = check_feature_shape(feature_shape)
        self.batch_ranks = None if batch_ranks is None else check_ranks(self.feature_shape, batch_ranks)
        self.samples = 0
        self.batches = 0
        self._chunks = SampleChunks(self.feature_shape)
        self._grams: list[Tensor] = []
        self._projectors: list[Tensor] = []
        self._bases: list[Tensor] = []

    def update(self, batch: Tensor) -> None:
        """Adds a batch.

        Args:
            batch: (N, d1, ..., dk); the first batch's device does the work.

        Raises:
            DataError: If the shape or the dtype does not fit.
        """
        for chunk in self._chunks.push(batch):
            self._add(chunk)
        if self.batch_ranks is not None and len(batch):
            self._add_batch_bases(batch.detach(), self.batch_ranks)
        self.samples += len(batch)
        self.batches += 1 if len(batch) else 0

    def grams(self) -> list[Tensor]:
        """G_n of all that was fed in, one (d_n, d_n) float64 matrix a mode.

        Raises:
            DataError: If nothing was fed in.
        """
        for chunk in self._chunks.flush():
            self._add(chunk)
        if not self._grams:
            raise DataError("no features were fed in", got="0 samples", allowed="1 or more")
        return self._grams

    def spectra(self) -> list[Tensor]:
        """Energies by mode: eigenvalues of G_n (squared singular values of X_(n)), (d_n,) float64, largest first."""
        return [eigenvalues(gram) for gram in self.grams()]

    def projections(self, ranks: Sequence[int] | int, aggregation: Aggregation = "gram") -> list[Tensor]:
        """P_n of shape (r_n, d_n), float64, one a mode.

        Rows are orthonormal, of decreasing energy, the entry of largest magnitude positive; for ``"mean_u"`` neither.

        Args:
            ranks: (r1, ..., rk), each in 1..d_n.
            aggregation: ``"gram"`` (whole stream), ``"projector"`` or ``"mean_u"`` (as published, flawed).

        Raises:
            ConfigError: If a rank is out of range, the aggregation is unknown, or it is one by batch whose
                ``batch_ranks`` were not given when the stream began.
            DataError: If nothing was fed in, or the features are not finite.
        """
        chosen = check_ranks(self.feature_shape, ranks)
        if aggregation not in get_args(Aggregation):
            raise UnknownNameError("aggregation", str(aggregation), get_args(Aggregation))
        grams = self.grams()
        if aggregation == "gram":
            return [leading_eigenvectors(g, rank).T.contiguous() for g, rank in zip(grams, chosen, strict=True)]
        if self.batch_ranks != chosen:
            raise ConfigError(
                f"aggregation {aggregation!r} decomposes each batch at ranks fixed before the stream",
                got=f"ranks {chosen}, batch_ranks {self.batch_ranks}",
                remedy=f"build with batch_ranks={chosen} and feed the features again",
            )
        if aggregation == "projector":
            pairs = zip(self._projectors, chosen, strict=True)
            return [leading_eigenvectors(projector / self.batches, rank).T.contiguous() for projector, rank in pairs]
        return [(basis / self.batches).T.contiguous() for basis in self._bases]

    def _add(self, chunk: Tensor) -> None:
        if not self._grams:
            self._grams = self._zeros(chunk, self.feature_shape)
        for mode, gram in enumerate(self._grams):
            gram += mode_gram(chunk, mode).to(gram)

    def _add_batch_bases(self, batch: Tensor, ranks: tuple[int, ...]) -> None:
        if not self._bases:
            self._projectors = self._zeros(batch, self.feature_shape)
            self._bases = self._zeros(batch, ranks)
        for mode, rank in enumerate(ranks):
            values, vectors = torch.linalg.eigh(
                mode_gram(batch.double(), mode)
            )  # ascending; signs as LAPACK leaves them
            basis = vectors.flip(1)[:, :rank]  # (d, r)
            self._bases[mode] += basis.to(self._bases[mode])
            # A batch may span fewer directions than the rank; what fills up its basis is arbitrary and must not count.
            kept = values.flip(0)[:rank] > values[-1].clamp_min(0) * len(values) * 1e-12
            self._projectors[mode] += (basis[:, kept] @ basis[:, kept].T).to(self._projectors[mode])

    def _zeros(self, like: Tensor, columns: Sequence[int]) -> list[Tensor]:
        shapes = zip(self.feature_shape, columns, strict=True)
        return [torch.zeros(rows, cols, dtype=torch.float64, device=like.device) for rows, cols in shapes]


def ahosvd(
    batches: Iterable[Tensor], ranks: Sequence[int] | int, aggregation: Aggregation = "gram"
) -> tuple[list[Tensor], list[Tensor]]:
    """AHOSVD of a stream in one call.

    Args:
        batches: Tensors (N, d1, ..., dk); read once.
        ranks: (r1, ..., rk).
        aggregation: As in ``ModeGrams.projections``.

    Returns:
        The projections P_n (r_n, d_n) and the energy spectra (d_n,), one a mode.

    Raises:
        ConfigError, DataError: As in ``ModeGrams``; an empty stream is a DataError.
    """
    accumulator: ModeGrams | None = None
    for batch in batches:
        if accumulator is None:
            by_batch = None if aggregation == "gram" else ranks
            accumulator = ModeGrams(batch.shape[1:], batch_ranks=by_batch)
        accumulator.update(batch)
    if accumulator is None:
        raise DataError("no features were fed in", got="0 batches", allowed="1 or more")
    return accumulator.projections(ranks, aggregation), accumulator.spectra()


def project(features: Tensor, projections: Sequence[Tensor]) -> Tensor:
    """``x x_1 P_1 ... x_k P_k``: (N, d1, ..., dk) -> (N, r1, ..., rk); P_n is (r_n, d_n)."""
    for mode, projection in enumerate(projections, start=1):
        features = (features.transpose(mode, -1) @ projection.T.to(features)).transpose(mode, -1)
    return features


def lift(reduced: Tensor, projections: Sequence[Tensor]) -> Tensor:
    """``y x_1 P_1^T ... x_k P_k^T``: (N, r1, ..., rk) -> (N, d1, ..., dk)."""
    return project(reduced, [projection.T for projection in projections])


def reconstruction_error(features: Tensor, projections: Sequence[Tensor]) -> float:
    """``||X - lift(project(X))|| / ||X||`` (Frobenius) of a batch, in float64; 0 for features that are all zero."""
    exact = features.detach().double()
    norm = torch.linalg.vector_norm(exact)
    if norm == 0:
        return 0.0
    return float(torch.linalg.vector_norm(exact - lift(project(exact, projections), projections)) / norm)


def cumulative_energy(spectrum: Tensor) -> Tensor:
    """Share of the energy in the first 1, 2, ..., d values: (d,), rising, in [0, 1]; ones where all energy is 0."""
    values = spectrum.double().clamp_min(0)
    total = values.sum()
    if total == 0:
        return torch.ones_like(values)
    return (values.cumsum(0) / total).clamp_max(1.0)


def ranks_by_energy(spectra: Sequence[Tensor], energy: float) -> tuple[int, ...]:
    """For each mode the smallest rank that keeps at least ``energy`` of that mode's energy.

    Args:
        spectra: Energies by mode, largest first.
        energy: In (0, 1].

    Raises:
        ConfigError: If ``energy`` is outside (0, 1].
    """
    if not 0 < energy <= 1:
        raise ConfigError("the share of energy to keep is out of range", got=energy, allowed="above 0, at most 1")
    # Sums of float64 values can miss a share such as 1.0 by their own rounding.
    return tuple(int((cumulative_energy(s) < energy - 1e-12).sum().item()) + 1 for s in spectra)
