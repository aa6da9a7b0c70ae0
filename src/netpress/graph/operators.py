"""What the operators of the closed list (`netpress.program.operators`) are in torch. Two tables, and nothing else is ever run:

- `MODULES`: leaf modules of ``torch.nn`` that stay real modules, each with the configuration that rebuilds it;
- `FUNCTIONS`: operators without state, each with an explicit signature and the callable that computes it.

Names are looked up in these tables only, never by import or ``getattr``, so that a file can name nothing else.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from netpress.dtypes import Type, torch_type
from netpress.maths.ranges import on_own_range
from netpress.program import operators as listed
from netpress.program.kinds import MOST_ITEMS
from netpress.program.signature import Signature

_SMALLEST, _LARGEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max  # of a scale
_WHOLE = 2**24  # up to here float32 has every whole number


@dataclass(frozen=True)
class ModuleOperator:
    """A leaf module.

    Attributes:
        type: The exact class; subclasses are traced through.
        signature: Constructor arguments that are kept.
        fixed: Attributes that must hold these values, because the signature leaves them out.
    """

    type: type[nn.Module]
    signature: Signature
    fixed: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FunctionOperator:
    """An operator without state.

    Attributes:
        call: Computes it from canonical positional arguments.
        signature: Its arguments.
        many: Whether it returns a tuple of tensors instead of one.
        follows_training: Whether ``call`` takes ``training=`` from the network's own flag.
    """

    call: Callable[..., Any]
    signature: Signature
    many: bool = False
    follows_training: bool = False


# ---------------------------------------------------------------- modules

_CLASSES: tuple[type[nn.Module], ...] = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear, nn.Embedding,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm,
    nn.PReLU, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Identity,
    nn.LeakyReLU, nn.ELU, nn.GELU, nn.Softplus, nn.Hardtanh, nn.Softmax, nn.LogSoftmax,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
    nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.ZeroPad2d, nn.ReflectionPad2d,
    nn.PixelShuffle, nn.Upsample,
)  # fmt: skip
_FIXED: dict[type[nn.Module], dict[str, Any]] = {
    nn.ConvTranspose1d: {"padding_mode": "zeros"},
    nn.ConvTranspose2d: {"padding_mode": "zeros"},
    nn.Embedding: {"max_norm": None, "scale_grad_by_freq": False, "sparse": False},
    **{
        pool: {"return_indices": False}
        for pool in (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
    },
    nn.Upsample: {"recompute_scale_factor": None},
}
MODULES: dict[str, ModuleOperator] = {
    cls.__name__: ModuleOperator(cls, listed.MODULES[cls.__name__], _FIXED.get(cls, {})) for cls in _CLASSES
}


# ---------------------------------------------------------------- functions


def _bounded(pieces: int, name: str) -> None:
    if pieces > MOST_ITEMS:
        raise ValueError(f"{name} into {pieces} pieces; at most {MOST_ITEMS}")


def _chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    _bounded(min(chunks, input.shape[dim]), "chunk")
    return torch.chunk(input, chunks, dim)


def _split(input: Tensor, pieces: int | tuple[int, ...], dim: int = 0) -> tuple[Tensor, ...]:
    if isinstance(pieces, int):
        _bounded(input.shape[dim] // pieces, "split")
    return torch.split(input, pieces if isinstance(pieces, int) else list(pieces), dim)


def _unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    _bounded(input.shape[dim], "unbind")
    return torch.unbind(input, dim)


def _max_over(input: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, ...]:
    return tuple(torch.max(input, dim, keepdim))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    training: bool,
) -> Tensor:
    # without running statistics there is nothing but the batch's own
    training = training or running_mean is None
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    return F.embedding(input, weight, padding_idx)


def _einsum(equation: str, operands: tuple[Tensor, ...]) -> Tensor:
    return torch.einsum(equation, *operands)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale)


def _interpolate(
    input: Tensor,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    return F.interpolate(
        input,
        list(size) if isinstance(size, tuple) else size,
        list(scale_factor) if isinstance(scale_factor, tuple) else scale_factor,
        mode,
        align_corners,
    )


def _fake_quantize(
    input: Tensor, scale: float, zero_point: int = 0, quant_min: int = 0, quant_max: int = 255
) -> Tensor:
    if not (_SMALLEST <= scale <= _LARGEST and quant_min <= zero_point <= quant_max):
        raise ValueError(f"fake_quantize with scale {scale}, zero {zero_point} of {quant_min} to {quant_max}")
    if input.is_meta:  # torch has no kernel for shapes alone
        return torch.empty_like(input)
    low, high = quant_min - zero_point, quant_max - zero_point
    followed = (
        has_torch_function_unary(input) or torch.jit.is_tracing() or (input.requires_grad and torch.is_grad_enabled())
    )
    if followed or not input.is_cpu or input.dtype is not torch.float32 or max(-low, high) > _WHOLE:
        return torch.fake_quantize_per_tensor_affine(input, scale, zero_point, quant_min, quant_max)
    # the same to the bit in a quarter of the time: torch's own goes number by number, and keeps what a gradient needs
    step = torch.tensor(scale, dtype=torch.float32)
    return input.mul(1 / step).round_().clamp_(low, high).mul_(step).add_(0.0)  # -0 becomes 0


def dynamic_quantize(input: Tensor) -> Tensor:
    """Values on a grid that is measured anew at each call (see `on_own_range`); torch has none, so a trace records this one."""
    if has_torch_function_unary(input):
        result: Tensor = handle_torch_function(dynamic_quantize, (input,), input)
        return result
    return on_own_range(input)


def _dropout(input: Tensor, p: float = 0.5, *, training: bool) -> Tensor:
    return F.dropout(input, p, training)


def _dropout1d(input: Tensor, p: float = 0.5, *, training: bool) -> Tensor:
    return F.dropout1d(input, p, training)


def _dropout2d(input: Tensor, p: float = 0.5, *, training: bool) -> Tensor:
    return F.dropout2d(input, p, training)


def _reduce(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # an empty tuple of dims means "all" to torch as well, but only None is accepted by every reduction
    return lambda input, dim=None, keepdim=False: call(input) if dim is None else call(input, dim, keepdim)


def _softmax(input: Tensor, dim: int, dtype: Type | None = None) -> Tensor:
    return torch.softmax(input, dim, dtype=None if dtype is None else torch_type(dtype))


def _log_softmax(input: Tensor, dim: int, dtype: Type | None = None) -> Tensor:
    return torch.log_softmax(input, dim, dtype=None if dtype is None else torch_type(dtype))


def _to(input: Tensor, dtype: Type) -> Tensor:
    return input.to(torch_type(dtype))


def _gelu(input: Tensor, approximate: str = "none") -> Tensor:
    return F.gelu(input, approximate=approximate)


def _squeeze(input: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    return torch.squeeze(input) if dim is None else torch.squeeze(input, dim)


def _var(input: Tensor, dim: int | tuple[int, ...] | None = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    return torch.var(input, dim, correction=correction, keepdim=keepdim)


_ELEMENTWISE: tuple[Callable[..., Any], ...] = (
    torch.neg, torch.abs, torch.exp, torch.log, torch.sqrt, torch.rsqrt, torch.reciprocal, torch.sin, torch.cos, torch.sign,
    torch.erf, torch.sigmoid, torch.tanh, torch.relu, F.relu6, F.silu, F.mish, F.hardswish, F.hardsigmoid,
    torch.detach, torch.logical_not,
)  # fmt: skip
_CALLS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
    "floor_divide": operator.floordiv,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "minimum": torch.minimum,
    "maximum": torch.maximum,
    **{call.__name__: call for call in _ELEMENTWISE},
    "logsigmoid": F.logsigmoid,
    "gelu": _gelu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "softplus": F.softplus,
    "hardtanh": F.hardtanh,
    "prelu": F.prelu,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "clamp": torch.clamp,
    "where": torch.where,
    "masked_fill": Tensor.masked_fill,
    "fake_quantize": _fake_quantize,
    "dynamic_quantize": dynamic_quantize,
    "matmul": torch.matmul,
    "bmm": torch.bmm,
    "addmm": torch.addmm,
    "baddbmm": torch.baddbmm,
    "einsum": _einsum,
    "linear": F.linear,
    "embedding": _embedding,
    "conv1d": F.conv1d,
    "conv2d": F.conv2d,
    "conv3d": F.conv3d,
    "conv_transpose1d": F.conv_transpose1d,
    "conv_transpose2d": F.conv_transpose2d,
    "batch_norm": _batch_norm,
    "layer_norm": F.layer_norm,
    "group_norm": F.group_norm,
    "dropout": _dropout,
    "dropout1d": _dropout1d,
    "dropout2d": _dropout2d,
    "scaled_dot_product_attention": _attention,
    "cat": torch.cat,
    "stack": torch.stack,
    "split": _split,
    "chunk": _chunk,
    "unbind": _unbind,
    "max_over": _max_over,
    "item": operator.getitem,
    "getitem": operator.getitem,
    "flatten": torch.flatten,
    "reshape": torch.reshape,
    "expand": Tensor.expand,
    "repeat": Tensor.repeat,
    "permute": torch.permute,
    "transpose": torch.transpose,
    "squeeze": _squeeze,
    "unsqueeze": torch.unsqueeze,
    "movedim": torch.movedim,
    "flip": torch.flip,
    "roll": torch.roll,
    "pad": F.pad,
    "to": _to,
    "mean": _reduce(torch.mean),
    "sum": _reduce(torch.sum),
    "amax": _reduce(torch.amax),
    "amin": _reduce(torch.amin),
    "var": _var,
    "max_pool1d": F.max_pool1d,
    "max_pool2d": F.max_pool2d,
    "max_pool3d": F.max_pool3d,
    "avg_pool1d": F.avg_pool1d,
    "avg_pool2d": F.avg_pool2d,
    "adaptive_avg_pool1d": F.adaptive_avg_pool1d,
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "adaptive_max_pool1d": F.adaptive_max_pool1d,
    "adaptive_max_pool2d": F.adaptive_max_pool2d,
    "interpolate": _interpolate,
    "pixel_shuffle": F.pixel_shuffle,
    "pixel_unshuffle": F.pixel_unshuffle,
}
_FOLLOW_TRAINING = frozenset({"batch_norm", "dropout", "dropout1d", "dropout2d"})
FUNCTIONS: dict[str, FunctionOperator] = {
    name: FunctionOperator(
        call, listed.FUNCTIONS[name].signature, listed.FUNCTIONS[name].many, name in _FOLLOW_TRAINING
    )
    for name, call in _CALLS.items()
}


def operator_of(op: str) -> ModuleOperator | FunctionOperator | None:
    """The operator called ``op``, or None. `PARAMETER` and `BUFFER` are no operators but reads."""
    return MODULES.get(op) or FUNCTIONS.get(op)
