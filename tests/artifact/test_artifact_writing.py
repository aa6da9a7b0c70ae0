"""Saving: the same bytes each time, little beside the weights, refusals in words, nothing half-written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from netpress.artifact import container, inspect, read, save, size, table
from netpress.errors import ArtifactError, ConfigError, TraceError, UnknownNameError, WeightsError
from netpress.graph import GraphNetwork, trace


def small() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


def stored(path: Path, network: nn.Module, **changes: Any) -> int:
    fields: dict[str, Any] = {"input_shape": (2, 3), "preprocess": None} | changes
    return save(path, network, **fields)


class Block(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        stride = width // channels
        self.margin = (width - channels) // 2
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.margin:
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.margin, self.margin))
        return torch.relu(x + y)


class ResNet20(nn.Module):
    """He et al., arXiv 1512.03385, section 4.2, shortcuts of option A."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16), Block(16, 16), Block(16, 16))
        self.layer2 = nn.Sequential(Block(16, 32), Block(32, 32), Block(32, 32))
        self.layer3 = nn.Sequential(Block(32, 64), Block(64, 64), Block(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))  # (N, 64, 8, 8)
        return self.linear(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))  # (N, 10)


PREPROCESS = {"scale": 1 / 255, "mean": [0.4914, 0.4822, 0.4465], "std": [0.2470, 0.2435, 0.2616]}
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def lenet300_100() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )


@pytest.mark.parametrize(
    ("network", "input_shape", "weights", "limit_bytes"),
    [(lenet300_100, (1, 28, 28), 266_610, 80), (ResNet20, (3, 32, 32), 269_722 + 2 * 688, 300)],
    ids=["lenet300_100", "resnet20"],
)
def test_little_is_stored_beside_the_weights(
    network: type[nn.Module], input_shape: tuple[int, ...], weights: int, limit_bytes: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.netpress"
    module = network()
    size_bytes = save(path, module, input_shape=input_shape, preprocess=None, codec="dense")
    section_bytes = inspect(path)["section_bytes"]
    assert section_bytes["tensors"] == 4 * weights  # the counters of the batch norms lie in the structure
    assert size_bytes - section_bytes["tensors"] < limit_bytes
    assert section_bytes["overhead"] < 16
    # what every real file has besides: an accuracy, a source and the classes
    fields: dict[str, Any] = {"preprocess": PREPROCESS, "classes": CIFAR10, "metadata": {"accuracy": 0.9137}}
    assert save(path, module, input_shape=input_shape, codec="dense", **fields) < size_bytes + 60


def test_defaults_are_not_written(tmp_path: Path) -> None:
    network = small()
    plain = stored(tmp_path / "a", network)
    assert stored(tmp_path / "b", network, task="classification", classes=(), metadata={}) == plain
    assert stored(tmp_path / "c", network, task="regression") > plain
    found = read(tmp_path / "a")
    assert (found.preprocess, found.task, found.classes, found.metadata) == (None, "classification", (), {})


def test_gives_the_length_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.netpress"
    assert stored(path, small()) == path.stat().st_size == sum(inspect(path)["section_bytes"].values())


def test_same_network_same_bytes(tmp_path: Path) -> None:
    network = small()
    stored(tmp_path / "a", network, metadata={"x": 1, "y": [1, 2]}, classes=["a", "b"])
    stored(tmp_path / "b", network, metadata={"y": (1, 2), "x": 1}, classes=("a", "b"))
    stored(tmp_path / "c", trace(network, torch.zeros(3, 2, 3)), metadata={"x": 1, "y": [1, 2]}, classes=["a", "b"])
    first = (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").read_bytes() == first
    assert (tmp_path / "c").read_bytes() == first


def test_saved_read_and_saved_again_is_the_same_file(tmp_path: Path) -> None:
    save(tmp_path / "a", ResNet20().train(), input_shape=(3, 32, 32), preprocess=PREPROCESS, metadata={"x": 1})
    found = read(tmp_path / "a")
    save(
        tmp_path / "b",
        found.network,
        input_shape=found.input_shape,
        preprocess=found.preprocess,
        task=found.task,
        classes=found.classes,
        metadata=found.metadata,
    )
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_the_network_and_the_random_state_stay_as_they_are(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    stored(tmp_path / "a", network, input_shape=(1, 5, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert network[1].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert type(network) is nn.Sequential


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.netpress"
    stored(path, small())
    old = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="No space left on device"):
        stored(path, small())
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.netpress"]


def test_a_folder_that_does_not_exist_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"folder does not exist; .*remedy: create it first"):
        stored(tmp_path / "no" / "a", small(), metadata={"x": object()})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 2))
    with torch.no_grad():
        network[3].weight[0, :2] = value
        network[1].running_mean[1] = value
    # eval and one channel: tracing compares outputs, so it must not be what stops this
    with pytest.raises(
        WeightsError, match=r"not finite: 1.running_mean \(1 of 2\), 3.weight \(2 of 36\); .*allow_nonf"
    ):
        stored(tmp_path / "a", network.eval(), input_shape=(1, 5, 5))
    assert os.listdir(tmp_path) == []


def test_weights_that_are_not_finite_may_be_stored_to_the_bit(tmp_path: Path) -> None:
    network = small()
    patterns = torch.tensor([0x7FC00001, -0x3FFFFF, 0x7F800000, -0x80000000], dtype=torch.int32)  # NaNs, inf, -0.0
    with torch.no_grad():
        network[1].bias.copy_(patterns.view(torch.float32))
    stored(tmp_path / "a", network, allow_nonfinite=True)
    back = read(tmp_path / "a").network.state_dict()["1.bias"]
    assert back.view(torch.int32).tolist() == patterns.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": {"x": float("nan")}}, "metadata.x cannot be stored; got: float nan"),
        ({"metadata": {"x": object()}}, "metadata.x cannot be stored; got: object"),
        ({"metadata": {1: 2}}, "metadata has a key that is not text; got: 1"),
        ({"metadata": [1]}, "metadata is not a dict; got: list"),
        ({"preprocess": {"mean": (torch.ones(1),)}}, r"preprocess.mean\[0\] cannot be stored; got: Tensor"),
        ({"preprocess": "none"}, "preprocess is not a dict; got: str"),
        ({"task": ""}, "task is not a name; got: ''"),
        ({"classes": "abc"}, "classes are not names; got: 'abc'"),
        ({"classes": [1, 2]}, "classes are not names"),
        ({"input_shape": ()}, r"input_shape is not the shape of one input; got: \(\); allowed: positive sizes"),
        ({"input_shape": (2, 0)}, "input_shape is not the shape of one input"),
        ({"input_shape": (2, 3.0)}, "input_shape is not the shape of one input"),
        ({"metadata": {"x": "y" * 2**22}}, "too large for one file"),
    ],
    ids=range(13),
)
def test_fields_that_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        stored(tmp_path / "a", small(), **changes)
    assert os.listdir(tmp_path) == []


def test_an_unknown_codec(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown codec; got: 'denze'; .*did you mean 'dense'"):
        stored(tmp_path / "a", small(), codec="denze")


def test_the_shape_of_a_traced_network_must_agree(tmp_path: Path) -> None:
    traced: GraphNetwork = trace(small(), torch.zeros(2, 2, 3))
    with pytest.raises(ConfigError, match=r"not that of the network; got: \(3, 2\); allowed: \(2, 3\)"):
        stored(tmp_path / "a", traced, input_shape=(3, 2))


def test_an_input_that_the_network_cannot_take(tmp_path: Path) -> None:
    with pytest.raises(TraceError):
        stored(tmp_path / "a", small(), input_shape=(2, 4))


def test_payloads_lie_side_by_side(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 5))
    stored(tmp_path / "a", network, input_shape=(3,), codec="dense")
    data = (tmp_path / "a").read_bytes()
    payloads = b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())
    assert data[: -container.CHECKSUM_BYTES].endswith(payloads)


def test_size_is_that_of_a_file_without_fields(tmp_path: Path) -> None:
    traced = trace(small(), torch.zeros(2, 2, 3))
    assert size(traced) == stored(tmp_path / "a", traced)


def test_a_large_network_of_one_value_can_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "LIMIT_FLOOR_BYTES", 2**10)
    network = nn.Linear(256, 256)
    with torch.no_grad():
        network.weight.zero_()
    stored(tmp_path / "a", network, input_shape=(256,))
    assert torch.equal(read(tmp_path / "a").network.state_dict()["weight"], network.weight)
