"""Splits: taking rows, holding out, fingerprints."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lazy_sources import LabelsThatFail, Squares

from netpress.data import Data, Split
from netpress.data.dataset import LabelRows, Rows, held_counts
from netpress.errors import ConfigError, DataError


def numbered(count: int, classes: int = 3) -> Split:
    images = np.arange(count, dtype=np.uint8).reshape(count, 1, 1).repeat(4, axis=2)
    return Split(images, np.arange(count) % classes)


def test_labels_are_int64_for_classes_and_float32_for_regression() -> None:
    images = np.zeros((3, 2, 2), np.uint8)
    assert Split(images, np.array([0, 1, 1], np.uint8)).labels.dtype == np.int64
    assert Split(images, torch.tensor([0.5, 1, 2], dtype=torch.float64)).labels.dtype == np.float32
    assert Split(images, [0, 1, 2]).labels.tolist() == [0, 1, 2]
    assert Split(images, np.array([[0], [1], [2]])).labels.shape == (3,)
    with pytest.raises(DataError, match="neither classes nor numbers; got: dtype <U3; allowed: integers"):
        Split(images, np.array(["cat", "dog", "cow"]))


def test_take_keeps_images_and_labels_together_in_the_order_asked() -> None:
    taken = numbered(10).take([7, 2, 2])
    assert taken.images[:, 0, 0].tolist() == [7, 2, 2]
    assert taken.labels.tolist() == [1, 2, 2]


def test_taking_a_run_of_rows_copies_nothing() -> None:
    split = numbered(10)
    assert np.shares_memory(split.take(range(3, 8)).images, split.images)


@pytest.mark.parametrize("rows", [[10], [-1], [0.5], [[0, 1]]])
def test_take_refuses_what_is_not_there(rows: list) -> None:
    with pytest.raises(DataError, match="cannot take these rows"):
        numbered(10).take(rows)


def test_rows_of_lazy_images_are_read_when_asked_for_only() -> None:
    images = Squares(10)
    chosen = Split(images).take([9, 1, 3]).take([2, 0])
    assert images.asked == []
    assert isinstance(chosen.images, Rows)
    assert chosen.images.shape == (2, 2, 2)
    assert chosen.images[np.array([1, 0])][:, 0, 0].tolist() == [81, 9]
    assert chosen.images[:1][:, 0, 0].tolist() == [9]
    assert images.asked == [9, 3, 3]


def test_counts_held_out_by_hand() -> None:
    assert held_counts([50, 30, 20], 9) == [4, 3, 2]  # shares 4.5, 2.7, 1.8
    assert held_counts([1, 1, 8], 3) == [0, 0, 3]  # single images stay where the network is fitted


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.data())
def test_counts_held_out_add_up_and_leave_every_class_one(sizes: list[int], data: st.DataObject) -> None:
    most = sum(sizes) - len(sizes)
    if most == 0:
        with pytest.raises(ConfigError, match="cannot hold out"):
            held_counts(sizes, 1)
        return
    count = data.draw(st.integers(1, most))
    counts = held_counts(sizes, count)
    assert sum(counts) == count
    assert all(0 <= held < size for held, size in zip(counts, sizes, strict=True))
    if min(sizes) * (sum(sizes) - count) >= 2 * sum(sizes):  # no class near its cap: in proportion, to within one image
        assert all(abs(held - count * size / sum(sizes)) < 1 for held, size in zip(counts, sizes, strict=True))


def test_hold_out_is_disjoint_complete_stratified_and_in_order() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    split = Split(np.arange(100, dtype=np.float32).reshape(100, 1), labels)
    fit, held = split.hold_out(0.2, seed=3)
    fit_rows, held_rows = fit.images[:, 0].tolist(), held.images[:, 0].tolist()
    assert sorted(fit_rows + held_rows) == list(range(100))
    assert fit_rows == sorted(fit_rows)
    assert held_rows == sorted(held_rows)
    assert Counter(held.labels.tolist()) == {0: 12, 1: 6, 2: 2}
    assert (labels[np.array(held_rows, int)] == held.labels).all()


def test_hold_out_depends_on_the_seed_alone() -> None:
    split = numbered(90)
    first, again, other = (split.hold_out(9, seed)[1].images[:, 0, 0].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_hold_out_without_classes_is_random() -> None:
    for labels in (None, np.linspace(0, 1, 50)):
        fit, held = Split(np.arange(50, dtype=np.float32).reshape(50, 1), labels).hold_out(10)
        assert (len(fit), len(held)) == (40, 10)
        assert held.images[:, 0].tolist() != list(range(10))
        if labels is not None:
            assert held.labels.tolist() == labels[held.images[:, 0].astype(int)].astype(np.float32).tolist()


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "cannot hold out 0 of 9"),
        (9, "allowed: 1 to 6, so that each class keeps one"),
        (1.0, "allowed: above 0 and below 1"),
        (True, "a count"),
        ("5", "a count"),
    ],
)
def test_hold_out_refuses_amounts_that_leave_nothing(amount: object, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        numbered(9).hold_out(amount)


def test_labels_that_fail_are_untouched_until_they_are_asked_for() -> None:
    split = Split(np.zeros((10, 2, 2), np.uint8), LabelsThatFail())
    fit, _ = split.hold_out(3)
    assert isinstance(fit.labels, LabelRows)
    assert len(fit.labels) == 7
    assert fit.without_labels().labels is None
    assert len(split.fingerprint(labels=False)) == 16
    with pytest.raises(RuntimeError, match="the labels were read"):
        np.asarray(fit.labels)


def test_fingerprint_sees_every_change_that_decides_results() -> None:
    images, labels = np.arange(24, dtype=np.uint8).reshape(6, 2, 2), np.arange(6)
    changed = images.copy()
    changed[5, 1, 1] += 1
    prints = [
        Split(images, labels),
        Split(changed, labels),
        Split(images, labels[::-1].copy()),
        Split(images, None),
        Split(images.reshape(6, 4), labels),
        Split(images.astype(np.float32), labels),
        Split(images, labels).take([1, 0, 2, 3, 4, 5]),
    ]
    assert len({split.fingerprint() for split in prints}) == len(prints)
    assert Split(images.copy(), labels.astype(np.int32)).fingerprint() == prints[0].fingerprint()


def test_fingerprint_is_of_content_however_it_is_laid_out() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
    assert Split(np.asfortranarray(images)).fingerprint() == Split(images).fingerprint()


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="allowed: classification, regression"):
        Data("x", numbered(3), numbered(3), task="ranking")
