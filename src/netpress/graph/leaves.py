"""Leaf modules: which modules stay whole, what rebuilds them, and the tensors that they hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from netpress.graph.operators import MODULES


def leaf_operator(module: nn.Module) -> str | None:
    """The operator that ``module`` is, or None if it must be traced through.

    A leaf is of a listed class exactly, has no forward hooks, and is what its configuration would rebuild: the same
    tensors of the same shapes, and nothing else.
    """
    op = type(module).__name__
    listed = MODULES.get(op)
    if listed is None or type(module) is not listed.type or module._forward_hooks or module._forward_pre_hooks:
        return None
    if any(getattr(module, name) != value for name, value in listed.fixed.items()):
        return None
    try:
        twin = build_leaf(op, leaf_configuration(module))
    except ValueError:
        return None
    return op if _tensor_table(twin) == _tensor_table(module) and not module._modules else None


def leaf_configuration(module: nn.Module) -> tuple[Any, ...]:
    """Canonical positional configuration of a module of a listed class.

    Raises:
        ValueError: The configuration is outside what the list can say.
    """
    signature = MODULES[type(module).__name__].signature
    values = {name: _attribute(module, name) for name in signature.names}
    if "kernel_size" in values and values.get("stride") == values["kernel_size"] and "in_channels" not in values:
        values["stride"] = None  # pooling: the default stride is the window
    return signature.normalise(values)


def build_leaf(op: str, configuration: tuple[Any, ...], device: str = "meta") -> nn.Module:
    """The module ``op`` of a canonical ``configuration``, without memory for its tensors unless ``device`` says so.

    Raises:
        ValueError: torch refuses the configuration.
    """
    listed = MODULES[op]
    try:
        with torch.device(device):
            return listed.type(**listed.signature.bind(configuration))
    except (TypeError, RuntimeError, AssertionError, ArithmeticError, LookupError) as error:
        raise ValueError(f"{op}: {error}") from error


def _attribute(module: nn.Module, name: str) -> Any:
    if name == "bias":
        return module.bias is not None
    value = getattr(module, name)
    return list(value) if isinstance(value, tuple) else value


def _tensor_table(module: nn.Module) -> dict[str, tuple[type, tuple[int, ...]]]:
    named: dict[str, Any] = {**module._parameters, **module._buffers}
    return {
        name: (nn.Parameter if name in module._parameters else torch.Tensor, tuple(tensor.shape))
        for name, tensor in named.items()
        if tensor is not None
    }
