"""Activations by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from netpress.errors import UnknownNameError

ACTIVATIONS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "softplus": nn.Softplus,
        "identity": nn.Identity,
    }
)


def activation(name: str) -> nn.Module:
    """A new activation module.

    Raises:
        UnknownNameError: If there is none of this name.
    """
    if name not in ACTIVATIONS:
        raise UnknownNameError("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
