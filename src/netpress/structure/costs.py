"""What a network costs when channels are missing, exactly, without cutting them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from netpress.graph import Node
from netpress.graph.count import node_macs
from netpress.graph.operators import FUNCTIONS
from netpress.graph.shapes import depends_on_input, infer_values
from netpress.structure.atoms import Labels
from netpress.structure.channels import Channels
from netpress.structure.flow import PROBE_BATCH
from netpress.structure.labels import compressed, varied
from netpress.structure.products import letters_of

Term = tuple[str, int, list[Labels]]  # whose it is, what does not change, and the sizes that do

Counted = NDArray[np.int64]  # channels kept of each group, in the order of `Channels.groups`


@dataclass(frozen=True)
class _Sum:
    """A sum of products, one a row: ``scale · Π_f (weights_f · n + fixed_f)``.

    Attributes:
        names: Dotted names of what each row belongs to. (rows,)
        scale: (rows,)
        weights: (rows, factors, groups)
        fixed: (rows, factors)
    """

    names: tuple[str, ...]
    scale: NDArray[np.int64]
    weights: NDArray[np.int64]
    fixed: NDArray[np.int64]

    def at(self, kept: NDArray[np.int64]) -> int:
        return int((self.scale * self._factors(kept).prod(1)).sum())

    def within(self, modules: tuple[str, ...]) -> _Sum:
        """The rows that belong to these modules or to what lies in them."""
        rows = [n for n, name in enumerate(self.names) if any(f"{name}.".startswith(f"{m}.") for m in modules)]
        return _Sum(tuple(self.names[n] for n in rows), self.scale[rows], self.weights[rows], self.fixed[rows])

    def slopes(self, kept: NDArray[np.int64]) -> NDArray[np.float64]:
        """Derivatives by the number of channels of each group. (groups,)"""
        factors = self._factors(kept).astype(np.float64)  # (rows, factors)
        total = np.zeros(self.weights.shape[2])
        for place in range(factors.shape[1]):
            others = np.delete(factors, place, 1).prod(1) * self.scale
            total += others @ self.weights[:, place]
        return total

    def _factors(self, kept: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.weights @ kept + self.fixed


class Costs:
    """Parameters and multiply-accumulates as functions of how many channels of each group are kept.

    Every tensor and every product costs the product of its sizes, and each size is linear in the numbers of channels, so that
    counts are exact integers: ``count(slice_network(channels, keep))`` gives the same.

    Args:
        channels: What can be cut.
    """

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self.names = tuple(channels.groups)
        self._parts: dict[tuple[str, tuple[str, ...]], _Sum] = {}
        self.full: Counted = np.array([group.size for group in channels.groups.values()], np.int64)
        net = channels.net
        self._depends = depends_on_input(net)
        self._sums = {
            "params": self._sum(self._tensors(dict(net.named_parameters()), bytes_each=False)),
            "bytes": self._sum(
                self._tensors({**dict(net.named_parameters()), **dict(net.named_buffers())}, bytes_each=True)
            ),
            "macs": self._sum(self._products()),
        }

    def params(self, kept: Counted) -> int:
        """Parameters with ``kept`` channels of each group."""
        return self.at("params", kept)

    def macs(self, kept: Counted) -> int:
        """Multiply-accumulates of one sample with ``kept`` channels of each group."""
        return self.at("macs", kept)

    def at(self, metric: str, kept: Counted, within: tuple[str, ...] = ()) -> int:
        """``params``, ``macs`` or ``bytes`` (of all tensors, as they lie in memory) with ``kept`` channels of each group.

        Args:
            within: Dotted names of modules: only what they and the modules in them cost; empty for the whole network.
        """
        return self._of_modules(metric, within).at(np.asarray(kept, np.int64))

    def slopes(self, metric: str, kept: Counted, within: tuple[str, ...] = ()) -> NDArray[np.float64]:
        """What one channel more of each group would cost, to first order; see `at`. (groups,)"""
        return self._of_modules(metric, within).slopes(np.asarray(kept, np.int64))

    def _of_modules(self, metric: str, within: tuple[str, ...]) -> _Sum:
        if within and (metric, within) not in self._parts:
            self._parts[metric, within] = self._sums[metric].within(within)
        return self._parts[metric, within] if within else self._sums[metric]

    def _tensors(self, tensors: Mapping[str, Tensor], *, bytes_each: bool) -> list[Term]:
        net = self.channels.net
        held = dict([*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)])
        by_tensor: dict[int, dict[int, Labels]] = {}  # by identity and axis: a tensor of two names is counted once
        for slot in self.channels.slots:
            by_tensor.setdefault(id(held[slot.tensor]), {})[slot.axis] = slot.atoms
        terms = []
        for name, tensor in tensors.items():
            axes = by_tensor.get(id(tensor), {})
            fixed = tensor.numel() * (tensor.element_size() if bytes_each else 1)
            for atoms in axes.values():
                fixed //= len(atoms)
            terms.append((name.rpartition(".")[0], fixed, list(axes.values())))
        return terms

    def _products(self) -> list[Term]:
        net = self.channels.net
        terms = []
        for index, (node, macs) in enumerate(zip(net.nodes, node_macs(net, infer_values(net)), strict=True), 1):
            if not macs:
                continue
            if node.op == "scaled_dot_product_attention":
                terms += self._attention(node, index)
            else:
                factors = self._of_module(node) if node.is_module else self._of_function(node, index)
                terms.append((node.name, macs // math.prod(atoms.size for atoms in factors), factors))
        return terms

    def _of_module(self, node: Node) -> list[Labels]:
        """Both axes of the weight, and what a linear layer only passes on, such as the tokens of an MLP-Mixer."""
        weight = f"{node.name}.weight"
        axes = [slot.atoms for slot in self.channels.slots if slot.tensor == weight]
        passed = [labels for labels in self._of(node.args[0].index) if labels.shape[-1] == 1]
        return axes + (passed if node.op == "Linear" else [])

    def _of_function(self, node: Node, index: int) -> list[Labels]:
        """What the outputs vary with, and what is summed over."""
        a = FUNCTIONS[node.op].signature.bind(node.args)
        if node.op == "einsum":
            letters = letters_of(self.channels.flow, node)
            if letters is None:
                return []
            (left, _), made = letters
            over = [axis for axis, letter in enumerate(left) if letter not in made]
            summed = [labels for labels in self._of(node.inputs[0]) if varied(labels) & set(over)]
        elif node.op in ("linear", "matmul", "bmm"):
            summed = [labels for labels in self._of(node.inputs[0]) if labels.shape[-1] > 1]
        elif node.op in ("addmm", "baddbmm"):
            summed = [labels for labels in self._of(node.inputs[1]) if labels.shape[-1] > 1]
        elif "weight" in a:
            axis = 0 if "transpose" in node.op else 1
            summed = [labels for labels in self._of(a["weight"].index) if labels.shape[axis] > 1]
        else:
            return []
        return self._of(index) + summed

    def _attention(self, node: Node, index: int) -> list[Term]:
        flow = self.channels.flow
        a = FUNCTIONS[node.op].signature.bind(node.args)
        query, out, length = a["query"].index, index, flow.shape(a["key"].index)[-2]
        terms = []
        for value in (query, out):
            factors = self._of(value)
            macs = math.prod(flow.shape(value)) * length // PROBE_BATCH
            terms.append((node.name, macs // math.prod(atoms.size for atoms in factors), factors))
        return terms

    def _of(self, index: int) -> list[Labels]:
        """A value's labels that can be removed, by what they came to be tied to: each varies along one axis now."""
        roots = self.channels.roots
        found = [compressed(roots[labels]) for labels in self.channels.flow.of(index)]
        if self._depends[index]:
            found = [_one_sample(labels) for labels in found]
        return [labels for labels in found if varied(labels) and self.channels.tally(labels)[0].any()]

    def _sum(self, terms: Sequence[Term]) -> _Sum:
        most = max((len(factors) for _, _, factors in terms), default=0)
        groups = len(self.names)
        scale = np.array([scale for _, scale, _ in terms], np.int64)
        weights = np.zeros((len(terms), most, groups), np.int64)
        fixed = np.ones((len(terms), most), np.int64)
        for row, (_, _, factors) in enumerate(terms):
            for place, atoms in enumerate(factors):
                weights[row, place], fixed[row, place] = self.channels.tally(atoms)
        return _Sum(tuple(name for name, _, _ in terms), scale, weights, fixed)


def _one_sample(labels: Labels) -> Labels:
    """Those of one sample, of labels that vary along axis 0: heads that were folded into the batch, before or behind it."""
    if 0 not in varied(labels):
        return labels
    each = len(labels) // PROBE_BATCH
    return labels[:each] if (labels[:each] == labels[each : 2 * each]).all() else labels[::PROBE_BATCH]
