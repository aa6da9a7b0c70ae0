"""What a network costs when channels are missing, exactly, without cutting them out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from netpress.graph import Node
from netpress.graph.count import node_macs
from netpress.graph.operators import FUNCTIONS
from netpress.graph.shapes import infer_values
from netpress.structure.atoms import Labels
from netpress.structure.channels import Channels
from netpress.structure.flow import PROBE_BATCH
from netpress.structure.labels import compressed, varied

Counted = NDArray[np.int64]  # channels kept of each group, in the order of `Channels.groups`


@dataclass(frozen=True)
class _Sum:
    """A sum of products, one a row: ``scale · Π_f (weights_f · n + fixed_f)``.

    Attributes:
        scale: (rows,)
        weights: (rows, factors, groups)
        fixed: (rows, factors)
    """

    scale: NDArray[np.int64]
    weights: NDArray[np.int64]
    fixed: NDArray[np.int64]

    def at(self, kept: NDArray[np.int64]) -> int:
        return int((self.scale * self._factors(kept).prod(1)).sum())

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
        self.full: Counted = np.array([group.size for group in channels.groups.values()], np.int64)
        self._params = self._sum(self._tensors())
        self._macs = self._sum(self._products())

    def params(self, kept: Counted) -> int:
        """Parameters with ``kept`` channels of each group."""
        return self._params.at(np.asarray(kept, np.int64))

    def macs(self, kept: Counted) -> int:
        """Multiply-accumulates of one sample with ``kept`` channels of each group."""
        return self._macs.at(np.asarray(kept, np.int64))

    def slopes(self, metric: str, kept: Counted) -> NDArray[np.float64]:
        """What one channel more of each group would cost in ``params`` or ``macs``, to first order. (groups,)"""
        return (self._params if metric == "params" else self._macs).slopes(np.asarray(kept, np.int64))

    def _tensors(self) -> list[tuple[int, list[Labels]]]:
        by_tensor: dict[str, list[tuple[int, Labels]]] = {}
        for slot in self.channels.slots:
            by_tensor.setdefault(slot.tensor, []).append((slot.axis, slot.atoms))
        terms = []
        for name, parameter in self.channels.net.named_parameters():
            axes = dict(by_tensor.get(name, []))
            fixed = parameter.numel()
            for atoms in axes.values():
                fixed //= len(atoms)
            terms.append((fixed, list(axes.values())))
        return terms

    def _products(self) -> list[tuple[int, list[Labels]]]:
        net = self.channels.net
        terms = []
        for index, (node, macs) in enumerate(zip(net.nodes, node_macs(net, infer_values(net)), strict=True), 1):
            if not macs:
                continue
            if node.op == "scaled_dot_product_attention":
                terms += self._attention(node, index)
            else:
                factors = self._of_module(node) if node.is_module else self._of_function(node, index)
                terms.append((macs // math.prod(atoms.size for atoms in factors), factors))
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
        if node.op in ("linear", "matmul", "bmm"):
            summed = [labels for labels in self._of(node.inputs[0]) if labels.shape[-1] > 1]
        elif node.op in ("addmm", "baddbmm"):
            summed = [labels for labels in self._of(node.inputs[1]) if labels.shape[-1] > 1]
        elif "weight" in a:
            axis = 0 if "transpose" in node.op else 1
            summed = [labels for labels in self._of(a["weight"].index) if labels.shape[axis] > 1]
        else:
            return []
        return self._of(index) + summed

    def _attention(self, node: Node, index: int) -> list[tuple[int, list[Labels]]]:
        flow = self.channels.flow
        a = FUNCTIONS[node.op].signature.bind(node.args)
        query, out, length = a["query"].index, index, flow.shape(a["key"].index)[-2]
        terms = []
        for value in (query, out):
            factors = self._of(value)
            macs = math.prod(flow.shape(value)) * length // PROBE_BATCH
            terms.append((macs // math.prod(atoms.size for atoms in factors), factors))
        return terms

    def _of(self, index: int) -> list[Labels]:
        """A value's labels that can be removed, by what they came to be tied to: each varies along one axis now."""
        roots = self.channels.roots
        found = [compressed(roots[labels]) for labels in self.channels.flow.of(index)]
        return [labels for labels in found if varied(labels) and self.channels.tally(labels)[0].any()]

    def _sum(self, terms: Sequence[tuple[int, list[Labels]]]) -> _Sum:
        most = max((len(factors) for _, factors in terms), default=0)
        groups = len(self.names)
        scale = np.array([scale for scale, _ in terms], np.int64)
        weights = np.zeros((len(terms), most, groups), np.int64)
        fixed = np.ones((len(terms), most), np.int64)
        for row, (_, factors) in enumerate(terms):
            for place, atoms in enumerate(factors):
                weights[row, place], fixed[row, place] = self.channels.tally(atoms)
        return _Sum(scale, weights, fixed)
