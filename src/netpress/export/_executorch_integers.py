"""Integers in a program of torch.export, said as ExecuTorch's partitioner for XNNPACK looks for them.

round          ``fake_quantize`` becomes quantize_per_tensor and, for each reader, dequantize_per_tensor of its own; XNNPACK takes int8,
               so levels and zero points of uint8 are moved by 128
spread         what only moves or compares values (max pooling, flatten) gives rounded values where it is given such, and may be
               given them: the layer before it then gives integers, too
weights        rows on grids become int8 levels and a step for each row, dequantize_per_channel

A layer is computed in integers where it reads a rounded value and gives one, at most an activation between. One that gives a sum
in float, such as the last, has its input rounded again by XNNPACK, on a grid of 8 bits for each image; depthwise and other
convolutions for which XNNPACK has no such kernel keep their weights in float.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from netpress.export._torch_programs import unsupported, with_substitutes
from netpress.graph import GraphNetwork
from netpress.graph import Node as Step
from netpress.maths.row_grids import row_steps

ATEN = torch.ops.aten
LAYERS = (ATEN.conv1d.default, ATEN.conv2d.default, ATEN.linear.default)
FUSED = (ATEN.relu.default, ATEN.hardtanh.default, ATEN.relu6.default)
MOVES = (ATEN.max_pool2d.default, ATEN.flatten.using_ints, ATEN.reshape.default, ATEN.view.default)
LOW, HIGH = -128, 127
LEVELS = 127  # of weights, as many on either side
ADAPTIVE = {"AdaptiveMaxPool1d": 1, "AdaptiveMaxPool2d": 2, "adaptive_max_pool1d": 1, "adaptive_max_pool2d": 2}  # axes
FORM = "ExecuTorch"
Call = Any  # a node of torch.fx, whose arguments have too many types to be told apart
SMALLEST = torch.finfo(torch.float32).eps  # of a step that is found while the network runs


class _Rounded(nn.Module):
    """``fake_quantize`` as the pair of operators that stands for it."""

    def __init__(self, step: float, zero: int = 0, low: int = 0, high: int = 255) -> None:
        super().__init__()
        if low >= 0 and high <= 255:
            shift = 128
        elif low >= LOW and high <= HIGH:
            shift = 0
        else:
            raise ValueError(f"levels from {low} to {high} take more than 8 bits")
        self.step, self.zero = float(torch.tensor(step)), zero - shift
        self.low, self.high = low - shift, high - shift

    def forward(self, x: Tensor) -> Tensor:
        q = torch.ops.quantized_decomposed
        levels = q.quantize_per_tensor.default(x, self.step, self.zero, self.low, self.high, torch.int8)
        whole: Tensor = q.dequantize_per_tensor.default(levels, self.step, self.zero, LOW, HIGH, torch.int8)
        return whole


class _Largest(nn.Module):
    """Adaptive max pooling to one place, which ExecuTorch has under the name of a maximum over axes alone."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.axes = tuple(range(-axes, 0))

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(self.axes, keepdim=True)


def in_its_words(network: GraphNetwork) -> GraphNetwork:
    """The network with modules of the same answers in place of what ExecuTorch has under other names.

    Raises:
        UnsupportedOperatorError: Values on more levels than int8 has.
    """

    def instead_of(node: Step) -> nn.Module | None:
        if node.op == "fake_quantize":
            try:
                return _Rounded(*node.args[1:])
            except ValueError as error:
                raise unsupported(node, str(error), FORM) from error
        return _Largest(ADAPTIVE[node.op]) if _pools_to_one(network, node) else None

    return with_substitutes(network, instead_of)


def _pools_to_one(network: GraphNetwork, node: Step) -> bool:
    """Whether it is an adaptive max pooling that leaves one place of all."""
    if node.op not in ADAPTIVE:
        return False
    size: Any = network.get_submodule(node.name).output_size if node.is_module else node.args[1]
    return set(size if isinstance(size, tuple | list) else (size,)) == {1}


def with_integers(exported: ExportedProgram) -> GraphModule | None:
    """The program's module with the integers of its weights; None where nothing is rounded."""
    module: Any = exported.module()
    graph = module.graph
    rounded = [node for node in graph.nodes if _is_rounded(node)]
    if not rounded:
        return None
    for node in rounded:
        _bound(graph, _spread(graph, node))
    for node in list(graph.nodes):
        if node.target in LAYERS:
            _weights(module, node)
    for node in list(graph.nodes):
        if _is_rounded(node):
            for user in list(node.users)[1:]:
                with graph.inserting_before(user):
                    user.replace_input_with(node, graph.call_function(node.target, node.args))
    graph.lint()
    module.recompile()
    return module


def _spread(graph: Any, rounded: Call) -> Call:
    """Rounds before what only moves or compares values as well as behind it, which changes none; the levels rounded to first."""
    q = torch.ops.quantized_decomposed
    while True:
        levels = rounded.args[0]
        given, step, zero, *range_ = levels.args
        if given.target not in MOVES or len(given.users) > 1 or _is_rounded(given.args[0]):
            return levels
        with graph.inserting_before(given):
            earlier = graph.call_function(q.quantize_per_tensor.default, (given.args[0], step, zero, *range_))
            rounded = graph.call_function(q.dequantize_per_tensor.default, (earlier, *rounded.args[1:]))
        given.update_arg(0, rounded)
        levels.args = (given, *rounded.args[1:])


def _bound(graph: Any, levels: Call) -> None:
    """Of fewer levels than int8 has, the bounds go into an activation before them, as XNNPACK takes all levels."""
    given, step, zero, low, high, kind = levels.args
    if (low, high) == (LOW, HIGH):
        return
    least, most = (low - zero) * step, (high - zero) * step
    before = given
    if given.target in FUSED and len(given.users) == 1:
        ends = {ATEN.relu.default: (0.0, torch.inf), ATEN.relu6.default: (0.0, 6.0)}.get(given.target)
        lower, upper = ends or (*given.args[1:], *(-1.0, 1.0)[len(given.args) - 1 :])
        least, most, before = max(least, lower), min(most, upper), given.args[0]
    with graph.inserting_before(levels):
        bounded = graph.call_function(ATEN.hardtanh.default, (before, least, most))
    levels.args = (bounded, step, zero, LOW, HIGH, kind)
    if not given.users:
        graph.erase_node(given)


def _weights(module: Any, layer: Call) -> None:
    """A layer's weight as int8 levels and steps, where it reads a rounded value and XNNPACK has a kernel."""
    given, weight = layer.args[0], layer.args[1]
    if not _is_rounded(given) or weight.op != "get_attr":
        return
    values = _tensor(module, weight.target)
    gives_integers = _gives_integers(layer)
    if not gives_integers and not _has_dynamic(layer):
        return
    found = row_steps(values, LEVELS)
    if found is None:
        return
    steps, levels = found
    q = torch.ops.quantized_decomposed
    graph = module.graph
    stem = weight.target.replace(".", "_")
    with graph.inserting_before(layer):
        held = []
        for name, tensor in (
            ("levels", levels),
            ("steps", steps),
            ("zeros", torch.zeros(len(steps), dtype=torch.int64)),
        ):
            module.register_buffer(f"{stem}_{name}", tensor)
            held.append(graph.get_attr(f"{stem}_{name}"))
        whole = graph.call_function(q.dequantize_per_channel.default, (*held, 0, -LEVELS, LEVELS, torch.int8))
        layer.update_arg(1, whole)
        if not gives_integers:
            limits = (LOW, HIGH)
            chosen = graph.call_function(q.choose_qparams.tensor, (given, *limits, SMALLEST, torch.int8))
            grid = (*(graph.call_function(operator.getitem, (chosen, place)) for place in (0, 1)), *limits, torch.int8)
            again = graph.call_function(q.quantize_per_tensor.tensor, (given, *grid))
            layer.update_arg(0, graph.call_function(q.dequantize_per_tensor.tensor, (again, *grid)))


def _is_rounded(node: Any) -> bool:
    return isinstance(node, Node) and node.target == torch.ops.quantized_decomposed.dequantize_per_tensor.default


def _gives_integers(layer: Call) -> bool:
    """Whether the one reader of a layer, or of the activation behind it, rounds."""
    users = list(layer.users)
    if len(users) == 1 and users[0].target in FUSED:
        users = list(users[0].users)
    return len(users) == 1 and users[0].target == torch.ops.quantized_decomposed.quantize_per_tensor.default


def _has_dynamic(layer: Call) -> bool:
    """Whether XNNPACK has a kernel that rounds the layer's input itself and gives float."""
    if layer.target is ATEN.linear.default:  # of more axes, XNNPACK takes it and then cannot be loaded
        return bool(layer.meta["val"].dim() == 2)
    groups = layer.args[6] if len(layer.args) > 6 else 1
    return bool(layer.target is ATEN.conv2d.default and groups == 1)


def _tensor(module: nn.Module, name: str) -> Tensor:
    owner, _, last = name.rpartition(".")
    found: Tensor = getattr(module.get_submodule(owner), last)
    return found
