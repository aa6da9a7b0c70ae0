"""What is known while channels are followed: labels of values, axes of tensors, and how rules tie and freeze them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from netpress.graph import GraphNetwork
from netpress.structure.atoms import Atoms, Labels
from netpress.structure.labels import padded, varied

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
        zeros: Of every value whether its missing places are surely 0 in a masked network (see `zeros`).
        whole: Label arrays with an axis that cannot lose places.
    """

    net: GraphNetwork
    shapes: list[Any]
    atoms: Atoms = field(default_factory=Atoms)
    arrays: list[Any] = field(default_factory=list)
    zeros: list[bool] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    whole: list[tuple[Labels, int]] = field(default_factory=list)
    _by_tensor: dict[tuple[int, int], Slot] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._tensors = {
            **dict(self.net.named_buffers(remove_duplicate=False)),
            **dict(self.net.named_parameters(remove_duplicate=False)),
        }

    def add_slot(self, tensor: str, axis: int, atoms: Labels, *, consumes: bool = False) -> None:
        """Says that ``atoms`` lie along ``axis`` of the parameter or buffer ``tensor``; ties them to what was said before."""
        key = (id(self._tensors[tensor]), axis)
        if key in self._by_tensor:
            self.atoms.unite(self._by_tensor[key].atoms, atoms)
        self._by_tensor.setdefault(key, Slot(tensor, axis, atoms, consumes))
        self.slots.append(Slot(tensor, axis, atoms, consumes))

    def held(self, tensor: str, axis: int) -> Labels | None:
        """The atoms along an axis of a tensor, if something was said about it before (a module that is called twice)."""
        slot = self._by_tensor.get((id(self._tensors[tensor]), axis))
        return None if slot is None else slot.atoms

    def add_fixed_slot(self, tensor: str, axis: int, reason: str, *, consumes: bool = False) -> None:
        """Says that an axis of a tensor meets places that cannot be removed, in case that the tensor is used elsewhere, too."""
        atoms = self.held(tensor, axis)
        if atoms is None:
            atoms = self.atoms.fresh(self._tensors[tensor].shape[axis])
        self.atoms.freeze(atoms, reason)
        self.add_slot(tensor, axis, atoms, consumes=consumes)

    # ------------------------------------------------------------ what rules say

    def freeze(self, arrays: Arrays, reason: str) -> None:
        """Nothing that these arrays label can be removed."""
        for labels in arrays:
            self.atoms.freeze(labels, reason)

    def freeze_along(self, arrays: Arrays, axes: Sequence[int] | range, reason: str, *, stays: bool = False) -> Arrays:
        """Makes sure that nothing is removed along ``axes`` alone; the labels that are left.

        An array that varies along other axes, too, is tied along ``axes``, so that a head or a group goes as a whole; one that does
        not is frozen.

        Args:
            stays: Whether frozen arrays still label the result, so that what meets them later is frozen for the same reason.
        """
        inside, left = set(axes), []
        for labels in arrays:
            along = varied(labels) & inside
            if along and varied(labels) - inside:
                left.append(self.collapse(labels, [axis for axis in range(labels.ndim) if axis not in inside]))
                continue
            if along:
                self.freeze([labels], reason)
            if stays or not along:
                left.append(labels)
        return left

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
        labels, nothing can be removed along it: `freeze_along` it.
        """
        lifted = [
            ([padded(labels, rank) for labels in arrays], (1,) * (rank - len(shape)) + tuple(shape))
            for arrays, shape in operands
        ]
        while bare := _bare_axes([arrays for arrays, _ in lifted], [shape for _, shape in lifted]):
            lifted = [(self.freeze_along(arrays, bare, reason), shape) for arrays, shape in lifted]
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
            # two arrays that vary along different pairs of axes: written out along all of them
            shape = [max(labels.shape[axis] for labels in members) for axis in range(rank)]
            out.append(first if varied(first) == axes else np.broadcast_to(first, shape))
        return out

    # ------------------------------------------------------------ what rules ask

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a value that is one tensor."""
        return self.shapes[index]

    def of(self, index: int) -> Arrays:
        """Label arrays of a value that is one tensor."""
        return self.arrays[index]


def _bare_axes(arrays: Sequence[Arrays], shapes: Sequence[Sequence[int]]) -> list[int]:
    """The axes along which one operand has labels and another has places without labels."""
    along = [set[int]().union(*(varied(labels) for labels in own)) for own in arrays]
    return [
        axis
        for axis in sorted(set[int]().union(*along))
        if any(shape[axis] > 1 and axis not in own for own, shape in zip(along, shapes, strict=True))
    ]
