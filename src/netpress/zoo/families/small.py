"""A small convolutional network for the 8x8 digits of scikit-learn: seconds to train, for examples and tests."""

from __future__ import annotations

from torch import Tensor, nn

from netpress.zoo.entry import Entry, PreprocessDict
from netpress.zoo.initialise import he_normal_


class DigitsCnn(nn.Module):
    """Two stages of two 3x3 convolutions with batch norms, as in a small VGG.

    Cut between the stages, or inside the second, it hands over (64, 4, 4).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for stage in ((32, 64), (64, 64)):
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(64 * 2 * 2, classes)
        he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (N, 1, 8, 8) -> (N, 64, 2, 2)
        return self.classifier(x.flatten(1))  # (N, classes)


ENTRIES = (
    Entry(
        name="digits_cnn",
        build=DigitsCnn,
        input_shape=(1, 8, 8),
        classes=10,
        preprocess=PreprocessDict(scale=1 / 16, mean=[0.3050], std=[0.3759]),  # grey values are 0 to 16
        paper="none: made for netpress",
    ),
)
