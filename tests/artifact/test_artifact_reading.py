"""Reading: the same network, in another process too, and without the code that made it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
from torch import nn

from netpress.artifact import load, read, save
from netpress.errors import ArtifactError, ConfigError, NotAnArtifactError
from netpress.graph import trace


class Tower(nn.Module):
    """Leaf modules, functions, a parameter of its own, a module called twice and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.left = nn.Conv2d(8, 8, 1)
        self.scale = nn.Parameter(torch.full((8, 1, 1), 0.5))
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)  # (N, 8, H, W)
        y = torch.cat([x + self.left(x), self.left(x) * self.scale], 1)  # (N, 16, H, W)
        return self.head(y.mean((2, 3)))  # (N, 5)


@pytest.fixture
def network() -> Tower:
    tower = Tower()
    for _ in range(3):
        tower(torch.randn(4, 3, 6, 6))  # so that running statistics and counters are not what they were
    return tower.eval()


def test_round_trip(network: Tower, tmp_path: Path) -> None:
    path = tmp_path / "tower.netpress"
    fields = {
        "preprocess": {"scale": 0.5},
        "classes": list("abcde"),
        "metadata": {"note": "na\u00efve", "n": [1, None]},
    }
    size_bytes = save(path, network.train(), input_shape=(3, 6, 6), task="regression", **fields)
    found = read(path)
    x = torch.randn(7, 3, 6, 6)
    assert torch.equal(found.network(x), network.eval()(x))
    before, after = network.state_dict(), found.network.state_dict()
    assert set(before) == set(after)
    for name, tensor in before.items():
        assert after[name].dtype is tensor.dtype
        assert torch.equal(after[name], tensor)
    assert int(after["stem.1.num_batches_tracked"]) == 3
    assert not found.network.training
    assert not any(module.training for module in found.network.modules())
    assert found.input_shape == (3, 6, 6)
    assert (found.task, found.classes) == ("regression", tuple("abcde"))
    assert (found.preprocess, found.metadata) == (fields["preprocess"], fields["metadata"])
    assert found.sizes["total"] == size_bytes == sum(found.sizes.values()) - size_bytes


def test_an_artifact_is_a_value(network: Tower, tmp_path: Path) -> None:
    save(tmp_path / "a", network, input_shape=(3, 6, 6), preprocess=None)
    found = read(tmp_path / "a")
    assert (found.preprocess, found.classes, found.metadata) == (None, (), {})
    with pytest.raises(FrozenInstanceError):
        found.task = "x"  # type: ignore[misc]


def test_what_is_read_can_be_trained(network: Tower, tmp_path: Path) -> None:
    save(tmp_path / "a", network, input_shape=(3, 6, 6), preprocess=None)
    again = load(tmp_path / "a").train()
    again(torch.randn(4, 3, 6, 6)).sum().backward()
    assert all(parameter.grad is not None for parameter in again.parameters())
    assert {name for name, _ in again.named_parameters()} == {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_precisions(dtype: torch.dtype, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).to(dtype)
    traced = trace(network, torch.randn(2, 4, dtype=dtype))
    save(tmp_path / "a", traced, input_shape=(4,), preprocess=None)
    back = load(tmp_path / "a")
    x = torch.randn(5, 4, dtype=dtype)
    assert torch.equal(back(x), network(x))
    assert all(tensor.dtype is dtype for tensor in back.state_dict().values())


def test_an_untraced_network_of_another_precision(tmp_path: Path) -> None:
    network = nn.Linear(4, 3).double()
    save(tmp_path / "a", network, input_shape=(4,), preprocess=None)
    x = torch.randn(5, 4, dtype=torch.float64)
    assert torch.equal(load(tmp_path / "a")(x), network(x))


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU(), nn.Linear(64, 64, bias=False))
    network[2].weight = network[0].weight
    assert save(tmp_path / "a", network, input_shape=(64,), preprocess=None) < 1.2 * 64 * 64 * 4
    back = load(tmp_path / "a")
    assert back.get_parameter("0.weight") is back.get_parameter("2.weight")
    x = torch.randn(3, 64)
    assert torch.equal(back(x), network(x))


def test_integer_inputs(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2))
    tokens = torch.randint(10, (5, 3))
    save(tmp_path / "a", trace(network, tokens), input_shape=(3,), preprocess=None)
    assert torch.equal(load(tmp_path / "a")(tokens), network(tokens))


def test_a_network_without_weights(tmp_path: Path) -> None:
    save(tmp_path / "a", nn.Sequential(nn.ReLU(), nn.Flatten()), input_shape=(2, 3), preprocess=None)
    assert load(tmp_path / "a")(torch.tensor([[[-1.0, 2, 3], [4, -5, 6]]])).tolist() == [[0, 2, 3, 4, 0, 6]]


ELSEWHERE = """
import sys, torch
from netpress.artifact import load
network = load(sys.argv[1])
assert not any("test_artifact" in name for name in sys.modules)
assert "Tower" not in {type(module).__name__ for module in network.modules()}
with torch.no_grad():
    print(network(torch.arange(216.0).reshape(2, 3, 6, 6) / 216).tolist())
"""


def test_loads_where_the_code_that_made_it_is_not(network: Tower, tmp_path: Path) -> None:
    path = tmp_path / "a.netpress"
    save(path, network, input_shape=(3, 6, 6), preprocess=None)
    command = [sys.executable, "-c", ELSEWHERE, str(path)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    with torch.no_grad():
        expected = network(torch.arange(216.0).reshape(2, 3, 6, 6) / 216)
    torch.testing.assert_close(torch.tensor(json.loads(run.stdout)), expected)


def test_memory_is_about_the_file_and_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "a"
    size_bytes = save(path, nn.Linear(1024, 2048), input_shape=(1024,), preprocess=None)
    tracemalloc.start()  # sees the bytes of the file, and those of the tensor, which are decoded into an array
    try:
        read(path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2.1 * size_bytes


def test_a_path_may_be_text_or_a_path(network: Tower, tmp_path: Path) -> None:
    save(str(tmp_path / "a"), network, input_shape=(3, 6, 6), preprocess=None)
    assert read(str(tmp_path / "a")).sizes == read(tmp_path / "a").sizes


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"does not exist; got: '.*/none'; remedy: check the path"):
        read(tmp_path / "none")


def test_a_checkpoint_of_torch_is_not_unpickled(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(NotAnArtifactError, match=r"not a \.netpress file; got: it begins with b'PK"):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there(device: str, network: Tower, tmp_path: Path) -> None:
    save(tmp_path / "a", network, input_shape=(3, 6, 6), preprocess=None)
    with pytest.raises(ConfigError, match=f"the device cannot be used; got: '{device}'"):
        load(tmp_path / "a", device)


def test_an_open_file_is_closed(network: Tower, tmp_path: Path) -> None:
    save(tmp_path / "a", network, input_shape=(3, 6, 6), preprocess=None)
    before = os.listdir("/proc/self/fd")
    read(tmp_path / "a")
    assert len(os.listdir("/proc/self/fd")) == len(before)
