"""Networks that run from the coded form: the same answers, where it can be done, and little memory."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from netpress import codecs
from netpress.artifact import load, read, save
from netpress.errors import ConfigError, TrainingError, UnknownNameError, UnsupportedOperatorError
from netpress.graph import trace
from netpress.layers.succinct import SuccinctConv1d, SuccinctConv2d, SuccinctLinear
from netpress.measure.memory import peak_memory

OPENABLE = [codec.name for codec in codecs.codecs() if codec.open is not None]


def shared(network: nn.Module) -> nn.Module:
    """The network with matrices that are pruned and rounded, so that every codec accepts them; running statistics moved."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim > 1:
                kept = torch.rand(tensor.shape, generator=generator) < 0.3
                tensor.copy_((torch.randn(tensor.shape, generator=generator) * 4).round() / 32 * kept + 0.0)
            elif name.endswith("running_mean"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / 9)
    return network.eval()


class Mixed(nn.Module):
    """Layers that can stay coded, and one of each kind that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding="same", groups=8, bias=False)
        self.twice = nn.Linear(8, 8)
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.read = nn.Linear(8, 8)
        self.line = nn.Conv1d(1, 4, 3)
        self.head = nn.Linear(24, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))  # (N, 8, 4, 4)
        x = self.depthwise(x).mean((2, 3))  # (N, 8)
        x = self.twice(torch.relu(self.twice(x)))
        x = self.second(self.first(x)) + self.read(x) @ self.read.weight
        return self.head(self.line(x[:, None]).flatten(1))  # (N, 4, 6) -> (N, 5)


@pytest.fixture(scope="module")
def mixed() -> nn.Module:
    return shared(Mixed())


@pytest.mark.parametrize("codec", [*OPENABLE, "auto", "fast"])
def test_the_same_answers(codec: str, mixed: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "a.netpress"
    save(path, mixed, input_shape=(3, 8, 8), preprocess=None, codec=codec)
    dense, coded = load(path), load(path, execution="coded")
    x = torch.randn(9, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(coded(x), dense(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(coded(x[:1]), dense(x[:1]), rtol=1e-4, atol=1e-4)
    assert not coded.training
    assert coded.nodes == dense.nodes
    assert (coded.input_shape, coded.output_shape) == (dense.input_shape, dense.output_shape)


def kinds(network: nn.Module) -> dict[str, type]:
    return {name: type(module) for name, module in network.named_modules() if name}


def test_what_stays_coded(mixed: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "a.netpress"
    save(path, mixed, input_shape=(3, 8, 8), preprocess=None, codec=OPENABLE[0])
    assert kinds(load(path, execution="coded")) == {
        "conv": SuccinctConv2d,
        "norm": nn.BatchNorm2d,
        "depthwise": nn.Conv2d,  # of many groups
        "twice": SuccinctLinear,  # one module, called twice
        "first": nn.Linear,  # shares its weight
        "second": nn.Linear,
        "read": nn.Linear,  # its weight is read by the program, too
        "line": SuccinctConv1d,
        "head": SuccinctLinear,
    }


def test_dense_tensors_and_other_types_are_decoded(tmp_path: Path) -> None:
    linear = shared(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2)))
    save(tmp_path / "a", linear, input_shape=(6,), preprocess=None, codec="dense")
    assert kinds(load(tmp_path / "a", execution="coded")) == {"0": nn.Linear, "1": nn.Linear}
    half = trace(linear.half(), torch.zeros(2, 6).half())
    save(tmp_path / "a", half, input_shape=(6,), preprocess=None, codec=OPENABLE[0])
    assert kinds(load(tmp_path / "a", execution="coded")) == {"0": nn.Linear, "1": nn.Linear}


def test_no_weight_that_stays_coded_is_decoded(
    mixed: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.netpress"
    save(path, mixed, input_shape=(3, 8, 8), preprocess=None, codec="csc")
    decoded: list[tuple[int, ...]] = []
    plain = codecs.codec_by_name("csc")

    def decode(payload: memoryview, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        decoded.append(shape)
        return plain.decode(payload, dtype, shape)

    spied = codecs.Codec(
        name="csc", code=plain.code, accepts=plain.accepts, encode=plain.encode, decode=decode, open=plain.open
    )
    every = tuple(spied if codec is plain else codec for codec in codecs.codecs())
    monkeypatch.setattr(codecs, "codecs", lambda: every)
    load(path, execution="coded")
    assert sorted(shape for shape in decoded if len(shape) > 1) == [(8, 1, 3, 3), (8, 8), (8, 8)]


def test_refusals(mixed: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "a.netpress"
    save(path, mixed, input_shape=(3, 8, 8), preprocess=None, codec=OPENABLE[0])
    with pytest.raises(UnknownNameError, match=r"unknown execution; got: 'code'; .*did you mean 'coded'"):
        read(path, "code")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a network in coded form runs on the CPU; got: 'meta'"):
        load(path, "meta", execution="coded")
    coded = load(path, execution="coded")
    x = torch.zeros(2, 3, 8, 8)
    with pytest.raises(TrainingError, match="cannot be trained"):
        coded.train()(x)
    with pytest.raises(ConfigError, match="stays in float32 on the CPU"):
        coded.half()
    with pytest.raises(UnsupportedOperatorError, match="SuccinctConv2d"):
        save(tmp_path / "b", coded, input_shape=(3, 8, 8), preprocess=None)


def test_copies_run(mixed: nn.Module, tmp_path: Path) -> None:
    save(tmp_path / "a", mixed, input_shape=(3, 8, 8), preprocess=None, codec="auto")
    coded = load(tmp_path / "a", execution="coded")
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(coded)(x), coded(x))


RUN = """
import sys, torch
from netpress.artifact import load
torch.set_num_threads(1)
network = load(sys.argv[1], execution=sys.argv[2])
with torch.inference_mode():
    network(torch.ones(2, 4096))
"""


def test_memory_stays_near_the_file(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4096, 4096))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        kept = torch.rand(4096, 4096, generator=generator) < 0.03
        network[0].weight.copy_(torch.randint(1, 9, (4096, 4096), generator=generator) / 64 * kept)
    size_bytes = save(tmp_path / "a", network, input_shape=(4096,), preprocess=None, codec="csc")
    dense, coded = (
        peak_memory([sys.executable, "-c", RUN, str(tmp_path / "a"), execution], timeout_s=600)
        for execution in ("dense", "coded")
    )
    assert dense - coded > 4 * 4096**2 - 4 * size_bytes - 8 * 2**20  # what is saved is the dense matrix
