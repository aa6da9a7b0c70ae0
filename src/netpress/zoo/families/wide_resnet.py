"""Wide ResNets: Zagoruyko and Komodakis, "Wide residual networks", arXiv 1605.07146.

``wrn28_10`` is depth 28, widening factor 10. Blocks are pre-activated (batch norm, ReLU, convolution), as in the
paper's table 1 with B(3, 3); where the width changes, the 1x1 shortcut reads the activated input. Without dropout.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from netpress.zoo.entry import CIFAR10, Entry
from netpress.zoo.initialise import he_normal_

PAPER = "arXiv 1605.07146"
FORMS = ((16, 1), (16, 2), (16, 4), (16, 8), (28, 10), (40, 1), (40, 2), (40, 4))


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution, twice, around a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = (
            None if stride == 1 and channels == width else nn.Conv2d(channels, width, 1, stride=stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.bn1(x))
        residual = self.conv1(active)  # (N, width, H / stride, W / stride)
        residual = self.conv2(self.relu2(self.bn2(residual)))
        return residual + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """Stem of 16 channels, three stages of 16, 32 and 64 times ``widen`` of ``(depth - 4) / 6`` blocks each."""

    def __init__(self, depth: int, widen: int, classes: int) -> None:
        super().__init__()

        def stage(channels: int, width: int, stride: int) -> nn.Sequential:
            rest = (PreActivationBlock(width, width, 1) for _ in range((depth - 4) // 6 - 1))
            return nn.Sequential(PreActivationBlock(channels, width, stride), *rest)

        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.layer1 = stage(16, 16 * widen, 1)
        self.layer2 = stage(16 * widen, 32 * widen, 2)
        self.layer3 = stage(32 * widen, 64 * widen, 2)
        self.bn = nn.BatchNorm2d(64 * widen)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * widen, classes)
        he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)  # (N, 3, 32, 32) -> (N, 16, 32, 32)
        x = self.layer1(x)  # (N, 16 k, 32, 32)
        x = self.layer2(x)  # (N, 32 k, 16, 16)
        x = self.layer3(x)  # (N, 64 k, 8, 8)
        x = self.relu(self.bn(x))
        return self.fc(self.avgpool(x).flatten(1))  # (N, classes)


ENTRIES = tuple(
    Entry(
        name=f"wrn{depth}_{widen}",
        build=partial(WideResNet, depth, widen),
        input_shape=(3, 32, 32),
        classes=10,
        preprocess=CIFAR10,
        paper=PAPER,
    )
    for depth, widen in FORMS
)
