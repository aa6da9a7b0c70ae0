"""Weight sharing: few distinct values a layer, by clustering or quantization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from netpress.errors import ConfigError
from netpress.graph import GraphNetwork
from netpress.maths import effective_values
from netpress.pipeline.constraints import Constraint
from netpress.pipeline.job import Job
from netpress.pipeline.rate_distortion import RateDistortion
from netpress.pipeline.sharing import RULES, ValuesShared, share
from netpress.pipeline.values import ValueMethod, checked_names, choose

MOST_VALUES = 65536


@dataclass(frozen=True, kw_only=True)
class Share(ValueMethod):
    """Gives the weights of each layer at most k distinct values, and trains those values.

    Idea: a weight is stored as the number of its value, in log2 k bits or, entropy-coded, fewer. Weights that are exactly zero
    stay zero and are not counted in k, so that ``prune`` before it keeps what it did. In retraining each value moves by the
    gradients of all weights that share it.
    Helps: nearly everywhere: k = 32 already gives the accuracy of the original; with ``prune`` the files are smallest.
    Fails: k = 2 hurts; very small layers, whose values cost more than the indices save.
    Source: Marinó et al. 2023, section 3.2.

    Attributes:
        rule: ``cws`` (k-means, optimal), ``pws`` (random rounding to quantiles, unbiased), ``uq`` (multiples of one step),
            ``ecsq`` (entropy-constrained: squared error against the bits of an ideal entropy coder), or ``rdo`` (rate-distortion
            quantization of all tensors together, vectors too: what the answers lose against the bytes of the file). ``rdo`` takes
            no k, but leaves alone what has k = 0; it meets a budget of bytes, else ``max_loss``.
        k: Distinct values other than 0, at most 65,536; 0 leaves a layer alone.
        conv: k of convolutions; None takes ``k``.
        fc: k of fully-connected layers; None takes ``k``.
        embedding: k of embeddings; None takes ``k``.
        bias: k of all vectors: biases, scales and shifts of norms; they are a small part of most networks, so 0 by default.
        by_layer: k by a layer's dotted name, or by the beginning of several, such as ``{features: 16, classifier.6: 64}``.
        unified: One codebook over all layers of a kind, not one a layer; entries of ``by_layer`` have their own.
        gradient: ``sum`` moves a value by the sum of its weights' gradients, the published rule; with SGD that needs ``grad_clip``
            (which recipes have) or a small rate. ``mean`` divides by their number, so that the unshared network's rate fits.
        tradeoff: For ``rdo``: nats of the softened answers' divergence that a bit may cost; None searches for it.
        max_loss: For ``rdo``: points that may be lost on the held-out part (before retraining); None is .5 where nothing else is
            asked for.
        compensate: For ``rdo``: whether errors of weights are made good by other weights, biases and norms.
        samples: For ``rdo``: calibration images; their labels are not looked at.
    """

    rule: Literal["cws", "pws", "uq", "ecsq", "rdo"] = "cws"
    k: int = 32
    conv: int | None = None
    fc: int | None = None
    embedding: int | None = None
    bias: int = 0
    by_layer: Mapping[str, int] = field(default_factory=dict, hash=False)
    unified: bool = False
    gradient: Literal["sum", "mean"] = "sum"
    tradeoff: float | None = None
    max_loss: float | None = None
    compensate: bool = True
    samples: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule != "rdo" and self.rule not in RULES:
            raise ConfigError("unknown rule", got=repr(self.rule), allowed=", ".join((*RULES, "rdo")))
        if self.gradient not in ("mean", "sum"):
            raise ConfigError("unknown gradient", got=repr(self.gradient), allowed="mean, sum")
        checked_names(self.by_layer, int, "a number of values")
        for value in (self.k, self.conv, self.fc, self.embedding, self.bias, *self.by_layer.values()):
            if value is not None and not (0 <= value <= MOST_VALUES and (self.rule != "pws" or value != 1)):
                allowed = "0 or 2 to 65,536 for pws" if self.rule == "pws" else "0 to 65,536"
                raise ConfigError("k is out of range", got=value, allowed=allowed)
        self._rate_distortion(None, 0)  # its options are checked now

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        if self.rule == "rdo":
            epochs = job.training.epochs if self.epochs is None else self.epochs
            return self._rate_distortion(network, epochs).apply(network, job)
        codebooks = self._codebooks(network)
        with job.progress.step("share", total=len(codebooks)) as bar:
            for names, k in codebooks.items():
                share(network, names, k, self.rule, job.seed)
                bar.advance()
        job.retrain(network, label="share", epochs=self.epochs, lr=self.lr, constraints=self.constraints(network))
        for names, k in codebooks.items():
            job.progress.say(f"{_named(names)}: k = {k}, {_effective(network, names):,} values")
        return network

    def _rate_distortion(self, network: nn.Module | None, epochs: int) -> RateDistortion:
        names = None
        if network is not None:
            by_kind = {"conv": self.conv, "fc": self.fc, "embedding": self.embedding, "bias": 1}
            alone = {layer.name for layer, (k, _) in choose(network, self.k, by_kind, self.by_layer).items() if k == 0}
            names = frozenset(name for name, _ in network.named_parameters()) - alone
        return RateDistortion(
            tradeoff=self.tradeoff,
            max_loss=self.max_loss,
            compensate=self.compensate,
            samples=self.samples,
            epochs=epochs,
            lr=self.lr,
            names=names,
        )

    def constraints(self, network: nn.Module) -> tuple[Constraint, ...]:
        if self.rule == "rdo":
            return self._rate_distortion(network, 0).constraints(network)
        return (ValuesShared(tuple(self._codebooks(network)), self.gradient),)

    def _codebooks(self, network: nn.Module) -> dict[tuple[str, ...], int]:
        """k by the names of the parameters of each codebook."""
        by_kind = {"conv": self.conv, "fc": self.fc, "embedding": self.embedding, "bias": self.bias}
        codebooks: dict[tuple[str, ...], tuple[list[str], int]] = {}
        for layer, (k, source) in choose(network, self.k, by_kind, self.by_layer).items():
            if k > 0:
                own = source in self.by_layer
                key = ("layer", source) if own else ("kind", layer.kind)
                codebooks.setdefault(key if self.unified else ("tensor", layer.name), ([], k))[0].append(layer.name)
        return {tuple(names): k for names, k in codebooks.values()}


def _named(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _effective(network: nn.Module, names: tuple[str, ...]) -> int:
    return effective_values(nn.utils.parameters_to_vector(network.get_parameter(name) for name in names))
