"""Labels: for each place of a tensor the atom that it belongs to, moved by the operators that move the tensor's places.

A label array has the rank of its tensor and size 1 along every axis on which the label does not depend; along the others, on
which it *varies*, it has the tensor's size. A tensor may carry several arrays, one for each kind of channel that runs through it:
a table (tokens, width) one that varies along the first axis and one that varies along the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from netpress.structure.atoms import Labels


def varied(labels: Labels) -> frozenset[int]:
    """The axes along which ``labels`` varies."""
    return frozenset(axis for axis, size in enumerate(labels.shape) if size > 1)


def along(atoms: Labels, axis: int, rank: int) -> Labels:
    """A vector of atoms as labels of a tensor of ``rank`` axes that vary along ``axis`` alone."""
    shape = [1] * rank
    shape[axis] = len(atoms)
    return atoms.reshape(shape)


def compressed(labels: Labels) -> Labels:
    """The same labels with size 1 along axes on which they turn out not to depend."""
    for axis in varied(labels):
        first = labels.take([0], axis)
        if (labels == first).all():
            labels = first
    return labels


def spread(labels: Labels, shape: Sequence[int], axes: Sequence[int] | range) -> Labels:
    """``labels`` written out in full along ``axes`` of a tensor of this ``shape``."""
    wanted = [shape[axis] if axis in axes else size for axis, size in enumerate(labels.shape)]
    return np.broadcast_to(labels, wanted)


def padded(labels: Labels, rank: int) -> Labels:
    """With axes of size 1 in front, as in broadcasting, to ``rank`` axes."""
    return labels.reshape((1,) * (rank - labels.ndim) + labels.shape)


def reshaped(labels: Labels, before: Sequence[int], after: Sequence[int]) -> Labels:
    """Labels after a reshape of the tensor from ``before`` to ``after``.

    Both shapes are walked from the left in the smallest chunks of equal size; only chunks on which the labels vary are written out.
    """
    full: list[int] = []  # the labels' own shape, written out in chunks on which they vary
    made: list[int] = []
    for old, new in _chunks(before, after):
        varies = any(labels.shape[axis] > 1 for axis in old)
        full += [before[axis] if varies else 1 for axis in old]
        made += [after[axis] if varies else 1 for axis in new]
    return compressed(np.broadcast_to(labels, full).reshape(made))


def _chunks(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    chunks = []
    i = j = 0
    while i < len(before) or j < len(after):
        old, new = list(range(i, min(i + 1, len(before)))), list(range(j, min(j + 1, len(after))))
        left, right = (math.prod(before[axis] for axis in old), math.prod(after[axis] for axis in new))
        while left != right:
            if left < right:
                old.append(i + len(old))
                left *= before[old[-1]]
            else:
                new.append(j + len(new))
                right *= after[new[-1]]
        i, j = i + len(old), j + len(new)
        chunks.append((old, new))
    return chunks
