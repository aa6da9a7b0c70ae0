"""ResNet-18 to ResNet-152: He et al., "Deep residual learning for image recognition", arXiv 1512.03385, table 1.

Layer names are torchvision's, so that its weights load; as there, a bottleneck's stride is on its 3x3 convolution.
The unsuffixed names take 224-px images; ``_32`` names have a 3x3 stem of stride 1 and no max pool, for 32-px images.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from netpress.zoo.entry import CIFAR10, IMAGENET, Entry
from netpress.zoo.initialise import he_normal_

PAPER = "arXiv 1512.03385"


def _downsample(channels: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The projection of a shortcut, where shapes differ."""
    if stride == 1 and channels == outputs:
        return None
    return nn.Sequential(nn.Conv2d(channels, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(channels, width, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.relu1(self.bn1(self.conv1(x)))  # (N, width, H / stride, W / stride)
        residual = self.bn2(self.conv2(residual))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu2(residual + shortcut)


class Bottleneck(nn.Module):
    """1x1 to ``width``, 3x3, 1x1 to four times ``width``, around a shortcut."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(channels, outputs, stride)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.relu1(self.bn1(self.conv1(x)))  # (N, width, H, W)
        residual = self.relu2(self.bn2(self.conv2(residual)))  # (N, width, H / stride, W / stride)
        residual = self.bn3(self.conv3(residual))  # (N, 4 * width, H / stride, W / stride)
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu3(residual + shortcut)


class ResNet(nn.Module):
    """Stem, four stages of 64, 128, 256 and 512 (times the block's expansion) channels, average, one linear layer."""

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...], small_images: bool, classes: int
    ) -> None:
        super().__init__()
        self.conv1 = (
            nn.Conv2d(3, 64, 3, padding=1, bias=False)
            if small_images
            else nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        )
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = None if small_images else nn.MaxPool2d(3, stride=2, padding=1)

        def stage(channels: int, width: int, depth: int, stride: int) -> nn.Sequential:
            rest = (block(width * block.expansion, width, 1) for _ in range(depth - 1))
            return nn.Sequential(block(channels, width, stride), *rest)

        self.layer1 = stage(64, 64, depths[0], 1)
        self.layer2 = stage(64 * block.expansion, 128, depths[1], 2)
        self.layer3 = stage(128 * block.expansion, 256, depths[2], 2)
        self.layer4 = stage(256 * block.expansion, 512, depths[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, classes)
        he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))  # (N, 3, 224, 224) -> (N, 64, 112, 112); small: (N, 64, 32, 32)
        if self.maxpool is not None:
            x = self.maxpool(x)  # (N, 64, 56, 56)
        x = self.layer1(x)  # (N, 64 e, 56, 56)
        x = self.layer2(x)  # (N, 128 e, 28, 28)
        x = self.layer3(x)  # (N, 256 e, 14, 14)
        x = self.layer4(x)  # (N, 512 e, 7, 7)
        return self.fc(self.avgpool(x).flatten(1))  # (N, classes)


_FORMS: tuple[tuple[int, type[BasicBlock] | type[Bottleneck], tuple[int, ...]], ...] = (
    (18, BasicBlock, (2, 2, 2, 2)),
    (34, BasicBlock, (3, 4, 6, 3)),
    (50, Bottleneck, (3, 4, 6, 3)),
    (101, Bottleneck, (3, 4, 23, 3)),
    (152, Bottleneck, (3, 8, 36, 3)),
)

ENTRIES = tuple(
    Entry(
        name=f"resnet{depth}_32" if small_images else f"resnet{depth}",
        build=partial(ResNet, block, depths, small_images),
        input_shape=(3, 32, 32) if small_images else (3, 224, 224),
        classes=10 if small_images else 1000,
        preprocess=CIFAR10 if small_images else IMAGENET,
        paper=PAPER,
    )
    for small_images in (False, True)
    for depth, block, depths in _FORMS
)
