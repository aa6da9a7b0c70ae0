"""Pure tensor functions and small streaming accumulators: no modules, no files."""

from netpress.maths.hosvd import (
    ModeGrams,
    ahosvd,
    cumulative_energy,
    lift,
    project,
    ranks_by_energy,
    reconstruction_error,
    unfold,
)
from netpress.maths.moments import StreamingMoments
from netpress.maths.polynomial import HermiteFit, hermite_features, multi_indices
from netpress.maths.ranks import check_rank, check_ranks, contraction_macs, contraction_order, polynomial_terms
from netpress.maths.subspace import EXACT_SIZE, ExactSubspace, SketchedSubspace, Subspace, pod

__all__ = [
    "EXACT_SIZE",
    "ExactSubspace",
    "HermiteFit",
    "ModeGrams",
    "SketchedSubspace",
    "StreamingMoments",
    "Subspace",
    "ahosvd",
    "check_rank",
    "check_ranks",
    "contraction_macs",
    "contraction_order",
    "cumulative_energy",
    "hermite_features",
    "lift",
    "multi_indices",
    "pod",
    "polynomial_terms",
    "project",
    "ranks_by_energy",
    "reconstruction_error",
    "unfold",
]
