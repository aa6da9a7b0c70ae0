from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.structure.labels import along, compressed, padded, reshaped, spread, varied


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[np.ndarray, list[int], list[int]]:
    """Labels of a tensor, its shape, and another shape of as many places."""
    primes = draw(st.lists(st.sampled_from((2, 3)), max_size=6))

    def shape() -> list[int]:
        order = draw(st.permutations(primes))
        cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=3)))
        return [math.prod(order[a:b]) for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]

    before, after = shape(), shape()
    own = [size if draw(st.booleans()) else 1 for size in before]
    count = math.prod(own)
    labels = np.array(draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)), np.int64)
    return labels.reshape(own), before, after


@given(reshapes())
def test_a_reshape_of_labels_is_a_reshape_of_every_place(case: tuple[np.ndarray, list[int], list[int]]) -> None:
    labels, before, after = case
    made = reshaped(labels, before, after)
    written_out = np.broadcast_to(labels, before).reshape(after)
    assert made.ndim == len(after)
    assert all(made.shape[axis] in (1, size) for axis, size in enumerate(after))
    assert np.array_equal(np.broadcast_to(made, after), written_out)
    assert varied(made) == {
        axis for axis in range(len(after)) if not (written_out == written_out.take([0], axis)).all()
    }


@pytest.mark.parametrize(
    ("before", "after", "axis", "shape"),
    [
        ((2, 6, 5, 5), (2, 150), 1, (1, 150)),  # flattened: each channel is 25 places
        ((2, 6, 5, 5), (2, 6, 25), 1, (1, 6, 1)),  # the places of a channel stay out of it
        ((2, 7, 12), (2, 7, 3, 4), 2, (1, 1, 3, 4)),  # heads
        ((2, 3, 7, 4), (6, 7, 4), 1, (6, 1, 1)),  # heads behind the batch
        ((2, 12), (2, 12, 1, 1), 1, (1, 12, 1, 1)),
        ((2, 12, 1, 1), (2, 12), 1, (1, 12)),
    ],
)
def test_labels_are_written_out_only_where_they_vary(
    before: tuple[int, ...], after: tuple[int, ...], axis: int, shape: tuple[int, ...]
) -> None:
    labels = along(np.arange(before[axis]), axis, len(before))
    assert reshaped(labels, before, after).shape == shape


def test_axes_without_a_difference_are_left_out() -> None:
    labels = np.array([[[1, 1, 1]], [[2, 2, 2]]])
    assert compressed(labels).tolist() == [[[1]], [[2]]]
    assert varied(compressed(labels)) == {0}


def test_spread_writes_out_the_axes_that_are_asked_for() -> None:
    labels = along(np.arange(3), 1, 3)
    assert spread(labels, (2, 3, 4), [0]).shape == (2, 3, 1)
    assert spread(labels, (2, 3, 4), [2])[0, :, 3].tolist() == [0, 1, 2]


def test_padded_adds_axes_in_front() -> None:
    assert padded(np.arange(3), 3).shape == (1, 1, 3)
