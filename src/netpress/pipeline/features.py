"""What flows over a cut, computed once, and the input-output map that is fitted to it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from netpress.errors import CutError
from netpress.graph import Cut, GraphNetwork, count
from netpress.layers import FNN, HermiteMap, LinearProjection, ReductionLayer
from netpress.maths import HermiteFit, StreamingMoments, Subspace, ranks_by_energy
from netpress.pipeline.job import Job
from netpress.pipeline.ranks import Ranks, flat_path, largest_that_fits
from netpress.training import Distillation, FeatureStore, MeanSquaredError, Objective, Reconstruction, TrainingPlan


class Reducer(Protocol):
    """What a method must say for its layer and map to be fitted; ``pipeline.reduction.Reduction`` has all of it."""

    @property
    def map(self) -> Literal["fnn", "pce", "tail"]: ...
    @property
    def hidden(self) -> tuple[int, ...]: ...
    @property
    def degree(self) -> int: ...
    @property
    def map_epochs(self) -> int: ...
    @property
    def map_lr(self) -> float: ...
    @property
    def learned(self) -> bool: ...
    def build(self, shape: Sequence[int], ranks: Ranks) -> ReductionLayer: ...
    def given_ranks(self, shape: Sequence[int]) -> Ranks | None: ...


class Features:
    """What flows over a cut, computed once: features, the original's answers and the labels, on disk in one order.

    A context manager; its files are gone afterwards. Memory does not grow with the number of images.
    """

    def __init__(self, method: Reducer, cut: Cut, before: GraphNetwork, after: GraphNetwork, job: Job) -> None:
        self.method, self.cut, self.before, self.after, self.job = method, cut, before, after, job
        self.shape = tuple(cut.shape)
        counts = count(before)
        self.counted_before = (counts.params, counts.macs)
        self._store: FeatureStore | None = None

    def __enter__(self) -> Features:
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.close()

    @property
    def store(self) -> FeatureStore:
        """The stored features; computed when first asked for."""
        if self._store is None:
            self._store = FeatureStore.collect(
                self.before,
                self.job.stream(batch_size=256),
                teacher=self.after,
                folder=self.job.scratch,
                progress=self.job.progress,
            )
        return self._store

    def choose_ranks(self, path: Sequence[Ranks], default: Ranks) -> Ranks:
        """Given ranks when the user fixed them, else the largest of ``path`` within the budget, else ``default``.

        Raises:
            BudgetError: The given ranks, or the smallest possible, are above the budget.
        """
        given = self.method.given_ranks(self.shape)
        if not any(metric in self.job.bounds for metric in ("params", "macs", "bytes")):
            return default if given is None else given
        candidates = path if given is None else [given]
        return largest_that_fits(
            candidates, self._after_cut, self.shape, before=self.counted_before, bounds=self.job.bounds
        )

    def _after_cut(self, ranks: Ranks) -> nn.Module:
        with torch.device("meta"):
            layer = self.method.build(self.shape, ranks)
            return nn.Sequential(layer, self._new_map(layer))

    def _new_map(self, layer: ReductionLayer) -> nn.Module:
        if self.method.map == "fnn":
            return FNN(layer.out_features, self.method.hidden, self.job.outputs)
        if self.method.map == "pce":
            return HermiteMap(layer.out_features, self.method.degree, self.job.outputs)
        return nn.Sequential(OrderedDict(lift=layer.lift(), tail=copy.deepcopy(self.after)))

    def fit_projection(self, subspace: Subspace, energy: float) -> tuple[ReductionLayer, Ranks]:
        """The projection on the leading directions of a subspace: as many as asked for, as the budget allows, or as keep
        ``energy``."""
        spectrum = subspace.spectrum()
        ranks = self.choose_ranks(flat_path(len(spectrum)), ranks_by_energy([spectrum], energy))
        layer = LinearProjection(self.shape, ranks[0])
        layer.set_basis(subspace.basis(ranks[0]))
        return layer, ranks

    def map_shape(self, method: str) -> tuple[int, int, int]:
        """The feature shape, for methods that need maps.

        Raises:
            CutError: The features at this cut are no maps.
        """
        if len(self.shape) != 3:
            raise CutError(
                f"{method} needs feature maps (C, H, W) at the cut",
                got=f"{self.shape} before {self.cut.name!r}",
                remedy="cut earlier, or use ahosvd or pod",
            )
        return self.shape[0], self.shape[1], self.shape[2]

    def batches(self) -> Iterator[Tensor]:
        """The features in order, (N, *shape) a batch; the first pass computes and stores them."""
        yield from (x for x, _ in self.store.stream(batch_size=256).batches(0))

    def gradients(self) -> Iterator[Tensor]:
        """Gradients of each sample's loss by its features, (N, *shape) a batch, in order.

        The loss is the cross-entropy against the label (against the original's own answer where there is none), or half the
        squared output for regression.
        """
        tail = copy.deepcopy(self.after).eval().requires_grad_(False)
        for x, labels in self.store.stream(batch_size=256).batches(0):
            features = x.detach().requires_grad_(True)  # (N, *shape)
            output = tail(features)  # (N, outputs)
            if self.job.task == "classification":
                target = labels if isinstance(labels, Tensor) else output.argmax(1)  # (N,)
                loss = functional.cross_entropy(output, target, reduction="sum")
            else:
                loss = output.square().sum() / 2
            yield torch.autograd.grad(loss, features)[0]

    def fit_reconstruction(self, autoencoder: nn.Module, epochs: int, *, label: str = "reconstruction") -> None:
        """Trains an autoencoder of the features, in place, by mean squared error; ``label`` names its checkpoint."""
        stream = self.store.stream(batch_size=256, shuffle=True, seed=self.job.seed)
        self.job.trainer(label).fit(
            autoencoder, stream, self._plan(epochs), Reconstruction(), label="reconstruct features"
        )

    def fit_map(self, layer: ReductionLayer) -> nn.Module:
        """The fitted input-output map behind ``layer``; trains a learned layer with it."""
        if self.method.map == "pce":
            return self._fit_polynomials(layer)
        if self.method.map == "tail":
            return self._fit_tail(layer)
        mapping = FNN(layer.out_features, self.method.hidden, self.job.outputs).to(self.job.device)
        if not self.method.learned:
            mapping.fold_normalisation(*self._normalisation(layer))
        self._train(layer, mapping, "map")
        return mapping

    def _fit_polynomials(self, layer: ReductionLayer) -> nn.Module:
        """Least squares on the original's answers."""
        outputs = self.job.outputs
        if self.method.learned:
            # Polynomials are fitted to features that are there: a linear head teaches the layer which to make.
            self._train(layer, nn.Linear(layer.out_features, outputs).to(self.job.device), "warm-up")
        mean, std = self._normalisation(layer)
        fit = HermiteFit(layer.out_features, self.method.degree, outputs, mean=mean, std=std)
        for reduced, answers in self._reduced(layer, targets="outputs"):
            fit.update(reduced, answers)
        mapping = HermiteMap(layer.out_features, self.method.degree, outputs).to(self.job.device)
        mapping.set_fit(fit.solve(), mean, std)
        return mapping

    def _fit_tail(self, layer: ReductionLayer) -> nn.Module:
        """The way back to features, and the original's own tail; a learned layer learns to rebuild the features."""
        lift = layer.lift().to(self.job.device)
        if self.method.learned:
            self.fit_reconstruction(nn.Sequential(layer, lift), self.method.map_epochs, label="lift")
        return nn.Sequential(OrderedDict(lift=lift, tail=copy.deepcopy(self.after)))

    def _normalisation(self, layer: ReductionLayer) -> tuple[Tensor, Tensor]:
        """Mean and damped standard deviation of the reduced features; (out_features,) each."""
        moments = StreamingMoments(layer.out_features)
        for reduced, _ in self._reduced(layer):
            moments.update(reduced)
        return moments.mean(), damped(moments.std())

    def _reduced(self, layer: ReductionLayer, targets: str = "labels") -> Iterator[tuple[Tensor, Any]]:
        layer.eval()
        for x, y in self.store.stream(batch_size=256, targets=targets).batches(0):
            with torch.no_grad():
                yield layer(x), y  # (N, out_features)

    def _train(self, layer: ReductionLayer, mapping: nn.Module, label: str) -> None:
        """Trains the map on the stored features, and the layer with it when it is a learned one."""
        settings = Distillation(alpha=1.0 if self.job.fit.labels is None else 0.5, temperature=2.0)
        classify = self.job.task == "classification"
        objective: Objective = settings.stored() if classify else MeanSquaredError()
        plan = self._plan(self.method.map_epochs)
        targets = "both" if classify else "outputs"
        trainer, seed = self.job.trainer(label), self.job.seed
        if self.method.learned:
            joined = nn.Sequential(OrderedDict(reduction=layer, map=mapping))
            stream = self.store.stream(batch_size=plan.batch_size, shuffle=True, seed=seed, targets=targets)
            trainer.fit(joined, stream, plan, objective, label=f"fit {label}")
            return
        with self.store.mapped(layer) as reduced:
            stream = reduced.stream(batch_size=plan.batch_size, shuffle=True, seed=seed, targets=targets)
            trainer.fit(mapping, stream, plan, objective, label=f"fit {label}")

    def _plan(self, epochs: int) -> TrainingPlan:
        return TrainingPlan(
            epochs=epochs,
            batch_size=256,
            optimizer="adamw",
            lr=self.method.map_lr,
            weight_decay=1e-2,
            schedule="one_cycle",
        )


def damped(std: Tensor, share: float = 0.1) -> Tensor:
    """Standard deviations to divide by, none of them much below the common one: √(σ² + (share·σ_rms)²).

    The last directions of a projection hardly vary. Divided by their own deviation they are blown up, and with them the first
    change that training makes to the features: so ResNet-32, cut before its last blocks at full ranks, lost everything.

    Args:
        std: (n,), positive; 1 stands for features that never vary (see ``StreamingMoments.std``).
    """
    varying = std[std != 1]
    if len(varying) == 0:
        return std
    return (std.square() + share**2 * varying.square().mean()).sqrt()
