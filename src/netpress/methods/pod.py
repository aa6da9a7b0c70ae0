"""POD: the flattened features' principal subspace."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from netpress.layers import ReductionLayer
from netpress.maths import ExactSubspace, SketchedSubspace, Subspace
from netpress.pipeline.features import Features
from netpress.pipeline.job import Job
from netpress.pipeline.ranks import Ranks
from netpress.pipeline.reduction import FlatReduction


@dataclass(frozen=True, kw_only=True)
class POD(FlatReduction):
    """Proper orthogonal decomposition: the uncentred SVD of the flattened features, the first r directions kept.

    Idea: no linear map to r numbers reconstructs the features better (Eckart-Young). The price is a dense (r, C·H·W) matrix,
    where AHOSVD needs three small ones: (256, 4, 4) at r = 50 has 204,800 parameters.
    Helps: small feature maps. Fails: large ones, where the matrix alone outgrows a budget.
    Source: Meneghetti, Demo, Rozza, arXiv 2110.09163; randomised: Halko, Martinsson, Tropp 2011.

    Attributes:
        rank: r; None chooses by the budget, else by ``energy``.
        energy: Share of energy to keep when neither a rank nor a budget decides.
        randomised: Sketch the range instead of the exact (C·H·W)² Gram matrix: for very long features.
    """

    randomised: bool = False

    def fit_layer(self, features: Features, job: Job) -> tuple[ReductionLayer, Ranks]:
        size = torch.Size(features.shape).numel()
        principal: Subspace = self._sketch(size, job.seed) if self.randomised else ExactSubspace(features.shape)
        for batch in features.batches():
            principal.update(batch)
        return features.fit_projection(principal, self.energy)

    def _sketch(self, size: int, seed: int) -> Subspace:
        return SketchedSubspace(size, min(size, self.rank or max(64, size // 10)), seed=seed)
