"""Where channels flow: labels for every value of a traced network, from the operators that make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from netpress.graph import GraphNetwork, Node
from netpress.graph.shapes import infer_values
from netpress.structure.atoms import Atoms, Labels
from netpress.structure.labels import along, compressed, padded, varied

PROBE_BATCH = 2

Arrays = list[Labels]


@dataclass(frozen=True)
class Slot:
    """One axis of one tensor of the network along which channels lie.

    Attributes:
        tensor: Dotted name of the parameter or buffer.
        axis: The axis.
        atoms: The atom of each place. (size of the axis,)
        consumes: Whether the places are read by it (the inputs of a convolution), not made (its filters, biases, norms).
    """

    tensor: str
    axis: int
    atoms: Labels
    consumes: bool = False


@dataclass
class Flow:
    """Labels of all values, and what the operators said about them.

    Attributes:
        net: The network.
        shapes: Shape of every value for a batch of `PROBE_BATCH`; a list of shapes where an operator returns many.
        arrays: Label arrays of every value, likewise.
        slots: Axes of tensors along which channels lie, in order of execution.
        whole: Label arrays with an axis that cannot lose places.
        notes: Operators that were not understood, by the name of who calls them.
    """

    net: GraphNetwork
    shapes: list[Any]
    atoms: Atoms = field(default_factory=Atoms)
    arrays: list[Any] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    whole: list[tuple[Labels, int]] = field(default_factory=list)
    _by_tensor: dict[tuple[int, int], Slot] = field(default_factory=dict, repr=False)

    def add_slot(self, tensor: str, axis: int, atoms: Labels, *, consumes: bool = False) -> None:
        """Says that ``atoms`` lie along ``axis`` of the parameter or buffer ``tensor``; ties them to what was said before."""
        held = self.net.get_parameter(tensor) if tensor in self._parameters else self.net.get_buffer(tensor)
        key = (id(held), axis)
        if key in self._by_tensor:
            self.atoms.unite(self._by_tensor[key].atoms, atoms)
        self._by_tensor.setdefault(key, Slot(tensor, axis, atoms, consumes))
        self.slots.append(Slot(tensor, axis, atoms, consumes))

    def held(self, tensor: str, axis: int) -> Labels | None:
        """The atoms along an axis of a tensor, if something was said about it before (a module that is called twice)."""
        held = self.net.get_parameter(tensor) if tensor in self._parameters else self.net.get_buffer(tensor)
        slot = self._by_tensor.get((id(held), axis))
        return None if slot is None else slot.atoms

    def __post_init__(self) -> None:
        self._parameters = {name for name, _ in self.net.named_parameters(remove_duplicate=False)}

    # ------------------------------------------------------------ what rules say

    def freeze(self, arrays: Arrays, reason: str) -> None:
        """Nothing that these arrays label can be removed."""
        for labels in arrays:
            self.atoms.freeze(labels, reason)

    def freeze_along(self, arrays: Arrays, axes: Sequence[int] | range, reason: str) -> Arrays:
        """Freezes the arrays that vary along any of ``axes``; the others."""
        inside = set(axes)
        self.freeze([labels for labels in arrays if varied(labels) & inside], reason)
        return [labels for labels in arrays if not varied(labels) & inside]

    def collapse(self, labels: Labels, keep: Sequence[int]) -> Labels:
        """Ties all places of ``labels`` that differ only in axes outside ``keep``; the labels that are left."""
        left = labels
        for axis in varied(labels) - set(keep):
            self.atoms.unite(left.take([0], axis), left)
            left = left.take([0], axis)
        return left

    def vector(self, arrays: Arrays, axis: int) -> tuple[Labels | None, Arrays]:
        """The atoms along ``axis`` alone, all else tied; and the arrays that do not vary along it."""
        found, others = None, []
        for labels in arrays:
            if axis not in varied(labels):
                others.append(labels)
                continue
            flat = self.collapse(labels, (axis,)).reshape(-1)
            if found is None:
                found = flat
            else:
                self.atoms.unite(found, flat)
        return found, others

    def fold(self, operands: Sequence[tuple[Arrays, Sequence[int]]], rank: int, reason: str) -> Arrays:
        """Labels of what operands, each with its arrays and its shape, make place by place, as sums and products do.

        Arrays that vary along a common axis are tied. Where one operand has labels along an axis and another has that axis without
        labels, the labels are frozen: the other has nothing that could be removed with them.
        """
        lifted = [
            ([padded(labels, rank) for labels in arrays], (1,) * (rank - len(shape)) + tuple(shape))
            for arrays, shape in operands
        ]
        clusters: list[tuple[frozenset[int], list[Labels]]] = []
        for labels in (labels for arrays, _ in lifted for labels in arrays):
            axes, members = varied(labels), [labels]
            apart = []
            for other_axes, others in clusters:
                if axes & other_axes:
                    axes, members = axes | other_axes, others + members
                else:
                    apart.append((other_axes, others))
            clusters = [*apart, (axes, members)]
        out = []
        for axes, members in clusters:
            first = max(members, key=lambda labels: len(varied(labels)))
            for other in members:
                if other is not first:
                    self.atoms.unite(first, other)
            for axis in axes:
                for arrays, shape in lifted:
                    if shape[axis] > 1 and not any(labels.shape[axis] > 1 for labels in arrays):
                        self.freeze(members, reason)
            out.append(first)
        return out

    # ------------------------------------------------------------ what rules ask

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a value that is one tensor."""
        return self.shapes[index]

    def of(self, index: int) -> Arrays:
        """Label arrays of a value that is one tensor."""
        return self.arrays[index]


def flow_of(net: GraphNetwork) -> Flow:
    """Follows the channels of ``net`` from its parameters to its output.

    Raises:
        GraphError: The parts of the network do not fit together.
    """
    from netpress.structure.functions import FUNCTION_RULES, unknown
    from netpress.structure.modules import MODULE_RULES, passes

    shapes = [_shapes(value) for value in infer_values(net, PROBE_BATCH)]
    flow = Flow(net, shapes)
    flow.arrays.append([])  # the input's places are the data's
    for index, node in enumerate(net.nodes, 1):
        if node.is_tensor:
            made: Any = _tensor(flow, node, shapes[index])
        elif node.is_module:
            made = MODULE_RULES.get(node.op, passes)(flow, node, index)
        else:
            made = FUNCTION_RULES.get(node.op, unknown)(flow, node, index)
        flow.arrays.append(_checked(made, shapes[index]))
    flow.freeze(flow.arrays[-1], "the network's output")
    return flow


def _tensor(flow: Flow, node: Node, shape: tuple[int, ...]) -> Arrays:
    """A parameter or buffer that is read as a value: one array for each axis."""
    arrays = []
    for axis, size in enumerate(shape):
        if size > 1:
            atoms = flow.held(node.name, axis)
            if atoms is None:
                atoms = flow.atoms.fresh(size)
            flow.add_slot(node.name, axis, atoms)
            arrays.append(along(atoms, axis, len(shape)))
    return arrays


def _shapes(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else [tuple(part.shape) for part in value]


def _checked(made: Any, shape: Any) -> Any:
    if isinstance(shape, list):
        return [_checked(part, one) for part, one in zip(made, shape, strict=True)]
    kept = []
    for labels in made:
        labels = compressed(labels)
        if varied(labels):
            assert labels.ndim == len(shape), "a rule made labels of another rank"
            assert all(labels.shape[axis] == shape[axis] for axis in varied(labels)), (
                "a rule made labels of another size"
            )
            kept.append(np.ascontiguousarray(labels))
    return kept
