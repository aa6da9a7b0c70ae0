"""Where a network can be cut in two, and the cut itself.

A cut lies before a module, leaf or container: that module and all that comes after it belong to the second part. It is
legal where exactly one tensor, batch-first, crosses it, where something is left on both sides, and where no parameter
is used on both.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netpress.errors import CutError, nearest
from netpress.graph.assemble import find_tensor
from netpress.graph.count import node_macs, node_parameters
from netpress.graph.network import GraphNetwork
from netpress.graph.shapes import depends_on_input, infer_values, sample_shape
from netpress.program.nodes import Node
from netpress.program.operators import BUFFER
from netpress.program.values import Ref, map_refs


@dataclass(frozen=True)
class Cut:
    """A legal cut.

    Attributes:
        name: Dotted name of the module before which it lies.
        shape: Shape of one sample of the tensor that crosses it.
        params_before, params_after: Parameters of the two parts.
        macs_before, macs_after: Multiply-accumulates of one sample in the two parts.
        at: Number of nodes in the first part.
    """

    name: str
    shape: tuple[int, ...]
    params_before: int
    params_after: int
    macs_before: int
    macs_after: int
    at: int


def legal_cuts(net: GraphNetwork) -> list[Cut]:
    """All legal cuts in order of execution; at one place the outermost module first."""
    return _Positions(net).legal()


def find_cut(net: GraphNetwork, name: str) -> Cut:
    """The cut before module ``name``.

    Raises:
        CutError: No module of that name is run, or the cut is not legal; the text names the nearest that are.
    """
    return _Positions(net).find(name)


def split(net: GraphNetwork, name: str) -> tuple[GraphNetwork, GraphNetwork]:
    """The part before module ``name`` and the part from it on, with copies of their parameters under their old names.

    ``after(before(x))`` is what ``net(x)`` is, to the last bit.

    Raises:
        CutError: As `find_cut`.
    """
    positions = _Positions(net)
    cut = positions.find(name)
    crossing = positions.crossing(cut.at)[0]
    before_nodes, after_nodes = list(net.nodes[: cut.at]), []
    new_index = {crossing: 0}
    for k in range(cut.at, len(net.nodes)):
        node = net.nodes[k]
        for index in node.inputs:
            if index not in new_index:  # a constant read before the cut: read again
                after_nodes.append(net.nodes[index - 1])
                new_index[index] = len(after_nodes)
        after_nodes.append(Node(node.name, node.op, map_refs(node.args, lambda ref: Ref(new_index[ref.index]))))
        new_index[k + 1] = len(after_nodes)
    dtype = positions.values[crossing].dtype
    before = _part(net, before_nodes, net.input_shape, cut.shape, net.input_dtype)
    return before, _part(net, after_nodes, cut.shape, net.output_shape, dtype)


class _Positions:
    """A network with everything that judging a cut needs."""

    def __init__(self, net: GraphNetwork) -> None:
        self.net = net
        self.values = infer_values(net)
        self.depends = depends_on_input(net)
        self.first: dict[str, int] = {}
        for k, node in enumerate(net.nodes):
            if node.is_tensor:
                continue
            parts = node.name.split(".") if node.name else []
            for depth in range(1, len(parts) + 1):
                self.first.setdefault(".".join(parts[:depth]), self._start(k))
        self.macs = node_macs(net, self.values)
        self.parameters = [{id(p): p.numel() for p in node_parameters(net, node)} for node in net.nodes]

    def _start(self, k: int) -> int:
        # what is made of parameters alone for node k stands right before it and goes with it
        while k > 0 and not self.depends[k]:
            k -= 1
        return k

    def crossing(self, at: int) -> list[int]:
        """Values made before node ``at`` and used from it on; constants that are only read count on neither side."""
        used = {index for node in self.net.nodes[at:] for index in node.inputs if index <= at}
        return sorted(index for index in used if index == 0 or self.net.nodes[index - 1].op != BUFFER)

    def obstacle(self, at: int) -> str | None:
        """Why a cut before node ``at`` is not legal; None if it is."""
        if at == 0:
            return "nothing is left before it"
        crossing = self.crossing(at)
        if len(crossing) != 1:
            names = [self._describe(index) for index in crossing]
            return f"{len(crossing)} tensors cross it: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
        if not self.depends[crossing[0]] or sample_shape(self.values[crossing[0]]) is None:
            return "what crosses it is not a batch of tensors"
        before = {key for held in self.parameters[:at] for key in held}
        if any(key in before for held in self.parameters[at:] for key in held):
            return "a parameter is used on both sides"
        return None

    def cut(self, name: str) -> Cut:
        at = self.first[name]
        shape = sample_shape(self.values[self.crossing(at)[0]])
        return Cut(
            name,
            shape if shape is not None else (),
            _total(self.parameters[:at]),
            _total(self.parameters[at:]),
            sum(self.macs[:at]),
            sum(self.macs[at:]),
            at,
        )

    def legal(self) -> list[Cut]:
        good = {at for at in set(self.first.values()) if self.obstacle(at) is None}
        names = sorted((at, name.count("."), name) for name, at in self.first.items() if at in good)
        return [self.cut(name) for _, _, name in names]

    def find(self, name: str) -> Cut:
        if name not in self.first:
            close = nearest(name, self.first)
            raise CutError(
                "no module of this name is run in the network",
                got=repr(name),
                allowed=", ".join(cut.name for cut in self.legal()) or "no cut at all",
                remedy=f"did you mean {' or '.join(map(repr, close))}?" if close else None,
            )
        at = self.first[name]
        if (obstacle := self.obstacle(at)) is not None:
            legal = sorted(self.legal(), key=lambda cut: abs(cut.at - at))[:3]
            near = ", ".join(repr(cut.name) for cut in sorted(legal, key=lambda cut: cut.at))
            raise CutError(
                f"the network cannot be cut before {name!r}",
                got=obstacle,
                remedy=f"the nearest legal cuts lie before {near}" if near else "this network has no legal cut",
            )
        return self.cut(name)

    def _describe(self, index: int) -> str:
        if index == 0:
            return "the input"
        node = self.net.nodes[index - 1]
        return f"{node.op} of {node.name!r}" if node.name else node.op


def _total(held: Iterable[dict[int, int]]) -> int:
    merged: dict[int, int] = {}
    for parameters in held:
        merged.update(parameters)
    return sum(merged.values())


def _part(
    net: GraphNetwork,
    nodes: list[Node],
    input_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
    input_dtype: torch.dtype,
) -> GraphNetwork:
    memo: dict[int, object] = {}  # one for the whole part: what is shared stays shared
    modules: dict[str, nn.Module] = {}
    tensors: dict[str, Tensor] = {}
    for node in nodes:
        if node.is_module and node.name not in modules:
            modules[node.name] = copy.deepcopy(net.get_submodule(node.name), memo)
    for node in nodes:
        if node.is_tensor and node.name.rpartition(".")[0] not in modules:
            tensors[node.name] = copy.deepcopy(find_tensor(net, node.name), memo)
    part = GraphNetwork(
        nodes, modules, tensors, input_shape=input_shape, output_shape=output_shape, input_dtype=input_dtype
    )
    part.training = net.training
    return part
