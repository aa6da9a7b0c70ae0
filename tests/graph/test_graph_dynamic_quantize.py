"""The operator ``dynamic_quantize``: recorded as itself, saved, followed by channels, passed by gradients as it is."""

from __future__ import annotations

import torch
from torch import nn

from netpress.graph import count, from_document, to_document, trace
from netpress.graph.operators import dynamic_quantize


class Rounded(nn.Module):
    """Two linear layers, what each reads on a grid of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(dynamic_quantize(self.one(dynamic_quantize(x)).relu()))


def test_it_is_recorded_counted_and_saved() -> None:
    x = torch.randn(5, 6)
    net = trace(Rounded().eval(), x)
    assert [node.op for node in net.nodes] == ["dynamic_quantize", "Linear", "relu", "dynamic_quantize", "Linear"]
    bare = trace(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), x)
    assert (count(net).macs, count(net).params) == (count(bare).macs, count(bare).params)
    document, tensors = to_document(net)
    assert document["n"][0] == ["dynamic_quantize", "", 1]
    assert torch.equal(from_document(document, tensors)(x), net(x))
    assert trace(net, x).nodes == net.nodes


def test_the_range_is_that_of_the_whole_batch() -> None:
    net, x = trace(Rounded().eval(), torch.randn(2, 6)), torch.randn(1, 6)
    with torch.no_grad():
        alone, beside = net(x), net(torch.cat([x, 100 * torch.ones(1, 6)]))[:1]
    assert not torch.equal(alone, beside)


def test_gradients_pass_and_values_are_the_same_as_without() -> None:
    x = torch.randn(7, requires_grad=True)
    y = dynamic_quantize(x)
    (y * torch.arange(7)).sum().backward()
    assert torch.equal(y, dynamic_quantize(x.detach()))
    assert x.grad is not None
    assert x.grad.tolist() == list(range(7))
