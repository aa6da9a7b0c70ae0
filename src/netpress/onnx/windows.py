"""Operators that look through windows: convolutions, pooling, resampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from netpress.dtypes import FLOAT32
from netpress.onnx import integers
from netpress.onnx.building import Builder, Size, Value
from netpress.onnx.elementwise import scaled
from netpress.onnx.moves import pad
from netpress.program.leaves import spread


def _each(value: Any, dims: int) -> tuple[int, ...]:
    """One number a spatial dimension."""
    values = spread(value, dims)
    if len(values) != dims:
        raise ValueError(f"{values} for {dims} spatial dimensions")
    return values


def _spatial(b: Builder, x: Value, dims: int) -> tuple[int, ...]:
    if x.rank != dims + 2:
        if x.rank == dims + 1:
            b.unsupported(f"{dims} spatial dimensions of an input without a batch")
        raise ValueError(f"{dims} spatial dimensions of an input of {x.shape}")
    return b.whole(x.shape[2:])


def _out(size: int, kernel: int, stride: int, pads: int, dilation: int) -> int:
    found = (size + pads - dilation * (kernel - 1) - 1) // stride + 1
    if found < 1:
        raise ValueError(f"a window of {kernel} of {size} places")
    return found


# ---------------------------------------------------------------- convolutions


def _conv(dims: int) -> Callable[..., Value]:
    def write(
        b: Builder,
        input: Value,
        weight: Value,
        bias: Value | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
    ) -> Value:
        _spatial(b, input, dims)
        kernel = b.whole(weight.shape[2:])
        strides, dilations = _each(stride, dims), _each(dilation, dims)
        spans = [d * (k - 1) for d, k in zip(dilations, _each(kernel, dims), strict=True)]
        if padding == "same":
            sides = [(span // 2, span - span // 2) for span in spans]
        else:
            sides = [(side, side) for side in _each(0 if padding == "valid" else padding, dims)]
        if padding_mode != "zeros":
            around = [side for pair in reversed(sides) for side in pair]  # torch pads the last dimension first
            input, sides = pad(b, input, around, padding_mode), [(0, 0)] * dims
        if input.shape[1] != b.whole(weight.shape)[1] * groups or b.whole(weight.shape)[0] % groups:
            raise ValueError(f"a weight of {weight.shape} in {groups} groups for an input of {input.shape}")
        sizes = [
            _out(size, k, s, sum(side), d)
            for size, k, s, side, d in zip(b.whole(input.shape[2:]), kernel, strides, sides, dilations, strict=True)
        ]
        weight, bias = integers.weights(b, input, weight, bias, always=b.integers)
        return b.add(
            "Conv",
            [input, weight, bias],
            (input.shape[0], weight.shape[0], *sizes),
            kernel_shape=kernel,
            strides=strides,
            pads=[side[0] for side in sides] + [side[1] for side in sides],
            dilations=dilations,
            group=groups,
        )

    return write


def _conv_transpose(dims: int) -> Callable[..., Value]:
    def write(
        b: Builder,
        input: Value,
        weight: Value,
        bias: Value | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Value:
        sizes = _spatial(b, input, dims)
        if isinstance(padding, str) or input.shape[1] != weight.shape[0]:
            raise ValueError(f"a weight of {weight.shape} for an input of {input.shape}")
        kernel = _each(b.whole(weight.shape[2:]), dims)
        strides, sides, dilations = _each(stride, dims), _each(padding, dims), _each(dilation, dims)
        more = _each(output_padding, dims)
        grown = [
            (size - 1) * s - 2 * p + d * (k - 1) + o + 1
            for size, s, p, d, k, o in zip(sizes, strides, sides, dilations, kernel, more, strict=True)
        ]
        if min(grown) < 1 or any(o >= max(s, d) for o, s, d in zip(more, strides, dilations, strict=True)):
            raise ValueError(f"a transposed convolution of {input.shape} to {grown}")
        return b.add(
            "ConvTranspose",
            [input, weight, bias],
            (input.shape[0], b.whole(weight.shape)[1] * groups, *grown),
            kernel_shape=kernel,
            strides=strides,
            pads=[*sides, *sides],
            output_padding=more,
            dilations=dilations,
            group=groups,
        )

    return write


# ---------------------------------------------------------------- pooling


def _pooled(size: int, kernel: int, stride: int, side: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows there are: with ``ceil_mode`` one more that begins within the input or its left padding."""
    if 2 * side > kernel:
        raise ValueError(f"a padding of {side} for a window of {kernel}")
    found = _out(size, kernel, stride, 2 * side + (stride - 1 if ceil_mode else 0), dilation)
    return found - 1 if ceil_mode and (found - 1) * stride >= size + side else found


def _windows(
    b: Builder, x: Value, dims: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[list[Size], dict[str, Any]]:
    """The pooled shape, and the attributes that say the windows."""
    kernel = _each(kernel_size, dims)
    strides, sides = _each(kernel if stride is None else stride, dims), _each(padding, dims)
    dilations = _each(dilation, dims)
    places = zip(_spatial(b, x, dims), kernel, strides, sides, dilations, strict=True)
    shape = [*x.shape[:2], *(_pooled(*place, ceil_mode) for place in places)]
    # Padding behind the end says what ceil_mode means, and every runtime understands it alike.
    behind = [
        max(0, (found - 1) * s + d * (k - 1) + 1 - size - side) if ceil_mode else side
        for found, size, k, s, side, d in zip(
            b.whole(shape[2:]), b.whole(x.shape[2:]), kernel, strides, sides, dilations, strict=True
        )
    ]
    return shape, {"kernel_shape": kernel, "strides": strides, "pads": [*sides, *behind]}


def _max_pool(dims: int) -> Callable[..., Value]:
    def write(
        b: Builder,
        input: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Value:
        shape, windows = _windows(b, input, dims, kernel_size, stride, padding, dilation, ceil_mode)
        return b.add("MaxPool", [input], shape, **windows, dilations=_each(dilation, dims))

    return write


def _avg_pool(dims: int) -> Callable[..., Value]:
    def write(
        b: Builder,
        input: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        kernel = _each(kernel_size, dims)
        shape, windows = _windows(b, input, dims, kernel_size, stride, padding, 1, ceil_mode)
        sides, behind = windows["pads"][:dims], windows["pads"][dims:]
        beyond = any(after > side for side, after in zip(sides, behind, strict=True))
        padded = any(windows["pads"])
        if divisor_override is not None:
            pooled = b.add("AveragePool", [input], shape, **windows, count_include_pad=1)
            return scaled(b, pooled, math.prod(kernel) / divisor_override)
        if beyond and count_include_pad and any(sides):
            # torch counts the padding that was asked for, not what ceil_mode adds
            around = [side for side in reversed(sides) for side in (side, side)]
            input = pad(b, input, around)
            windows["pads"] = [0] * dims + [max(0, after - side) for side, after in zip(sides, behind, strict=True)]
            return b.add("AveragePool", [input], shape, **windows, count_include_pad=0)
        counted = padded and count_include_pad and not beyond
        return b.add("AveragePool", [input], shape, **windows, count_include_pad=counted)

    return write


def _adaptive(dims: int, op: str) -> Callable[..., Value]:
    def write(b: Builder, input: Value, output_size: Any) -> Value:
        sizes = _spatial(b, input, dims)
        given = output_size if isinstance(output_size, tuple) else (output_size,) * dims
        if len(given) != dims:
            raise ValueError(f"{given} for {dims} spatial dimensions")
        wanted = [size if want is None else want for size, want in zip(sizes, given, strict=True)]
        shape = (*input.shape[:2], *wanted)
        if shape == input.shape:
            return input
        if all(want == 1 for want in wanted):
            return b.add(f"Global{op}", [input], shape)
        if all(size % want == 0 for size, want in zip(sizes, wanted, strict=True)):
            kernel = [size // want for size, want in zip(sizes, wanted, strict=True)]
            return b.add(op, [input], shape, kernel_shape=kernel, strides=kernel)
        for axis, want in enumerate(wanted, 2):
            input = _adapted(b, input, axis, want, op)
        return input

    return write


def _adapted(b: Builder, x: Value, axis: int, want: int, op: str) -> Value:
    """One axis in ``want`` windows that differ in width, one node each: from floor(k·n/want) to ceil((k+1)·n/want)."""
    [size] = b.whole([x.shape[axis]])
    if size == want:
        return x
    parts = []
    for k in range(want):
        start, stop = k * size // want, -(-(k + 1) * size // want)
        part = b.cut(x, axis, start, stop, size=stop - start)
        shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        reduce = "ReduceMean" if op == "AveragePool" else "ReduceMax"
        parts.append(b.add(reduce, [part, b.constant([axis])], shape, keepdims=1))
    return b.joined(parts, axis)


# ---------------------------------------------------------------- resampling


def interpolate(
    b: Builder,
    input: Value,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Value:
    dims = input.rank - 2
    old = _spatial(b, input, dims)
    if (size is None) == (scale_factor is None):
        raise ValueError("either a size or a factor")
    if size is not None:
        new = _each(size, dims)
        factors = [want / have for want, have in zip(new, old, strict=True)]
    else:
        factors = list(scale_factor if isinstance(scale_factor, tuple) else (scale_factor,) * dims)
        new = tuple(math.floor(have * factor) for have, factor in zip(old, factors, strict=True))
    if mode == "area":
        return _adaptive(dims, "AveragePool")(b, input, tuple(new))
    if mode == "nearest-exact" or (mode == "linear") != (dims == 1 and mode != "nearest"):
        b.unsupported(f"resampling {mode!r} of {dims} dimensions")
    kind = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "bicubic": "cubic"}[mode]
    centres = "asymmetric" if kind == "nearest" else "align_corners" if align_corners else "half_pixel"
    scales = b.constant(np.array([1, 1, *factors]), FLOAT32)
    attributes: dict[str, Any] = {"mode": kind, "coordinate_transformation_mode": centres}
    if kind == "nearest":
        attributes["nearest_mode"] = "floor"
    if kind == "cubic":
        attributes["cubic_coeff_a"] = -0.75
    if any(int(have * np.float32(factor)) != want for have, factor, want in zip(old, factors, new, strict=True)):
        b.unsupported(f"resampling from {old} to {new}: a factor that float32 rounds away")
    return b.add("Resize", [input, None, scales], (*input.shape[:2], *new), **attributes)


def pixel_shuffle(b: Builder, input: Value, upscale_factor: int) -> Value:
    [channels, height, width] = b.whole(input.shape[1:])
    if channels % upscale_factor**2:
        raise ValueError(f"{channels} channels shuffled by {upscale_factor}")
    shape = (input.shape[0], channels // upscale_factor**2, height * upscale_factor, width * upscale_factor)
    return b.add("DepthToSpace", [input], shape, blocksize=upscale_factor, mode="CRD")


def pixel_unshuffle(b: Builder, input: Value, downscale_factor: int) -> Value:
    r, (channels, height, width) = downscale_factor, b.whole(input.shape[1:])
    if height % r or width % r:
        raise ValueError(f"{height} x {width} places unshuffled by {r}")
    tiles = b.reshape(input, (input.shape[0], channels, height // r, r, width // r, r))
    return b.reshape(b.permute(tiles, [0, 1, 3, 5, 2, 4]), (input.shape[0], channels * r * r, height // r, width // r))


OPERATORS: dict[str, Callable[..., Any]] = {
    **{f"conv{dims}d": _conv(dims) for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _conv_transpose(dims) for dims in (1, 2)},
    **{f"max_pool{dims}d": _max_pool(dims) for dims in (1, 2, 3)},
    **{f"avg_pool{dims}d": _avg_pool(dims) for dims in (1, 2)},
    **{f"adaptive_avg_pool{dims}d": _adaptive(dims, "AveragePool") for dims in (1, 2)},
    **{f"adaptive_max_pool{dims}d": _adaptive(dims, "MaxPool") for dims in (1, 2)},
    "interpolate": interpolate,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
}
