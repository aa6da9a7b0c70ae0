"""Small networks, each named after the case it states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

IMAGE = (3, 8, 8)


class Residual(nn.Module):
    """CIFAR ResNet with shortcuts of option A: subsampling and zero channels, all by functions."""

    class Block(nn.Module):
        def __init__(self, channels_in: int, channels: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
            self.padding = (channels - channels_in) // 2

        def forward(self, x: Tensor) -> Tensor:
            out = F.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            if self.padding:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding), "constant", 0)
            out += x
            return F.relu(out)

    def __init__(self, widths: Sequence[int] = (4, 8), blocks: int = 2, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        channels = widths[0]
        for number, width in enumerate(widths, 1):
            stage = []
            for block in range(blocks):
                stage.append(self.Block(channels, width, 2 if block == 0 and number > 1 else 1))
                channels = width
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.stages = len(widths)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for number in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{number}")(x)
        x = F.avg_pool2d(x, x.size()[3])
        return self.linear(x.view(x.size(0), -1))


class Transformer(nn.Module):
    """A patch embedding, a class token, a position embedding and one attention block."""

    def __init__(self, width: int = 8, heads: int = 2, classes: int = 5) -> None:
        super().__init__()
        self.heads = heads
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 5, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, classes)

    def attend(self, x: Tensor) -> Tensor:
        N, T, C = x.shape
        qkv = self.qkv(x).reshape(N, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(N, T, C))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        x = x + self.attend(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0])


class DenseBlock(nn.Module):
    """Every convolution sees all maps before it."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3 + 2 * k, 2, 3, padding=1) for k in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for conv in self.convs:
            maps.append(F.relu(conv(torch.cat(maps, 1))))
        return torch.cat(maps, 1).mean((2, 3))


class SqueezeExcite(nn.Module):
    """Depthwise convolution, then channels scaled by what their means say; dropout as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(3, 6, 3, padding=1, groups=3)
        self.norm = nn.GroupNorm(2, 6)
        self.squeeze, self.excite = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.depthwise(x)), inplace=True)
        scale = F.adaptive_avg_pool2d(x, 1)
        scale = torch.sigmoid(self.excite(F.relu(self.squeeze(scale))))
        x = F.dropout(x * scale, 0.5, self.training)
        return x.amax(dim=(2, 3))


class InPlace(nn.Module):
    """In-place operators of every kind, on tensors that are used again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = self.relu(x)  # x is changed as well
        y += 1
        y.mul_(x)
        z = torch.zeros_like(y)
        z += y.clamp_(max=3)
        return F.relu_(z - x).flatten(1)


class Shared(nn.Module):
    """One convolution run twice, and two linear maps with one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.act = nn.ReLU()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(self.act(self.conv(x))))
        return self.second(self.first(x.mean((1, 2))))


class MadeInForward(nn.Module):
    """Tensors made in forward, of fixed size and along the batch; a buffer that is not stored; the batch as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Embedding(8, 8)
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor([2.0, 3.0, 4.0]).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        N, C, H, W = x.shape
        x = x * self.scale + self.places(torch.arange(H, device=x.device))
        ones = torch.ones(N, 2, H, W)
        x = torch.cat([x, ones], 1).view(N * (C + 2), H, W)
        return x.reshape(N, -1)[..., 1::3] / 7


class Parametrized(nn.Module):
    """A weight-normalised convolution and a pruned linear map: leaf classes that must be traced through."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
        self.head = prune.l1_unstructured(nn.Linear(4, 5), "weight", amount=0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


class Tokens(nn.Module):
    """Integers in: two sequences packed into one row, each embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Embedding(10, 4), nn.Embedding(20, 4)
        self.conv = nn.Conv1d(4, 6, 3)
        self.head = nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Tensor:
        left = self.conv(self.left(x[:, :5]).transpose(1, 2)).max(dim=2)[0]
        right = self.right(x[:, 5:]).mean(1)
        return self.head(torch.cat((left, right), -1)).squeeze(-1)


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(64, 5),
    )


def multi_head() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(2), nn.TransformerEncoderLayer(64, 4, 32, batch_first=True, activation="gelu"), nn.Flatten()
    )


NETWORKS = {
    "plain": plain,
    "residual": Residual,
    "transformer": Transformer,
    "multi_head": multi_head,
    "dense": DenseBlock,
    "squeeze_excite": SqueezeExcite,
    "in_place": InPlace,
    "shared": Shared,
    "made_in_forward": MadeInForward,
    "parametrized": Parametrized,
}


def settled(network: nn.Module) -> nn.Module:
    """``network`` with running statistics that are not their start values."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


def vgg16(classes: int = 10) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width == 0:
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
    network = nn.Sequential()
    network.features = nn.Sequential(*layers)
    network.classifier = nn.Sequential(nn.Flatten(), nn.Linear(512, classes))
    return network
