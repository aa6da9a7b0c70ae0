"""AHOSVD: one projection a mode of the feature tensor, found in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from netpress.errors import ConfigError
from netpress.layers import ReductionLayer, TuckerProjection
from netpress.maths import ModeGrams, ranks_by_energy
from netpress.pipeline.features import Features
from netpress.pipeline.job import Job
from netpress.pipeline.ranks import Ranks, energy_path
from netpress.pipeline.reduction import ModeReduction, check_energy


@dataclass(frozen=True, kw_only=True)
class AHOSVD(ModeReduction):
    """Averaged higher-order SVD: features x (C, H, W) become x ×₁P₁ ×₂P₂ ×₃P₃, flattened to r_C·r_H·r_W numbers.

    Idea: the leading eigenvectors of the mode-n Gram matrices Σ X₍ₙ₎X₍ₙ₎ᵀ span the subspaces that keep most of the features'
    energy. One pass over the data, constant memory, three small matrices: (256, 4, 4) → (35, 3, 3) has 8,984 parameters.
    Helps: where features are correlated over channels and places, which is nearly everywhere before the last stages.
    Fails: where little energy decides the class; then ``active_subspace`` or a learned layer is better.
    Source: Meneghetti et al. 2026; the public code's entrywise mean of singular vectors is ``aggregation="mean_u"``, which decays
    towards zero and is here for comparison only.

    Attributes:
        ranks: (r_C, r_H, r_W); None chooses by the budget, else by ``energy``.
        energy: Share of each mode's energy to keep when neither ranks nor a budget decide.
        aggregation: ``gram`` (one Gram matrix over the whole stream), ``projector`` (mean of batch projectors), ``mean_u``.
    """

    energy: float = 0.95
    aggregation: Literal["gram", "projector", "mean_u"] = "gram"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_energy(self.energy)
        if self.aggregation not in ("gram", "projector", "mean_u"):
            raise ConfigError("unknown aggregation", got=repr(self.aggregation), allowed="gram, projector, mean_u")

    @property
    def learned(self) -> bool:
        return False

    def build(self, shape: Sequence[int], ranks: Ranks) -> ReductionLayer:
        return TuckerProjection(shape, ranks)

    def fit_layer(self, features: Features, job: Job) -> tuple[ReductionLayer, Ranks]:
        grams = ModeGrams(features.shape)
        for batch in features.batches():
            grams.update(batch)
        spectra = grams.spectra()
        ranks = features.choose_ranks(energy_path(spectra), ranks_by_energy(spectra, self.energy))
        if self.aggregation != "gram":
            # Averages of batch decompositions need the ranks first: a second pass over the stored features.
            grams = ModeGrams(features.shape, batch_ranks=ranks)
            for batch in features.batches():
                grams.update(batch)
        layer = TuckerProjection(features.shape, ranks)
        layer.set_projections(grams.projections(ranks, self.aggregation))
        return layer, ranks
