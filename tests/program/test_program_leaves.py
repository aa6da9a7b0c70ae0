"""What is said of leaf modules without torch is what torch makes of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netpress.dtypes import type_of
from netpress.graph import GraphNetwork
from netpress.graph.leaves import build_leaf
from netpress.graph.operators import FUNCTIONS, MODULES
from netpress.program import Leaf, TensorSpec, operators
from netpress.program.nodes import RESERVED, RESERVED_AT_THE_ROOT

CONFIGURATIONS: dict[str, list[tuple[object, ...]]] = {
    "Conv1d": [(4, 6, 3), (4, 6, 3, 2, 1, 2, 2, False, "reflect"), (4, 6, (3,))],
    "Conv2d": [(4, 6, 3), (4, 6, (3, 1), 1, "same"), (4, 6, 3, 1, 0, 1, 2), (4, 6, (1, 2, 3))],
    "Conv3d": [(4, 6, 3), (4, 6, (1, 2, 3), 1, 0, 1, 1, False)],
    "ConvTranspose1d": [(4, 6, 3), (4, 6, 3, 2, 1, 1, 2, False)],
    "ConvTranspose2d": [(4, 6, (3, 2)), (4, 6, 3, 2, 1, 1, 2)],
    "Linear": [(4, 6), (4, 6, False)],
    "Embedding": [(4, 6), (4, 6, 3)],
    **{
        key: [(4,), (4, 0.001, None, False), (4, 1e-05, 0.1, True, False)]
        for key in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")
    },
    "LayerNorm": [((4, 6),), ((4,), 1e-5, False), ((4,), 1e-5, True, False)],
    "GroupNorm": [(2, 4), (2, 4, 1e-5, False)],
    "PReLU": [(), (3,)],
    "LeakyReLU": [()],
    "Softmax": [(1,)],
    "LogSoftmax": [(1,)],
    **{key: [(2,)] for key in ("MaxPool1d", "MaxPool2d", "MaxPool3d", "AvgPool1d", "AvgPool2d")},
    **{key: [(2,)] for key in ("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d")},
    "Unflatten": [(1, (2, 3))],
    **{key: [((1, 2, 3, 4),)] for key in ("ZeroPad2d", "ReflectionPad2d")},
    "PixelShuffle": [(2,)],
}


def test_both_lists_are_one() -> None:
    assert MODULES.keys() == operators.MODULES.keys()
    assert FUNCTIONS.keys() == operators.FUNCTIONS.keys()
    assert [name for name in FUNCTIONS if FUNCTIONS[name].many] == [
        name for name in FUNCTIONS if operators.returns_many(name)
    ]


@pytest.mark.parametrize("op", MODULES)
def test_tensors_are_those_of_the_module(op: str) -> None:
    for configuration in CONFIGURATIONS.get(op, [()]):
        module = build_leaf(op, configuration)
        held = {
            name: TensorSpec(tuple(t.shape), type_of(t.dtype), isinstance(t, nn.Parameter))  # type: ignore[arg-type]
            for name, t in module.state_dict(keep_vars=True).items()
        }
        said = Leaf(op, configuration).tensors()
        assert said == held
        assert list(said) == list(held)


REFUSED = [
    ("Conv2d", (4, 6, 3, 1, 0, 1, 3)),
    ("Conv1d", (6, 4, 3, 1, 0, 1, 3)),
    ("Conv2d", (4, 6, 3, 2, "same")),
    ("ConvTranspose2d", (4, 6, 3, 1, 0, 0, 3)),
    ("Embedding", (4, 6, 4)),
    ("GroupNorm", (3, 4)),
    ("Hardtanh", (1.0, 1.0)),
    ("Dropout", (1.5,)),
    ("Dropout2d", (-0.5,)),
    ("Linear", (2**31 - 1, 2**31 - 1)),
]


@pytest.mark.parametrize(("op", "configuration"), REFUSED, ids=lambda v: str(v))
def test_what_torch_refuses_is_refused(op: str, configuration: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        build_leaf(op, configuration)
    with pytest.raises(ValueError, match=r"."):
        Leaf(op, configuration).tensors()


def test_reserved_names_are_those_of_torch() -> None:
    holder = nn.Module()
    assert {name for name in dir(holder) if hasattr(holder, name)} <= RESERVED
    network = GraphNetwork((), {}, {}, input_shape=(1,), output_shape=(1,))
    assert {name for name in dir(network) if hasattr(network, name)} <= RESERVED_AT_THE_ROOT
    every = [name for name in RESERVED if hasattr(holder, name)]
    assert len(every) > 0.9 * len(RESERVED), "a list of names that torch no longer has"


def test_order_is_that_of_state_dict() -> None:
    from netpress.graph import to_document, trace
    from netpress.program import Program

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.inner = nn.ModuleDict({"b": nn.Linear(3, 3), "a": nn.BatchNorm1d(3)})
            self.inner.register_buffer("shift", torch.zeros(3, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.inner["a"](self.inner["b"](x) * self.scale) + self.inner.shift
            return x + self.inner["b"].bias

    network = trace(Odd().eval(), torch.randn(2, 3))
    program = Program(to_document(network)[0])
    assert list(program.tensors) == list(network.state_dict())
    assert {name: spec.parameter for name, spec in program.tensors.items()} == {
        name: isinstance(t, nn.Parameter) for name, t in network.state_dict(keep_vars=True).items()
    }
