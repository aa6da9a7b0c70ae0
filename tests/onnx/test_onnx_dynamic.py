"""Values whose range is measured at each run: the same bits as ONNX Runtime's, and linear layers of integers behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from running import assert_agrees, model_of, session_of
from torch import Tensor, nn

import onnx
from netpress.graph import trace
from netpress.graph.operators import dynamic_quantize
from netpress.maths.row_grids import grid_steps, on_grid


def on_rows(layer: nn.Linear) -> nn.Linear:
    """The layer with its weight on row grids."""
    with torch.no_grad():
        layer.weight.copy_(on_grid(layer.weight, grid_steps(layer.weight, 127), 127))
    return layer


class Net(nn.Module):
    """``call`` of an input and two layers, 8 -> 6 with a bias and 6 -> 5 without."""

    def __init__(self, call: Callable[[Net, Tensor], Tensor], whole: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        made = [nn.Linear(8, 6), nn.Linear(6, 5, bias=False)]
        self.one, self.two = made if whole else map(on_rows, made)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.fixture(scope="module")
def rounds() -> onnxruntime.InferenceSession:
    """ONNX Runtime's own DynamicQuantizeLinear and DequantizeLinear of values in a batch."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["input"], ["levels", "step", "zero"]),
        helper.make_node("DequantizeLinear", ["levels", "step", "zero"], ["output"]),
    ]
    ends = [[helper.make_tensor_value_info(name, kind, ["N"])] for name in ("input", "output")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *ends), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    return session_of(model.SerializeToString())


def assert_same_bits(rounds: onnxruntime.InferenceSession, x: Tensor) -> None:
    [wanted] = rounds.run(["output"], {"input": x.numpy()})
    np.testing.assert_array_equal(dynamic_quantize(x).numpy(), wanted)


@pytest.mark.parametrize("kind", ["around 0", "beside 0", "above 0", "below 0", "few values"])
def test_random_values_get_the_same_bits(rounds: onnxruntime.InferenceSession, kind: str) -> None:
    generator = torch.Generator().manual_seed(len(kind))
    for size in range(1, 400):
        x = torch.randn(size, generator=generator) * 10 ** (float(torch.rand(1, generator=generator)) * 20 - 10)
        made = {
            "around 0": x, "beside 0": x + x.abs().max() * 0.7, "above 0": x.abs(), "below 0": -x.abs(), "few values": x.sign(),
        }  # fmt: skip
        assert_same_bits(rounds, made[kind])


@pytest.mark.parametrize(
    "values", [[0.0], [0.0] * 9, [3.0] * 5, [-3.0] * 5, [1e-45, 0.0], [1e-38, -1e-38], [1e37, -1e38]], ids=str
)
def test_odd_values_get_the_same_bits(rounds: onnxruntime.InferenceSession, values: list[float]) -> None:
    assert_same_bits(rounds, torch.tensor(values))


def test_linear_layers_become_products_of_integers() -> None:
    net = Net(lambda m, x: m.two(dynamic_quantize(m.one(dynamic_quantize(x)).relu())))
    model = assert_agrees(net, torch.randn(3, 8))
    made = operators(model)
    assert made["MatMulInteger"] == made["DynamicQuantizeLinear"] == 2
    assert made["DequantizeLinear"] == made["Gemm"] == 0
    kinds = {one.name: one.data_type for one in model.graph.initializer}
    assert sum(kind == onnx.TensorProto.INT8 for kind in kinds.values()) == 2
    assert not [name for name in kinds if name.endswith("weight")]


def test_onnx_runtime_makes_one_kernel_of_each(tmp_path) -> None:  # type: ignore[no-untyped-def]
    net = trace(Net(lambda m, x: m.two(dynamic_quantize(m.one(dynamic_quantize(x)).relu()))).eval(), torch.randn(2, 8))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model_of(net), options, providers=["CPUExecutionProvider"])
    assert operators(onnx.load(tmp_path / "fused.onnx"))["DynamicQuantizeMatMul"] == 2


def test_inputs_of_three_axes() -> None:
    model = assert_agrees(Net(lambda m, x: m.one(dynamic_quantize(x))), torch.randn(3, 4, 8))
    assert operators(model)["MatMulInteger"] == 1


def test_other_readers_of_the_value_read_its_float() -> None:
    def call(m: Net, x: Tensor) -> Tensor:
        rounded = dynamic_quantize(x)
        return torch.cat([m.one(rounded), rounded], 1)

    made = operators(assert_agrees(Net(call), torch.randn(3, 8)))
    assert (made["MatMulInteger"], made["DequantizeLinear"]) == (1, 1)


def test_a_weight_on_no_grid_stays_in_float() -> None:
    made = operators(assert_agrees(Net(lambda m, x: m.one(dynamic_quantize(x)), whole=True), torch.randn(3, 8)))
    assert (made["MatMulInteger"], made["Gemm"]) == (0, 1)


def test_sums_that_do_not_fit_32_bits_stay_in_float() -> None:
    class Wide(nn.Module):
        def __init__(self, columns: int) -> None:
            super().__init__()
            self.head = on_rows(nn.Linear(columns, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(dynamic_quantize(x))

    most = (2**31 - 1) // (127 * 255)
    for columns, products in ((most, 1), (most + 1, 0)):
        net = trace(Wide(columns).eval(), torch.ones(2, columns))
        assert operators(onnx.load_from_string(model_of(net)))["MatMulInteger"] == products
