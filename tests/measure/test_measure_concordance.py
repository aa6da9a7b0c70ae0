from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from netpress.cli.console import judged
from netpress.data import Preprocess, Split
from netpress.errors import DataError
from netpress.measure import concordance_index, quality
from netpress.measure.concordance import inversions


def by_pairs(predictions: list[float], labels: list[float]) -> float:
    """The definition, pair by pair."""
    points = pairs = 0.0
    for p, y in zip(predictions, labels, strict=True):
        for q, z in zip(predictions, labels, strict=True):
            if y > z:
                pairs += 1
                points += 1 if p > q else 0.5 if p == q else 0
    return points / pairs


def test_by_hand() -> None:
    # Pairs of labels: (5, 6) right, (5, 7) right, (6, 7) wrong.
    assert concordance_index([1.0, 3.0, 2.0], [5.0, 6.0, 7.0]) == pytest.approx(2 / 3)
    # The equal labels 5, 5 are no pair. First 5: below 6 and 7, right. Second 5: tied with 6, half; above 7, wrong. 6: wrong.
    assert concordance_index([1.0, 3.0, 3.0, 2.0], [5.0, 5.0, 6.0, 7.0]) == pytest.approx((1 + 1 + 0.5 + 0 + 0) / 5)


values = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e300, 1e300))


@given(st.lists(st.tuples(values, values), min_size=2, max_size=40))
def test_equals_the_count_of_pairs(samples: list[tuple[float, float]]) -> None:
    predictions, labels = [p for p, _ in samples], [y for _, y in samples]
    if len(set(labels)) < 2:
        with pytest.raises(DataError, match="no two labels differ"):
            concordance_index(predictions, labels)
        return
    found = concordance_index(predictions, labels)
    assert found == pytest.approx(by_pairs(predictions, labels), abs=1e-12)
    assert concordance_index([-p for p in predictions], labels) == pytest.approx(1 - found, abs=1e-12)
    assert concordance_index(labels, labels) == 1


@given(st.lists(st.integers(0, 2**40), max_size=60))
def test_inversions_equal_the_count_of_pairs(ranks: list[int]) -> None:
    expected = sum(a > b for i, a in enumerate(ranks) for b in ranks[i + 1 :])
    assert inversions(np.array(ranks, np.int64)) == expected


def test_many_samples_are_exact() -> None:
    n = 100_000  # the number of pairs exceeds 32 bits
    reversed_order = np.arange(n)[::-1]
    assert inversions(reversed_order) == n * (n - 1) // 2
    assert concordance_index(reversed_order, np.arange(n)) == 0
    assert concordance_index(np.zeros((n, 1)), np.arange(n)) == 0.5


@pytest.mark.parametrize(
    ("predictions", "labels", "text"),
    [
        ([1.0, 2.0], [1.0], "2 predictions, 1 labels"),
        ([1.0, float("nan")], [1.0, 2.0], "cannot be ordered"),
        ([1.0, 2.0], [1.0, float("inf")], "cannot be ordered"),
        ([], [], "no two labels differ"),
        ([1.0, 2.0], [3.0, 3.0], "no two labels differ"),
    ],
)
def test_errors(predictions: list[float], labels: list[float], text: str) -> None:
    with pytest.raises(DataError, match=text):
        concordance_index(predictions, labels)


def regression(outputs: list[list[float]], labels: list[list[float]]):
    """Quality of a network that answers the row of ``outputs`` that its input names."""
    network = nn.Sequential(nn.Embedding.from_pretrained(torch.tensor(outputs)), nn.Flatten())
    split = Split(np.arange(len(outputs))[:, None], np.asarray(labels, np.float32))
    return quality(network, split, Preprocess(indices=True), task="regression", batch_size=2)


def test_a_regression_has_both_figures() -> None:
    found = regression([[1.0], [3.0], [3.0], [2.0]], [[5.0], [5.0], [6.0], [7.0]])
    assert found.value == pytest.approx((16 + 4 + 9 + 25) / 4)
    assert found.concordance == pytest.approx(0.5)
    assert found.as_dict()["concordance"] == found.concordance
    assert judged(found.as_dict()) == "mse 13.5, concordance index 0.5000"


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], [[1.0, 2.0], [2.0, 1.0]]),  # two numbers a sample
        ([[1.0], [2.0]], [[3.0], [3.0]]),  # nothing to order
        ([[float("nan")], [2.0]], [[3.0], [4.0]]),  # a network that is broken
    ],
)
def test_no_index_where_there_is_none(outputs: list[list[float]], labels: list[list[float]]) -> None:
    found = regression(outputs, labels)
    assert found.concordance is None
    assert found.as_dict()["concordance"] is None
    assert "concordance" not in judged(found.as_dict())
