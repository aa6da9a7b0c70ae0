"""Weights that share values: the rules that choose them, and the constraint that keeps them shared while they are trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from netpress.maths import quantize_entropy, quantize_kmeans, quantize_probabilistic, quantize_uniform

#: (weights, k, generator) -> the same weights with at most k values other than 0. What 0 was stays 0.
Rule = Callable[[Tensor, int, torch.Generator], Tensor]

RULES: Mapping[str, Rule] = {
    "cws": lambda weights, k, _: quantize_kmeans(weights, k),
    "pws": quantize_probabilistic,
    "uq": lambda weights, k, _: quantize_uniform(weights, k),
    "ecsq": lambda weights, k, _: quantize_entropy(weights, k),
}


@torch.no_grad()
def share(network: nn.Module, names: Sequence[str], k: int, rule: str, seed: int) -> None:
    """Gives the parameters of these names one common codebook of at most k values other than 0, in place.

    Args:
        rule: A key of ``RULES``.
        seed: Of rules that draw; each codebook draws its own numbers.
    """
    parameters = [network.get_parameter(name) for name in names]
    digest = hashlib.blake2b(f"{seed} {names[0]}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    together = torch.cat([p.detach().reshape(-1) for p in parameters])
    parts = RULES[rule](together, k, generator).split([p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.copy_(part.reshape(parameter.shape))


@dataclass
class ValuesShared:
    """Constraint: weights that are equal stay equal, and weights that are 0 stay 0.

    A cluster is all weights of one codebook that have one value. Its value c is what is trained: dL/dc = Σ dL/dw over the cluster.
    Every weight's gradient becomes its cluster's, so that any optimizer moves all of them alike; after the step the first weight's
    value is written to all, since vectorised optimizers round the ends of a tensor differently.

    With ``mean`` the sum is divided by the number of weights in the cluster: this is the projection of the plain gradient on what
    sharing leaves free, and a learning rate that is right for the unshared network is right here. With ``sum``, the published
    rule, steps are as many times longer as the cluster has weights: SGD needs a rate smaller by that, Adam sees no difference.

    Two clusters never become one, and none becomes 0: where a step would make values equal, they are put one rounding apart.

    Attributes:
        codebooks: Dotted names of the parameters of each codebook.
        gradient: ``mean`` or ``sum``.
    """

    codebooks: tuple[tuple[str, ...], ...]
    gradient: str = "mean"
    # What can be found anew from the weights at any step, kept because finding it sorts them.
    _clusters: dict[tuple[str, ...], _Clusters] = field(default_factory=dict, repr=False, compare=False)

    @torch.no_grad()
    def after_backward(self, network: nn.Module, step: int, /) -> None:
        for names in self.codebooks:
            parameters = _trained(network, names)
            clusters = self._clusters.get(names)
            if clusters is None or not clusters.still_hold(parameters):
                clusters = self._clusters[names] = _Clusters.of(parameters)
            clusters.gather(parameters, mean=self.gradient == "mean")

    @torch.no_grad()
    def after_step(self, network: nn.Module, step: int, /) -> None:
        for names in self.codebooks:
            self._clusters[names].write(_trained(network, names))


@dataclass
class _Clusters:
    """Which weights of some parameters share which value; cluster 0 is that of the value 0, and may be empty."""

    numbers: list[Tensor]  # cluster of each weight, in the parameters' shapes
    first: list[tuple[Tensor, Tensor]]  # per parameter: clusters whose first weight it holds, and the places
    rank: Tensor  # (clusters - 1,) order of the clusters' first weights
    counts: Tensor  # (clusters,) float64
    versions: list[int]

    @classmethod
    def of(cls, parameters: list[nn.Parameter]) -> _Clusters:
        flat = torch.cat([p.detach().reshape(-1) for p in parameters] or [torch.empty(0)])
        values, inverse = torch.unique(flat, return_inverse=True)
        numbers = torch.zeros(len(values), dtype=torch.int64, device=flat.device)
        numbers[values != 0] = torch.arange(1, int((values != 0).sum()) + 1, device=flat.device)
        inverse = numbers[inverse]
        clusters = int((values != 0).sum()) + 1
        places = torch.arange(len(flat), device=flat.device)
        first = torch.full((clusters,), len(flat), device=flat.device).scatter_reduce(0, inverse, places, "amin")
        held, start = [], 0
        for p in parameters:
            here = (first >= start) & (first < start + p.numel())
            here[0] = False
            held.append((here.nonzero().reshape(-1), first[here] - start))
            start += p.numel()
        pieces = inverse.split([p.numel() for p in parameters])
        return cls(
            numbers=[n.reshape(p.shape) for n, p in zip(pieces, parameters, strict=True)],
            first=held,
            rank=first[1:].argsort().argsort(),
            counts=torch.bincount(inverse, minlength=clusters).double(),
            versions=[p._version for p in parameters],
        )

    def still_hold(self, parameters: list[nn.Parameter]) -> bool:
        """Whether nobody has changed the weights since the clusters were found or written."""
        return self.versions == [p._version for p in parameters]

    def gather(self, parameters: list[nn.Parameter], *, mean: bool) -> None:
        """Each gradient becomes its cluster's; that of a zero weight 0."""
        sums = torch.zeros_like(self.counts)
        for parameter, numbers in zip(parameters, self.numbers, strict=True):
            if parameter.grad is not None:
                sums += cluster_sums(parameter.grad, numbers, len(self.counts))
        sums[0] = 0
        if mean:
            sums /= self.counts.clamp_min(1)
        for parameter, numbers in zip(parameters, self.numbers, strict=True):
            if parameter.grad is not None:
                parameter.grad.copy_(sums.to(parameter.grad.dtype)[numbers])

    def write(self, parameters: list[nn.Parameter]) -> None:
        """The value of each cluster's first weight for all of them."""
        if not parameters:
            return
        values = torch.zeros(len(self.counts), dtype=parameters[0].dtype, device=parameters[0].device)
        for parameter, (clusters, places) in zip(parameters, self.first, strict=True):
            values[clusters] = parameter.detach().take(places)
        values[1:] = told_apart(values[1:], self.rank)
        for parameter, numbers in zip(parameters, self.numbers, strict=True):
            parameter.copy_(values[numbers])
        self.versions = [p._version for p in parameters]


def cluster_sums(gradient: Tensor, numbers: Tensor, clusters: int) -> Tensor:
    """Σ of the gradient over each cluster: (clusters,) float64, the same bits at every run.

    Off the CPU additions come in any order, which only whole numbers forgive; see ``whole_number_sums``.
    """
    flat, where = gradient.reshape(-1).double(), numbers.reshape(-1)
    if flat.device.type == "cpu":
        return torch.bincount(where, weights=flat, minlength=clusters)
    return whole_number_sums(flat, where, clusters)


def whole_number_sums(flat: Tensor, where: Tensor, clusters: int) -> Tensor:
    """The same for any order of additions: terms are rounded to multiples of a power of two, of which the largest term holds at
    least 2^62 / (2 N); 2^36 for 16.8 million.

    Args:
        flat: (N,) float64.
        where: (N,) int64 cluster of each.
    """
    top = flat.abs().amax() if flat.numel() else flat.new_zeros(())
    bits = 62 - flat.numel().bit_length()  # N terms of so many bits stay below 2^63
    scale = torch.exp2(bits - torch.ceil(torch.log2(top.clamp_min(1e-100))))
    whole = torch.zeros(clusters, dtype=torch.int64, device=flat.device)
    whole.scatter_add_(0, where, (flat * scale).round().long())
    return whole.double() / scale + top * 0  # not finite where the gradient is not


def told_apart(values: Tensor, rank: Tensor) -> Tensor:
    """The values with equal ones moved apart and zeros away from 0, each by as little as can be.

    Args:
        values: (k,) floats.
        rank: (k,) which of equal values stays lower.
    """
    if len(torch.unique(values)) == len(values) and bool((values != 0).all()):
        return values
    order = torch.argsort(rank)
    order = order[torch.argsort(values[order], stable=True)]
    ascending, tiny = values[order].cpu().clone(), torch.finfo(values.dtype).tiny
    infinity = torch.tensor(torch.inf, dtype=values.dtype)
    for i in range(len(ascending)):
        if i and ascending[i] <= ascending[i - 1]:
            ascending[i] = torch.nextafter(ascending[i - 1], infinity)
        if ascending[i].abs() < tiny:
            ascending[i] = tiny
    out = torch.empty_like(values)
    out[order] = ascending.to(values.device)
    return out


def _trained(network: nn.Module, names: Sequence[str]) -> list[nn.Parameter]:
    """The parameters that training moves; a frozen one keeps its values by itself."""
    found = [network.get_parameter(name) for name in names]
    return [p for p in found if p.requires_grad]
