"""The initialisation that the zoo's networks share."""

from __future__ import annotations

from torch import nn


def he_normal_(network: nn.Module) -> None:
    """Initialises convolutions for ReLU, in place (He et al. 2015, arXiv 1502.01852, equation 14).

    Weights are normal with standard deviation sqrt(2 / fan_out), biases zero; batch norms become the identity. Fully
    connected layers keep PyTorch's default.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
