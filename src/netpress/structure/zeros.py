"""Where channels that are missing read as zeros.

`mask_network` writes zeros into parameters, and what comes of them is 0 again only behind some operators: behind a rectifier, not
behind an exponential. Layers that read channels do not mind, since their own weights are zeros there too. A product of two
computed tensors minds: a sum over places that are not 0 would be another one without them. This module says of every
value whether its missing places are surely 0.
"""

from __future__ import annotations

from typing import Any

from netpress.graph import Node, Ref
from netpress.graph.operators import FUNCTIONS
from netpress.program.operators import PARAMETER
from netpress.structure.flow import Flow
from netpress.structure.labels import varied

#: f(0) = 0, whatever the other arguments are, and operators that only move, copy or reduce places.
_KEEP = frozenset(
    (
        "neg", "abs", "sqrt", "sin", "sign", "erf", "tanh", "relu", "relu6", "silu", "mish", "hardswish", "gelu", "leaky_relu",
        "elu", "detach", "dropout", "dropout1d", "dropout2d", "to", "prelu", "ReLU", "ReLU6", "SiLU", "Mish", "Tanh", "Hardswish",
        "Identity", "LeakyReLU", "ELU", "GELU", "PReLU", "Dropout", "Dropout1d", "Dropout2d", "mean", "sum", "amax", "amin", "var",
        "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
        "adaptive_max_pool1d", "adaptive_max_pool2d", "interpolate", "MaxPool1d", "MaxPool2d", "MaxPool3d", "AvgPool1d",
        "AvgPool2d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "Upsample",
        "ZeroPad2d", "ReflectionPad2d", "Flatten", "Unflatten", "PixelShuffle", "flatten", "reshape", "permute", "transpose",
        "movedim", "squeeze", "unsqueeze", "expand", "repeat", "flip", "roll", "pixel_shuffle", "pixel_unshuffle", "getitem",
        "split", "chunk", "unbind", "item", "fake_quantize", "dynamic_quantize",
    )
)  # fmt: skip
#: Layers whose masked parameters make zeros of anything.
_MAKE = frozenset(("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "Embedding"))


def stays_zero(flow: Flow, node: Node, index: int) -> bool:
    """Whether the missing places of value ``index``, which ``node`` makes, are surely 0 in a masked network.

    All tensors of an operator that returns many are alike. False where it is not known.
    """
    if node.is_tensor:
        return node.op == PARAMETER  # buffers are not masked
    if node.is_module:
        return _of_module(flow, node, index)
    a = FUNCTIONS[node.op].signature.bind(node.args)
    zeros = [flow.zeros[source] for source in node.inputs]
    match node.op:
        case "add" | "sub" | "minimum" | "maximum":
            return all(zeros) and all(_covers(flow, source, index) for source in node.inputs) and len(zeros) == 2
        case "mul":
            alike = [zero for source, zero in zip(node.inputs, zeros, strict=True) if flow.of(source)]
            return all(alike) or any(
                zero and _covers(flow, source, index) for source, zero in zip(node.inputs, zeros, strict=True)
            )
        case "div" | "masked_fill":
            # what is divided or filled is the first; a mask fills zeros with nothing else only if it fills with 0
            plain = node.op == "div" or a["value"] == 0
            return plain and isinstance(node.args[0], Ref) and zeros[0] and _covers(flow, node.inputs[0], index)
        case "pow":
            return isinstance(a["other"], int | float) and a["other"] > 0 and zeros[0]
        case "clamp":
            low, high = a["min"], a["max"]
            return zeros[0] and (low is None or low <= 0) and (high is None or high >= 0)
        case "hardtanh":
            return zeros[0] and a["min_val"] <= 0 <= a["max_val"]
        case "pad":
            return zeros[0] and (a["mode"] != "constant" or a["value"] == 0)
        case "cat" | "stack" | "matmul" | "bmm" | "einsum":
            return all(zeros)
        case "linear" | "conv1d" | "conv2d" | "conv3d" | "conv_transpose1d" | "conv_transpose2d":
            biased = a["bias"] is None or flow.zeros[a["bias"].index]
            return flow.zeros[a["weight"].index] and biased and len(flow.of(index)) < 2
        case "embedding":
            return flow.zeros[a["weight"].index]
        case "batch_norm" | "group_norm":
            return all(a[name] is not None and flow.zeros[a[name].index] for name in ("weight", "bias"))
        case "scaled_dot_product_attention":
            return flow.zeros[a["value"].index] and _covers(flow, a["value"].index, index)
    return node.op in _KEEP and all(zeros)


def _of_module(flow: Flow, node: Node, index: int) -> bool:
    module: Any = flow.net.get_submodule(node.name)
    before = flow.zeros[node.args[0].index]
    match node.op:
        case "Linear":
            return len(flow.of(index)) < 2 and _made_here(flow, node, index)
        case "BatchNorm1d" | "BatchNorm2d" | "BatchNorm3d" | "GroupNorm":
            # channels are multiplied by masked weights; what lies along other axes is shifted
            return bool(module.affine) and all(varied(labels) == {1} for labels in flow.of(index))
        case "Hardtanh":
            return before and module.min_val <= 0 <= module.max_val
    return node.op in _MAKE or (node.op in _KEEP and before)


def _made_here(flow: Flow, node: Node, index: int) -> bool:
    """Whether what a linear layer's output is labelled with are its own channels, not tokens that it passes on."""
    return all(varied(labels) == {len(flow.shape(index)) - 1} for labels in flow.of(index))


def _covers(flow: Flow, source: int, index: int) -> bool:
    """Whether value ``source``, broadcast to ``index``, has labels along every axis along which that has any."""
    shift = len(flow.shape(index)) - len(flow.shape(source))
    own = {axis + shift for labels in flow.of(source) for axis in varied(labels)}
    return all(varied(labels) <= own for labels in flow.of(index))
