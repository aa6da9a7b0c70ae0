"""Atoms: numbered channels, and which of them are tied or must stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


class Atoms:
    """A union-find over whole arrays at once.

    An atom stands for one channel of one layer. Atoms that are united can only be removed together; the smallest number of a
    set stands for it. Atoms that are frozen are never removed.
    """

    def __init__(self) -> None:
        self._parent: Labels = np.empty(1024, np.int64)
        self._count = 0
        self._frozen: list[tuple[Labels, str]] = []

    def __len__(self) -> int:
        return self._count

    def fresh(self, count: int) -> Labels:
        """``count`` new atoms, each on its own. (count,)"""
        while self._count + count > len(self._parent):
            self._parent = np.concatenate((self._parent, np.empty_like(self._parent)))
        made = np.arange(self._count, self._count + count, dtype=np.int64)
        self._parent[made] = made
        self._count += count
        return made

    def find(self, atoms: Labels) -> Labels:
        """The smallest atom of each one's set; of the same shape."""
        roots = self._parent[atoms]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                return roots
            roots = above

    def unite(self, first: Labels, second: Labels) -> None:
        """Ties ``first`` and ``second``, which must broadcast to one shape, place by place."""
        a, b = (side.reshape(-1) for side in np.broadcast_arrays(first, second))
        while True:
            a, b = self.find(a), self.find(b)
            apart = a != b
            if not apart.any():
                return
            a, b = a[apart], b[apart]
            low, high = np.minimum(a, b), np.maximum(a, b)
            np.minimum.at(
                self._parent, high, low
            )  # a set that meets two lower ones gets the lowest, the loop the other

    def freeze(self, atoms: Labels, reason: str) -> None:
        """None of these, and nothing tied to them, can be removed; ``reason`` says why, in words for a report."""
        if atoms.size:
            self._frozen.append((np.unique(atoms), reason))

    def roots(self) -> Labels:
        """The root of every atom. (number of atoms,)"""
        return self.find(np.arange(self._count, dtype=np.int64))

    def frozen(self) -> dict[int, str]:
        """Why a set must stay, by its root; of several reasons the first."""
        reasons: dict[int, str] = {}
        for atoms, reason in self._frozen:
            for root in np.unique(self.find(atoms)).tolist():
                reasons.setdefault(root, reason)
        return reasons
