"""The small input-output map from reduced features to the answers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from netpress.errors import ConfigError, WeightsError
from netpress.layers.activation import activation as make_activation


class FNN(nn.Module):
    """Fully connected map: (N, in_features) -> (N, out_features).

    Published: 315 -> 20 -> 10 with Softplus, 315*20 + 20 + 20*10 + 10 = 6,530 parameters.

    Args:
        in_features: Reduced features.
        hidden: Widths of the hidden layers; one integer for one layer, () for none.
        out_features: Classes.
        activation: Name from ``netpress.layers.activation``, after each hidden layer.

    Raises:
        ConfigError: If a width is below 1.
        UnknownNameError: If there is no such activation.
    """

    def __init__(
        self, in_features: int, hidden: Sequence[int] | int, out_features: int, *, activation: str = "softplus"
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.hidden = (hidden,) if isinstance(hidden, int) else tuple(hidden)
        sizes = (in_features, *self.hidden, out_features)
        if min(sizes) < 1:
            raise ConfigError("a width of the map is out of range", got=sizes, allowed="each 1 or more")
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes[:-1]):
            layers += [nn.Linear(inputs, outputs), make_activation(activation)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-2], out_features))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) -> (N, out_features)."""
        return self.layers(x)

    def fold_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Makes the map take raw inputs where it took ``(x - mean) / std`` before, at no cost in parameters.

        ``W' = W / std``, ``b' = b - W' mean``. Called on a fresh map, features of large or uneven scale start well
        conditioned; called after training on normalised features, the outputs on raw features stay the same.

        Args:
            mean: (in_features,), as from ``StreamingMoments.mean``.
            std: (in_features,), positive, as from ``StreamingMoments.std``.

        Raises:
            WeightsError: If a shape does not fit, a value is not finite or a std is not positive.
        """
        fold_normalisation(cast(nn.Linear, self.layers[0]), mean, std)


def fold_normalisation(linear: nn.Linear, mean: Tensor, std: Tensor) -> None:
    """``linear`` on raw x becomes what it was on ``(x - mean) / std``, in place; see ``FNN.fold_normalisation``.

    Raises:
        WeightsError: If there is no bias, a shape does not fit, a value is not finite or a std is not positive.
    """
    if linear.bias is None:
        raise WeightsError("a mean can only be folded into a linear layer that has a bias")
    size = (linear.in_features,)
    if tuple(mean.shape) != size or tuple(std.shape) != size:
        raise WeightsError(
            "mean and std do not fit the layer", got=f"{tuple(mean.shape)}, {tuple(std.shape)}", allowed=size
        )
    if not bool(torch.isfinite(mean).all() & torch.isfinite(std).all() & (std > 0).all()):
        raise WeightsError("mean and std must be finite and each std positive", remedy="take StreamingMoments.std()")
    with torch.no_grad():
        # In float64: the shift by W mean cancels large numbers against the bias.
        weight = linear.weight.double() / std.to(linear.weight.device).double()  # (out, in)
        linear.bias.copy_(linear.bias.double() - weight @ mean.to(linear.weight.device).double())
        linear.weight.copy_(weight)
