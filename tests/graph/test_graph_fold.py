"""Batch normalisations folded into the layers before them: the same answers, and nothing given is changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from netpress.graph import GraphNetwork, fold_norms, trace
from netpress.zoo import build, entry


def with_statistics(network: nn.Module) -> nn.Module:
    """Norms whose scales, shifts and statistics are no round numbers."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.track_running_stats:
            for tensor, low in ((module.running_var, 0.5), (module.running_mean, -0.5)):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
            if module.affine:
                with torch.no_grad():
                    module.weight.copy_(torch.rand(module.weight.shape, generator=generator) + 0.5)
                    module.bias.copy_(torch.rand(module.bias.shape, generator=generator) - 0.5)
    return network.eval()


def traced(network: nn.Module, *shape: int) -> GraphNetwork:
    return trace(with_statistics(network), torch.rand(2, *shape))


def norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2_32", "resnet8_tiny", "digits_cnn"])
def test_a_folded_network_answers_the_same(name: str) -> None:
    shape = entry(name).input_shape
    network = traced(build(name, seed=0), *shape)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_norms(network)
    x = torch.rand(3, *shape)
    with torch.no_grad():
        wanted = network(x)
        assert float((folded(x) - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    assert norms(folded) == 0
    assert norms(network) > 0
    assert len(folded.nodes) == len(network.nodes)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_by_hand() -> None:
    linear, norm = nn.Linear(1, 1), nn.BatchNorm1d(1, eps=0.0)
    with torch.no_grad():
        linear.weight.fill_(3.0)
        linear.bias.fill_(1.0)
        norm.weight.fill_(4.0)
        norm.bias.fill_(0.5)
        norm.running_mean.fill_(2.0)
        norm.running_var.fill_(4.0)
    folded: Any = fold_norms(trace(nn.Sequential(linear, norm).eval(), torch.rand(2, 1)))
    assert folded.get_parameter("0.weight").item() == 6.0  # 3 · 4 / 2
    assert folded.get_parameter("0.bias").item() == -1.5  # (1 - 2) · 2 + .5


class ReadTwice(nn.Module):
    """What is before the norm is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return (y + self.norm(y)).flatten(1)


class CalledTwice(nn.Module):
    """One convolution, two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.conv(self.first(self.conv(x)))).flatten(1)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (ReadTwice(), (1, 4, 4)),
        (CalledTwice(), (2, 4, 4)),
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten()), (1, 4, 4)),
        (nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.Flatten()), (2, 4, 4)),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(3), nn.Flatten()), (3, 4)),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Flatten()), (3, 4)),
    ],
    ids=[
        "read twice",
        "called twice",
        "statistics of batches",
        "norm first",
        "norm of tokens",
        "norm of square tokens",
    ],
)
def test_what_cannot_be_folded_is_left(network: nn.Module, shape: tuple[int, ...]) -> None:
    before = traced(network, *shape)
    folded = fold_norms(before)
    x = torch.rand(3, *shape)
    assert norms(folded) == norms(before)
    with torch.no_grad():
        assert torch.equal(folded(x), before(x))


def test_values_that_somebody_looks_at_are_kept() -> None:
    network = traced(build("digits_cnn", seed=0), 1, 8, 8)
    first = next(k for k, node in enumerate(network.nodes) if node.op == "Conv2d")
    kept = fold_norms(network, keep={first})
    assert norms(kept) == 1
    seen: dict[str, torch.Tensor] = {}
    x = torch.rand(2, 1, 8, 8)
    for name, net in (("given", network), ("folded", kept)):
        with torch.no_grad():
            net.run(x, lambda k, value, name=name: seen.update({name: value}) if k == first else None)
    assert torch.equal(seen["given"], seen["folded"])
