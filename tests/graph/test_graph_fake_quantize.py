"""The operator ``fake_quantize``: recorded, counted, saved, followed by channels, straight-through in its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from netpress.errors import FormatError, TraceError, UnsupportedOperatorError
from netpress.graph import Node, Ref, count, from_document, to_document, trace
from netpress.graph.operators import FUNCTIONS
from netpress.structure import Channels, mask_network, slice_network


class Rounded(nn.Module):
    """Two convolutions, the input of each on a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, 0.01, 0, 0, 255)
        x = torch.fake_quantize_per_tensor_affine(
            self.one(x).relu(), scale=0.02, zero_point=3, quant_min=-8, quant_max=7
        )
        return self.two(x).flatten(1)


def test_it_is_recorded_counted_and_saved() -> None:
    x = torch.rand(2, 1, 8, 8)
    net = trace(Rounded().eval(), x)
    made = [node for node in net.nodes if node.op == "fake_quantize"]
    assert [node.args for node in made] == [(Ref(0), 0.01), (Ref(3), 0.02, 3, -8, 7)]
    bare = trace(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten()), x)
    assert (count(net).macs, count(net).params) == (count(bare).macs, count(bare).params)
    document, tensors = to_document(net)
    assert document["n"][0] == ["fake_quantize", "", 1, 0.01]
    assert torch.equal(from_document(document, tensors)(x), net(x))
    assert torch.equal(trace(net, x)(x), net(x))


def test_by_hand_with_its_gradient() -> None:
    x = torch.tensor([-1.0, 0.04, 0.26, 0.5, 9.0], requires_grad=True)
    y = FUNCTIONS["fake_quantize"].call(x, 0.1, 2, 0, 15)
    y.sum().backward()
    torch.testing.assert_close(
        y, torch.tensor([-0.2, 0.0, 0.3, 0.5, 1.3])
    )  # levels 0, 2, 5, 7, 15, less the zero point
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_without_gradients_it_is_torchs_own_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    for scale, zero, low, high in (
        (0.1, 2, 0, 15), (0.0237, 117, 0, 255), (3e-5, 0, -128, 127), (7.0, -5, -8, 7), (1e-30, 0, 0, 255), (0.3, 200, -999, 999)
    ):  # fmt: skip
        ties = 0.5 * torch.arange(-1500, 1500)
        x = scale * torch.cat(
            [ties, 300 * torch.randn(3000, generator=generator), torch.tensor([0.0, -0.0, 1e6, -1e6])]
        )
        wanted = torch.fake_quantize_per_tensor_affine(x, scale, zero, low, high)
        given = FUNCTIONS["fake_quantize"].call(x, scale, zero, low, high)
        assert torch.equal(given.view(torch.int32), wanted.view(torch.int32))
    infinite = FUNCTIONS["fake_quantize"].call(torch.tensor([torch.inf, -torch.inf]), 0.1, 2, 0, 15)
    torch.testing.assert_close(infinite, torch.tensor([1.3, -0.2]))


def test_channels_are_followed_through_it() -> None:
    x = torch.rand(2, 1, 8, 8)
    channels = Channels(trace(Rounded().eval(), x))
    keep = {"one": np.array([True, False, True, True])}
    small = slice_network(channels, keep)
    assert small.get_parameter("one.weight").shape[0] == small.get_parameter("two.weight").shape[1] == 3
    torch.testing.assert_close(small(x), mask_network(channels, keep)(x))


@pytest.mark.parametrize(
    "args",
    [[1, 0.0], [1, -0.1], [1, 1e-300], [1, 1e300], [1, 0.1, 256], [1, 0.1, -1], [1, 0.1, 0, 5, 4], [1, 0.1, 0.5], [1]],
    ids=str,
)
def test_a_file_cannot_ask_for_a_grid_that_is_none(args: list[object]) -> None:
    with pytest.raises(FormatError, match=r"fake_quantize|scale|zero_point"):
        from_document({"v": 1, "in": [3], "n": [["fake_quantize", "", *args]]}, {})


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.zero = nn.Parameter(torch.tensor(0.1)), nn.Parameter(torch.tensor(0.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero.int(), 0, 255)


def test_a_scale_that_is_a_tensor_is_refused() -> None:
    with pytest.raises((UnsupportedOperatorError, TraceError), match="scale"):
        trace(Learned(), torch.rand(2, 3))


def test_a_node_reads() -> None:
    assert Node("", "fake_quantize", (Ref(4), 0.1)).inputs == (4,)
