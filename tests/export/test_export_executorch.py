"""Programs of ExecuTorch: any batch, integers that stay integers, an operator that cannot be run is named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import netpress
from netpress import artifact
from netpress.data import Data, Preprocess, Split
from netpress.errors import MissingExtraError, UnsupportedOperatorError
from netpress.export import executorch as target
from netpress.export import export
from netpress.graph import GraphNetwork, trace
from netpress.maths.row_grids import grid_steps, on_grid
from netpress.zoo import load_pretrained

SHAPE = (3, 8, 8)


@pytest.fixture
def installed() -> None:
    pytest.importorskip("executorch", reason='ExecuTorch is not installed: pip install "netpress[executorch]"')


class Residual(nn.Module):
    """Sums, a shortcut that is sliced and padded, a depthwise convolution, pooling and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.one = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.depth = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU6())
        self.head = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(self.one(x) + nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        return self.head(self.depth(x))


class Rounded(nn.Module):
    """Integers as `quantize` says them: weights on row grids, values rounded where layers read them and behind those that sum."""

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        self.most = levels - 1
        self.one, self.two = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.depth = nn.Conv2d(32, 32, 3, groups=32)
        self.point, self.hidden, self.out = nn.Conv2d(32, 64, 1), nn.Linear(64 * 9, 64), nn.Linear(64, 4)
        for layer in self.children():
            weight = layer.weight.data
            layer.weight.data = on_grid(weight, grid_steps(weight, 127), 127)

    def rounded(self, x: torch.Tensor, most: float, zero: int = 0) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(x, most / self.most, zero, 0, self.most)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.rounded(x, 6.0, (self.most + 1) // 2)
        x = self.rounded(torch.relu(self.one(x)), 2.0)
        x = self.rounded(torch.relu(x + self.rounded(self.two(x), 2.0, (self.most + 1) // 2)), 3.0)
        x = self.rounded(nn.functional.relu6(self.depth(x)), 1.5)
        x = self.rounded(torch.max_pool2d(torch.relu(self.point(x)), 2).flatten(1), 1.0)
        return self.out(self.rounded(torch.relu(self.hidden(x)), 0.6))


def saved(path: Path, network: nn.Module, shape: tuple[int, ...] = SHAPE) -> Path:
    netpress.save(path, network.eval(), input_shape=shape, preprocess=None)
    return path


def graph_of(program: GraphNetwork) -> tuple[nn.Module, nn.Module | None]:
    """What is exported of a network, without and with the integers of its weights."""
    from netpress.export._executorch_integers import in_its_words, with_integers

    target._installed()  # the operators, that is
    x = (torch.zeros((2, *program.input_shape)),)
    exported = torch.export.export(in_its_words(program), x)
    return exported.module(), with_integers(exported)


def calls(module: nn.Module | None, name: str) -> int:
    assert isinstance(module, torch.fx.GraphModule)
    module.graph.lint()
    return sum(str(node.target).startswith(f"quantized_decomposed.{name}") for node in module.graph.nodes)


def test_any_batch_is_answered(installed: None, tmp_path: Path) -> None:
    file, out = saved(tmp_path / "a.netpress", Residual()), tmp_path / "a.pte"
    done = export(file, "executorch", out).as_dict()
    assert done["largest_batch"] == target.LARGEST_BATCH
    assert done["xnnpack_parts"] >= 1
    assert done["planned_bytes"] >= 4 * target.LARGEST_BATCH * (3 * 8 * 8 + 4)
    network, run = netpress.load(file), target.open(out)
    for count in (1, target.LARGEST_BATCH, 2, 2 * target.LARGEST_BATCH + 3):
        x = torch.randn(count, *SHAPE)
        with torch.no_grad():
            torch.testing.assert_close(run(x), network(x), rtol=1e-5, atol=1e-5)
    first = run(x)
    run(-x)
    with torch.no_grad():
        torch.testing.assert_close(first, network(x), rtol=1e-5, atol=1e-5)  # later runs leave earlier answers alone


def test_integers_of_a_linear_layer_over_more_axes_are_answered(installed: None, tmp_path: Path) -> None:
    class OfModes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mode, self.out = nn.Linear(8, 4), nn.Linear(3 * 4 * 8, 5)
            for layer in self.children():
                layer.weight.data = on_grid(layer.weight.data, grid_steps(layer.weight.data, 127), 127)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.fake_quantize_per_tensor_affine(x, 0.05, 128, 0, 255)
            x = torch.fake_quantize_per_tensor_affine(self.mode(x).transpose(1, 2).flatten(1), 0.03, 128, 0, 255)
            return self.out(x)

    file = saved(tmp_path / "a.netpress", OfModes())
    assert export(file, "executorch", tmp_path / "a.pte").samples == 9


@pytest.mark.parametrize("size", [1, (1, 1)])
def test_pooling_to_the_largest_value_of_all(installed: None, tmp_path: Path, size: int | tuple[int, int]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveMaxPool2d(size), nn.Flatten(), nn.Linear(5, 2))
    file, out = saved(tmp_path / "a.netpress", network), tmp_path / "a.pte"
    assert export(file, "executorch", out).max_abs_difference < 1e-5


def test_integers_are_held_as_such(installed: None, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = Rounded().eval()
    file, out = saved(tmp_path / "a.netpress", network), tmp_path / "a.pte"
    size = export(file, "executorch", out).size_bytes
    weights = sum(layer.weight.numel() for layer in network.children())
    assert weights < size < 1.5 * weights + 20_000
    x = torch.randn(64, *SHAPE)
    with torch.no_grad():
        wanted, given = network(x), target.open(out)(x)
    step = float(wanted.std()) / 50  # roundings that end on the other side of a step
    assert float((wanted - given).abs().mean()) < step
    alone = torch.cat([target.open(out)(one[None]) for one in x[:3]])
    torch.testing.assert_close(alone, given[:3])  # what an image is rounded to does not depend on its batch


@pytest.mark.parametrize("levels", [256, 16])
def test_saying_integers_changes_no_answer_but_where_a_sum_is_rounded_again(installed: None, levels: int) -> None:
    network = Rounded(levels).eval()
    rounded, integers = graph_of(trace(network, torch.zeros(2, *SHAPE)))
    x = torch.randn(2, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(rounded(x), network(x), rtol=1e-4, atol=1e-4)
        assert integers is not None
        largest = float(network(x).abs().max())
        torch.testing.assert_close(integers(x), network(x), rtol=0, atol=0.02 * largest)
    assert calls(integers, "dequantize_per_channel") == 6
    assert calls(integers, "choose_qparams") == 1  # of the last layer, which nothing rounds
    assert calls(integers, "quantize_per_tensor.default") == 7 + 2  # once more before pooling and before flatten
    assert calls(integers, "dequantize_per_tensor.default") == 9 + 2  # two are read twice


def test_a_network_without_integers_is_left_as_it_is(installed: None) -> None:
    assert graph_of(trace(Residual().eval(), torch.zeros(2, *SHAPE)))[1] is None


def test_weights_on_no_grid_stay_in_float(installed: None) -> None:
    network = Rounded().eval()
    network.two.weight.data.normal_()
    assert calls(graph_of(trace(network, torch.zeros(2, *SHAPE)))[1], "dequantize_per_channel") == 5


def test_values_on_more_levels_than_a_byte_has(installed: None, tmp_path: Path) -> None:
    class Fine(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fake_quantize_per_tensor_affine(x, 0.01, 0, -200, 200)

    file = saved(tmp_path / "a.netpress", nn.Sequential(nn.ReLU(), Fine()))
    with pytest.raises(UnsupportedOperatorError, match=r"'fake_quantize' of module '1'.*levels from -200 to 200"):
        export(file, "executorch", tmp_path / "a.pte")


def test_an_operator_that_cannot_be_run_is_named(
    installed: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.ReLU(), nn.Conv3d(1, 2, 1), nn.Flatten(), nn.Linear(384, 2))
    file = saved(tmp_path / "a.netpress", network)
    with pytest.raises(UnsupportedOperatorError, match=r"'Conv3d' of module '2' cannot be exported to ExecuTorch"):
        export(file, "executorch", tmp_path / "a.pte")
    assert [path.name for path in tmp_path.iterdir()] == ["a.netpress"]
    assert capfd.readouterr().err == ""


def test_without_executorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    stored = artifact.read(saved(tmp_path / "a.netpress", nn.Flatten()))
    with pytest.raises(MissingExtraError, match=r'ExecuTorch needs .*pip install "netpress\[executorch\]"'):
        target.write(stored, tmp_path / "a.pte")


@pytest.mark.parametrize(
    ("name", "images", "shape"),
    [
        ("mnist_lenet5", "mnist/mnist_small.npz", (1, 28, 28)),
        ("cifar10_resnet8_mlperftiny", "cifar10/cifar10_small.npz", (3, 32, 32)),
    ],
)
def test_pretrained_networks_give_the_same_answers(
    name: str, images: str, shape: tuple[int, ...], installed: None, shared: Path, tmp_path: Path
) -> None:
    network, preprocess = load_pretrained(name, shared / "weights")
    with np.load(shared / "data" / images, allow_pickle=False) as file:
        test = Split(file["x_test"], file["y_test"].astype(np.int64))
    data = Data("real", test, test, tuple("0123456789"), preprocess=Preprocess.from_dict(dict(preprocess)))
    path = tmp_path / "a.netpress"
    netpress.save(path, network.eval(), input_shape=shape, preprocess=preprocess)
    done = export(path, "executorch", tmp_path / "a.pte", data=data)
    assert done.quality is not None
    assert done.quality["count"] == len(test)
    assert done.quality["correct"] > 0.8 * len(test)
    assert done.quality["answered_differently"] == 0
