"""One table: each operator of the closed list and what writes it to ONNX.

Functions take the arguments of their signatures. A leaf module is the function that computes it, called with its configuration and
its tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from netpress.onnx import elementwise, integers, moves, products, reductions, windows
from netpress.onnx.building import Builder, Value

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **elementwise.OPERATORS,
    **integers.OPERATORS,
    **moves.OPERATORS,
    **products.OPERATORS,
    **reductions.OPERATORS,
    **windows.OPERATORS,
}
"""By name: ``(builder, **arguments) -> value``, or values."""

_SHAPES = {
    "in_channels", "out_channels", "kernel_size", "in_features", "out_features", "num_embeddings", "embedding_dim", "num_features",
    "num_channels", "num_parameters", "affine", "elementwise_affine", "track_running_stats", "bias",
}  # fmt: skip
"""What of a configuration is known from the tensors."""


def _computed_by(name: str) -> Callable[..., Value]:
    """A module whose whole configuration a function takes under the same names."""
    return lambda b, input, tensors, arguments: FUNCTIONS[name](b, input, **arguments)


def _with_tensors(name: str) -> Callable[..., Value]:
    """A module whose tensors a function takes under the same names."""

    def write(b: Builder, input: Value, tensors: Mapping[str, Value], arguments: Mapping[str, Any]) -> Value:
        settings = {key: value for key, value in arguments.items() if key not in _SHAPES}
        held = {key: value for key, value in tensors.items() if key != "num_batches_tracked"}
        return FUNCTIONS[name](b, input, **held, **settings)

    return write


MODULES: dict[str, Callable[..., Value]] = {
    **{f"Conv{dims}d": _with_tensors(f"conv{dims}d") for dims in (1, 2, 3)},
    **{f"ConvTranspose{dims}d": _with_tensors(f"conv_transpose{dims}d") for dims in (1, 2)},
    **{f"BatchNorm{dims}d": _with_tensors("batch_norm") for dims in (1, 2, 3)},
    "Linear": _with_tensors("linear"),
    "Embedding": _with_tensors("embedding"),
    "LayerNorm": _with_tensors("layer_norm"),
    "GroupNorm": _with_tensors("group_norm"),
    "PReLU": _with_tensors("prelu"),
    **{
        name: _computed_by(function)
        for name, function in {
            "ReLU": "relu", "ReLU6": "relu6", "SiLU": "silu", "Mish": "mish", "Sigmoid": "sigmoid", "Tanh": "tanh",
            "Hardswish": "hardswish", "Hardsigmoid": "hardsigmoid", "Identity": "detach", "LeakyReLU": "leaky_relu", "ELU": "elu",
            "GELU": "gelu", "Softplus": "softplus", "Hardtanh": "hardtanh", "Softmax": "softmax", "LogSoftmax": "log_softmax",
            "MaxPool1d": "max_pool1d", "MaxPool2d": "max_pool2d", "MaxPool3d": "max_pool3d",
            "AvgPool1d": "avg_pool1d", "AvgPool2d": "avg_pool2d",
            "AdaptiveAvgPool1d": "adaptive_avg_pool1d", "AdaptiveAvgPool2d": "adaptive_avg_pool2d",
            "AdaptiveMaxPool1d": "adaptive_max_pool1d", "AdaptiveMaxPool2d": "adaptive_max_pool2d",
            "Flatten": "flatten", "Unflatten": "unflatten", "Dropout": "dropout", "Dropout1d": "dropout1d", "Dropout2d": "dropout2d",
            "PixelShuffle": "pixel_shuffle", "Upsample": "interpolate",
        }.items()
    },
    "ZeroPad2d": lambda b, input, tensors, arguments: moves.pad(b, input, arguments["padding"]),
    "ReflectionPad2d": lambda b, input, tensors, arguments: moves.pad(b, input, arguments["padding"], "reflect"),
}  # fmt: skip
"""By name: ``(builder, input, tensors by name, configuration by name) -> value``."""
