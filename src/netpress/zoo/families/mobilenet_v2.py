"""MobileNetV2: Sandler et al., "Inverted residuals and linear bottlenecks", arXiv 1801.04381, table 2.

Layer names are torchvision's, so that its weights load. The unsuffixed name takes 224-px images; ``_32`` names have
stride 1 in the stem and in the first two stages that would halve 32-px images too early (output stride 8, not 32).
``_x0_5`` and the like give the width multiplier.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from netpress.zoo.entry import CIFAR10, IMAGENET, Entry
from netpress.zoo.initialise import he_normal_

PAPER = "arXiv 1801.04381"

# Expansion, channels, blocks, and the stride of the first block: at 224 px, and at 32 px.
STAGES = (
    (1, 16, 1, 1, 1),
    (6, 24, 2, 2, 1),
    (6, 32, 3, 2, 2),
    (6, 64, 4, 2, 2),
    (6, 96, 3, 1, 1),
    (6, 160, 3, 2, 2),
    (6, 320, 1, 1, 1),
)
WIDTHS = ((1.0, ""), (0.75, "_x0_75"), (0.5, "_x0_5"))


def scaled_channels(channels: int, width: float) -> int:
    """``channels`` times ``width``, at the nearest multiple of 8 that loses no more than a tenth.

    >>> scaled_channels(24, 0.5), scaled_channels(32, 0.75), scaled_channels(16, 0.5)
    (16, 24, 8)
    """
    wanted = channels * width
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * wanted else nearest + 8


def _conv_norm_relu(channels: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection; a shortcut where the shape stays."""

    def __init__(self, channels: int, outputs: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.residual = stride == 1 and channels == outputs
        expand = [] if expansion == 1 else [_conv_norm_relu(channels, hidden, kernel=1)]
        self.conv = nn.Sequential(
            *expand,
            _conv_norm_relu(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)  # (N, outputs, H / stride, W / stride)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Stem, seven stages of inverted residuals, a 1x1 convolution, average, dropout and one linear layer."""

    def __init__(self, width: float, small_images: bool, classes: int) -> None:
        super().__init__()
        channels = scaled_channels(32, width)
        layers: list[nn.Module] = [_conv_norm_relu(3, channels, kernel=3, stride=1 if small_images else 2)]
        for expansion, base, blocks, stride_224, stride_32 in STAGES:
            outputs = scaled_channels(base, width)
            for index in range(blocks):
                stride = 1 if index > 0 else stride_32 if small_images else stride_224
                layers.append(InvertedResidual(channels, outputs, stride=stride, expansion=expansion))
                channels = outputs
        last = scaled_channels(1280, max(1.0, width))  # the paper narrows the last layer for no multiplier below 1
        layers.append(_conv_norm_relu(channels, last, kernel=1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))
        he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (N, 3, 224, 224) -> (N, 1280, 7, 7); small: (N, 3, 32, 32) -> (N, 1280, 4, 4)
        return self.classifier(self.avgpool(x).flatten(1))  # (N, classes)


ENTRIES = tuple(
    Entry(
        name="mobilenet_v2" + ("_32" if small_images else "") + suffix,
        build=partial(MobileNetV2, width, small_images),
        input_shape=(3, 32, 32) if small_images else (3, 224, 224),
        classes=10 if small_images else 1000,
        preprocess=CIFAR10 if small_images else IMAGENET,
        paper=PAPER,
    )
    for small_images in (False, True)
    for width, suffix in WIDTHS
)
