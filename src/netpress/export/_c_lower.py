"""From a traced network to the steps of the C runner; what the runner does not know is named."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from netpress.errors import UnsupportedOperatorError
from netpress.export._c_steps import (
    INFINITY,
    Add,
    Affine,
    Clamp,
    Conv,
    Linear,
    Matrix,
    Pool,
    Program,
    Softmax,
    Step,
    View,
    Work,
)
from netpress.graph import GraphNetwork, Node, Ref, fold_norms
from netpress.graph.fold import NORMS
from netpress.graph.operators import FUNCTIONS, MODULES
from netpress.graph.shapes import infer_values, sample_shape

MOST_SIZE = 32767
"""Of any axis, so that products of two fit 32 bits."""

_SAME = {"Identity", "Dropout", "Dropout1d", "Dropout2d", "dropout", "dropout1d", "dropout2d", "detach"}
_SHAPED = {"Flatten", "Unflatten", "flatten", "reshape", "squeeze", "unsqueeze"}
_FUNCTION_OF = {
    "Linear": "linear", "Conv2d": "conv2d", "ReLU": "relu", "ReLU6": "relu6", "Hardtanh": "hardtanh", "MaxPool2d": "max_pool2d",
    "AvgPool2d": "avg_pool2d", "AdaptiveAvgPool2d": "adaptive_avg_pool2d", "AdaptiveMaxPool2d": "adaptive_max_pool2d",
    "Softmax": "softmax", "ZeroPad2d": "pad", "BatchNorm1d": "batch_norm", "BatchNorm2d": "batch_norm",
}  # fmt: skip


class _RefusedError(Exception):
    """An operator whose arguments the runner does not take; the text says which."""


def lower(network: GraphNetwork) -> Program:
    """The steps of a network, one a node and none fused; batch normalisations are in the layers before them.

    Raises:
        UnsupportedOperatorError: An operator, or arguments of one, that the C runner does not have; it names the module.
    """
    if network.input_dtype != torch.float32:
        raise UnsupportedOperatorError(
            "the C runner takes float32 inputs", got=str(network.input_dtype), allowed="torch.float32"
        )
    return _Lowering(network).program()


class _Lowering:
    """One network on its way; values are numbered as the nodes' are, and ``same`` says which is but another's name."""

    def __init__(self, network: GraphNetwork) -> None:
        self.plain = network
        self.folded = fold_norms(network)
        self.scales = _scales(network, self.folded)
        self.shapes = [sample_shape(value) for value in infer_values(self.folded)]
        self.same = list(range(len(self.shapes)))

    def program(self) -> Program:
        steps, known = [], {0: self.shape(0, self.folded.nodes[0])}
        for k, node in enumerate(self.folded.nodes, 1):
            if node.is_tensor:
                continue
            try:
                made = self.lowered(k, node)
            except _RefusedError as reason:
                raise _unsupported(node, str(reason)) from None
            if isinstance(made, int):
                self.same[k] = made
                continue
            work, inputs, low, high = made
            known[k] = self.shape(k, node)
            steps.append(Step(work, inputs, k, low, high))
        return Program(tuple(steps), known, self.same[-1])

    def shape(self, value: int, node: Node) -> tuple[int, ...]:
        """The shape of one sample of a value."""
        shape = self.shapes[value]
        if shape is None or any(size > MOST_SIZE for size in shape[1:]) or math.prod(shape) >= 2**31:
            raise _unsupported(node, f"a value of shape {shape}")
        return shape

    def lowered(self, k: int, node: Node) -> int | tuple[Work, tuple[int, ...], float, float]:
        """Of the node that makes value ``k``: the number of the value that it only passes on, or its work, inputs and bounds."""
        settings: Mapping[str, Any]
        if node.is_module:
            module = self.folded.get_submodule(node.name)
            if isinstance(module, nn.Identity):  # also where a normalisation was
                return self.value(node.args[0])
            settings = {
                name: getattr(module, name) for name in MODULES[node.op].signature.names if hasattr(module, name)
            }
            settings = {**settings, "input": node.args[0]}
        else:
            settings = FUNCTIONS[node.op].signature.bind(node.args)
        if node.op in _SAME or node.op in _SHAPED:
            source = self.value(settings["input"])
            if math.prod(self.shape(source, node)) != math.prod(self.shape(k, node)):
                raise _RefusedError("a shape that mixes samples")
            return source
        op = _FUNCTION_OF.get(node.op, node.op)
        if op == "add":
            return self.sum(settings)
        bounds = _bounds(op, settings)
        x = self.value(settings["input"])
        if bounds is not None:
            return Clamp(), (x,), *bounds
        make = _MAKERS.get(op)
        if make is None:
            raise _unsupported(node, None)
        seen = self.shape(
            settings["input"].index, node
        )  # under the name that the node reads it by, which may be a flatten's
        return make(self, node, settings, seen, self.shape(k, node)), (x,), -INFINITY, INFINITY

    def value(self, ref: Any) -> int:
        """The number of the value behind a reference."""
        if not isinstance(ref, Ref) or (ref.index and self.folded.nodes[ref.index - 1].is_tensor):
            raise _RefusedError("a number or a constant tensor for a value")
        return self.same[ref.index]

    def sum(self, settings: Mapping[str, Any]) -> tuple[Work, tuple[int, ...], float, float]:
        a, b = self.value(settings["input"]), self.value(settings["other"])
        shapes = [self.shapes[settings[name].index] for name in ("input", "other")]
        if shapes[0] != shapes[1]:
            raise _RefusedError(f"a sum of shapes {shapes[0]} and {shapes[1]}")
        return Add(), (a, b), -INFINITY, INFINITY

    def tensor(self, ref: Any) -> Tensor | None:
        """The parameter or buffer behind a reference."""
        if ref is None:
            return None
        node = self.folded.nodes[ref.index - 1] if ref.index else None
        if node is None or not node.is_tensor:
            raise _RefusedError("a weight that is computed")
        owner, _, last = node.name.rpartition(".")
        found = getattr(self.folded.get_submodule(owner), last)
        return found.detach().to("cpu", torch.float32)

    def matrix(self, node: Node, settings: Mapping[str, Any]) -> Matrix:
        """The weight and bias of a layer, module or function."""
        if not node.is_module:
            weight = self.tensor(settings["weight"])
            if weight is None:
                raise _RefusedError("no weight")
            return Matrix(node.name, weight, None, weight, self.tensor(settings["bias"]))
        plain, folded = (_layer(network, node.name) for network in (self.plain, self.folded))
        return Matrix(node.name, plain[0], self.scales.get(node.name), *folded)


def _layer(network: GraphNetwork, name: str) -> tuple[Tensor, Tensor | None]:
    module: Any = network.get_submodule(name)
    bias = None if module.bias is None else module.bias.detach().to("cpu", torch.float32)
    return module.weight.detach().to("cpu", torch.float32), bias


def _scales(plain: GraphNetwork, folded: GraphNetwork) -> dict[str, Tensor]:
    """What each normalisation that was folded multiplies the rows of its layer by, by the layer's name."""
    scales = {}
    for node in plain.nodes:
        if not node.is_module or not isinstance(folded.get_submodule(node.name), nn.Identity):
            continue
        norm = plain.get_submodule(node.name)
        if isinstance(norm, NORMS):
            scales[plain.nodes[node.inputs[0] - 1].name] = _affine(norm)[0]
    return scales


def _affine(norm: Any) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel of a batch normalisation in eval mode."""
    if norm.running_mean is None:
        raise _RefusedError("no running statistics")
    scale = torch.rsqrt(norm.running_var.detach().double() + norm.eps)
    if norm.affine:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        shift = shift + norm.bias.detach().double()
    return scale.cpu().float(), shift.cpu().float()


# ---------------------------------------------------------------- one operator each

_Shape = tuple[int, ...]


def _bounds(op: str, settings: Mapping[str, Any]) -> tuple[float, float] | None:
    """The bounds of an operator that does nothing else."""
    if op == "clamp":
        low, high = settings["min"], settings["max"]
        return -INFINITY if low is None else float(low), INFINITY if high is None else float(high)
    if op == "hardtanh":
        return float(settings["min_val"]), float(settings["max_val"])
    return {"relu": (0.0, INFINITY), "relu6": (0.0, 6.0)}.get(op)


def _linear(lowering: _Lowering, node: Node, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> Linear:
    if len(x) != 1:
        raise _RefusedError(f"an input of shape {x}; the runner multiplies vectors")
    return Linear(lowering.matrix(node, settings))


def _conv(lowering: _Lowering, node: Node, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> Conv:
    if settings.get("padding_mode", "zeros") != "zeros" or len(x) != 3:
        raise _RefusedError(f"padding_mode {settings.get('padding_mode')!r}, input {x}")
    matrix = lowering.matrix(node, settings)
    kernel, dilation = (matrix.weight.shape[2], matrix.weight.shape[3]), _pair(settings["dilation"])
    padding = settings["padding"]
    if padding == "same":
        pad = (dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2)
    else:
        pad = (0, 0) if padding == "valid" else _pair(padding)
    size, out = (x[0], x[1], x[2]), (y[0], y[1], y[2])
    return Conv(matrix, size, out, kernel, _pair(settings["stride"]), pad, dilation, settings["groups"])


def _max_pool(lowering: _Lowering, node: Node, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> Pool:
    return _windows("max", settings, x, y)


def _mean_pool(lowering: _Lowering, node: Node, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> Pool:
    return _windows("mean" if settings["count_include_pad"] else "mean_inside", settings, x, y)


def _windows(kind: str, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> Pool:
    kernel = _pair(settings["kernel_size"])
    return Pool(
        kind,
        _plane(x),
        _plane(y),
        kernel,
        kernel if settings["stride"] is None else _pair(settings["stride"]),
        _pair(settings["padding"]),
        _pair(settings.get("dilation", 1)),
        settings.get("divisor_override") or 0,
    )


def _adaptive_mean(lowering: _Lowering, node: Node, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> Pool:
    return Pool("mean", _plane(x), _plane(y))


def _adaptive_max(lowering: _Lowering, node: Node, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> Pool:
    return Pool("max", _plane(x), _plane(y))


def _mean(lowering: _Lowering, node: Node, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> Pool:
    dims = settings["dim"] if isinstance(settings["dim"], tuple) else (settings["dim"],)
    if len(x) != 3 or None in dims or sorted(dim % 4 for dim in dims) != [2, 3]:
        raise _RefusedError(f"a mean over {settings['dim']} of shape {x}; the runner has one over height and width")
    return Pool("mean", _plane(x), (1, 1))


def _pad(lowering: _Lowering, node: Node, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> View:
    pad = settings["padding" if node.is_module else "pad"]
    pad = (pad,) * 4 if isinstance(pad, int) else tuple(pad)
    if settings.get("mode", "constant") != "constant" or min(pad) < 0 or len(pad) > 2 * len(x):
        raise _RefusedError(
            f"mode {settings.get('mode', 'constant')!r}, pad {pad}; the runner pads with one value, outwards"
        )
    before = [*[0] * (len(x) - len(pad) // 2), *pad[-2::-2]]  # the last axis comes first in `pad`
    return _view(x, y, before=before, length=x, fill=float(settings.get("value", 0.0)))


def _getitem(lowering: _Lowering, node: Node, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> View:
    index = settings["index"]
    if len(index) > 1 + len(x) or not all(isinstance(item, slice) for item in index) or index[0] != slice(None):
        raise _RefusedError(f"index {index}; the runner takes slices of every axis but the batch")
    whole = [*index[1:], *[slice(None)] * (len(x) - len(index) + 1)]
    ranges = [range(size)[item] for size, item in zip(x, whole, strict=True)]
    return _view(x, y, length=y, start=[r.start for r in ranges], step=[r.step for r in ranges])


def _view(
    x: _Shape,
    y: _Shape,
    *,
    length: _Shape,
    before: Any = (0, 0, 0),
    start: Any = (0, 0, 0),
    step: Any = (1, 1, 1),
    fill: float = 0.0,
) -> View:
    if len(x) > 3 or 0 in y:
        raise _RefusedError(f"shapes {x} and {y}; the runner has three axes")
    missing = 3 - len(x)

    def three(items: Any, default: int) -> tuple[int, ...]:
        return (*[default] * missing, *list(items)[-len(x) :])

    return View(three(x, 1), three(y, 1), three(before, 0), three(length, 1), three(start, 0), three(step, 1), fill)


def _norm(lowering: _Lowering, node: Node, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> Affine:
    if not node.is_module:
        raise _RefusedError("a normalisation that is no module")
    return Affine(*_affine(lowering.folded.get_submodule(node.name)))


def _softmax(lowering: _Lowering, node: Node, settings: Mapping[str, Any], x: _Shape, y: _Shape) -> Softmax:
    if len(x) != 1 or settings["dim"] not in (1, -1) or settings.get("dtype") is not None:
        raise _RefusedError(f"dim {settings['dim']} of shape {x}; the runner has it over vectors")
    return Softmax()


_MAKERS: dict[str, Callable[[_Lowering, Node, Mapping[str, Any], _Shape, _Shape], Work]] = {
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
    "softmax": _softmax,
}

KNOWN = sorted({*_FUNCTION_OF, *_FUNCTION_OF.values(), *_MAKERS, *_SAME, *_SHAPED, "add", "clamp"})
"""Every operator that `lower` takes."""


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _plane(shape: _Shape) -> tuple[int, int]:
    if len(shape) != 3:
        raise _RefusedError(f"a value of shape {shape}; the runner pools (C, H, W)")
    return shape[1], shape[2]


def _unsupported(node: Node, reason: str | None) -> UnsupportedOperatorError:
    return UnsupportedOperatorError(
        f"the C runner does not have the operator {node.op!r} of module {node.name!r}"
        + (" in this form" if reason else ""),
        got=reason,
        allowed=", ".join(KNOWN) if reason is None else None,
        remedy="export to another target, or change the network before it is compressed",
    )
