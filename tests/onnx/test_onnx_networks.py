"""Whole networks: the zoo's, reduction layers, attention; folding; what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from running import assert_agrees, model_of, session_of
from torch import nn

import onnx
from netpress import zoo
from netpress.errors import FormatError, UnsupportedOperatorError
from netpress.graph import to_document, trace
from netpress.layers import (
    FNN,
    Bottleneck,
    ConvEncoder,
    HermiteMap,
    LinearLift,
    LinearProjection,
    MixerProjection,
    TuckerLift,
    TuckerProjection,
)
from netpress.onnx import write
from netpress.program import Program
from netpress.program.folding import adjacent
from onnx import numpy_helper


def settled(network: nn.Module) -> nn.Module:
    """Statistics and gains of batch normalisations as training leaves them: none is 0 or 1."""
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=generator) * 0.1
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
            module.weight.data = torch.rand(module.num_features, generator=generator) + 0.5
            module.bias.data = torch.randn(module.num_features, generator=generator) * 0.1
    return network.eval()


QUICK = {
    "digits_cnn",
    "lenet300_100",
    "lenet5",
    "mobilenet_v2_32_x0_5",
    "resnet18_32",
    "resnet20",
    "resnet20b",
    "resnet8_tiny",
    "vgg16_bn",
    "wrn16_1",
}
SMALL = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in zoo.names()
    if len(zoo.entry(name).input_shape) == 3 and zoo.entry(name).input_shape[-1] <= 32
]


@pytest.mark.parametrize("name", SMALL)
def test_networks_of_the_zoo(name: str) -> None:
    x = torch.randn(3, *zoo.entry(name).input_shape)
    assert_agrees(settled(zoo.build(name, seed=0)), x, within=1e-4)


def test_a_network_of_two_sequences() -> None:
    entry = zoo.entry("deepdta")
    assert_agrees(zoo.build("deepdta", seed=0).eval(), torch.randint(0, 20, (3, *entry.input_shape)), within=1e-4)


class Encoder(nn.Module):
    """A small vision transformer: patches, a class token, positions, two blocks of attention."""

    def __init__(self, width: int = 24, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width))
        layer = nn.TransformerEncoderLayer(width, heads, 48, activation="gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)  # (N, 16, width)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.blocks(x)[:, 0])


def test_attention() -> None:
    assert_agrees(Encoder().eval(), torch.randn(3, 3, 32, 32), within=1e-4)


class TestFolding:
    def network(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(144, 6),
            nn.BatchNorm1d(6),
            nn.Linear(6, 2),
        )

    def test_a_normalisation_that_alone_reads_a_layer_is_part_of_it(self) -> None:
        model = assert_agrees(settled(self.network()), torch.randn(3, 3, 8, 8))
        assert [node.op_type for node in model.graph.node] == ["Conv", "Relu", "Reshape", "Gemm", "Gemm"]
        assert not any("running" in initializer.name for initializer in model.graph.initializer)

    def test_others_stay(self) -> None:
        class Shared(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
                self.rows, self.tokens = nn.Linear(4, 5), nn.BatchNorm1d(5)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y = self.conv(x)
                tokens = self.tokens(
                    self.rows(torch.cat([y, y[:, :2]], 1).mean(2))
                )  # (N, 5, 5): channels are the second axis
                return self.norm(y).mean((2, 3)) + y.amax((2, 3)) + tokens.mean((1, 2))[:, None]

        model = assert_agrees(settled(Shared()), torch.randn(3, 3, 4, 4))
        assert [node.op_type for node in model.graph.node].count("BatchNormalization") == 2

    def test_the_rule_is_that_of_the_graph(self) -> None:
        from netpress.graph import fold_norms

        traced = trace(settled(zoo.build("resnet20", seed=0)), torch.randn(2, 3, 32, 32))
        folded = fold_norms(traced)
        gone = [
            node.name
            for node in folded.nodes
            if node.is_module and isinstance(folded.get_submodule(node.name), nn.Identity)
        ]
        assert len(gone) == 19
        assert [
            traced.nodes[norm].name for _, norm in adjacent(traced.nodes) if traced.nodes[norm].op == "BatchNorm2d"
        ] == gone
        left = onnx.load_from_string(model_of(traced)).graph.node
        assert "BatchNormalization" not in {node.op_type for node in left}


class TestModel:
    def test_names_symbols_and_weights(self) -> None:
        traced = trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), torch.randn(2, 4))
        model = onnx.load_from_string(model_of(traced))
        [given], [answer] = model.graph.input, model.graph.output
        assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["N", 4]
        assert [d.dim_param or d.dim_value for d in answer.type.tensor_type.shape.dim] == ["N", 3]
        weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        assert np.array_equal(weights["0.weight"], traced.get_parameter("0.weight").detach().numpy())
        assert (model.ir_version, model.opset_import[0].version) == (8, 18)

    def test_shared_tensors_are_one_initializer(self) -> None:
        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
                self.other.weight = self.one.weight

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.other(self.one(x).relu())

        assert_agrees(Tied().eval(), torch.randn(3, 4))

    def test_what_does_nothing_vanishes(self) -> None:
        network = nn.Sequential(nn.Identity(), nn.Linear(4, 3), nn.Dropout(0.5), nn.Identity()).eval()
        model = assert_agrees(network, torch.randn(3, 4))
        assert [node.op_type for node in model.graph.node] == ["Gemm"]
        model = assert_agrees(nn.Identity(), torch.randn(3, 4))
        assert [node.op_type for node in model.graph.node] == ["Identity"]

    @pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float16, 1e-2)])
    def test_other_types_of_floating_point(self, dtype: torch.dtype, within: float) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
        assert_agrees(network, torch.randn(3, 3, 2, 2).to(dtype), within)

    def test_the_same_program_gives_the_same_bytes(self) -> None:
        traced = trace(settled(TestFolding().network()), torch.randn(2, 3, 8, 8))
        assert model_of(traced) == model_of(copy.deepcopy(traced))


class TestRefusals:
    def test_an_operator_without_meaning_names_itself_and_its_module(self) -> None:
        class Odd(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return nn.functional.interpolate(x, scale_factor=1.7, mode="nearest-exact")

        traced = trace(nn.Sequential(Odd()), torch.randn(2, 3, 8, 8))
        with pytest.raises(UnsupportedOperatorError, match=r"the operator 'interpolate' of module '0' .*nearest-exact"):
            model_of(traced)

    def test_bfloat16(self) -> None:
        document, tensors = to_document(trace(nn.Linear(4, 3).bfloat16(), torch.randn(2, 4).bfloat16()))
        arrays = {name: np.zeros(tensor.shape, np.uint16) for name, tensor in tensors.items()}
        with pytest.raises(UnsupportedOperatorError, match="bfloat16"):
            write(Program(document), arrays)

    @pytest.mark.parametrize(
        "nodes",
        [
            [["Linear", "0", [5, 2]]],
            [["transpose", "", 1, 1, 7]],
            [["Flatten", "0", [0]]],
            [["reshape", "", 1, ["N", 5]]],
            [["einsum", "", "ab,bc->ac", [1]]],
            [["max_pool2d", "", 1, 9]],
            [["unbind", "", 1, 1], ["item", "", 1, 9]],
            [["getitem", "", 1, [[], 9]]],
            [["cat", "", [1], 5]],
            [["item", "", 1, 0]],
        ],
    )
    def test_parts_that_do_not_fit_are_a_fault_of_the_document(self, nodes: list[list[object]]) -> None:
        def written() -> object:
            program = Program({"v": 1, "in": [4], "n": nodes})
            return write(program, {name: np.zeros(spec.shape, np.float32) for name, spec in program.expected.items()})

        with pytest.raises(FormatError):
            written()


FEATURES, RANKS = (6, 5, 4), (3, 2, 3)


@pytest.mark.parametrize(
    ("build", "input_shape"),
    [
        (lambda: TuckerProjection(FEATURES, RANKS), FEATURES),
        (lambda: TuckerProjection(9, 4), (9,)),
        (lambda: TuckerLift(FEATURES, RANKS), (18,)),
        (lambda: LinearProjection(FEATURES, 7), FEATURES),
        (lambda: LinearLift(FEATURES, 7), (7,)),
        (lambda: Bottleneck(FEATURES, RANKS), FEATURES),
        (lambda: ConvEncoder(FEATURES, RANKS), FEATURES),
        (lambda: ConvEncoder(FEATURES, RANKS).decoder(), (18,)),
        (lambda: MixerProjection(FEATURES, RANKS, blocks=2), FEATURES),
        (lambda: FNN(18, (5, 4), 3), (18,)),
        (lambda: HermiteMap(5, 2, 3), (5,)),
        (lambda: HermiteMap(5, 1, 3), (5,)),
    ],
)
def test_reduction_layers_and_maps(build: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> None:
    assert_agrees(build().eval(), torch.randn(3, *input_shape))


def test_batches_are_open() -> None:
    session = session_of(model_of(trace(Encoder().eval(), torch.randn(2, 3, 32, 32))))
    assert session.run(None, {"input": np.zeros((7, 3, 32, 32), np.float32)})[0].shape == (7, 5)
