"""What each operator is to the C runner: one function each, from a call's arguments and shapes to its work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netpress.export._c_steps import INFINITY, Affine, Conv, Grid, Linear, Matrix, Pool, Round, Softmax, View, Work

MOST_LEVEL = 32767
"""Of a grid, counted from its zero."""

FUNCTION_OF = {
    "Linear": "linear", "Conv2d": "conv2d", "ReLU": "relu", "ReLU6": "relu6", "Hardtanh": "hardtanh", "MaxPool2d": "max_pool2d",
    "AvgPool2d": "avg_pool2d", "AdaptiveAvgPool2d": "adaptive_avg_pool2d", "AdaptiveMaxPool2d": "adaptive_max_pool2d",
    "Softmax": "softmax", "ZeroPad2d": "pad", "BatchNorm1d": "batch_norm", "BatchNorm2d": "batch_norm",
}  # fmt: skip
"""Modules that are what a function is."""

Shape = tuple[int, ...]


class RefusedError(Exception):
    """An operator whose arguments the runner does not take; the text says which."""


@dataclass(frozen=True)
class Call:
    """One node of a network on its way.

    Attributes:
        settings: Its arguments, or its module's configuration, by name.
        x, y: Shapes of one sample of its input and of its output.
        module: Its module; None where it is a function.
        matrix: Gives its weight and bias.
    """

    settings: Mapping[str, Any]
    x: Shape
    y: Shape
    module: Any
    matrix: Callable[[], Matrix]


def bounds(op: str, settings: Mapping[str, Any]) -> tuple[float, float] | None:
    """The bounds of an operator that does nothing else."""
    if op == "clamp":
        low, high = settings["min"], settings["max"]
        return -INFINITY if low is None else float(low), INFINITY if high is None else float(high)
    if op == "hardtanh":
        return float(settings["min_val"]), float(settings["max_val"])
    return {"relu": (0.0, INFINITY), "relu6": (0.0, 6.0)}.get(op)


def affine(norm: Any) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel of a batch normalisation in eval mode."""
    if norm.running_mean is None:
        raise RefusedError("no running statistics")
    scale = torch.rsqrt(norm.running_var.detach().double() + norm.eps)
    if norm.affine:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        shift = shift + norm.bias.detach().double()
    return scale.cpu().float(), shift.cpu().float()


# ---------------------------------------------------------------- layers


def _linear(call: Call) -> Linear:
    if len(call.x) != 1:
        raise RefusedError(f"an input of shape {call.x}; the runner multiplies vectors")
    return Linear(call.matrix())


def _conv(call: Call) -> Conv:
    settings, x, y = call.settings, call.x, call.y
    if settings.get("padding_mode", "zeros") != "zeros" or len(x) != 3:
        raise RefusedError(f"padding_mode {settings.get('padding_mode')!r}, input {x}")
    matrix = call.matrix()
    kernel, dilation = (matrix.weight.shape[2], matrix.weight.shape[3]), _pair(settings["dilation"])
    padding = settings["padding"]
    if padding == "same":
        pad = (dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2)
    else:
        pad = (0, 0) if padding == "valid" else _pair(padding)
    size, out = (x[0], x[1], x[2]), (y[0], y[1], y[2])
    return Conv(matrix, size, out, kernel, _pair(settings["stride"]), pad, dilation, settings["groups"])


def _norm(call: Call) -> Affine:
    if call.module is None:
        raise RefusedError("a normalisation that is no module")
    return Affine(*affine(call.module))


# ---------------------------------------------------------------- pools


def _max_pool(call: Call) -> Pool:
    return _windows("max", call)


def _mean_pool(call: Call) -> Pool:
    return _windows("mean" if call.settings["count_include_pad"] else "mean_inside", call)


def _windows(kind: str, call: Call) -> Pool:
    settings = call.settings
    kernel = _pair(settings["kernel_size"])
    return Pool(
        kind,
        _plane(call.x),
        _plane(call.y),
        kernel,
        kernel if settings["stride"] is None else _pair(settings["stride"]),
        _pair(settings["padding"]),
        _pair(settings.get("dilation", 1)),
        settings.get("divisor_override") or 0,
    )


def _adaptive_mean(call: Call) -> Pool:
    return Pool("mean", _plane(call.x), _plane(call.y))


def _adaptive_max(call: Call) -> Pool:
    return Pool("max", _plane(call.x), _plane(call.y))


def _mean(call: Call) -> Pool:
    dims = call.settings["dim"] if isinstance(call.settings["dim"], tuple) else (call.settings["dim"],)
    if len(call.x) != 3 or None in dims or sorted(dim % 4 for dim in dims) != [2, 3]:
        raise RefusedError(
            f"a mean over {call.settings['dim']} of shape {call.x}; the runner has one over height and width"
        )
    return Pool("mean", _plane(call.x), (1, 1))


# ---------------------------------------------------------------- what moves values


def _pad(call: Call) -> View:
    settings, x = call.settings, call.x
    pad = settings["pad" if call.module is None else "padding"]
    pad = (pad,) * 4 if isinstance(pad, int) else tuple(pad)
    if settings.get("mode", "constant") != "constant" or min(pad) < 0 or len(pad) > 2 * len(x):
        raise RefusedError(
            f"mode {settings.get('mode', 'constant')!r}, pad {pad}; the runner pads with one value, outwards"
        )
    before = [*[0] * (len(x) - len(pad) // 2), *pad[-2::-2]]  # the last axis comes first in `pad`
    return _view(x, call.y, before=before, length=x, fill=float(settings.get("value", 0.0)))


def _getitem(call: Call) -> View:
    index, x, y = call.settings["index"], call.x, call.y
    if len(index) > 1 + len(x) or not all(isinstance(item, slice) for item in index) or index[0] != slice(None):
        raise RefusedError(f"index {index}; the runner takes slices of every axis but the batch")
    whole = [*index[1:], *[slice(None)] * (len(x) - len(index) + 1)]
    ranges = [range(size)[item] for size, item in zip(x, whole, strict=True)]
    return _view(x, y, length=y, start=[r.start for r in ranges], step=[r.step for r in ranges])


def _view(
    x: Shape,
    y: Shape,
    *,
    length: Shape,
    before: Any = (0, 0, 0),
    start: Any = (0, 0, 0),
    step: Any = (1, 1, 1),
    fill: float = 0.0,
) -> View:
    if len(x) > 3 or 0 in y:
        raise RefusedError(f"shapes {x} and {y}; the runner has three axes")
    missing = 3 - len(x)

    def three(items: Any, default: int) -> tuple[int, ...]:
        return (*[default] * missing, *list(items)[-len(x) :])

    return View(three(x, 1), three(y, 1), three(before, 0), three(length, 1), three(start, 0), three(step, 1), fill)


# ---------------------------------------------------------------- place by place, and over all places


def _round(call: Call) -> Round:
    settings = call.settings
    low, high = (settings[name] - settings["zero_point"] for name in ("quant_min", "quant_max"))
    if max(-low, high) > MOST_LEVEL:
        raise RefusedError(f"levels from {low} to {high} about 0; the runner has {MOST_LEVEL} on either side")
    return Round(Grid(settings["scale"], low, high))


def _softmax(call: Call) -> Softmax:
    if len(call.x) != 1 or call.settings["dim"] not in (1, -1) or call.settings.get("dtype") is not None:
        raise RefusedError(f"dim {call.settings['dim']} of shape {call.x}; the runner has it over vectors")
    return Softmax()


MAKERS: dict[str, Callable[[Call], Work]] = {
    "linear": _linear,
    "conv2d": _conv,
    "max_pool2d": _max_pool,
    "avg_pool2d": _mean_pool,
    "adaptive_avg_pool2d": _adaptive_mean,
    "adaptive_max_pool2d": _adaptive_max,
    "mean": _mean,
    "pad": _pad,
    "getitem": _getitem,
    "batch_norm": _norm,
    "fake_quantize": _round,
    "softmax": _softmax,
}


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _plane(shape: Shape) -> tuple[int, int]:
    if len(shape) != 3:
        raise RefusedError(f"a value of shape {shape}; the runner pools (C, H, W)")
    return shape[1], shape[2]
