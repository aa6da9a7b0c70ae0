from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from netpress.dtypes import TYPES
from netpress.graph import from_document, to_document, trace
from netpress.graph.calls import CALLS
from netpress.graph.leaves import build_leaf, leaf_configuration, leaf_operator
from netpress.graph.operators import FUNCTIONS, MODULES
from netpress.program.kinds import KINDS
from netpress.program.signature import Signature
from netpress.program.values import Batch, Ref

# for each listed module a configuration in which every argument differs from its default
FULL = {
    "Conv1d": (4, 6, 3, 2, 1, 2, 2, False, "reflect"),
    "Conv2d": (4, 6, (3, 1), (2, 1), (1, 0), 2, 2, False, "circular"),
    "Conv3d": (4, 6, 3, 2, "valid", 2, 2, False, "replicate"),
    "ConvTranspose1d": (4, 6, 3, 2, 1, 1, 2, False, 2),
    "ConvTranspose2d": (4, 6, 3, 2, 1, 1, 2, False, 2),
    "Linear": (4, 6, False),
    "Embedding": (4, 6, 1),
    "BatchNorm1d": (4, 1e-3, None, False, False),
    "BatchNorm2d": (4, 1e-3, 0.2, False, False),
    "BatchNorm3d": (4, 1e-3, 0.2, False, False),
    "LayerNorm": ((4, 6), 1e-3, True, False),
    "GroupNorm": (2, 4, 1e-3, False),
    "PReLU": (3,),
    "LeakyReLU": (0.2,),
    "ELU": (0.5,),
    "GELU": ("tanh",),
    "Softplus": (2.0, 10.0),
    "Hardtanh": (-2.0, 2.0),
    "Softmax": (1,),
    "LogSoftmax": (-1,),
    "MaxPool1d": (3, 2, 1, 2, True),
    "MaxPool2d": ((3, 2), 2, 1, 2, True),
    "MaxPool3d": (3, 2, 1, 2, True),
    "AvgPool1d": (3, 2, 1, True, False),
    "AvgPool2d": (3, 2, 1, True, False, 5),
    "AdaptiveAvgPool1d": (2,),
    "AdaptiveAvgPool2d": ((2, None),),
    "AdaptiveMaxPool1d": (2,),
    "AdaptiveMaxPool2d": ((2, 1),),
    "Flatten": (2, 3),
    "Unflatten": (1, (2, 3)),
    "Dropout": (0.2,),
    "Dropout1d": (0.2,),
    "Dropout2d": (0.2,),
    "ZeroPad2d": ((1, 2, 3, 4),),
    "ReflectionPad2d": ((1, 2, 3, 4),),
    "PixelShuffle": (2,),
    "Upsample": (None, (2.0, 3.0), "bilinear", True),
}


class TestModules:
    @pytest.mark.parametrize("op", MODULES)
    def test_configuration_rebuilds_the_module(self, op: str) -> None:
        configuration = FULL.get(op, ())
        module = build_leaf(op, configuration, device="cpu")
        assert type(module) is MODULES[op].type
        assert leaf_operator(module) == op
        assert leaf_configuration(module) == configuration
        assert repr(build_leaf(op, leaf_configuration(module))) == repr(module)

    @pytest.mark.parametrize("op", FULL)
    def test_configuration_goes_through_json(self, op: str) -> None:
        signature = MODULES[op].signature
        assert signature.decode(signature.encode(FULL[op], 1), 1) == FULL[op]

    def test_every_argument_is_tried(self) -> None:
        for op, listed in MODULES.items():
            assert len(FULL.get(op, ())) == len(listed.signature.arguments), op

    @pytest.mark.parametrize(
        "module",
        [
            nn.MaxPool2d(2, return_indices=True),
            nn.Embedding(3, 3, max_norm=1.0),
            nn.LSTM(3, 3),
            nn.Softmax(),
            nn.Linear(3, 3).register_forward_hook(lambda *_: None) and nn.Sequential(),
        ],
    )
    def test_what_the_list_cannot_say_is_no_leaf(self, module: nn.Module) -> None:
        assert leaf_operator(module) is None

    def test_window_of_a_pool_is_its_stride_unless_said(self) -> None:
        assert leaf_configuration(nn.MaxPool2d((2, 2))) == leaf_configuration(nn.MaxPool2d(2, 2)) == (2,)


SHAPES = {"1d": (4, 8), "2d": (4, 8, 8), "3d": (4, 8, 8, 8)}  # of one sample, by the end of the operator's name
OTHER_SHAPES = {"Linear": (4,), "LayerNorm": (4, 6), "Unflatten": (6,), "PReLU": (3, 8), "PixelShuffle": (4, 2, 2)}


@pytest.mark.parametrize("op", MODULES)
def test_leaf_and_traced_through_module_are_one(op: str) -> None:
    """A subclass of each leaf is traced through; both ways lead to the module's own outputs."""
    plain = build_leaf(op, FULL.get(op, ()), device="cpu").eval()
    subclass = type("Traced" + op, (MODULES[op].type,), {})
    through = copy.deepcopy(plain)
    through.__class__ = subclass
    shape = OTHER_SHAPES.get(op, SHAPES.get(op[-2:], (4, 8, 8)))
    x = torch.randn(3, *shape) if op != "Embedding" else torch.randint(0, 4, (3, 5))
    leaf, function = trace(nn.Sequential(plain).eval(), x), trace(nn.Sequential(through).eval(), x)
    assert [node.op for node in leaf.nodes] == [op]
    assert op not in [node.op for node in function.nodes]
    for net in (leaf, function):
        assert torch.equal(net(x), plain(x))
        assert torch.equal(from_document(*to_document(net))(x), plain(x))


class AddedProducts(nn.Module):
    """torch.addcmul and torch.addcdiv, as functions and methods, with and without a factor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.abs() + 1
        sums = torch.addcmul(x, x, y) + x.addcmul(y, x, value=0.25)
        return sums * torch.addcdiv(x, x, y) + y.addcdiv(x, y, value=-3)


def test_added_products_are_said_with_sums_and_products() -> None:
    x = torch.randn(3, 4)
    net = trace(AddedProducts().eval(), x)
    assert {node.op for node in net.nodes} == {"abs", "add", "mul", "div"}
    torch.testing.assert_close(net(x), AddedProducts()(x), rtol=1e-6, atol=1e-6)


class TestSignature:
    signature = Signature.parse('input other:operand=1 dims:dims?=null mode:pad_mode="constant" shape:sizes=[]')

    def test_trailing_defaults_are_dropped(self) -> None:
        assert self.signature.normalise({"input": Ref(0), "mode": "constant"}) == (Ref(0),)
        assert self.signature.normalise({"input": Ref(0), "dims": [1, 2]}) == (Ref(0), 1, (1, 2))

    def test_default_of_another_type_is_kept(self) -> None:
        assert self.signature.normalise({"input": Ref(0), "other": 1.0}) == (Ref(0), 1.0)

    def test_json(self) -> None:
        args = (Ref(2), Ref(3), None, "reflect", (Batch(1), 4, Batch(-2)))
        assert self.signature.encode(args, 5) == [3, [2], None, "reflect", ["N", 4, "-2N"]]
        assert self.signature.decode([3, [2], None, "reflect", ["N", 4, "-2N"]], 5) == args

    @pytest.mark.parametrize(
        ("items", "text"),
        [
            ({}, "must be a list"),
            ([], "argument 'input' is missing"),
            ([True], "argument 'input' must be how many values back"),
            ([1, [1, 1]], "a number, or a list of one tensor"),
            ([1, "2"], "a multiple of the batch"),
            ([1, "0N"], "a multiple of the batch"),
            ([1, 1, 16], "argument 'dims' must be a dimension from -16 to 15, not 16"),
            ([1, 1, True], "argument 'dims'"),
            ([1, 1, None, "odd"], "argument 'mode' must be one of constant, reflect"),
            ([1, 1, None, "reflect", [[1]]], "numbers, not lists"),
            ([1, 1, None, "reflect", [2**31]], "argument 'shape' must be a size from -1 to 2147483647"),
            ([1, 1, None, "reflect", [], 0], "at most 5 arguments"),
        ],
    )
    def test_refusals(self, items: object, text: str) -> None:
        with pytest.raises(ValueError, match=text):
            self.signature.decode(items, 2)


@pytest.mark.parametrize(
    ("kind", "value", "written"),
    [
        ("scalar", float("-inf"), "-inf"),
        ("scalar", True, True),
        ("index", (slice(None), None, Ellipsis, 3, Ref(1), slice(1, None, 2)), [[], None, "...", 3, {"r": 2}, [1, None, 2]]),
        ("index", (slice(0, Batch(2)),), [[0, "2N"]]),
        ("dtype", TYPES["float16"], "float16"),
        ("tensors", (Ref(0), Ref(2)), [3, 1]),
        ("output_size", (None, 2), [None, 2]),
        ("equation", "...ij,jk->...ik", "...ij,jk->...ik"),
        ("bool", True, 1),
        ("pieces", (1, 2), [1, 2]),
        ("window", 3, 3),
    ],
)  # fmt: skip
def test_kinds_go_through_json(kind: str, value: object, written: object) -> None:
    assert KINDS[kind].encode(value, 3) == written
    assert KINDS[kind].check(KINDS[kind].decode(written, 3)) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("float", float("nan")),
        ("float", True),
        ("bool", 2),
        ("count", 0),
        ("window", (1, 2, 3, 4)),
        ("equation", "__import__"),
        ("index", "ab"),
        ("index", slice(None, None, -1)),
        ("index", True),
        ("dtype", torch.complex64),
        ("shape", ()),
    ],
)
def test_kinds_refuse(kind: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        KINDS[kind].check(value)


def test_every_call_leads_to_a_listed_function() -> None:
    for call in CALLS.values():
        known = FUNCTIONS[call.op].signature.names
        required = [a.name for a in FUNCTIONS[call.op].signature.arguments if repr(a.default) == "REQUIRED"]
        order = [name.removeprefix("*") for name in call.order]
        assert set(required) <= set(order) <= set(known) | {
            "inplace", "training", "_stacklevel", "max_norm", "norm_type", "scale_grad_by_freq", "sparse",
        }  # fmt: skip
