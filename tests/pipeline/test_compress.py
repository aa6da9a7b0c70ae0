from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netpress
from netpress.data import Split
from netpress.errors import (
    ArtifactError,
    BudgetError,
    ConfigError,
    DataError,
    TraceError,
    TrainingError,
    UnknownNameError,
    WeightsError,
)
from netpress.measure import Quality
from netpress.methods.finetune import Finetune
from netpress.methods.magnitude import Magnitude
from netpress.pipeline import compress
from netpress.pipeline.features import Features
from netpress.pipeline.narrowing import without_gain
from netpress.training import Trainer


def test_what_comes_out(network, data, quick, tmp_path: Path) -> None:
    out = tmp_path / "small.netpress"
    result = compress(network, quick(), data, "params=50%", at="3", out=out)
    document = result.as_dict()
    assert json.loads(json.dumps(document)) == document
    assert document["before"]["cost"]["params"] == 1016
    assert result.after.params <= 508
    assert result.file == out
    assert document["after"]["quality"] == netpress.quality(netpress.load(out), data.test, data.preprocess).as_dict()
    assert result.before.latency_ms is not None
    assert set(result.before.latency_ms) == {"median", "p95", "batch", "threads", "device"}
    assert result.minutes > 0
    assert netpress.artifact.read(out).metadata == {"recipe": "ahosvd", "seed": 0, "budget": "params=50%"}


def test_the_held_out_images_are_not_trained_on_and_the_test_images_never_seen(
    network, data, quick, monkeypatch
) -> None:
    seen, fit = [], Trainer.fit

    def watched(self, net, stream, plan, objective, **options):
        seen.extend(x for x, _ in stream.batches(0))
        return fit(self, net, stream, plan, objective, **options)

    monkeypatch.setattr(Trainer, "fit", watched)
    result = compress(network, quick(hold_out=0.2), data, at="3", latency=False)
    _, held = data.train.hold_out(0.2, seed=0)
    assert result.held_out is not None
    assert result.held_out.count == len(held) == 8
    trained = {x.numpy().tobytes() for batch in seen if batch.dim() == 4 for x in batch}
    for split, here in ((data.train, True), (held, False), (data.test, False)):
        images = {x.numpy().tobytes() for x in data.preprocess(split.images, "cpu")}
        assert bool(images & trained) == here
    assert len(trained) == 32


def test_a_given_quality_of_the_original_is_not_measured_again(network, data, quick) -> None:
    known = Quality(metric="accuracy", value=0.5, correct=10, count=20, split="test")
    assert compress(network, quick(), data, at="3", latency=False, quality_before=known).quality_before is known


def test_nothing_is_trained_with_no_epochs(network, data, quick) -> None:
    result = compress(network, quick("finetune", epochs=0), data, latency=False)
    assert result.training is None
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(result.network(x), network.eval()(x))
    assert "the file did not get smaller" in result.warnings


def test_where_nothing_gets_faster_the_result_says_so(network, data, quick) -> None:
    slow = compress(network, quick("finetune", epochs=0), data, "latency_ms=1e9", latency=False)
    assert slow.after.latency_ms is not None  # a bound on it is a wish to know it
    ratio = slow.after.latency_ms["median"] / slow.before.latency_ms["median"]
    assert any("no speed gained here" in w for w in slow.warnings) == (ratio > 0.95)


@pytest.mark.parametrize(
    ("methods", "advised"), [([Magnitude()], True), ([Magnitude(multiple=8)], False), ([Finetune()], False)]
)
def test_odd_widths_are_told_of_where_nothing_gets_faster(methods: list[Any], advised: bool) -> None:
    assert without_gain(0.95, methods) is None
    said = without_gain(1.1, methods)
    assert said is not None
    assert said.startswith("no speed gained here: the smaller network takes 1.10 x the original's time")
    assert ("multiple: 8" in said) == advised


# Regression --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ahosvd", "bottleneck", "active_subspace", "finetune"])
@pytest.mark.parametrize("distill", ["default", "none"])
def test_regression(name: str, distill: str, regressor, regression, quick) -> None:
    result = compress(regressor, quick(name, distill=distill), regression, at="3", latency=False)
    for quality in (result.quality_before, result.quality_after, result.held_out):
        assert quality is not None
        assert (quality.metric, quality.correct) == ("mse", None)
        assert quality.value > 0


def test_distilled_regression_follows_the_original(regressor, regression, quick) -> None:
    """Not the labels: they are wrong here, and the network that learns ends nearer to its teacher than to them."""
    wrong = dataclasses.replace(
        regression, train=Split(regression.train.images, np.asarray(regression.train.labels) + 5), classes=()
    )
    recipe = quick(epochs=30, lr=0.05, schedule="constant", grad_clip=1.0)
    result = compress(regressor, recipe, wrong, at="3", latency=False)
    x = regression.preprocess(regression.test.images, "cpu")
    with torch.no_grad():
        answers, teacher = result.network(x), regressor.eval()(x)
    assert float((answers - teacher).abs().mean()) < 0.5
    assert float((answers - 5).abs().mean()) > 3


# Errors come before work, and lose nothing -------------------------------------------------------------------------


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where features are computed or anything is trained."""
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("training began"))
    monkeypatch.setattr(Features, "batches", lambda *_: pytest.fail("features were computed"))


class TwoInputs(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class Constant(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).relu()[:, :4].reshape(-1, 2, 2)


@pytest.mark.usefixtures("no_work")
def test_what_can_be_checked_is_checked_first(network, data, quick, tmp_path: Path) -> None:
    def refused(error: type[Exception], text: str, *, net=network, recipe="ahosvd", source=data, **options) -> None:
        with pytest.raises(error, match=text):
            compress(net, recipe, source, latency=False, work_dir=tmp_path / "work", **options)
        assert not (tmp_path / "work").exists()

    refused(UnknownNameError, "unknown recipe; got: 'ahosv'", recipe="ahosv")
    refused(UnknownNameError, "unknown data set; got: 'digts'", source="digts")
    refused(UnknownNameError, "unknown device; got: 'cdua'.*did you mean 'cuda'", device="cdua")
    refused(UnknownNameError, "unknown budget metric", budget="flops=3%")
    refused(ConfigError, r"the network is no module; got: str 'a.netpress'.*artifact\.read", net="a.netpress")
    refused(ConfigError, "seed is not a seed; got: -1", seed=-1)
    refused(
        DataError, r"the network cannot take the inputs of 'toy'; got: a batch of shape \(2, 1, 8, 8\)", net=TwoInputs()
    )
    refused(ConfigError, r"the network's output has the wrong shape; got: \('N', 2, 2\)", net=Constant())
    refused(
        DataError,
        "the data 'toy' has more classes than the network has outputs; got: 4 classes, 3 outputs",
        net=nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
    )
    refused(DataError, "labels", source=dataclasses.replace(data, train=Split(data.train.images)))
    refused(BudgetError, "the budget cannot be met by any cut", budget="params=2%")
    refused(BudgetError, "params is 1,016, 508 .* over", recipe="finetune", budget="params=50%")
    refused(ArtifactError, "the folder does not exist", out=tmp_path / "none" / "x.netpress")
    refused(ArtifactError, "cannot be overwritten: not a file", out=tmp_path)
    with torch.no_grad():
        network[3].weight[0, 0, 0, 0] = float("inf")
        network[3].bias[0] = float("nan")
    refused(WeightsError, "the network's weights are not finite; got: 3.weight, 3.bias; remedy: train again")


def test_an_untraceable_network_is_no_data_error(data) -> None:
    class Lists(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x]

    with pytest.raises(TraceError, match="must return one tensor"):
        compress(Lists(), "ahosvd", data, latency=False)


def test_a_budget_that_is_missed_at_the_end_leaves_the_old_file(network, data, quick, tmp_path: Path) -> None:
    out = tmp_path / "kept.netpress"
    out.write_bytes(b"before")
    with pytest.raises(BudgetError, match=r"latency_ms is .* over; allowed: latency_ms <= 1e-09; remedy: allow more"):
        compress(network, quick(), data, "latency_ms=1e-9", at="3", out=out)
    assert out.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.netpress"]


def test_a_share_of_bytes_is_one_of_the_originals_file(data, quick) -> None:
    original = netpress.zoo.build("digits_cnn", classes=4, seed=0)
    result = compress(original, quick(epochs=0), data, "bytes=50%", latency=False)
    assert result.before.size_bytes == netpress.artifact.size(netpress.trace(original, torch.rand(2, 1, 8, 8)))
    assert result.after.size_bytes is not None
    assert 0.4 < result.after.size_bytes / result.before.size_bytes <= 0.5


# Work folders ------------------------------------------------------------------------------------------------------


def test_only_what_is_ours_goes_from_the_work_folder(network, data, quick, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    (tmp_path / "method-1").mkdir()
    (tmp_path / "method-1" / "notes").write_text("too", encoding="utf-8")
    compress(network, quick(), data, at="3", latency=False, work_dir=tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["method-1", "mine.txt", "notes"]
    compress(network, quick(), data, at="3", latency=False, work_dir=tmp_path / "a" / "b")
    assert not (tmp_path / "a" / "b").exists()


class CrashError(Exception):
    """In the middle."""


@pytest.mark.parametrize("name", ["ahosvd", "autoencoder", "finetune"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    name: str, network, data, quick, monkeypatch, tmp_path: Path
) -> None:
    recipe, options = quick(name, epochs=3), {"at": "3", "latency": False}
    compress(network, recipe, data, out=tmp_path / "whole.netpress", **options)
    monkeypatch.setattr(Trainer.__init__, "__defaults__", (*Trainer.__init__.__defaults__[:-1], 0.0))
    written, resumed = [], []
    loop = netpress.training.loop
    write, read = loop.write_checkpoint, loop.read_checkpoint

    def writing(path, *arguments):
        write(path, *arguments)
        written.append(path.name)
        if written.count("training.checkpoint") == 4:
            raise CrashError

    def reading(path, *arguments):
        found = read(path, *arguments)
        resumed.append((path.name, found[0]["step"]))
        return found

    monkeypatch.setattr(loop, "write_checkpoint", writing)
    monkeypatch.setattr(loop, "read_checkpoint", reading)
    out, work = tmp_path / "small.netpress", tmp_path / "work"
    with pytest.raises(CrashError):
        compress(network, recipe, data, out=out, work_dir=work, **options)
    assert not out.exists()
    result = compress(network, recipe, data, out=out, work_dir=work, **options)
    assert out.read_bytes() == (tmp_path / "whole.netpress").read_bytes()
    assert resumed[-1] == ("training.checkpoint", 4)
    assert len(resumed) == {"ahosvd": 2, "autoencoder": 3, "finetune": 1}[name]
    assert result.training.steps == 9
    assert not work.exists()


def test_other_settings_start_anew_and_leave_what_was_begun(network, data, quick, monkeypatch, tmp_path: Path) -> None:
    work = tmp_path / "work"

    def stopping(*_, **__):
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["netpress.pipeline.compress"], "quality", stopping)
        with pytest.raises(CrashError):
            compress(network, quick(), data, at="3", latency=False, work_dir=work)
    left = sorted(work.rglob("*.checkpoint"))
    assert len(left) == 2
    compress(network, quick(ranks=[2, 2, 2]), data, at="3", latency=False, work_dir=work)
    compress(network, quick(), data, at="3", latency=False, work_dir=work, seed=1)
    compress(network, quick(), data, "params=60%", at="3", latency=False, work_dir=work)
    assert sorted(work.rglob("*.checkpoint")) == left
    with torch.no_grad():
        network[0].weight.mul_(2)
    with pytest.raises(
        TrainingError, match=r"the training checkpoint belongs to another run; got: .*remedy: delete it"
    ):
        compress(network, quick(), data, at="3", latency=False, work_dir=work)
