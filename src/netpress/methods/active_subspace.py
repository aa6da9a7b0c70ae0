"""Active subspace: the directions of the features along which the loss changes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from netpress.layers import ReductionLayer
from netpress.maths import EXACT_SIZE, ExactSubspace, SketchedSubspace, Subspace
from netpress.pipeline.features import Features
from netpress.pipeline.job import Job
from netpress.pipeline.ranks import Ranks
from netpress.pipeline.reduction import FlatReduction


@dataclass(frozen=True, kw_only=True)
class ActiveSubspace(FlatReduction):
    """Leading eigenvectors of C = E[∇ℓ ∇ℓᵀ], with ∇ℓ the gradient of the loss by the flattened features at the cut.

    Idea: what does not change the loss need not be kept, however much energy it has. The loss is the cross-entropy of the
    original against the label, or against its own answer where there is none (squared error for regression).
    Helps: where POD keeps energy that no class depends on. Fails: where the original is sure of everything, so that gradients
    vanish.
    Source: Constantine 2015; for networks Cui et al. 2020; Meneghetti, Demo, Rozza, arXiv 2110.09163.

    Attributes:
        rank: r; None chooses by the budget, else by ``energy``.
        energy: Share of the gradients' energy to keep when neither a rank nor a budget decides.
    """

    def fit_layer(self, features: Features, job: Job) -> tuple[ReductionLayer, Ranks]:
        size = torch.Size(features.shape).numel()
        gradients: Subspace = (
            ExactSubspace(size) if size <= EXACT_SIZE else SketchedSubspace(size, EXACT_SIZE // 8, seed=job.seed)
        )
        for batch in features.gradients():
            gradients.update(batch)
        return features.fit_projection(gradients, self.energy)
