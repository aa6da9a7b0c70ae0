"""The method ``quantize``: what is left is integers, in the network and in its file, and answers as before."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toy_networks import plain_network, quick_recipe, residual_network, squeezed, toy_data

import netpress
import netpress.runtime
from netpress.errors import ConfigError, UnknownNameError
from netpress.export import export
from netpress.graph import GraphNetwork
from netpress.maths.row_grids import row_steps
from netpress.methods.magnitude import Magnitude
from netpress.methods.prune import Prune
from netpress.methods.quantize import Quantize
from netpress.pipeline import Recipe, Result, compress
from netpress.progress import SilentProgress
from netpress.training import TrainingPlan


@pytest.fixture(autouse=True)
def _with_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels do not depend on the processor that runs the tests."""
    monkeypatch.setattr("netpress.methods.quantize.lacks_vnni", lambda: False)


def made(network: nn.Module, *methods: Any, epochs: int = 0, **more: Any) -> Result:
    plan = dataclasses.replace(quick_recipe("finetune").training, epochs=epochs)
    return compress(network, Recipe(methods=methods, training=plan), toy_data(), latency=False, **more)


def levels_of(network: GraphNetwork, most: int = 127) -> dict[str, torch.Tensor]:
    """Of every weight of a layer, which must be on its rows' grids."""
    found = {n: row_steps(p, most) for n, p in network.named_parameters() if n.endswith("weight")}
    assert None not in found.values(), [name for name, value in found.items() if value is None]
    return {name: value[1] for name, value in found.items() if value is not None}


@pytest.mark.parametrize("build", [plain_network, residual_network])
def test_the_file_gives_the_integers_back(build: Any, tmp_path: Path) -> None:
    file, network = tmp_path / "q.netpress", build()
    result = made(network, Quantize(), out=file)
    loaded = netpress.load(file)
    levels = levels_of(loaded)
    assert len(levels) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules())
    assert max(int(level.abs().max()) for level in levels.values()) == 127
    assert not any(isinstance(m, nn.BatchNorm2d | nn.Identity) for m in loaded.modules())
    rounded = [node for node in loaded.nodes if node.op == "fake_quantize"]
    assert len(rounded) == len(levels) + (build is residual_network)  # what the block adds
    x = torch.from_numpy(toy_data().test.images[:, None] / np.float32(255))  # of the kind that ranges were measured on
    with torch.no_grad():
        wanted = network.eval()(x)
        assert float((loaded(x) - wanted).abs().max()) < 0.03 * float(wanted.abs().max())
    assert result.after.macs == result.before.macs


@pytest.mark.parametrize(
    ("fields", "most"),
    [({"reduce_range": True}, 63), ({"bits": 4}, 7), ({"bits": 2}, 1), ({"bits": 8, "per_channel": False}, 127)],
)
def test_levels_are_as_many_as_asked_for(fields: dict[str, Any], most: int) -> None:
    levels = levels_of(made(plain_network(), Quantize(**fields)).network, most)
    assert max(int(level.abs().max()) for level in levels.values()) == most


def test_one_step_for_all_rows_or_weights_alone() -> None:
    network = made(plain_network(), Quantize(per_channel=False, scheme="weights")).network
    assert "fake_quantize" not in {node.op for node in network.nodes}
    assert all(len(p.unique()) <= 255 for n, p in network.named_parameters() if n.endswith("weight"))


@pytest.mark.parametrize("build", [plain_network, residual_network])
def test_dynamic_rounds_what_linear_layers_read(build: Any, tmp_path: Path) -> None:
    file, network = tmp_path / "d.netpress", build()
    made(network, Quantize(scheme="dynamic"), out=file)
    loaded = netpress.load(file)
    assert len(levels_of(loaded)) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules())
    ops = [node.op for node in loaded.nodes]
    assert ops.count("dynamic_quantize") == ops.count("Linear") > 0
    assert "fake_quantize" not in ops
    x = 7 * torch.from_numpy(toy_data().test.images[:, None] / np.float32(255))  # of a range that no image has
    with torch.no_grad():
        wanted = network.eval()(x)
        assert float((loaded(x) - wanted).abs().max()) < 0.03 * float(wanted.abs().max())
        found = torch.from_numpy(netpress.runtime.load(file)(x.numpy()))
        assert float((found - loaded(x)).abs().max()) < 1e-3 * float(wanted.abs().max())


def test_dynamic_behind_prune_and_with_training() -> None:
    network = made(plain_network(), Prune(density=0.3), Quantize(scheme="dynamic", epochs=1), epochs=1).network
    assert "dynamic_quantize" in {node.op for node in network.nodes}
    levels_of(network)
    for name in ("0.weight", "4.weight", "8.weight"):
        weight = network.get_parameter(name)
        assert 0 < int(weight.count_nonzero()) <= round(0.3 * weight.numel()) + 1


def test_dynamic_behind_a_structural_method() -> None:
    bits = made(residual_network(), Magnitude(), Quantize(scheme="dynamic"), budget="macs=60%")
    assert bits.after.macs <= 0.6 * bits.before.macs
    levels_of(bits.network)
    assert [node.op for node in bits.network.nodes].count("dynamic_quantize") == 1


@pytest.mark.parametrize(("own", "recipes"), [(0, 1), (1, 0)])
def test_qat_is_static_and_trained(own: int, recipes: int) -> None:
    trained = made(plain_network(), Quantize(scheme="qat", epochs=own), epochs=recipes).network
    alike = made(plain_network(), Quantize(epochs=1)).network
    assert [node.op for node in trained.nodes] == [node.op for node in alike.nodes]
    for name, weight in alike.named_parameters():
        torch.testing.assert_close(trained.get_parameter(name), weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Quantize(), "slow; PyTorch computes integers as floats, so time it as exported"),
        (Prune(density=0.5), "slow"),
    ],
)
def test_where_integers_gain_speed_is_said(method: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["netpress.pipeline.compress"], "without_gain", lambda ratio, methods: "slow")
    recipe = Recipe(methods=(method,), training=TrainingPlan(epochs=0))
    assert said in compress(plain_network(), recipe, toy_data()).warnings


def test_qat_without_epochs() -> None:
    with pytest.raises(
        ConfigError, match=r"qat trains.*got: epochs 0.*remedy: set epochs of quantize or of the training, or"
    ):
        made(plain_network(), Quantize(scheme="qat"), epochs=0)


def test_layers_that_stay_whole_are_folded_and_no_more() -> None:
    network = made(residual_network(), Quantize(whole=("block", "head"), correct=False)).network
    assert row_steps(network.get_parameter("stem.0.weight")) is not None
    assert row_steps(network.get_parameter("head.weight")) is None
    assert row_steps(network.get_parameter("block.0.weight")) is None
    # the input of the stem, and its output, which goes into a sum
    assert [node.op for node in network.nodes].count("fake_quantize") == 2
    with pytest.raises(UnknownNameError, match=r"unknown layer in whole; got: 'haed'.*did you mean 'head'"):
        made(residual_network(), Quantize(whole=("haed",)))


def test_zeros_of_prune_stay() -> None:
    network = made(plain_network(), Prune(density=0.3), Quantize(epochs=1), epochs=1).network
    for name in ("0.weight", "4.weight", "8.weight"):
        weight = network.get_parameter(name)
        assert int(weight.count_nonzero()) <= round(0.3 * weight.numel()) + 1


@pytest.mark.parametrize("build", [plain_network, residual_network])
def test_behind_a_structural_method_nothing_collapses(build: Any) -> None:
    data = toy_data(400, test=200)
    plan = TrainingPlan(epochs=12, batch_size=32, optimizer="adam", lr=0.01, schedule="one_cycle", augment="none")
    right = {}
    for name, methods in {"cut": (Magnitude(),), "both": (Magnitude(), Quantize())}.items():
        recipe = Recipe(methods=methods, training=plan, distill=None)
        right[name] = compress(build(), recipe, data, "macs=60%", latency=False).quality_after
    assert right["cut"].value > 0.6
    assert right["both"].value >= right["cut"].value - 0.03


def test_training_goes_straight_through_and_later_trainings_keep_the_grids() -> None:
    network = made(plain_network(), Quantize(bits=3, epochs=2, lr=0.01), Prune(density=0.5, epochs=1), epochs=1).network
    levels_of(network, 3)
    plain = made(plain_network(), Quantize(bits=3)).network
    assert not torch.equal(network.get_parameter("8.bias"), plain.get_parameter("8.bias"))


def test_it_may_be_done_again() -> None:
    first = made(plain_network(), Quantize())
    again = made(first.network, Quantize())
    for (name, one), (_, two) in zip(first.network.named_parameters(), again.network.named_parameters(), strict=True):
        if name.endswith("weight"):
            assert torch.equal(one, two)
    assert [n.op for n in first.network.nodes] == [n.op for n in again.network.nodes]


def test_where_channels_differ_widely_steps_by_rows_are_nearer() -> None:
    torch.manual_seed(0)
    depthwise = nn.Sequential(nn.Conv2d(1, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Flatten(), nn.Linear(216, 4))
    with torch.no_grad():
        depthwise[1].weight.mul_(torch.logspace(-3, 0, 6)[:, None, None, None])
        depthwise[3].weight.mul_(torch.logspace(3, 0, 6).repeat_interleave(36))
    x = torch.rand(20, 1, 8, 8)
    with torch.no_grad():
        nets = [
            made(depthwise, Quantize(per_channel=rows, scheme="weights", whole=("3",))).network
            for rows in (True, False)
        ]
        errors = [float((net(x) - depthwise(x)).square().mean()) for net in nets]
    assert errors[0] < 0.1 * errors[1]


def test_each_convolution_is_one_of_integers_in_onnx_runtime(tmp_path: Path) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    torch.manual_seed(1)
    network = nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU6()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    ).eval()
    convolutions = {}
    for backend in ("any", "onnxruntime"):
        file, plain, fused = (tmp_path / f"{backend}.{end}" for end in ("netpress", "onnx", "fused.onnx"))
        made(network, Quantize(backend=backend), out=file)  # type: ignore[arg-type]
        assert export(file, "onnx", plain).samples
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(fused), 3
        onnxruntime.InferenceSession(str(plain), options)
        ops = [node.op_type for node in onnx.load(fused).graph.node]
        convolutions[backend] = [op for op in ops if "Conv" in op]
    assert convolutions["onnxruntime"] == ["QLinearConv", "QLinearConv"]
    assert convolutions["any"] != convolutions["onnxruntime"]


@pytest.mark.parametrize("scheme", ["static", "dynamic"])
def test_linear_layers_over_several_axes_read_floats_for_executorch(scheme: str) -> None:
    class Modes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mode, self.out = nn.Linear(8, 4), nn.Linear(32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.mode(x).flatten(1))

    network, rounded = Modes().eval(), {}
    for backend in ("any", "executorch"):
        small = made(network, Quantize(scheme=scheme, backend=backend)).network  # type: ignore[arg-type]
        assert len(levels_of(small)) == 2
        rounded[backend] = sum(node.op in ("fake_quantize", "dynamic_quantize") for node in small.nodes)
    assert rounded == {"any": 2, "executorch": 1}


def test_a_bit_less_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Said(SilentProgress):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    told = {}
    for lacks in (True, False):
        monkeypatch.setattr("netpress.methods.quantize.lacks_vnni", lambda lacks=lacks: lacks)
        progress = Said()
        made(plain_network(), Quantize(), progress=progress)
        told[lacks] = any("127 levels" in line and "one bit less" in line for line in progress.lines)
    assert told == {True: True, False: False}


def test_weights_have_a_bit_less_where_sums_would_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    def most(**fields: Any) -> int:
        levels = levels_of(made(plain_network(), Quantize(**fields)).network)
        return max(int(level.abs().max()) for level in levels.values())

    monkeypatch.setattr("netpress.methods.quantize.lacks_vnni", lambda: True)
    assert [most(backend=name) for name in ("any", "executorch", "openvino")] == [63, 127, 63]
    assert most(backend="openvino", reduce_range=False) == 127
    assert (most(scheme="weights"), most(activation_bits=7)) == (127, 127)  # two products fit
    monkeypatch.setattr("netpress.methods.quantize.lacks_vnni", lambda: False)
    assert most(backend="openvino") == 127


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"bits": 1}, "bits is out of range; got: 1; allowed: 2 to 8"),
        ({"bits": 9}, "bits is out of range; got: 9"),
        ({"activation_bits": 16}, "activation_bits is out of range; got: 16"),
        ({"bits": 2, "reduce_range": True}, "reduce_range leaves no bits; got: bits=2"),
        ({"activation_bits": 4, "scheme": "dynamic"}, "dynamic values have 8 bits; got: activation_bits=4; allowed: 8"),
        ({"samples": 0}, "samples is out of range; got: 0"),
        ({"scheme": "int8"}, "unknown scheme; got: 'int8'; allowed: static, qat, dynamic, weights"),
        ({"observer": "max"}, "unknown observer; got: 'max'; allowed: mse, minmax, percentile"),
        ({"epochs": -1}, "epochs is out of range"),
        (
            {"backend": "tvm"},
            "unknown backend; got: 'tvm'; allowed: any, onnxruntime, openvino, torch-compile, executorch",
        ),
        ({"backend": "openvino", "scheme": "dynamic"}, "dynamic ranges in float; .*allowed: static, qat, weights"),
    ],
)
def test_wrong_fields_are_named(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Quantize(**fields)


def test_without_any_layer_there_is_nothing_to_do() -> None:
    assert (
        squeezed("quantize", nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.AdaptiveAvgPool1d(4))).network is not None
    )
