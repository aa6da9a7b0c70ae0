"""ResNet-20 to ResNet-110 for 32-px images: He et al., "Deep residual learning", arXiv 1512.03385, section 4.2.

``resnet20`` has the paper's option A: a shortcut without parameters, which subsamples and pads with zero channels; its
last layer is ``linear``. ``resnet20b`` has option B: a 1x1 convolution and a batch norm; its last layer is ``fc``.
The names are those of the pretrained files that are about, so that both kinds load.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from netpress.zoo.entry import CIFAR10, Entry
from netpress.zoo.initialise import he_normal_

PAPER = "arXiv 1512.03385"
DEPTHS = (20, 32, 44, 56, 110)


class PadShortcut(nn.Module):
    """Option A: every second pixel, and ``margin`` zero channels on each side of the channels."""

    def __init__(self, margin: int) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, ::2, ::2]  # (N, C, H, W) -> (N, C, H / 2, W / 2)
        return functional.pad(x, (0, 0, 0, 0, self.margin, self.margin))  # (N, C + 2 * margin, H / 2, W / 2)


class Block(nn.Module):
    """Two 3x3 convolutions, each with a batch norm, around a shortcut."""

    def __init__(self, channels: int, width: int, *, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.relu1(self.bn1(self.conv1(x)))  # (N, width, H / stride, W / stride)
        residual = self.bn2(self.conv2(residual))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu2(residual + shortcut)


def _option_a(channels: int, width: int) -> nn.Module:
    return PadShortcut((width - channels) // 2)


def _option_b(channels: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))


class CifarResNet(nn.Module):
    """Stem of 16 channels and three stages of 16, 32 and 64, of ``(depth - 2) / 6`` blocks each.

    Args:
        depth: Weight layers on the longest path, 6 n + 2.
        option: ``A`` or ``B``, the shortcut where the width changes; with it goes the name of the last layer.
    """

    def __init__(self, depth: int, option: str, classes: int) -> None:
        super().__init__()
        shortcut = {"A": _option_a, "B": _option_b}[option]
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()

        def stage(channels: int, width: int) -> nn.Sequential:
            first = (
                Block(channels, width, stride=1, downsample=None)
                if channels == width
                else Block(channels, width, stride=2, downsample=shortcut(channels, width))
            )
            rest = (Block(width, width, stride=1, downsample=None) for _ in range((depth - 2) // 6 - 1))
            return nn.Sequential(first, *rest)

        self.layer1 = stage(16, 16)
        self.layer2 = stage(16, 32)
        self.layer3 = stage(32, 64)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        # One of the two is there, under the name that its pretrained files use.
        self.linear = nn.Linear(64, classes) if option == "A" else None
        self.fc = nn.Linear(64, classes) if option == "B" else None
        he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))  # (N, 3, 32, 32) -> (N, 16, 32, 32)
        x = self.layer1(x)  # (N, 16, 32, 32)
        x = self.layer2(x)  # (N, 32, 16, 16)
        x = self.layer3(x)  # (N, 64, 8, 8)
        x = self.avgpool(x).flatten(1)  # (N, 64)
        for head in (self.linear, self.fc):
            if head is not None:
                x = head(x)  # (N, classes)
        return x


ENTRIES = tuple(
    Entry(
        name=f"resnet{depth}{suffix}",
        build=partial(CifarResNet, depth, option),
        input_shape=(3, 32, 32),
        classes=10,
        preprocess=CIFAR10,
        paper=PAPER,
    )
    for option, suffix in (("A", ""), ("B", "b"))
    for depth in DEPTHS
)
