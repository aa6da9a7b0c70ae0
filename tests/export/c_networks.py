"""Small networks, each named after what of the C runner it needs; all take (3, 9, 8) unless said otherwise."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (3, 9, 8)


class By(nn.Module):
    """Layers and a function that uses them."""

    def __init__(self, call: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def _shortcut_a(net: nn.Module, x: Tensor) -> Tensor:
    x = F.relu(net.stem(x))
    y = net.two(F.relu(net.one(x)))
    return F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))


def _residual(net: nn.Module, x: Tensor) -> Tensor:
    x = net.stem(x)
    for _ in range(2):
        x = F.relu(x + net.norm(net.two(F.relu(net.one(x)))))
    return x.mean((2, 3))


class Functional(nn.Module):
    """Layers that are no modules: weights are read by name."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.matrix = nn.Parameter(torch.randn(4, 3, 2, 3)), nn.Parameter(torch.randn(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.clamp(F.conv2d(x, self.kernel, stride=(2, 1), dilation=(1, 2)), -0.5, 0.75)
        return F.linear(x.mean((-1, -2)), self.matrix)


def _double_head(net: nn.Module, x: Tensor) -> Tensor:
    y = net.head(x.flatten(1))
    return torch.softmax(y + net.tail(y), -1)


def _grid(x: Tensor, scale: float, zero: int = 0, low: int = 0, high: int = 255) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, low, high)


def _rounded(net: nn.Module, x: Tensor) -> Tensor:
    """Values on grids: what layers read, what a sum reads, and some of fewer levels and about another zero."""
    x = _grid(x, 1 / 64, 100)
    y = _grid(net.two(_grid(net.one(x).relu(), 0.04)), 0.5, 1, -8, 7)
    x = _grid(torch.relu(x + y), 0.25, 0, 0, 3)
    return net.head(_grid(x.mean((2, 3)), 0.125, -128, -128, 127))


def _rounded_shortcut(net: nn.Module, x: Tensor) -> Tensor:
    """What is sliced and padded is rounded, about a zero that is not the least level; at last a pool reads it."""
    x = _grid(net.stem(_grid(x, 0.03, 128)), 0.05, 90)
    y = _grid(net.two(_grid(F.relu6(net.one(_grid(F.pad(x, (1, 1, 1, 1)), 0.06, 95))), 0.03)), 0.04, 110)
    x = _grid(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)), 0.05, 100)
    return net.head(F.max_pool2d(x, (5, 4)).flatten(1))


def _rounded_parts(net: nn.Module, x: Tensor) -> Tensor:
    """A channel each, pools before and behind, an operand in float, and linear layers of integers."""
    x = _grid(net.depth(_grid(x, 0.02, 120)), 0.03, 128)
    x = _grid(F.avg_pool2d(net.point(x).relu(), 2), 0.02)
    y = net.inner(x) + F.adaptive_avg_pool2d(net.point(_grid(net.inner(x), 0.05, 30)), (4, 4))
    return net.last(_grid(net.head(_grid(y, 0.06, 127).flatten(1)), 0.1, 64, 0, 127))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "nothing": nn.Flatten,
    "rounded": lambda: By(
        _rounded, one=nn.Conv2d(3, 4, 3, padding=1), two=nn.Conv2d(4, 3, 3, padding=1), head=nn.Linear(3, 5)
    ),
    "rounded_shortcut": lambda: By(
        _rounded_shortcut,
        stem=nn.Conv2d(3, 4, 3, padding=1),
        one=nn.Conv2d(4, 6, 3, stride=2),
        two=nn.Conv2d(6, 8, 3, padding=1, groups=2),
        head=nn.Linear(8, 5),
    ),
    "rounded_parts": lambda: By(
        _rounded_parts,
        depth=nn.Conv2d(3, 3, 3, padding=1, groups=3),
        point=nn.Conv2d(3, 3, 1),
        inner=nn.Conv2d(3, 3, (2, 3), padding=(1, 1), dilation=(2, 1)),
        head=nn.Linear(48, 6),
        last=nn.Linear(6, 2, bias=False),
    ),
    "grid": lambda: By(lambda net, x: torch.fake_quantize_per_tensor_affine(x, 0.5, 1, 0, 4)),
    "linear": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(216, 7), nn.BatchNorm1d(7), nn.Hardtanh(-1, 0.5), nn.Linear(7, 3, bias=False),
    ),
    "conv": lambda: nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(), nn.Conv2d(5, 2, 1),
    ),
    "conv_odd": lambda: nn.Sequential(
        nn.Conv2d(3, 4, (2, 5), (3, 2), (1, 4), (2, 1)), nn.ReLU6(), nn.Conv2d(4, 4, 3, padding="same"),
    ),
    "conv_wide_pad": lambda: nn.Conv2d(3, 2, 3, padding=5, stride=4),
    "groups": lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3, bias=False), nn.Conv2d(6, 4, 1, groups=2)),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, 2, 1, groups=6), nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 2, 1),
    ),
    "max_pool": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)),
    "max_pool_odd": lambda: nn.MaxPool2d((2, 3), (2, 1), (1, 1), (2, 1), ceil_mode=True),
    "max_pool_overlapping": lambda: nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 1)),
    "mean_pool": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "mean_pool_inside": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "mean_pool_divided": lambda: nn.AvgPool2d(2, divisor_override=3),
    "adaptive": lambda: nn.Sequential(nn.AdaptiveAvgPool2d((4, 3)), nn.AdaptiveMaxPool2d((3, 1))),
    "adaptive_larger": lambda: nn.AdaptiveAvgPool2d((11, 5)),
    "shortcut_a": lambda: By(
        _shortcut_a, stem=nn.Conv2d(3, 4, 1), one=nn.Conv2d(4, 8, 3, 2, 1), two=nn.Conv2d(8, 8, 3, 1, 1),
    ),
    "residual": lambda: By(
        _residual, stem=nn.Conv2d(3, 4, 1), one=nn.Conv2d(4, 4, 3, 1, 1), two=nn.Conv2d(4, 4, 3, 1, 1), norm=nn.BatchNorm2d(4),
    ),
    "sum_of_convs": lambda: By(
        lambda net, x: F.relu(net.one(x) + net.two(x)), one=nn.Conv2d(3, 4, 1), two=nn.Conv2d(3, 4, 3, 1, 1),
    ),
    "sum_with_own_input": lambda: By(lambda net, x: x + net.one(x), one=nn.Conv2d(3, 3, 3, 1, 1)),
    "sum_with_own_depthwise_input": lambda: By(lambda net, x: x + net.one(x), one=nn.Conv2d(3, 3, 3, 1, 1, groups=3)),
    "sum_twice_the_same": lambda: By(lambda net, x: (lambda y: F.relu(y + y))(net.one(x)), one=nn.Conv2d(3, 3, 1)),
    "sum_read_again": lambda: By(
        lambda net, x: (lambda y: net.one(y) + y + x)(F.relu(x)), one=nn.Conv2d(3, 3, 3, 1, 1),
    ),
    "sum_pooled": lambda: By(lambda net, x: F.max_pool2d(F.relu(x + net.one(x)), 2), one=nn.Conv2d(3, 3, 3, 1, 1)),
    "pad_below_right": lambda: By(lambda net, x: net.one(F.pad(x, (0, 1, 0, 1))), one=nn.Conv2d(3, 4, 3, 2)),
    "pad_read_twice": lambda: By(
        lambda net, x: (lambda y: net.one(y) + net.two(y))(F.pad(x, (2, 1, 0, 3))), one=nn.Conv2d(3, 2, 1), two=nn.Conv2d(3, 2, 1),
    ),
    "pad_with_ones": lambda: By(lambda net, x: net.one(F.pad(x, (1, 1), value=1.0)), one=nn.Conv2d(3, 4, 3, 2)),
    "slices": lambda: By(lambda net, x: F.relu(x)[:, 1:, 1::3, -5:-1]),
    "norm_alone": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1)),
    "norm_of_vectors": lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(216)),
    "functional": Functional,
    "softmax": lambda: By(_double_head, head=nn.Linear(216, 6), tail=nn.Linear(6, 6)),
    "reshaped": lambda: By(lambda net, x: net.one(x.reshape(-1, 9, 3, 8)).squeeze(1), one=nn.Conv2d(9, 1, 2)),
}  # fmt: skip
