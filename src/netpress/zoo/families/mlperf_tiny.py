"""ResNet-8 of MLPerf Tiny: Banbury et al., "MLPerf Tiny benchmark", arXiv 2106.07597; the reference model is Keras.

What follows from Keras: raw pixels 0 to 255 as the input, batch norms of epsilon 1e-3, biases in all convolutions, and
"same" padding, which for a 3x3 convolution of stride 2 on an even side is one row below and one column to the right.
The network gives logits; the reference ends in a softmax.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from netpress.zoo.entry import RAW_RGB, Entry
from netpress.zoo.initialise import he_normal_

EPS = 1e-3
_BELOW_AND_RIGHT = (0, 1, 0, 1)


class ResNet8(nn.Module):
    """Stem of 16 channels and one residual block each of 16, 32 and 64; layers numbered as in the reference."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 16, 3, padding=1)
        self.bn0 = nn.BatchNorm2d(16, eps=EPS)
        self.relu0 = nn.ReLU()

        self.conv1 = nn.Conv2d(16, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16, eps=EPS)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(16, eps=EPS)
        self.relu2 = nn.ReLU()

        self.conv3 = nn.Conv2d(16, 32, 3, stride=2)
        self.bn3 = nn.BatchNorm2d(32, eps=EPS)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(32, 32, 3, padding=1)
        self.bn4 = nn.BatchNorm2d(32, eps=EPS)
        self.conv5 = nn.Conv2d(16, 32, 1, stride=2)  # the shortcut; no batch norm
        self.relu4 = nn.ReLU()

        self.conv6 = nn.Conv2d(32, 64, 3, stride=2)
        self.bn5 = nn.BatchNorm2d(64, eps=EPS)
        self.relu5 = nn.ReLU()
        self.conv7 = nn.Conv2d(64, 64, 3, padding=1)
        self.bn6 = nn.BatchNorm2d(64, eps=EPS)
        self.conv8 = nn.Conv2d(32, 64, 1, stride=2)  # the shortcut; no batch norm
        self.relu6 = nn.ReLU()

        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)
        he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu0(self.bn0(self.conv0(x)))  # (N, 3, 32, 32) -> (N, 16, 32, 32)

        y = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(x + self.bn2(self.conv2(y)))

        y = functional.pad(x, _BELOW_AND_RIGHT)  # (N, 16, 33, 33)
        y = self.relu3(self.bn3(self.conv3(y)))  # (N, 32, 16, 16)
        x = self.relu4(self.bn4(self.conv4(y)) + self.conv5(x))  # (N, 32, 16, 16)

        y = functional.pad(x, _BELOW_AND_RIGHT)  # (N, 32, 17, 17)
        y = self.relu5(self.bn5(self.conv6(y)))  # (N, 64, 8, 8)
        x = self.relu6(self.bn6(self.conv7(y)) + self.conv8(x))  # (N, 64, 8, 8)

        return self.linear(self.avgpool(x).flatten(1))  # (N, classes)


ENTRIES = (
    Entry(
        name="resnet8_tiny",
        build=ResNet8,
        input_shape=(3, 32, 32),
        classes=10,
        preprocess=RAW_RGB,
        paper="arXiv 2106.07597",
    ),
)
