"""The one training loop, what it minimises, and features that are computed once."""

from netpress.training.block_distillation import DistillBlocks, Match
from netpress.training.features import FeatureStore, FeatureStream, stream_features
from netpress.training.loop import Hook, Stream, Trainer
from netpress.training.objectives import (
    CrossEntropy,
    Distill,
    Distillation,
    DistillStored,
    MatchOutput,
    MeanSquaredError,
    Objective,
    Reconstruction,
    distil_answers,
    distillation_loss,
)
from netpress.training.plan import TrainingPlan, published_plan, schedule_factor
from netpress.training.record import TrainingRecord
from netpress.training.subspace_distillation import DistillSubspaces

__all__ = [
    "CrossEntropy",
    "Distill",
    "DistillBlocks",
    "DistillStored",
    "DistillSubspaces",
    "Distillation",
    "FeatureStore",
    "FeatureStream",
    "Hook",
    "Match",
    "MatchOutput",
    "MeanSquaredError",
    "Objective",
    "Reconstruction",
    "Stream",
    "Trainer",
    "TrainingPlan",
    "TrainingRecord",
    "distil_answers",
    "distillation_loss",
    "published_plan",
    "schedule_factor",
    "stream_features",
]
