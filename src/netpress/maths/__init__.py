"""Pure tensor functions and small streaming accumulators: no modules, no files."""

from netpress.maths.clusters import Codebook, kmeans
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
from netpress.maths.pruning import gradual_density, kept_count, lamp_scores, largest_mask, magnitude_mask
from netpress.maths.quantizers import (
    effective_values,
    entropy_codebook,
    quantize_entropy,
    quantize_kmeans,
    quantize_probabilistic,
    quantize_uniform,
    uniform_step,
)
from netpress.maths.ranks import check_rank, check_ranks, contraction_macs, contraction_order, polynomial_terms
from netpress.maths.subspace import EXACT_SIZE, ExactSubspace, SketchedSubspace, Subspace, pod

__all__ = [
    "EXACT_SIZE",
    "Codebook",
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
    "effective_values",
    "entropy_codebook",
    "gradual_density",
    "hermite_features",
    "kept_count",
    "kmeans",
    "lamp_scores",
    "largest_mask",
    "lift",
    "magnitude_mask",
    "multi_indices",
    "pod",
    "polynomial_terms",
    "project",
    "quantize_entropy",
    "quantize_kmeans",
    "quantize_probabilistic",
    "quantize_uniform",
    "ranks_by_energy",
    "reconstruction_error",
    "unfold",
    "uniform_step",
]
