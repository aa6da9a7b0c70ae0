from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from netpress import save
from netpress.data import Data, Preprocess, Split
from netpress.errors import ConfigError, DataError, UnknownNameError
from netpress.pipeline import open_network, pick_device
from netpress.pipeline.inputs import first_answers, shape_of

NETWORK = """
from torch import nn

def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))

def declared():
    return plain()

declared.input_shape = (1, 8, 8)
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NETWORK, encoding="utf-8")
    return str(tmp_path / "net.py")


def test_the_zoo_knows_its_shape_and_preprocessing_and_takes_its_classes_from_the_data(data) -> None:
    opened = open_network("digits_cnn", data=data, seed=3)
    assert (opened.name, opened.input_shape) == ("digits_cnn", (1, 8, 8))
    assert opened.preprocess == Preprocess(1 / 16, (0.3050,), (0.3759,))
    assert opened.network(opened.example()).shape == (2, 4)
    assert torch.equal(opened.example(), opened.example())
    again = open_network("digits_cnn", data=data, seed=3)
    for a, b in zip(opened.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert open_network("digits_cnn").network(opened.example()).shape == (2, 10)


def test_a_file_takes_its_shape_from_itself_the_user_or_the_data(file: str, data) -> None:
    assert open_network(f"{file}:declared").input_shape == (1, 8, 8)
    assert open_network(f"{file}:plain", data=data).input_shape == (1, 8, 8)
    assert open_network(f"{file}:plain", input_shape=(64,)).input_shape == (64,)
    with pytest.raises(
        ConfigError, match=r"plain does not say its input shape; remedy: --input C,H,W, or an attribute"
    ):
        open_network(f"{file}:plain")


def test_a_netpress_file_brings_its_own_preprocessing(network, tmp_path: Path) -> None:
    path = tmp_path / "small.netpress"
    save(path, network.eval(), input_shape=(1, 8, 8), preprocess={"scale": 0.5, "mean": [], "std": []})
    opened = open_network(str(path))
    assert (opened.name, opened.input_shape, opened.preprocess) == ("small", (1, 8, 8), Preprocess(0.5))
    with pytest.raises(
        ConfigError, match=r"a \.netpress file holds its own weights; got: w; remedy: leave --weights out"
    ):
        open_network(str(path), weights="w")


@pytest.mark.parametrize(("shape", "channels"), [((6, 8, 8, 3), 3), ((6, 2, 8, 8), 2)])
def test_another_number_of_channels_is_said_before_anything_runs(shape, channels: int, file: str) -> None:
    part = Split(np.zeros(shape, np.uint8), np.arange(6) % 2)
    other = Data("coloured", part, part, ("a", "b"))
    assert shape_of(other)[0] == channels
    for spec in ("digits_cnn", f"{file}:declared"):
        with pytest.raises(DataError) as caught:
            open_network(spec, data=other)
        assert str(caught.value) == (
            f"the data 'coloured' does not fit the network {spec!r}; got: inputs of shape ({channels}, 8, 8); "
            f"allowed: (1, 8, 8), without the batch; remedy: choose data with 1 channels, or a network that takes {channels}"
        )


def test_first_answers_leave_the_network_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Flatten()).train()
    network[1].eval()
    state = {n: t.clone() for n, t in network.state_dict().items()}
    x = torch.rand(3, 1, 8, 8)
    answers = first_answers(network, x, name="toy")
    assert torch.equal(answers, first_answers(network, x, name="toy"))  # eval mode: no dropout
    assert not answers.requires_grad
    assert [m.training for m in network] == [True, False, True, True]
    assert all(torch.equal(t, state[n]) for n, t in network.state_dict().items())
    with pytest.raises(
        DataError, match=r"cannot take the inputs of 'toy'; got: a batch of shape \(1, 9, 8, 8\) gives Runtime"
    ):
        first_answers(network, torch.rand(1, 9, 8, 8), name="toy")


@pytest.mark.parametrize("name", ["cpu", "cpu:0", torch.device("cpu")])
def test_the_processor_is_always_there(name) -> None:
    assert pick_device(name).type == "cpu"
    assert pick_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize("name", ["cud", "meta", "cuda:x", "cuda:", "cpu:-1", "", "vulkan", "gpu"])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        pick_device(name)
    assert str(caught.value).startswith(f"unknown device; got: {name!r}; allowed: auto, cpu, cuda, cuda:N, mps")


@pytest.mark.parametrize("name", ["cuda:4096", "cpu:7", "mps:9"])
def test_devices_that_are_not_here(name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"there is no such device here; got: {name}; allowed: .*remedy: --device auto"
    ):
        pick_device(name)
