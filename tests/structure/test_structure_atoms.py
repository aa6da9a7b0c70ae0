from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from netpress.structure.atoms import Atoms

ATOMS = 12
index = st.integers(0, ATOMS - 1)
ties = st.lists(st.lists(st.tuples(index, index), min_size=1, max_size=8), max_size=8)


def naive_roots(batches: list[list[tuple[int, int]]]) -> list[int]:
    """The smallest atom of each one's set, by repainting."""
    colour = list(range(ATOMS))
    for batch in batches:
        for a, b in batch:
            low, high = sorted((colour[a], colour[b]))
            colour = [low if one == high else one for one in colour]
    return colour


@given(ties)
def test_sets_are_those_of_a_naive_union_find(batches: list[list[tuple[int, int]]]) -> None:
    atoms = Atoms()
    atoms.fresh(ATOMS)
    for batch in batches:
        first, second = np.array(batch, np.int64).T
        atoms.unite(first, second)
    assert atoms.roots().tolist() == naive_roots(batches)


@given(ties, st.lists(st.lists(index, max_size=3), max_size=3))
def test_what_is_tied_to_a_frozen_atom_is_frozen(batches: list[list[tuple[int, int]]], cold: list[list[int]]) -> None:
    atoms = Atoms()
    atoms.fresh(ATOMS)
    for number, some in enumerate(cold):
        atoms.freeze(np.array(some, np.int64), str(number))
    for batch in batches:  # ties made later count as well
        first, second = np.array(batch, np.int64).T
        atoms.unite(first, second)
    roots = naive_roots(batches)
    reasons: dict[int, str] = {}
    for number, some in enumerate(cold):
        for atom in some:
            reasons.setdefault(roots[atom], str(number))
    assert atoms.frozen() == reasons


def test_places_are_tied_as_they_broadcast() -> None:
    atoms = Atoms()
    columns, grid = atoms.fresh(3), atoms.fresh(6).reshape(2, 3)
    atoms.unite(columns, grid)
    assert atoms.find(grid).tolist() == [[0, 1, 2], [0, 1, 2]]


def test_numbers_go_on_beyond_what_was_set_aside() -> None:
    atoms = Atoms()
    made = np.concatenate([atoms.fresh(1000) for _ in range(5)])
    assert made.tolist() == list(range(5000))
    assert len(atoms) == 5000
    atoms.unite(made[:-1], made[1:])
    assert set(atoms.roots().tolist()) == {0}
