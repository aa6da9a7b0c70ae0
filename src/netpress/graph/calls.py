"""Which calls of torch stand for which operator: what users write, brought to the closed list.

`CALLS` maps a callable to an operator's name and the order in which that callable takes its arguments; `ADAPTED` to a
function that reads the operator off the arguments; `DECOMPOSED` to the same thing said with other calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from netpress.graph.operators import FUNCTIONS, dynamic_quantize

# Arguments that change nothing in a straight-line program: in-place is undone (see `trace`), and the type of norm says
# something only beside the largest norm, which is refused.
_WITHOUT_EFFECT = {"inplace", "memory_format", "_stacklevel", "norm_type"}
_FOLLOWS_MODE = {"training"}  # judged by `trace`: it must be off in eval mode
_SYNONYMS = {"self": "input", "axis": "dim", "keepdims": "keepdim", "axis0": "dim0", "axis1": "dim1"}


@dataclass(frozen=True)
class Call:
    """How a callable of torch takes the arguments of operator ``op``.

    Attributes:
        op: A key of `FUNCTIONS`.
        order: Argument names in positional order; a leading ``*`` on the last gathers the rest, or takes one sequence.
    """

    op: str
    order: tuple[str, ...]

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Argument values by the operator's names.

        Raises:
            ValueError: An argument that the operator does not have.
        """
        values: dict[str, Any] = {}
        for place, name in enumerate(self.order):
            if name.startswith("*"):
                rest = args[place:]
                if rest:
                    only = rest[0] if len(rest) == 1 else None
                    values[name[1:]] = only if isinstance(only, list | tuple) else tuple(rest)
                break
            if place < len(args):
                values[name] = args[place]
        else:
            if len(args) > len(self.order):
                raise ValueError(f"{len(args)} positional arguments")
        for name, value in kwargs.items():
            values[_SYNONYMS.get(name, name)] = value
        known = FUNCTIONS[self.op].signature.names
        return {name: value for name, value in values.items() if self._keep(name, value, known)}

    @staticmethod
    def _keep(name: str, value: Any, known: tuple[str, ...]) -> bool:
        if name in known:
            return True
        if name in _WITHOUT_EFFECT or name in _FOLLOWS_MODE or value is None or value is False:
            return False
        raise ValueError(f"argument {name}={value!r}")


Bound = tuple[str, dict[str, Any]]  # an operator's name and its argument values

CALLS: dict[Any, Call] = {}
ADAPTED: dict[Any, Callable[..., Bound]] = {}
DECOMPOSED: dict[Any, Callable[..., Any]] = {}


def _calls(op: str, order: str | None, *functions: Any) -> None:
    names = tuple(order.split()) if order is not None else FUNCTIONS[op].signature.names
    for function in functions:
        CALLS[function] = Call(op, names)


_T = Tensor
_calls("add", None, torch.add, _T.add, _T.add_, _T.__add__, _T.__radd__)
_calls("sub", None, torch.sub, torch.subtract, _T.sub, _T.sub_, _T.subtract)
_calls("sub", "other input", torch.rsub, _T.__rsub__)
_calls("mul", None, torch.mul, torch.multiply, _T.mul, _T.mul_, _T.multiply)
_calls("div", None, torch.div, torch.divide, torch.true_divide, _T.div, _T.div_, _T.divide, _T.true_divide)
_calls("div", "other input", _T.__rdiv__, _T.__rtruediv__)
_calls("floor_divide", None, torch.floor_divide, _T.floor_divide, _T.__floordiv__)
_calls("pow", "input other", torch.pow, _T.pow, _T.pow_, _T.__pow__, _T.__ipow__)
_calls("pow", "other input", _T.__rpow__)
for _op in ("gt", "ge", "lt", "le", "eq", "ne"):
    _calls(_op, None, getattr(torch, _op), getattr(_T, _op), getattr(_T, f"__{_op}__"))
for _op in (
    "minimum", "maximum", "neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "sign", "erf", "sigmoid",
    "tanh", "relu", "detach", "logical_not", "matmul", "bmm", "addmm", "baddbmm", "clamp", "masked_fill", "softmax",
    "log_softmax", "flatten", "transpose", "unsqueeze", "movedim", "chunk", "unbind", "mean", "sum", "amax", "amin",
    "squeeze",
):  # fmt: skip
    _places = [getattr(torch, _op, None), getattr(_T, _op), getattr(F, _op, None)]
    _places += [getattr(torch, _op + "_", None), getattr(_T, _op + "_", None), getattr(F, _op + "_", None)]
    _calls(_op, None, *[place for place in _places if place is not None])
_calls("neg", None, _T.__neg__, torch.negative, _T.negative)
_calls("abs", None, torch.absolute, _T.absolute)
_calls("matmul", None, _T.__matmul__, torch.mm, _T.mm)
_calls("matmul", "other input", _T.__rmatmul__)
_calls("detach", None, _T.data.__get__)  # type: ignore[attr-defined]
for _op in (
    "relu6", "silu", "mish", "hardswish", "hardsigmoid", "logsigmoid", "gelu", "leaky_relu", "elu", "softplus", "hardtanh",
    "linear", "embedding", "conv1d", "conv2d", "conv3d", "layer_norm", "group_norm", "dropout", "dropout2d",
    "scaled_dot_product_attention", "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "interpolate", "pixel_shuffle",
    "pixel_unshuffle",
):  # fmt: skip
    _calls(_op, None, getattr(F, _op))
_calls("fake_quantize", None, torch.fake_quantize_per_tensor_affine)
_calls("dynamic_quantize", None, dynamic_quantize)
_calls("prelu", None, F.prelu, torch.prelu, _T.prelu)
_calls("leaky_relu", None, F.leaky_relu_)
_calls("elu", None, F.elu_)
_calls("hardtanh", None, F.hardtanh_)
_calls("dropout", "input p training inplace", F.dropout)
_calls("dropout1d", "input p training inplace", F.dropout1d)
_calls("dropout2d", "input p training inplace", F.dropout2d)
_calls("batch_norm", "input running_mean running_var weight bias training momentum eps", F.batch_norm)
_calls("conv_transpose1d", "input weight bias stride padding output_padding groups dilation", F.conv_transpose1d)
_calls("conv_transpose2d", "input weight bias stride padding output_padding groups dilation", F.conv_transpose2d)
_calls("embedding", "input weight padding_idx max_norm norm_type scale_grad_by_freq sparse", F.embedding)
_calls("softmax", "input dim _stacklevel dtype", F.softmax)
_calls("log_softmax", "input dim _stacklevel dtype", F.log_softmax)
_calls("clamp", None, torch.clip, _T.clip, _T.clip_)
_calls("clamp", "input min", torch.clamp_min, _T.clamp_min, _T.clamp_min_)
_calls("clamp", "input max", torch.clamp_max, _T.clamp_max, _T.clamp_max_)
_calls("where", None, torch.where)
_calls("where", "input condition other", _T.where)
_calls("cat", None, torch.cat, torch.concat, torch.concatenate)
_calls("stack", None, torch.stack)
_calls("split", None, torch.split, _T.split, torch.functional.split)
_calls("split", "input split_size_or_sections dim", torch.split_with_sizes, _T.split_with_sizes)
_calls("reshape", None, torch.reshape)
_calls("reshape", "input *shape", _T.reshape, _T.view)
_calls("expand", "input *size", _T.expand)
_calls("repeat", "input *repeats", _T.repeat)
_calls("permute", None, torch.permute)
_calls("permute", "input *dims", _T.permute)
_calls("transpose", None, torch.swapaxes, _T.swapaxes, torch.swapdims, _T.swapdims)
_calls("flip", None, torch.flip)
_calls("flip", "input *dims", _T.flip)
_calls("roll", None, torch.roll, _T.roll)
_calls("max_pool1d", None, torch.max_pool1d)
_calls("max_pool2d", None, torch.max_pool2d)
_calls("movedim", None, torch.moveaxis, _T.moveaxis)


# Calls that give the same values again: no node, only a second name for the tensor.
SAME_VALUES = {
    _T.contiguous, torch.clone, _T.clone, _T.requires_grad_, torch.positive, _T.positive, _T.__pos__,
}  # fmt: skip
CASTS = {
    _T.to, _T.type, _T.type_as, _T.float, _T.double, _T.half, _T.bfloat16, _T.long, _T.int, _T.bool, _T.cpu, _T.cuda,
}  # fmt: skip
# Calls that hand the values of a tensor to python, where they cannot be followed.
READS = {
    _T.item, _T.tolist, _T.__bool__, _T.__float__, _T.__int__, _T.__index__, _T.__complex__, _T.numpy, _T.__array__,
    _T.__contains__, _T.is_nonzero, torch.is_nonzero, torch.equal, _T.equal, torch.allclose, _T.allclose,
}  # fmt: skip
# Calls whose result depends on the shape and type of their arguments alone.
SHAPE_ONLY = {
    torch.zeros_like, torch.ones_like, torch.full_like, _T.new_zeros, _T.new_ones, _T.new_full, _T.new_tensor,
}  # fmt: skip
MODE_DEPENDENT = {F.dropout: 2, F.dropout1d: 2, F.dropout2d: 2, F.batch_norm: 5}  # place of the argument `training`

# ---------------------------------------------------------------- calls whose meaning lies in their arguments


def _adapts(*functions: Any) -> Callable[[Callable[..., Bound]], Callable[..., Bound]]:
    def register(adapter: Callable[..., Bound]) -> Callable[..., Bound]:
        for function in functions:
            ADAPTED[function] = adapter
        return adapter

    return register


@_adapts(torch.einsum, torch.functional.einsum)
def _einsum(equation: Any, *operands: Any) -> Bound:
    if not isinstance(equation, str):
        raise ValueError("einsum with sublists instead of an equation")
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    return "einsum", {"equation": equation, "operands": operands}


@_adapts(Tensor.__getitem__)
def _getitem(input: Any, index: Any) -> Bound:
    items = index if isinstance(index, tuple) else (index,)
    return "getitem", {
        "input": input,
        "index": tuple(torch.tensor(item) if isinstance(item, list) else item for item in items),
    }


@_adapts(F.pad)
def _pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Bound:
    return "pad", {"input": input, "pad": tuple(pad), "mode": mode, "value": 0.0 if value is None else value}


def _extreme(over_all: str, of_two: str, over_one: str | None) -> Callable[..., Bound]:
    def adapter(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Bound:
        second = dim if other is None else other
        if second is None:
            return over_all, {"input": input}
        if not isinstance(second, int):
            return of_two, {"input": input, "other": second}
        if over_one is None:
            raise ValueError(f"the smallest over a dimension with its indices; {over_all} gives the values")
        return over_one, {"input": input, "dim": dim, "keepdim": keepdim}

    return adapter


_adapts(torch.max, Tensor.max)(_extreme("amax", "maximum", "max_over"))
_adapts(torch.min, Tensor.min)(_extreme("amin", "minimum", None))


@_adapts(torch.var, Tensor.var)
def _var(
    input: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: int | None = None
) -> Bound:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 0 if unbiased is False else 1
    return "var", {"input": input, "dim": dim, "correction": correction, "keepdim": keepdim}


# ---------------------------------------------------------------- the same, said with other calls


def _decomposes(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(decomposition: Callable[..., Any]) -> Callable[..., Any]:
        for function in functions:
            DECOMPOSED[function] = decomposition
        return decomposition

    return register


@_decomposes(torch.square, Tensor.square)
def _square(input: Tensor) -> Tensor:
    return input**2


@_decomposes(torch.addcmul, Tensor.addcmul)
def _addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    return input + (tensor1 * tensor2 if value == 1 else value * tensor1 * tensor2)


@_decomposes(torch.addcdiv, Tensor.addcdiv)
def _addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    return input + (tensor1 / tensor2 if value == 1 else value * tensor1 / tensor2)


@_decomposes(Tensor.expand_as)
def _expand_as(input: Tensor, other: Tensor) -> Tensor:
    return input.expand(other.shape)


@_decomposes(Tensor.view_as, Tensor.reshape_as)
def _view_as(input: Tensor, other: Tensor) -> Tensor:
    return input.reshape(other.shape)


@_decomposes(torch.unflatten, Tensor.unflatten)
def _unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    dim = dim % input.dim()
    return input.reshape(*input.shape[:dim], *sizes, *input.shape[dim + 1 :])


@_decomposes(torch.select, Tensor.select)
def _select(input: Tensor, dim: int, index: int) -> Tensor:
    return input[(slice(None),) * (dim % input.dim()) + (index,)]


@_decomposes(torch.narrow, Tensor.narrow)
def _narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    return input[(slice(None),) * (dim % input.dim()) + (slice(start, start + length),)]


@_decomposes(Tensor.T.__get__, torch.t, Tensor.t)  # type: ignore[attr-defined]
def _t(input: Tensor) -> Tensor:
    return input.permute(*reversed(range(input.dim())))


@_decomposes(Tensor.mT.__get__, Tensor.H.__get__)  # type: ignore[attr-defined]
def _mt(input: Tensor) -> Tensor:
    return input.transpose(-2, -1)


@_decomposes(F.normalize)
def _normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    if p == 2:
        norm = (input * input).sum(dim, keepdim=True).sqrt()
    elif p == 1:
        norm = input.abs().sum(dim, keepdim=True)
    else:
        raise ValueError(f"normalize with p={p}; 1 and 2 are known")
    return input / norm.clamp(min=eps)


@_decomposes(torch.std, Tensor.std)
def _std(*args: Any, **kwargs: Any) -> Tensor:
    return torch.var(*args, **kwargs).sqrt()


@_decomposes(torch._weight_norm)
def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    others = [d for d in range(v.dim()) if d != dim % v.dim()] if dim != -1 else list(range(v.dim()))
    return v * (g / (v * v).sum(others, keepdim=True).sqrt())


@_decomposes(F.multi_head_attention_forward)
def _multi_head_attention(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    """Attention of nn.MultiheadAttention (L, N, E), in eval mode, without its averaged weights."""
    given = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
    given.apply_defaults()
    a = given.arguments
    for name in ("key_padding_mask", "bias_k", "bias_v", "static_k", "static_v"):
        if a[name] is not None:
            raise ValueError(f"multi-head attention with {name}")
    if a["add_zero_attn"]:
        raise ValueError("multi-head attention with add_zero_attn")
    query, key, value, heads = a["query"], a["key"], a["value"], a["num_heads"]
    if a["use_separate_proj_weight"]:
        weights = a["q_proj_weight"], a["k_proj_weight"], a["v_proj_weight"]
    else:
        weights = a["in_proj_weight"].chunk(3)
    biases = (None,) * 3 if a["in_proj_bias"] is None else a["in_proj_bias"].chunk(3)
    length, batch, width = query.shape
    q, k, v = (
        # (L, N, E) -> (L, N, heads, E/heads) -> (N, heads, L, E/heads)
        F.linear(x, w, b).reshape(x.shape[0], batch, heads, -1).permute(1, 2, 0, 3)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    mixed = F.scaled_dot_product_attention(q, k, v, a["attn_mask"], is_causal=a["is_causal"] and a["attn_mask"] is None)
    mixed = mixed.permute(2, 0, 1, 3).reshape(length, batch, width)  # (N, heads, L, E/heads) -> (L, N, E)
    return F.linear(mixed, a["out_proj_weight"], a["out_proj_bias"]), None
