"""Small networks, one for each way in which channels pass, with the groups that they should have.

`NETWORKS` maps a name to (how to make it, shape of a sample, sizes of its groups by name), the groups counted by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpress.graph import GraphNetwork, trace
from netpress.graph.operators import dynamic_quantize
from netpress.structure import Channels

Made = tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, int]]

NETWORKS: dict[str, Made] = {}


def _network(shape: tuple[int, ...], **groups: int) -> Callable[[type[nn.Module]], type[nn.Module]]:
    def register(cls: type[nn.Module]) -> type[nn.Module]:
        name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in cls.__name__)[1:]
        NETWORKS[name] = (cls, shape, {group.replace("__", "."): size for group, size in groups.items()})
        return cls

    return register


def traced(name: str, seed: int = 0) -> GraphNetwork:
    """One of `NETWORKS`, in eval mode, with noise on what would be 0 or 1."""
    torch.manual_seed(seed)
    make, shape, _ = NETWORKS[name]
    return trace(randomised(make()).eval(), example(shape))


def example(shape: tuple[int, ...], batch: int = 3) -> Tensor:
    """A batch of random samples; of shape () a batch of ten words."""
    return torch.randn(batch, *shape) if shape else torch.arange(batch * 10).reshape(batch, 10) % 7


@torch.no_grad()
def randomised(net: nn.Module) -> nn.Module:
    for parameter in net.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return net


@cache
def channels_of(name: str, seed: int = 0) -> Channels:
    """Of `traced`; for tests that change neither."""
    return Channels(traced(name, seed))


def random_keep(channels: Channels, seed: int, share: float = 0.5) -> dict[str, Any]:
    """About ``share`` of the channels of each group: at least one stays and at least one goes."""
    rng = np.random.default_rng(seed)
    keep = {}
    for name, group in channels.groups.items():
        keep[name] = rng.random(group.size) < share
        stays, goes = rng.permutation(group.size)[:2]
        keep[name][stays], keep[name][goes] = True, False
    return keep


def one_each(channels: Channels) -> dict[str, Any]:
    """The smallest choice: the last channel of every group."""
    return {name: np.arange(group.size) == group.size - 1 for name, group in channels.groups.items()}


class Plain(nn.Sequential):
    """conv 1 -> 4, norm, conv 4 -> 6, pooled, linear 6 -> 3"""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(6, 3),
        )  # fmt: skip


NETWORKS["plain"] = (Plain, (1, 8, 8), {"0": 4, "3": 6})


@_network((2, 6, 6), one=4, two=5)
class Rounded(nn.Module):
    """Values on grids: their channels pass."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 5, 1), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(self.one(x).relu(), 0.05, 0, 0, 255)
        x = torch.fake_quantize_per_tensor_affine(self.two(x), 0.05, 100, 0, 255)
        return self.head(x.mean((2, 3)))


@_network((2, 6, 6), two=5)
class Measured(nn.Module):
    """Values on grids of their own range, which holds 0: channels pass where they are zeros when they are missing."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 5, 1), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = dynamic_quantize(self.one(x).sigmoid())  # 1/2 where they are missing
        return self.head(dynamic_quantize(self.two(x).relu().mean((2, 3))))


@_network((3, 8, 8), stem=6, inner=5)
class Residual(nn.Module):
    """What a sum adds goes together: stem and outer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3, padding=1), nn.Conv2d(5, 6, 1)
        self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.norm(self.outer(F.relu(self.inner(x)))))
        return self.head(x.mean((2, 3)))


@_network((3, 8, 8), stem=4, block=4)
class OptionA(nn.Module):
    """A shortcut that is padded with zeros to 2 + 4 + 2 channels: 4 of the block's are tied to the stem's, 4 are free."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3, 2, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head(F.relu(self.block(x) + shortcut).amax((2, 3)))


@_network((3, 6, 6), one=4, two=3, three=5)
class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(7, 5, 1)
        self.head = nn.Conv2d(9, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        joined = F.relu(torch.cat((first, self.two(x)), 1))
        return self.head(torch.cat((self.three(joined), first), 1))


@_network((3, 6, 6), stem=2, **{"stem:2": 4, "left": 3})
class SplitInTwo(nn.Module):
    """The first 2 of 6 channels go another way than the others: two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(2, 3, 1), nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).split((2, 4), 1)
        return self.head(torch.cat((self.left(left), right), 1))


@_network((3, 6, 6), stem=4)
class Gated(nn.Module):
    """A gated linear unit: channel c of the first half is tied to channel c of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.stem(x).chunk(2, 1)
        return self.head(value * torch.sigmoid(gate))


@_network((3, 6, 6), stem=3, **{"stem:2": 3})
class Shuffled(nn.Module):
    """Channel c of both halves goes together, as (2, 6) must stay a rectangle; three of them go one way, three another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.other = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1)
        self.left, self.right = nn.Conv2d(6, 2, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((self.stem(x), self.other(x)), 1)
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        left, right = x.chunk(2, 1)
        return self.left(left) + self.right(right)


@_network((3, 6, 6), stem=5)
class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth, self.norm = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 5, 3, groups=5), nn.BatchNorm2d(5)
        self.head = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.depth(F.relu(self.stem(x)))))


@_network((3, 6, 6), stem=4)
class ManyGroups(nn.Module):
    """Four groups of two: whole groups go, with the channels that they read and make."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, groups=4)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.grouped(self.stem(x))))


@_network((3, 6, 6), stem=6, grouped=4)
class FewGroups(nn.Module):
    """Two groups of six: places of both groups go, of what is read (6) and of what is made (4)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 8, 3, groups=2)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.grouped(self.stem(x))))


@_network((3, 6, 6), stem=5, up=4)
class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = nn.Conv2d(3, 5, 1), nn.ConvTranspose2d(5, 4, 3, 2, 1, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.up(self.stem(x))))


@_network((3, 6, 6), stem=3)
class TransposedInGroups(nn.Module):
    """Three groups of two channels, each of which makes four."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 12, 3, groups=3)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.up(self.stem(x))))


@_network((3, 6, 6), stem=6, squeeze=3)
class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze, self.excite = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head(x * F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1))))))


@_network((6,), first=8)
class CalledTwice(nn.Module):
    """The layer that is called twice reads what it makes, and a residual sum ties that to the first layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.again(torch.tanh(self.again(self.first(x))))))


@_network((6,), shared=4)
class CalledOnTheInput(nn.Module):
    """One module reads the input, which is fixed, and the middle's channels: those cannot be removed, the module's own can."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.middle, self.head = nn.Linear(6, 4), nn.Linear(4, 6), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.shared(self.middle(torch.relu(self.shared(x))))))


@_network((6,), one=5, inner=7)
class SharedParameter(nn.Module):
    """Two layers with one weight: what they make is tied, and so is what they read."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 5), nn.Linear(6, 5)
        self.inner, self.other = nn.Linear(5, 7), nn.Linear(5, 7)
        self.two.weight, self.other.weight = self.one.weight, self.inner.weight
        self.head = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.inner(torch.relu(self.one(x)))) * self.other(torch.tanh(self.two(x))))


@_network((2, 5, 5), conv=4, hidden=6)
class FlattenedBeforeLinear(nn.Module):
    """Each channel of the convolution is 9 inputs of the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.hidden, self.head = nn.Conv2d(2, 4, 3), nn.Linear(36, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(F.relu(self.conv(x)).flatten(1))))


@_network((2, 5, 5), conv=3)
class GroupNormed(nn.Module):
    """Three groups of two channels; the function norms the same three groups again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6), nn.Conv2d(6, 2, 1)
        self.scale, self.shift = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.group_norm(torch.relu(self.norm(self.conv(x))), 3, self.scale, self.shift))


@_network((2, 5, 5), conv=6)
class ParametricRectifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.many, self.one, self.head = nn.Conv2d(2, 6, 3), nn.PReLU(6), nn.PReLU(), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.one(self.many(self.conv(x))))


@_network((), words=6, hidden=4)
class Embedded(nn.Module):
    """The width of the words, not the words themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.hidden, self.head = nn.Embedding(7, 6), nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(self.words(x))).mean(1))


@_network((5, 3), embed=12, attention=3)
class Attentive(nn.Module):
    """nn.MultiheadAttention of 3 heads of 4 channels: of 12 inputs each can go, of the heads only wholes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(3, 12), nn.MultiheadAttention(12, 3, batch_first=True)
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(x + self.attention(x, x, x, need_weights=False)[0])


@_network((5, 6), qkv=3)
class FusedAttention(nn.Module):
    """One linear layer for queries, keys and values of 3 heads of 4 channels, taken apart by numbers."""

    fused = True

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.project = nn.Linear(6, 36), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v) if self.fused else self.mix(q, k, v)
        return self.project(mixed.transpose(1, 2).reshape(n, length, 12))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ((q * 0.5) @ k.transpose(-2, -1)).softmax(-1) @ v


@_network((5, 6), qkv=3)
class FusedAttentionByProducts(FusedAttention):
    fused = False


@_network((5, 6), qkv=3)
class FusedAttentionByEquations(FusedAttention):
    fused = False

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.einsum("n h i d, n h j d -> n h i j", q * 0.5, k).softmax(-1)
        return torch.einsum("nhij,nhjd->nhid", scores, v)


@_network((5, 6), qkv=3)
class HeadsInTheBatch(FusedAttention):
    """Heads lie in the batch's axis, behind the samples, while they are mixed."""

    fused = False

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n, heads, length, width = q.shape
        q, k, v = (one.reshape(n * heads, length, width) for one in (q, k, v))
        return torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1), v).reshape(n, heads, length, width)


@_network((5, 6), q=4, v=5)
class OneHead(nn.Module):
    """Without heads, by products with a scale of their own: each channel of q goes with its own of k; v's by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.head = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores = (self.q(x) @ self.k(x).transpose(1, 2) / 3).softmax(-1)
        return self.head(scores @ self.v(x))


@_network((5, 6), q=4, v=5)
class OneHeadScaledByItsWidth(OneHead):
    """The default scale of scaled_dot_product_attention follows the width: what it was is written down when channels go."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)))


@_network((5, 6), q=4, v=5)
class OneHeadScaledByANumber(OneHead):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x), scale=0.3))


@_network((5, 6), v=5)
class NoZeros(OneHead):
    """Behind an exponential a missing channel is 1 in the masked network, so that the sum over it is another: q and k stay."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.q(x).exp() @ (self.k(x).exp().transpose(1, 2) @ self.v(x)))


@_network((5, 6), q=4, v=5)
class ZerosOfOne(OneHead):
    """It is enough that one of the two factors is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.q(x).exp() @ (F.relu(self.k(x)).transpose(1, 2) @ self.v(x)))


@_network((3, 4, 4), stem=2)
class PixelsShuffled(nn.Module):
    """Two channels are four places each before the shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shuffle, self.head = nn.Conv2d(3, 8, 1), nn.PixelShuffle(2), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.pixel_unshuffle(self.shuffle(self.stem(x)), 2))


@_network((3, 6, 6), kernel=5, matrix=4)
class Functional(nn.Module):
    """Convolutions and products by functions, with parameters that lie in no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.kernel_bias = nn.Parameter(torch.randn(5, 3, 3, 3)), nn.Parameter(torch.randn(5))
        self.depth = nn.Parameter(torch.randn(5, 1, 3, 3))
        self.matrix, self.matrix_bias = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(4))
        self.last = nn.Parameter(torch.randn(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.kernel, self.kernel_bias))
        x = F.conv2d(x, self.depth, groups=5).mean((2, 3))
        return F.linear(x, self.matrix, self.matrix_bias).tanh() @ self.last


@_network((3, 6, 6), stem=6, few=4, other=4)
class FunctionalInGroups(nn.Module):
    """By functions: two groups of six read places of both (6), make places of both (4); four groups of two go as wholes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.other, self.head = nn.Conv2d(3, 12, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)
        self.few, self.many = nn.Parameter(torch.randn(8, 6, 1, 1)), nn.Parameter(torch.randn(8, 2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(self.stem(x), self.few, groups=2))
        return self.head(F.relu(F.conv2d(self.other(x), self.many, groups=4)))


@_network((3, 6, 6), stem=3)
class NoTwoAlike(nn.Module):
    """Of channels 0, 1 and 2 each is read by other layers than the others; 3 to 5 are read by the same."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.rest = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 2, 1)
        self.one, self.two = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.one(x[:, :2]) + self.two(x[:, 1:3]) + self.rest(x[:, 3:])


@_network((3, 6, 6), stem=3, split=3)
class SinglePlaces(nn.Module):
    """A channel that something takes alone stays: it would be left with nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.split, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        alone, others = self.split(x).split((1, 3), 1)
        return self.head(torch.cat((stem * stem[:, :1].sigmoid(), alone * others), 1))


@_network((5, 6), first=4, last=3)
class NotFollowed(nn.Module):
    """An einsum of three operands stands for all that no rule knows: what it reads stays."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.read, self.last, self.head = (nn.Linear(*sizes) for sizes in ((6, 4), (4, 4), (4, 3), (3, 2)))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.read(torch.relu(self.first(x))))
        return self.head(torch.relu(self.last(torch.einsum("nld,nld,nld->nld", x, x, x))))


@_network((4,))
class NothingToCut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.only(x))


@_network((4, 8, 8), paths=4, fc=3)
class Selective(nn.Module):
    """Two branches weighed against each other, channel by channel: a channel goes from both at once."""

    def __init__(self) -> None:
        super().__init__()
        self.paths, self.fc, self.select = nn.Conv2d(4, 8, 3), nn.Linear(4, 3), nn.Linear(3, 8)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.paths(x)
        x = x.reshape(len(x), 2, 4, *x.shape[2:])
        share = self.select(F.relu(self.fc(x.sum(1).mean((2, 3))))).reshape(-1, 2, 4).softmax(1)
        return self.head((x * share[..., None, None]).sum(1))


@_network((4, 6), hidden=5)
class Normed(nn.Module):
    """A LayerNorm over the stream keeps it whole; the hidden channels beside it are free."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
        self.hidden, self.back, self.head = nn.Linear(8, 5), nn.Linear(5, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(x + self.back(F.gelu(self.hidden(self.norm(x)))))


@_network((3, 8), kernels=4)
class OneDimensional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernels, self.norm, self.pool = nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4, affine=False), nn.MaxPool1d(2)
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.pool(self.norm(self.kernels(x))), 1))


@_network((3, 6, 6), stem=2, **{"stem:2": 2, "stem:3": 2})
class TakenApart(nn.Module):
    """Places 1 to 4 are turned and read twice, but 1 and 2 of them only once; 0 and 5 are read as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 1), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).mean((2, 3))  # (N, 6)
        twice = x[:, 1:5].flip(1).repeat(1, 2)  # (N, 8)
        return self.head(torch.cat((x, twice[:, :-2]), 1))


# ---------------------------------------------------------------- where it would be easy to be wrong


@_network((6, 5), embed=7)
class TokensPooled(nn.Module):
    """(N, 6, 7) is an image without channels to a pool of two dimensions: its width is pooled, and stays."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.pool, self.read = nn.Linear(5, 7), nn.AvgPool2d((2, 1)), nn.Linear(7, 8)
        self.squeeze, self.head = nn.AvgPool2d(2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.squeeze(self.read(torch.relu(self.embed(x)))).mean(1))


@_network((5, 6), q=3)
class HeadsNormed(nn.Module):
    """Norms within heads leave the heads free to go."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.head, self.norm = nn.Linear(6, 12), nn.Linear(6, 24), nn.Linear(12, 2), nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q = self.norm(self.q(x).reshape(n, length, 3, 4)).transpose(1, 2)
        k, v = self.kv(x).reshape(n, length, 2, 3, 4).permute(2, 0, 3, 1, 4)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        return self.head((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, 12))


@_network((5, 6))
class HeadsTurned(HeadsNormed):
    """Rotary positions: halves of a head are turned against each other, by a table that ties place d of all heads: all is one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cos", torch.randn(5, 4))
        self.register_buffer("sin", torch.randn(5, 4))

    def turn(self, x: Tensor) -> Tensor:
        return x * self.cos + torch.stack((-x[..., 1::2], x[..., ::2]), -1).reshape(x.shape) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q = self.q(x).reshape(n, length, 3, 4).transpose(1, 2)
        k, v = self.kv(x).reshape(n, length, 2, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(self.turn(q), self.turn(k), v)
        return self.head(mixed.transpose(1, 2).reshape(n, length, 12))


@_network((6,), free=5)
class Summed(nn.Module):
    """What is summed, normalised or compared over channels stays: a mean over fewer is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.soft, self.norm, self.free = (nn.Linear(6, 5) for _ in range(4))
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        mean, most = self.mean(x).mean(1, keepdim=True), self.mean(x).max(1)[0][:, None]
        return self.head(self.free(x) + mean * most * self.soft(x).softmax(1).sum() + F.normalize(self.norm(x)).amax())


@_network((6,), free=4)
class Picked(nn.Module):
    """Every second channel, and channels by a table of numbers: those layers stay."""

    def __init__(self) -> None:
        super().__init__()
        self.strided, self.looked_up, self.rolled, self.free = (nn.Linear(6, n) for n in (8, 6, 4, 4))
        self.register_buffer("order", torch.tensor([3, 0, 5, 1]))
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        picked = self.strided(x)[:, ::2], self.looked_up(x)[:, self.order], self.rolled(x).roll(1, 1), self.free(x)
        return self.head(torch.cat(picked, 1))


@_network((), words=6, inner=4)
class TiedEmbedding(nn.Module):
    """The table of words reads again what was embedded: its width is tied, its rows, which are looked up, stay."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner, self.back = nn.Embedding(7, 6), nn.Linear(6, 4), nn.Linear(4, 6)
        self.again, self.head = nn.Linear(6, 7), nn.Linear(7, 2)
        self.again.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x)
        return self.head(torch.relu(self.again(x + self.back(torch.relu(self.inner(x))))))


@_network((6,), scale=5)
class Modulated(nn.Module):
    """Channels are scaled and shifted by what another layer makes of the same input; all of them are tied."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift, self.value, self.head = *(nn.Linear(6, 5) for _ in range(3)), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.where(x[:, :1] > 0, self.scale(x), 1.0) * self.value(x).exp() + self.shift(x))


@_network((3, 6, 6), kernel=5)
class Standardised(nn.Module):
    """A kernel is standardised over what it reads, so that this stays; what it makes is free."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.kernel, self.gain = (
            nn.Conv2d(3, 4, 1),
            nn.Parameter(torch.randn(5, 4, 3, 3)),
            nn.Parameter(torch.ones(5)),
        )
        self.head = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kernel = F.batch_norm(self.kernel.reshape(1, 5, -1), None, None, self.gain, training=True).reshape(5, 4, 3, 3)
        return self.head(F.relu(F.conv2d(self.stem(x), kernel)))


@_network((6,), one=5)
class Stacked(nn.Module):
    """Stacked and taken apart again: each place of the stack goes with the same place of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.stack((self.one(x), self.two(x)), 1).relu().unbind(1)
        return self.head(first - second.tanh())


@_network((6,), mixed=4)
class FixedTensors(nn.Module):
    """Added to something of fixed channels, a layer stays; a table of one number a channel goes along."""

    def __init__(self) -> None:
        super().__init__()
        self.added, self.mixed, self.head = nn.Linear(6, 6), nn.Linear(6, 4), nn.Linear(10, 2)
        self.table = nn.Parameter(torch.randn(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat((self.added(x) + x, self.mixed(x) * self.table), 1))
