"""VGG: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", arXiv 1409.1556.

The unsuffixed names take 32-px images and end in one layer, 512 to the classes; ``_224`` names take 224-px images, end
in 4096-4096 and have torchvision's layer names, biases included, so that its weights load. Convolutions before a
batch norm have no bias at 32 px: the norm would cancel it.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from netpress.zoo.entry import CIFAR10, IMAGENET, Entry
from netpress.zoo.initialise import he_normal_

PAPER = "arXiv 1409.1556"
WIDTHS = (64, 128, 256, 512, 512)
VGG16 = (2, 2, 3, 3, 3)
VGG19 = (2, 2, 4, 4, 4)


class Vgg(nn.Module):
    """Stages of 3x3 convolutions, each ended by a 2x2 max pool, and a classifier on the flattened rest.

    Args:
        depths: Convolutions of each stage; stage i has ``WIDTHS[i]`` channels.
        batch_norm: Whether each convolution is followed by one.
        bias: Whether convolutions have a bias.
        classifier: From (N, features) to (N, classes).
        pool_to: Side length to which the last feature map is averaged; None leaves it as it is.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        *,
        batch_norm: bool,
        bias: bool,
        classifier: nn.Module,
        pool_to: int | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, depth in zip(WIDTHS, depths, strict=False):
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=bias))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU())
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = None if pool_to is None else nn.AdaptiveAvgPool2d(pool_to)
        self.classifier = classifier
        he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (N, 3, H, W) -> (N, C, H / 2**stages, W / 2**stages)
        if self.avgpool is not None:
            x = self.avgpool(x)  # (N, 512, 7, 7)
        return self.classifier(x.flatten(1))  # (N, classes)


def _small_images(depths: tuple[int, ...], batch_norm: bool, classes: int) -> nn.Module:
    return Vgg(depths, batch_norm=batch_norm, bias=not batch_norm, classifier=nn.Linear(512, classes))


def _large_images(depths: tuple[int, ...], batch_norm: bool, classes: int) -> nn.Module:
    classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, classes),
    )
    return Vgg(depths, batch_norm=batch_norm, bias=True, classifier=classifier, pool_to=7)


def _wide_head(classes: int) -> nn.Module:
    classifier = nn.Sequential(
        nn.Linear(512, 4096),
        nn.BatchNorm1d(4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.BatchNorm1d(4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, classes),
    )
    return Vgg(VGG19, batch_norm=True, bias=False, classifier=classifier)


def _ten_convolutions(classes: int) -> nn.Module:
    classifier = nn.Sequential(
        nn.Linear(512 * 2 * 2, 512),
        nn.BatchNorm1d(512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.BatchNorm1d(512),
        nn.ReLU(),
        nn.Linear(512, classes),
    )
    return Vgg(VGG16[:4], batch_norm=True, bias=True, classifier=classifier)


ENTRIES = (
    *(
        Entry(
            name=name + suffix,
            build=partial(_small_images, depths, batch_norm),
            input_shape=(3, 32, 32),
            classes=10,
            preprocess=CIFAR10,
            paper=PAPER,
        )
        for name, depths in (("vgg16", VGG16), ("vgg19", VGG19))
        for suffix, batch_norm in (("", False), ("_bn", True))
    ),
    *(
        Entry(
            name=f"{name}{suffix}_224",
            build=partial(_large_images, depths, batch_norm),
            input_shape=(3, 224, 224),
            classes=1000,
            preprocess=IMAGENET,
            paper=PAPER,
        )
        for name, depths in (("vgg16", VGG16), ("vgg19", VGG19))
        for suffix, batch_norm in (("", False), ("_bn", True))
    ),
    # 512-4096-4096 with batch norms and dropout behind 32-px VGG-19: the head of studies of weight sharing.
    Entry(
        name="vgg19_bn_4096",
        build=_wide_head,
        input_shape=(3, 32, 32),
        classes=10,
        preprocess=CIFAR10,
        paper=PAPER,
    ),
    # The first ten convolutions, then 2048-512-512: 8,959,562 parameters, convolution biases included.
    Entry(
        name="vgg16_conv10_bn",
        build=_ten_convolutions,
        input_shape=(3, 32, 32),
        classes=10,
        preprocess=CIFAR10,
        paper=PAPER,
    ),
)
