"""The tensors of leaf modules: their names, shapes and types follow from the configuration, and torch is not asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from netpress.dtypes import FLOAT32, INT64, Type
from netpress.program.operators import MODULES

MOST_BYTES = 2**63 - 1
"""Of one tensor, beyond which no machine can count."""


@dataclass(frozen=True)
class TensorSpec:
    """What a program says of one of its tensors.

    Attributes:
        shape: Its sizes.
        dtype: Its usual type.
        parameter: Whether it is a parameter, and not a buffer.
    """

    shape: tuple[int, ...]
    dtype: Type = FLOAT32
    parameter: bool = True

    def __post_init__(self) -> None:
        if math.prod(max(size, 1) for size in self.shape) * self.dtype.itemsize > MOST_BYTES:
            raise ValueError(f"a tensor of shape {self.shape} is not possible")


@dataclass(frozen=True)
class Leaf:
    """A leaf module: an operator of `MODULES` and its canonical configuration."""

    op: str
    configuration: tuple[Any, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """The configuration by name, defaults filled in."""
        return MODULES[self.op].bind(self.configuration)

    def tensors(self) -> dict[str, TensorSpec]:
        """Parameters, then buffers, in the order in which the module holds them.

        Raises:
            ValueError: a configuration that no module can have.
        """
        arguments = self.arguments
        if self.op in _CHECKS:
            _CHECKS[self.op](arguments)
        return _TENSORS[self.op](arguments) if self.op in _TENSORS else {}


def spread(value: Any, dims: int) -> tuple[Any, ...]:
    """One value a spatial dimension of a window, as torch spreads it: what is a tuple already stays as it is."""
    return value if isinstance(value, tuple) else (value,) * dims


def _pair(weight: tuple[int, ...], bias: tuple[int, ...] | None) -> dict[str, TensorSpec]:
    return {"weight": TensorSpec(weight)} | ({} if bias is None else {"bias": TensorSpec(bias)})


def _conv(dims: int) -> Callable[[Mapping[str, Any]], dict[str, TensorSpec]]:
    def tensors(a: Mapping[str, Any]) -> dict[str, TensorSpec]:
        kernel = spread(a["kernel_size"], dims)
        weight = (a["out_channels"], a["in_channels"] // a["groups"], *kernel)
        return _pair(weight, (a["out_channels"],) if a["bias"] else None)

    return tensors


def _transposed(dims: int) -> Callable[[Mapping[str, Any]], dict[str, TensorSpec]]:
    def tensors(a: Mapping[str, Any]) -> dict[str, TensorSpec]:
        kernel = spread(a["kernel_size"], dims)
        weight = (a["in_channels"], a["out_channels"] // a["groups"], *kernel)
        return _pair(weight, (a["out_channels"],) if a["bias"] else None)

    return tensors


def _linear(a: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return _pair((a["out_features"], a["in_features"]), (a["out_features"],) if a["bias"] else None)


def _batch_norm(a: Mapping[str, Any]) -> dict[str, TensorSpec]:
    channels = (a["num_features"],)
    tensors = _pair(channels, channels) if a["affine"] else {}
    if a["track_running_stats"]:
        tensors["running_mean"] = tensors["running_var"] = TensorSpec(channels, parameter=False)
        tensors["num_batches_tracked"] = TensorSpec((), INT64, parameter=False)
    return tensors


def _layer_norm(a: Mapping[str, Any]) -> dict[str, TensorSpec]:
    shape = a["normalized_shape"]
    return _pair(shape, shape if a["bias"] else None) if a["elementwise_affine"] else {}


def _group_norm(a: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return _pair((a["num_channels"],), (a["num_channels"],)) if a["affine"] else {}


_TENSORS: dict[str, Callable[[Mapping[str, Any]], dict[str, TensorSpec]]] = {
    **{f"Conv{dims}d": _conv(dims) for dims in (1, 2, 3)},
    **{f"ConvTranspose{dims}d": _transposed(dims) for dims in (1, 2)},
    **{f"BatchNorm{dims}d": _batch_norm for dims in (1, 2, 3)},
    "Linear": _linear,
    "Embedding": lambda a: {"weight": TensorSpec((a["num_embeddings"], a["embedding_dim"]))},
    "LayerNorm": _layer_norm,
    "GroupNorm": _group_norm,
    "PReLU": lambda a: {"weight": TensorSpec((a["num_parameters"],))},
}


# ---------------------------------------------------------------- what torch refuses to make


def _check_groups(a: Mapping[str, Any]) -> None:
    for name in ("in_channels", "out_channels"):
        if a[name] % a["groups"]:
            raise ValueError(f"{name} must be divisible by groups, {a[name]} by {a['groups']}")


def _check_conv(dims: int) -> Callable[[Mapping[str, Any]], None]:
    def check(a: Mapping[str, Any]) -> None:
        _check_groups(a)
        if a["padding"] == "same" and any(stride != 1 for stride in spread(a["stride"], dims)):
            raise ValueError("padding 'same' is not supported for strided convolutions")

    return check


def _check_embedding(a: Mapping[str, Any]) -> None:
    if a["padding_idx"] and a["padding_idx"] >= a["num_embeddings"]:
        raise ValueError("Padding_idx must be within num_embeddings")


def _check_group_norm(a: Mapping[str, Any]) -> None:
    if a["num_channels"] % a["num_groups"]:
        raise ValueError("num_channels must be divisible by num_groups")


def _check_hardtanh(a: Mapping[str, Any]) -> None:
    if not a["max_val"] > a["min_val"]:
        raise ValueError("max_val must be above min_val")


def _check_dropout(a: Mapping[str, Any]) -> None:
    if not 0 <= a["p"] <= 1:
        raise ValueError("the probability of dropout must be from 0 to 1")


_CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    **{f"Conv{dims}d": _check_conv(dims) for dims in (1, 2, 3)},
    **{f"ConvTranspose{dims}d": _check_groups for dims in (1, 2)},
    "Embedding": _check_embedding,
    "GroupNorm": _check_group_norm,
    "Hardtanh": _check_hardtanh,
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d"), _check_dropout),
}
