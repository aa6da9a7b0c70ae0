from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from netpress import artifact
from netpress.data import Data, Preprocess, Split
from netpress.errors import ConfigError, DataError, UnknownNameError, WeightsError
from netpress.pipeline import Opened, judge_file, open_network, plan_with, train_network


@pytest.fixture
def opened(network) -> Opened:
    return Opened(name="toy", network=network, input_shape=(1, 8, 8), preprocess=None)


def quick_plan(**more):
    return plan_with({"epochs": 2, "batch_size": 16, "augment": "none", "lr": 0.05, **more})


def test_plans() -> None:
    assert plan_with([]).schedule == "one_cycle"
    plan = plan_with(["epochs=3", "training.lr=1e-2", "optimizer=adamw", "nesterov=false"])
    assert (plan.epochs, plan.lr, plan.optimizer, plan.batch_size) == (3, 1e-2, "adamw", 128)
    with pytest.raises(
        UnknownNameError, match=r"unknown field of a training plan; got: 'epoch'.*did you mean 'epochs'"
    ):
        plan_with(["epoch=3"])
    with pytest.raises(ConfigError, match=r"training\.lr has a wrong value; got: 'fast'"):
        plan_with(["lr=fast"])
    with pytest.raises(ConfigError, match=r"training\.epochs has a wrong value"):
        plan_with(["epochs=1.5"])


def test_training_writes_weights_and_says_how_good_they_are(opened, data, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    document = train_network(opened, data, quick_plan(epochs=40), out=out)
    assert document["quality"]["correct"] > 12  # of 20, where guessing gives 5
    assert document["training"]["epochs"] == 40
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    stored = load_file(out)
    assert all(torch.equal(stored[n], t) for n, t in opened.network.state_dict().items())


def test_the_same_seed_gives_the_same_weights(data, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_network(open_network("digits_cnn", data=data), data, quick_plan(), out=tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_regression(regressor, regression, tmp_path: Path) -> None:
    opened = Opened(name="toy", network=regressor, input_shape=(1, 8, 8), preprocess=None)
    document = train_network(opened, regression, quick_plan(lr=0.01), out=tmp_path / "w.safetensors")
    assert document["quality"]["correct"] is None
    assert document["quality"]["value"] >= 0


def test_errors(opened, data, tmp_path: Path) -> None:
    def refused(error: type[Exception], text: str, *, what=opened, source=data, name: str = "w.safetensors") -> None:
        with pytest.raises(error, match=text):
            train_network(what, source, quick_plan(), out=tmp_path / name)
        assert not list(tmp_path.iterdir())

    refused(ConfigError, r"weights are written as .safetensors; got: w.pth; remedy: -o w.safetensors", name="w.pth")
    refused(
        DataError, "no labels to train a teacher from", source=dataclasses.replace(data, train=Split(data.train.images))
    )
    narrow = dataclasses.replace(opened, network=nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    refused(DataError, "has more classes than the network has outputs; got: 4 classes, 3 outputs", what=narrow)
    wide = dataclasses.replace(opened, network=nn.Sequential(nn.Flatten(), nn.Linear(65, 4)))
    refused(DataError, r"the network cannot take the inputs of 'toy'; got: a batch of shape \(1, 1, 8, 8\)", what=wide)
    with torch.no_grad():
        opened.network[0].bias.fill_(float("nan"))
    refused(WeightsError, "the network's weights are not finite; got: 0.bias")


def test_a_file_judges_by_its_own_preprocessing(network, data, tmp_path: Path) -> None:
    path, x = tmp_path / "n.netpress", torch.from_numpy(data.test.images[:, None]).float()
    own = {"scale": 1.0, "mean": [100.0], "std": [50.0]}
    artifact.save(path, network.eval(), input_shape=(1, 8, 8), preprocess=own, classes=data.classes)
    with torch.no_grad():
        right = int((network((x - 100) / 50).argmax(1) == torch.from_numpy(data.test.labels)).sum())
    judged = judge_file(artifact.read(path), data, batch_size=7)
    assert (judged.correct, judged.count, judged.split) == (right, 20, "test")
    assert judge_file(artifact.read(path), data, split="train").count == 40


def test_what_a_file_cannot_judge(network, data, tmp_path: Path) -> None:
    path = tmp_path / "n.netpress"
    artifact.save(path, network.eval(), input_shape=(1, 8, 8), preprocess=None, classes=("a", "b"))
    stored = artifact.read(path)
    with pytest.raises(
        DataError, match="'toy' has classes the file's network does not know; got: 4 classes; allowed: 2: a, b"
    ):
        judge_file(stored, data)
    with pytest.raises(DataError, match="the test part of 'toy' has no labels to judge by"):
        judge_file(stored, dataclasses.replace(data, test=Split(data.test.images)))
    larger = Split(data.test.images.repeat(2, axis=1), data.test.labels % 2)
    with pytest.raises(
        DataError, match=r"does not fit the file's network; got: inputs of shape \(1, 16, 8\); allowed: \(1, 8, 8\)"
    ):
        judge_file(stored, dataclasses.replace(data, train=larger, test=larger, classes=("a", "b")))


def test_row_numbers_are_not_cropped(tmp_path: Path) -> None:
    rows = np.arange(40, dtype=np.int64).reshape(20, 2) % 7
    split = Split(rows, rows.sum(1).astype(np.float32))
    words = Data("words", split, split, task="regression", preprocess=Preprocess(indices=True))
    network = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(8, 1))
    opened = Opened(name="toy", network=network, input_shape=(2,), preprocess=words.preprocess)
    assert opened.example().dtype == torch.int64
    plan = plan_with({"epochs": 1, "optimizer": "adam", "lr": 0.01})
    assert (plan.augment, plan.nesterov) == ("crop_flip", False)
    document = train_network(opened, words, plan, out=tmp_path / "w.safetensors")
    assert 0 <= document["quality"]["concordance"] <= 1
