"""A quantized network as ONNX: the integers themselves are in the model, and it answers what the rounded network does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import onnx
from netpress import artifact, runtime
from netpress.data import Data, Preprocess, Split
from netpress.export.onnx import pieces
from netpress.pipeline import Recipe, compress


def data() -> Data:
    rng = np.random.default_rng(0)
    parts = [Split(rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8), rng.integers(0, 4, n)) for n in (64, 32)]
    return Data("noise", *parts, tuple("abcd"), preprocess=Preprocess(1 / 255))


class Block(nn.Module):
    """A residual sum, a depthwise convolution, a mean and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depth = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU())
        self.point = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.point(self.depth(x)))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The quantized network, and its model."""

    recipe = Recipe.read({"methods": ["quantize"], "training": {"epochs": 0}})
    file = tmp_path_factory.mktemp("int8") / "small.netpress"
    compress(Block().eval(), recipe, data(), None, latency=False, out=file)
    stored = artifact.read(file)
    return stored, b"".join(pieces(stored))


def test_every_layer_has_integer_weights_and_an_integer_bias(written) -> None:  # type: ignore[no-untyped-def]
    model = onnx.load_from_string(written[1])
    onnx.checker.check_model(model, full_check=True)
    kinds = {one.name: one.data_type for one in model.graph.initializer}
    assert sum(kind == onnx.TensorProto.INT8 and name.endswith("levels") for name, kind in kinds.items()) == 4
    assert sum(kind == onnx.TensorProto.INT32 and name.endswith("levels") for name, kind in kinds.items()) == 4
    assert not [
        name
        for name, kind in kinds.items()
        if kind == onnx.TensorProto.FLOAT and "weight" in name and "steps" not in name
    ]


@pytest.mark.parametrize("batch", [1, 5])
def test_it_answers_what_the_rounded_network_does(written, batch: int) -> None:  # type: ignore[no-untyped-def]
    stored, model = written
    x = torch.rand(batch, 3, 8, 8)
    with torch.no_grad():
        wanted = stored.network(x)
    found = torch.from_numpy(runtime.run(runtime.start(model), x.numpy()))
    assert float((found - wanted).abs().max()) <= 0.03 * float(wanted.abs().max())


def test_a_weight_on_no_grid_stays_in_float() -> None:
    from netpress.graph import to_document, trace
    from netpress.onnx import write
    from netpress.program import Program

    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.fake_quantize_per_tensor_affine(x, 0.1, 128, 0, 255))

    torch.manual_seed(0)
    network = trace(Rounded().eval(), torch.rand(2, 6))
    document, tensors = to_document(network)
    model = onnx.load_from_string(b"".join(write(Program(document), {k: v.numpy() for k, v in tensors.items()})))
    assert {one.data_type for one in model.graph.initializer} == {onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8}


class Shortcut(nn.Module):
    """A block whose shortcut takes every second place and fills up with channels of ``fill``."""

    def __init__(self, fill: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.one, self.out = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.Linear(256, 4),
        )
        self.fill = fill

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.one(x) + nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4), value=self.fill))
        return self.out(x.flatten(1))


@pytest.mark.parametrize(("fill", "added"), [(0.0, 1), (0.3, 0)])
def test_what_was_moved_is_still_rounded_and_added_as_integers(fill: float, added: int, tmp_path: Path) -> None:
    recipe = Recipe.read({"methods": ["quantize"], "training": {"epochs": 0}})
    network = compress(Shortcut(fill).eval(), recipe, data(), None, latency=False, out=tmp_path / "a.netpress").network
    stored = artifact.read(tmp_path / "a.netpress")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "seen.onnx")
    session = onnxruntime.InferenceSession(b"".join(pieces(stored)), options)
    x = data().test.images[:].transpose(0, 3, 1, 2).astype(np.float32) / 255
    with torch.no_grad():
        wanted = network(torch.from_numpy(x)).numpy()
    assert np.abs(session.run(None, {"input": x})[0] - wanted).max() < 0.03 * np.abs(wanted).max()
    seen = [node.op_type for node in onnx.load(tmp_path / "seen.onnx").graph.node]
    assert seen.count("QLinearAdd") == added
