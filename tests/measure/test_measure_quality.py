from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from netpress.data import Preprocess, Split
from netpress.errors import DataError, UnknownNameError
from netpress.measure import agreement, answers, mcnemar, predictions, quality

PLAIN = Preprocess(scale=1.0, mean=(), std=())


class Answer(nn.Module):
    """Says the pixel's value; refuses to in train mode."""

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        return nn.functional.one_hot(x[:, 0, 0, 0].long(), 10).float()


def split(pixels: list[int], labels: object) -> Split:
    images = np.asarray(pixels, np.uint8)[:, None, None, None].repeat(8, 2).repeat(8, 3)  # (N, 1, 8, 8)
    return Split(images, None if labels is None else np.asarray(labels))


def test_accuracy_counts_over_all_batches() -> None:
    network = Answer().train()
    found = quality(network, split([1, 2, 3, 4, 5], [1, 2, 0, 4, 9]), PLAIN, batch_size=2, split_name="held_out")
    counted = {"metric": "accuracy", "value": 0.6, "correct": 3, "count": 5, "split": "held_out"}
    assert found.as_dict() == {**counted, "concordance": None}
    assert network.training


def test_squared_error_is_a_mean_over_all_batches() -> None:
    regression = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    nn.init.constant_(regression[1].weight, 1 / 64)
    nn.init.zeros_(regression[1].bias)
    data = split([1, 2, 3], np.asarray([1.0, 0.0, 0.0], np.float32))
    found = quality(regression, data, PLAIN, task="regression", batch_size=2)
    assert (found.metric, found.correct, found.count) == ("mse", None, 3)
    assert found.value == pytest.approx(13 / 3)


def test_caller_is_not_left_in_inference_mode() -> None:
    for _output, rows in answers(Answer(), split([1, 2], [1, 2]), PLAIN, batch_size=1):
        assert not torch.is_inference_mode_enabled()
        assert len(rows) == 1
    outputs = predictions(Answer(), split([1, 7], None), PLAIN)
    assert outputs.argmax(1).tolist() == [1, 7]


def test_errors() -> None:
    with pytest.raises(DataError, match="the test split has no labels"):
        quality(Answer(), split([1], None), PLAIN)
    with pytest.raises(DataError, match="nothing to evaluate on"):
        quality(Answer(), split([1], [1]).take(np.arange(0)), PLAIN)
    with pytest.raises(UnknownNameError, match="did you mean 'classification'"):
        quality(Answer(), split([1], [1]), PLAIN, task="classify")
    with pytest.raises(DataError, match=r"differ in shape"):
        quality(Answer(), split([1, 2], [[1.0, 2.0], [1.0, 2.0]]), PLAIN, task="regression")
    with pytest.raises(DataError, match="same samples only"):
        agreement(torch.zeros(3), torch.zeros(4), [0, 0, 0])


def test_agreement_and_mcnemar_by_hand() -> None:
    labels = [0] * 16
    a, b = torch.zeros(16, dtype=torch.int64), torch.zeros(16, dtype=torch.int64)
    a[:2], b[1:10] = 1, 1  # a wrong on 0, 1; b wrong on 1..9
    found = agreement(a, b, labels)
    assert (found.both, found.only_a, found.only_b, found.neither) == (6, 8, 1, 1)
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)
    logits = nn.functional.one_hot(a, 2).float()
    assert agreement(logits, b, labels) == found


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_two_sided_binomial_test(only_a: int, only_b: int) -> None:
    n = only_a + only_b
    tail = math.fsum(math.comb(n, i) for i in range(min(only_a, only_b) + 1)) / 2**n
    assert mcnemar(only_a, only_b) == pytest.approx(min(1, 2 * tail), rel=1e-12)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_mcnemar_of_many_samples() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(10_000, 10_000) == 1
    # 10,150 against 9,850: z = 300 / sqrt(20,000), with the correction for continuity
    z = 299 / math.sqrt(20_000)
    assert mcnemar(10_150, 9_850) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-2)
    assert mcnemar(20_000, 0) == 0.0
