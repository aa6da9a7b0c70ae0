from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netpress.errors import ConfigError, DataError
from netpress.training import DistillStored, FeatureStore, Trainer, TrainingPlan, stream_features


class Shuffled:
    """Batches in another order each epoch; the label of a sample is the integer written into it."""

    def __init__(self, count: int = 21, size: int = 5, labels: bool = True) -> None:
        self.count, self.size, self.labels = count, size, labels

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(epoch))
        for rows in list(order.split(self.size))[start:]:
            x = rows[:, None, None, None].float().expand(-1, 2, 3, 3)
            yield x, rows if self.labels else None


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (1 if self.training else 2)


def collect(tmp_path: Path, **settings: object) -> FeatureStore:
    return FeatureStore.collect(Double(), Shuffled(), folder=tmp_path, **settings)


def test_rows_stay_together_through_store_and_shuffle(tmp_path: Path) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(18, 1, bias=False))
    nn.init.ones_(teacher[1].weight)
    with collect(tmp_path, teacher=teacher) as store:
        assert len(store) == 21
        assert store.shape == (2, 3, 3)
        stream = store.stream(batch_size=4, shuffle=True, seed=3, targets="both")
        seen = []
        for x, (labels, outputs) in stream.batches(epoch=2):
            torch.testing.assert_close(x[:, 0, 0, 0], 2.0 * labels)
            torch.testing.assert_close(outputs[:, 0], 36.0 * labels)
            seen += labels.tolist()
        assert sorted(seen) == list(range(21))


def test_network_answers_in_eval_mode_and_keeps_its_own(tmp_path: Path) -> None:
    network = Double().train()
    with FeatureStore.collect(network, Shuffled(), folder=tmp_path) as store:
        assert store.labels is not None
        np.testing.assert_array_equal(store.features[:, 0, 0, 0], 2.0 * store.labels)
    assert network.training


def test_order_is_a_pure_function_of_seed_and_epoch(tmp_path: Path) -> None:
    def labels(stream: object, epoch: int, start: int = 0) -> list[list[int]]:
        return [y.tolist() for _, y in stream.batches(epoch, start)]

    with collect(tmp_path) as store:
        a, b = (store.stream(batch_size=4, shuffle=True, seed=s) for s in (0, 1))
        assert labels(a, 1) == labels(a, 1) == [*labels(a, 1)[:2], *labels(a, 1, start=2)]
        assert labels(a, 1) != labels(a, 2)
        assert labels(a, 1) != labels(b, 1)
        assert [len(y) for y in labels(a, 0)] == [4, 4, 4, 4, 5]  # a last row alone joins the batch before
        assert len(a) == 5
        assert labels(store.stream(batch_size=4), 0) == labels(store.stream(batch_size=4), 7)


def test_files_are_deleted(tmp_path: Path) -> None:
    with collect(tmp_path) as store:
        assert sum(f.stat().st_size for f in tmp_path.rglob("features")) == 21 * 18 * 4
    assert list(tmp_path.iterdir()) == []
    store.close()

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        FeatureStore.collect(Broken(), Shuffled(), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_halves_the_disk(tmp_path: Path) -> None:
    with collect(tmp_path, dtype="float16") as store:
        assert sum(f.stat().st_size for f in tmp_path.rglob("features")) == 21 * 18 * 2
        x, _ = next(store.stream(batch_size=4).batches(0))
        assert x.dtype == torch.float32


def test_batches_do_not_write_through_to_the_store(tmp_path: Path) -> None:
    with collect(tmp_path) as store:
        x, _ = next(store.stream(batch_size=4).batches(0))
        before = x.clone()
        x.zero_()
        again, _ = next(store.stream(batch_size=4).batches(0))
        assert torch.equal(again, before)


def test_a_map_trains_on_the_store(tmp_path: Path) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(18, 21))
    with collect(tmp_path, teacher=teacher) as store:
        mapping = nn.Sequential(nn.Flatten(), nn.Linear(18, 21))
        stream = store.stream(batch_size=8, shuffle=True, targets="both")
        record = Trainer().fit(mapping, stream, TrainingPlan(epochs=10, lr=1e-2), DistillStored())
        assert record.losses[-1] < record.losses[0]
        assert len(record.accuracies) == 10


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to compute features of"):
        FeatureStore.collect(Double(), Shuffled(count=0), folder=tmp_path)
    with pytest.raises(ConfigError, match=r"got: 'int8'; allowed: float32, float16"):
        collect(tmp_path, dtype="int8")
    with collect(tmp_path) as store:
        with pytest.raises(DataError, match="no teacher outputs; remedy: collect it with teacher="):
            store.stream(batch_size=4, targets="both")
        with pytest.raises(ConfigError, match="unknown targets"):
            store.stream(batch_size=4, targets="logits")
        with pytest.raises(ConfigError, match="batch_size is out of range"):
            store.stream(batch_size=0)


def test_stream_of_features_without_labels() -> None:
    network = Double().train()
    pairs = list(stream_features(network, Shuffled(labels=False)))
    assert sum(len(x) for x, _ in pairs) == 21
    assert all(y is None for _, y in pairs)
    assert network.training
