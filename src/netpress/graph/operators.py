"""The closed list of operators a traced network is made of. Two tables, and nothing else is ever run:

- `MODULES`: leaf modules of ``torch.nn`` that stay real modules, each with the configuration that rebuilds it;
- `FUNCTIONS`: operators without state, each with an explicit signature and the callable that computes it.

Names are looked up in these tables only, never by import or ``getattr``, so that a file can name nothing else. A name
keeps its meaning for ever: an operator whose meaning must change gets a new name, and old files go on to mean what they
meant.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpress.graph.kinds import MOST_ITEMS
from netpress.graph.signature import Signature

PARAMETER, BUFFER = "parameter", "buffer"  # nodes that read a tensor of the network at its dotted name
_SMALLEST, _LARGEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max  # of a scale


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


MODULES: dict[str, ModuleOperator] = {}
FUNCTIONS: dict[str, FunctionOperator] = {}


# ---------------------------------------------------------------- modules

_CONV = 'stride:window=1 padding:padding=0 dilation:window=1 groups:count=1 bias:bool=true padding_mode:padding_mode="zeros"'
_TRANSPOSED = (
    "stride:window=1 padding:padding=0 output_padding:padding=0 groups:count=1 bias:bool=true dilation:window=1"
)
_NORM = "num_features:count eps:float=1e-05 momentum:float?=0.1 affine:bool=true track_running_stats:bool=true"
_POOL = "kernel_size:window stride:window?=null padding:padding=0"


def _module(classes: type[nn.Module] | tuple[type[nn.Module], ...], signature: str, **fixed: Any) -> None:
    for cls in classes if isinstance(classes, tuple) else (classes,):
        MODULES[cls.__name__] = ModuleOperator(cls, Signature.parse(signature), fixed)


_module((nn.Conv1d, nn.Conv2d, nn.Conv3d), f"in_channels:count out_channels:count kernel_size:window {_CONV}")
_module(
    (nn.ConvTranspose1d, nn.ConvTranspose2d),
    f"in_channels:count out_channels:count kernel_size:window {_TRANSPOSED}",
    padding_mode="zeros",
)
_module(nn.Linear, "in_features:count out_features:count bias:bool=true")
_module(
    nn.Embedding,
    "num_embeddings:count embedding_dim:count padding_idx:natural?=null",
    max_norm=None,
    scale_grad_by_freq=False,
    sparse=False,
)
_module((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _NORM)
_module(nn.LayerNorm, "normalized_shape:shape eps:float=1e-05 elementwise_affine:bool=true bias:bool=true")
_module(nn.GroupNorm, "num_groups:count num_channels:count eps:float=1e-05 affine:bool=true")
_module(nn.PReLU, "num_parameters:count=1")
_module((nn.ReLU, nn.ReLU6, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Identity), "")
_module(nn.LeakyReLU, "negative_slope:float=0.01")
_module(nn.ELU, "alpha:float=1.0")
_module(nn.GELU, 'approximate:approximation="none"')
_module(nn.Softplus, "beta:float=1.0 threshold:float=20.0")
_module(nn.Hardtanh, "min_val:float=-1.0 max_val:float=1.0")
_module(nn.Softmax, "dim:dim")
_module(nn.LogSoftmax, "dim:dim")
_module(
    (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), _POOL + " dilation:window=1 ceil_mode:bool=false", return_indices=False
)
_module(nn.AvgPool1d, _POOL + " ceil_mode:bool=false count_include_pad:bool=true")
_module(nn.AvgPool2d, _POOL + " ceil_mode:bool=false count_include_pad:bool=true divisor_override:count?=null")
_module((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), "output_size:output_size")
_module((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d), "output_size:output_size", return_indices=False)
_module(nn.Flatten, "start_dim:dim=1 end_dim:dim=-1")
_module(nn.Unflatten, "dim:dim unflattened_size:shape")
_module((nn.Dropout, nn.Dropout1d, nn.Dropout2d), "p:float=0.5")
_module((nn.ZeroPad2d, nn.ReflectionPad2d), "padding:offsets")
_module(nn.PixelShuffle, "upscale_factor:count")
_module(
    nn.Upsample,
    'size:window?=null scale_factor:factor?=null mode:resampling="nearest" align_corners:bool?=null',
    recompute_scale_factor=None,
)


# ---------------------------------------------------------------- functions


def _function(name: str, call: Callable[..., Any], signature: str, **flags: bool) -> None:
    FUNCTIONS[name] = FunctionOperator(call, Signature.parse(signature), **flags)


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
    return torch.fake_quantize_per_tensor_affine(input, scale, zero_point, quant_min, quant_max)


def _dropout(input: Tensor, p: float = 0.5, *, training: bool) -> Tensor:
    return F.dropout(input, p, training)


def _dropout1d(input: Tensor, p: float = 0.5, *, training: bool) -> Tensor:
    return F.dropout1d(input, p, training)


def _dropout2d(input: Tensor, p: float = 0.5, *, training: bool) -> Tensor:
    return F.dropout2d(input, p, training)


def _reduce(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # an empty tuple of dims means "all" to torch as well, but only None is accepted by every reduction
    return lambda input, dim=None, keepdim=False: call(input) if dim is None else call(input, dim, keepdim)


def _gelu(input: Tensor, approximate: str = "none") -> Tensor:
    return F.gelu(input, approximate=approximate)


def _squeeze(input: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    return torch.squeeze(input) if dim is None else torch.squeeze(input, dim)


def _var(input: Tensor, dim: int | tuple[int, ...] | None = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    return torch.var(input, dim, correction=correction, keepdim=keepdim)


_BINARY = "input:operand other:operand"
_OPERATORS: dict[str, Callable[..., Any]] = {
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
}
for _name, _operator in _OPERATORS.items():
    _function(_name, _operator, _BINARY)
_function("minimum", torch.minimum, "input other")
_function("maximum", torch.maximum, "input other")
for _elementwise in (
    torch.neg, torch.abs, torch.exp, torch.log, torch.sqrt, torch.rsqrt, torch.reciprocal, torch.sin, torch.cos, torch.sign,
    torch.erf, torch.sigmoid, torch.tanh, torch.relu, F.relu6, F.silu, F.mish, F.hardswish, F.hardsigmoid,
    torch.detach, torch.logical_not,
):  # fmt: skip
    _function(_elementwise.__name__, _elementwise, "input")
_function("logsigmoid", F.logsigmoid, "input")
_function("gelu", _gelu, 'input approximate:approximation="none"')
_function("leaky_relu", F.leaky_relu, "input negative_slope:float=0.01")
_function("elu", F.elu, "input alpha:float=1.0")
_function("softplus", F.softplus, "input beta:float=1.0 threshold:float=20.0")
_function("hardtanh", F.hardtanh, "input min_val:float=-1.0 max_val:float=1.0")
_function("prelu", F.prelu, "input weight")
_function("softmax", torch.softmax, "input dim:dim dtype:dtype?=null")
_function("log_softmax", torch.log_softmax, "input dim:dim dtype:dtype?=null")
_function("clamp", torch.clamp, "input min:scalar?=null max:scalar?=null")
_function("where", torch.where, "condition input:operand other:operand")
_function("masked_fill", Tensor.masked_fill, "input mask value:scalar")
_function(
    "fake_quantize",
    _fake_quantize,
    "input scale:float zero_point:offset=0 quant_min:offset=0 quant_max:offset=255",
)

_function("matmul", torch.matmul, "input other")
_function("bmm", torch.bmm, "input mat2")
_function("addmm", torch.addmm, "input mat1 mat2")
_function("baddbmm", torch.baddbmm, "input batch1 batch2")
_function("einsum", _einsum, "equation:equation operands:tensors")
_function("linear", F.linear, "input weight bias:tensor?=null")
_function("embedding", _embedding, "input weight padding_idx:offset?=null")
_FCONV = "input weight bias:tensor?=null stride:window=1 padding:padding=0"
_function("conv1d", F.conv1d, f"{_FCONV} dilation:window=1 groups:count=1")
_function("conv2d", F.conv2d, f"{_FCONV} dilation:window=1 groups:count=1")
_function("conv3d", F.conv3d, f"{_FCONV} dilation:window=1 groups:count=1")
_FTRANSPOSED = f"{_FCONV} output_padding:padding=0 groups:count=1 dilation:window=1"
_function("conv_transpose1d", F.conv_transpose1d, _FTRANSPOSED)
_function("conv_transpose2d", F.conv_transpose2d, _FTRANSPOSED)
_function(
    "batch_norm",
    _batch_norm,
    "input running_mean:tensor?=null running_var:tensor?=null weight:tensor?=null bias:tensor?=null "
    "momentum:float=0.1 eps:float=1e-05",
    follows_training=True,
)
_function(
    "layer_norm", F.layer_norm, "input normalized_shape:shape weight:tensor?=null bias:tensor?=null eps:float=1e-05"
)
_function("group_norm", F.group_norm, "input num_groups:count weight:tensor?=null bias:tensor?=null eps:float=1e-05")
_function("dropout", _dropout, "input p:float=0.5", follows_training=True)
_function("dropout1d", _dropout1d, "input p:float=0.5", follows_training=True)
_function("dropout2d", _dropout2d, "input p:float=0.5", follows_training=True)
_function(
    "scaled_dot_product_attention",
    _attention,
    "query key value attn_mask:tensor?=null dropout_p:float=0.0 is_causal:bool=false scale:float?=null",
)

_function("cat", torch.cat, "tensors:tensors dim:dim=0")
_function("stack", torch.stack, "tensors:tensors dim:dim=0")
_function("split", _split, "input split_size_or_sections:pieces dim:dim=0", many=True)
_function("chunk", _chunk, "input chunks:count dim:dim=0", many=True)
_function("unbind", _unbind, "input dim:dim=0", many=True)
_function("max_over", _max_over, "input dim:dim keepdim:bool=false", many=True)
_function("item", operator.getitem, "input index:natural")  # one of the tensors that a `many` operator returned
_function("getitem", operator.getitem, "input index:index")
_function("flatten", torch.flatten, "input start_dim:dim=0 end_dim:dim=-1")
_function("reshape", torch.reshape, "input shape:sizes")
_function("expand", Tensor.expand, "input size:sizes")
_function("repeat", Tensor.repeat, "input repeats:sizes")
_function("permute", torch.permute, "input dims:dims")
_function("transpose", torch.transpose, "input dim0:dim dim1:dim")
_function("squeeze", _squeeze, "input dim:dims?=null")
_function("unsqueeze", torch.unsqueeze, "input dim:dim")
_function("movedim", torch.movedim, "input source:dims destination:dims")
_function("flip", torch.flip, "input dims:dims")
_function("roll", torch.roll, "input shifts:shifts dims:dims")
_function("pad", F.pad, 'input pad:offsets mode:pad_mode="constant" value:float=0.0')
_function("to", Tensor.to, "input dtype:dtype")
_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "amax": torch.amax,
    "amin": torch.amin,
}
for _name, _reduction in _REDUCTIONS.items():
    _function(_name, _reduce(_reduction), "input dim:dims?=null keepdim:bool=false")
_function("var", _var, "input dim:dims?=null correction:natural=1 keepdim:bool=false")
_FPOOL = "input kernel_size:window stride:window?=null padding:padding=0"
_function("max_pool1d", F.max_pool1d, f"{_FPOOL} dilation:window=1 ceil_mode:bool=false")
_function("max_pool2d", F.max_pool2d, f"{_FPOOL} dilation:window=1 ceil_mode:bool=false")
_function("max_pool3d", F.max_pool3d, f"{_FPOOL} dilation:window=1 ceil_mode:bool=false")
_function("avg_pool1d", F.avg_pool1d, f"{_FPOOL} ceil_mode:bool=false count_include_pad:bool=true")
_function(
    "avg_pool2d",
    F.avg_pool2d,
    f"{_FPOOL} ceil_mode:bool=false count_include_pad:bool=true divisor_override:count?=null",
)
_ADAPTIVE: dict[str, Callable[..., Any]] = {
    "adaptive_avg_pool1d": F.adaptive_avg_pool1d,
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "adaptive_max_pool1d": F.adaptive_max_pool1d,
    "adaptive_max_pool2d": F.adaptive_max_pool2d,
}
for _name, _pool in _ADAPTIVE.items():
    _function(_name, _pool, "input output_size:output_size")
_function(
    "interpolate",
    _interpolate,
    'input size:window?=null scale_factor:factor?=null mode:resampling="nearest" align_corners:bool?=null',
)
_function("pixel_shuffle", F.pixel_shuffle, "input upscale_factor:count")
_function("pixel_unshuffle", F.pixel_unshuffle, "input downscale_factor:count")


def operator_of(op: str) -> ModuleOperator | FunctionOperator | None:
    """The operator called ``op``, or None. `PARAMETER` and `BUFFER` are no operators but reads."""
    return MODULES.get(op) or FUNCTIONS.get(op)


def returns_many(op: str) -> bool:
    """Whether nodes of ``op`` return a tuple of tensors, to be taken apart by ``item``."""
    return op in FUNCTIONS and FUNCTIONS[op].many
