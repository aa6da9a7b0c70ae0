"""Every target: what it writes answers as the file does, and what does not is not kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import netpress
import onnx
from netpress.data import Data, Preprocess, Split
from netpress.errors import ArtifactError, ConfigError, DataError, UnknownNameError, UnsupportedOperatorError
from netpress.export import _checked, export, target_by_name, target_names
from netpress.export import onnx as onnx_target
from netpress.graph.operators import dynamic_quantize
from netpress.maths.row_grids import grid_steps, on_grid

PREPROCESS = Preprocess(1 / 255, (0.5,), (0.25,))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    ).eval()
    path = tmp_path_factory.mktemp("export") / "small.netpress"
    netpress.save(path, network, input_shape=(1, 8, 8), preprocess=PREPROCESS.as_dict(), classes=["a", "b", "c"])
    return path


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(2)
    train, test = (
        Split(rng.integers(0, 256, (count, 8, 8), dtype=np.uint8), rng.integers(0, 3, count)) for count in (6, 20)
    )
    return Data(name="noise", train=train, test=test, classes=("a", "b", "c"), preprocess=PREPROCESS)


def test_targets_are_the_files_of_the_folder() -> None:
    folder = Path(_checked.__file__).parent
    files = {path.stem.replace("_", "-") for path in folder.glob("[!_]*.py")}
    assert set(target_names()) == files >= {"onnx", "safetensors", "torch-export"}
    with pytest.raises(UnknownNameError, match=r"unknown export target; got: 'onx'; .*did you mean 'onnx'"):
        target_by_name("onx")


def needs(target: str) -> None:
    """Skips the test where what the target runs with is absent."""
    if target == "c" and shutil.which("cc") is None:
        pytest.skip("no C compiler")
    if target == "executorch":
        pytest.importorskip("executorch", reason="ExecuTorch is not installed")


@pytest.mark.parametrize("target", target_names())
def test_what_is_written_answers_the_same(target: str, file: Path, data: Data, tmp_path: Path) -> None:
    needs(target)
    out = tmp_path / f"out{target_by_name(target).suffix}"
    done = export(file, target, out, data=data)
    assert done.max_abs_difference < 1e-5
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert done.size_bytes == sum(path.stat().st_size for path in written)
    assert all(path.is_relative_to(out) if out.is_dir() else path.stem == "out" for path in written)
    assert {path.name for path in tmp_path.iterdir()} <= {out.name, "out.bin"}
    assert done.samples == 8 + 1 + 20
    assert done.quality is not None
    assert done.quality["correct"] == done.quality["correct_exported"]
    assert (done.quality["count"], done.quality["answered_differently"]) == (20, 0)
    x = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(target_by_name(target).open(out)(x), netpress.load(file)(x), rtol=1e-5, atol=1e-5)
    assert done.as_dict()["versions"]


class _Measured(nn.Module):
    """What linear layers read has a range of its own; one weight is whole numbers of a step a row, the other is not."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(12, 8), nn.Linear(8, 3)
        with torch.no_grad():
            self.one.weight.copy_(on_grid(self.one.weight, grid_steps(self.one.weight, 127), 127))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(dynamic_quantize(self.one(dynamic_quantize(x)).relu()))


@pytest.mark.parametrize("target", [name for name in target_names() if name != "c"])
def test_ranges_that_are_measured_are_measured_there_too(target: str, tmp_path: Path) -> None:
    needs(target)
    file, out = tmp_path / "a.netpress", tmp_path / f"out{target_by_name(target).suffix}"
    netpress.save(file, _Measured().eval(), input_shape=(12,), preprocess=None)
    export(file, target, out)
    network, given = netpress.load(file), target_by_name(target).open(out)
    x = 100 * torch.randn(5, 12)
    with torch.no_grad():
        for some in x.split(1 if target == "executorch" else 5):  # there, each input of a batch has a range of its own
            torch.testing.assert_close(given(some), network(some), rtol=1e-4, atol=1e-3)


class _Rounded(nn.Module):
    """What layers read is rounded to integers on a known grid; one has zero in its middle, the other at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(12, 8), nn.Linear(8, 3)
        with torch.no_grad():
            for layer in self.children():
                layer.weight.copy_(on_grid(layer.weight, grid_steps(layer.weight, 127), 127))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, 0.03, 128, 0, 255)
        x = self.one(x).relu()
        return self.two(torch.fake_quantize_per_tensor_affine(x, 0.01, 0, 0, 255))


@pytest.mark.parametrize("target", target_names())
def test_ranges_that_are_known_are_rounded_to_there_too(target: str, tmp_path: Path) -> None:
    needs(target)
    torch.manual_seed(1)
    network = _Rounded().eval()
    file, out = tmp_path / "a.netpress", tmp_path / f"out{target_by_name(target).suffix}"
    netpress.save(file, network, input_shape=(12,), preprocess=None)
    export(file, target, out)
    x = 3 * torch.randn(500, 12)  # some beyond the range
    with torch.no_grad():
        wanted, given = network(x), target_by_name(target).open(out)(x)
        unrounded = network.two(network.one(x).relu())
    assert float((given - wanted).abs().mean()) < 0.1 * float((unrounded - wanted).abs().mean())


@pytest.mark.parametrize("target", ["onnx", "torch-export", "executorch"])
def test_linear_layers_of_measured_ranges_have_weights_of_bytes(target: str, tmp_path: Path) -> None:
    needs(target)
    network = nn.Sequential(nn.Linear(300, 400), nn.ReLU(), nn.Linear(400, 9)).eval()
    with torch.no_grad():
        for layer in (network[0], network[2]):
            layer.weight.copy_(on_grid(layer.weight, grid_steps(layer.weight, 127), 127))

    class Measured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers[2](dynamic_quantize(self.layers[1](self.layers[0](dynamic_quantize(x)))))

    file = tmp_path / "a.netpress"
    netpress.save(file, Measured().eval(), input_shape=(300,), preprocess=None)
    done = export(file, target, tmp_path / f"a{target_by_name(target).suffix}")
    weights = 300 * 400 + 400 * 9
    assert weights < done.size_bytes < 1.5 * weights
    assert done.max_abs_difference < 0.02


def test_weights_of_convolutions_on_grids_are_bytes_in_openvino(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Flatten(), nn.Linear(1024, 9)
    ).eval()
    layers = [layer for layer in network if hasattr(layer, "weight")]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(on_grid(layer.weight, grid_steps(layer.weight, 127), 127))
    file = tmp_path / "a.netpress"
    netpress.save(file, network, input_shape=(32, 8, 8), preprocess=None)
    convolved, whole = (sum(layer.weight.numel() for layer in some) for some in (layers[:2], layers))
    in_bytes = export(file, "openvino", tmp_path / "a.xml")
    assert in_bytes.size_bytes < convolved + 4 * (whole - convolved) + 30_000
    assert in_bytes.max_abs_difference < 1e-5  # of a linear layer with int8 weights OpenVINO would round the input, too
    assert (
        export(file, "onnx", tmp_path / "a.onnx").size_bytes > 4 * whole
    )  # ONNX Runtime would unpack them at each run


def test_torch_export_names_the_operator_that_it_refuses(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled = nn.AdaptiveAvgPool2d.forward

    def refuses(pool: nn.AdaptiveAvgPool2d, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_exporting():
            raise RuntimeError("no rule for this one")
        return pooled(pool, x)

    monkeypatch.setattr(nn.AdaptiveAvgPool2d, "forward", refuses)
    with pytest.raises(
        UnsupportedOperatorError, match=r"'AdaptiveAvgPool2d' of module '3' .* to torch\.export; got: no r"
    ):
        export(file, "torch-export", tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


def test_c_has_no_measured_ranges_and_says_so(tmp_path: Path) -> None:
    netpress.save(tmp_path / "a.netpress", _Measured().eval(), input_shape=(12,), preprocess=None)
    with pytest.raises(UnsupportedOperatorError, match="the C runner does not have the operator 'dynamic_quantize'"):
        export(tmp_path / "a.netpress", "c", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.netpress"]


def test_an_onnx_model_says_what_it_is(file: Path, tmp_path: Path) -> None:
    done = export(file, "onnx", tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert done.as_dict()["opset"] == model.opset_import[0].version == 18
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["netpress.task"] == '"classification"'
    assert said["netpress.classes"] == '["a", "b", "c"]'


def test_what_disagrees_is_not_kept(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = onnx_target.open

    def wrong(path: Path):  # type: ignore[no-untyped-def]
        return lambda x: right(path)(x) + 0.01

    monkeypatch.setattr(onnx_target, "open", wrong)
    out = tmp_path / "a.onnx"
    out.write_bytes(b"what was there")
    with pytest.raises(
        ArtifactError, match=r"does not answer as the file does, and was not kept; got: .*0\.01.*; remedy: report it"
    ):
        export(file, "onnx", out)
    assert out.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("answer", [lambda x: torch.full((len(x), 3), float("nan")), lambda x: torch.zeros(len(x), 4)])
def test_answers_that_are_no_numbers_or_of_another_shape(
    answer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(onnx_target, "open", lambda path: answer)
    with pytest.raises(ArtifactError, match="not kept"):
        export(file, "onnx", tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_difference_on_images_alone_is_seen(
    file: Path, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = onnx_target.open
    monkeypatch.setattr(onnx_target, "open", lambda path: lambda x: right(path)(x) + 0.01 * (len(x) == 20))
    export(file, "onnx", tmp_path / "a.onnx")
    with pytest.raises(ArtifactError, match="not kept"):
        export(file, "onnx", tmp_path / "b.onnx", data=data)


def test_data_of_another_shape(file: Path, tmp_path: Path) -> None:
    split = Split(np.zeros((4, 9, 9), np.uint8), np.zeros(4, int))
    other = Data(name="wide", train=split, test=split, classes=("a", "b", "c"), preprocess=PREPROCESS)
    with pytest.raises(DataError, match="'wide' does not fit"):
        export(file, "onnx", tmp_path / "a.onnx", data=other)


def test_a_folder_that_is_not_there(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="folder does not exist"):
        export(file, "onnx", tmp_path / "nowhere" / "a.onnx")


def test_a_model_of_openvino_needs_its_suffix(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"two files.*got: small.onnx.*remedy: -o small.xml"):
        export(file, "openvino", tmp_path / "small.onnx")
    assert list(tmp_path.iterdir()) == []
