"""LeNet-300-100 and LeNet-5 for MNIST: LeCun et al., "Gradient-based learning applied to document recognition", 1998.

Both are plain ``Sequential`` networks; LeNet-5 is the form that pruning papers share (20 and 50 filters, max pools, no
activation between the convolutions).
"""

from __future__ import annotations

from torch import nn

from netpress.zoo.entry import GREY, Entry

PAPER = "Proceedings of the IEEE 86(11), 1998"


def lenet300_100(classes: int) -> nn.Module:
    """Fully connected 784-300-100-classes, on (N, 1, 28, 28)."""
    return nn.Sequential(
        nn.Flatten(),  # (N, 784)
        nn.Linear(784, 300),
        nn.ReLU(),
        nn.Linear(300, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


def lenet5(classes: int) -> nn.Module:
    """Two 5x5 convolutions and two fully connected layers, on (N, 1, 28, 28)."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),  # (N, 20, 24, 24)
        nn.MaxPool2d(2),  # (N, 20, 12, 12)
        nn.Conv2d(20, 50, 5),  # (N, 50, 8, 8)
        nn.MaxPool2d(2),  # (N, 50, 4, 4)
        nn.Flatten(),  # (N, 800)
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, classes),
    )


ENTRIES = tuple(
    Entry(name=build.__name__, build=build, input_shape=(1, 28, 28), classes=10, preprocess=GREY, paper=PAPER)
    for build in (lenet300_100, lenet5)
)
