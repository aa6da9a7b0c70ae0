"""Integers in a program of torch.export, in the words of PyTorch's quantizers (PT2E), which backends look for.

round          ``fake_quantize`` becomes quantize_per_tensor and, for each reader, dequantize_per_tensor of its own, on the levels of
               the backend's type
spread         what only moves or compares values (max pooling, flatten) gives rounded values where it is given such, and may be
               given them: the layer before it then gives integers, too
measure        ``dynamic_quantize`` becomes choose_qparams and the same pair with what that finds
weights        rows on grids become int8 levels and a step for each row, dequantize_per_channel

A layer is computed in integers where it reads a rounded value and gives one, at most an activation between. What becomes of one that
gives a sum in float, such as the last, is the backend's affair.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from netpress.export._torch_programs import unsupported
from netpress.graph import Node as Step
from netpress.maths.row_grids import row_steps

ATEN = torch.ops.aten
LAYERS = (ATEN.conv1d.default, ATEN.conv2d.default, ATEN.linear.default)
FUSED = (ATEN.relu.default, ATEN.hardtanh.default, ATEN.relu6.default)
MOVES = (ATEN.max_pool2d.default, ATEN.flatten.using_ints, ATEN.reshape.default, ATEN.view.default)
OPERATORS_OF_INTEGERS = "torch.ao.quantization.fx._decomposed"
LEVELS = 127  # of weights, as many on either side
SMALLEST = torch.finfo(torch.float32).eps  # of a step that is found while the network runs
Call = Any  # a node of torch.fx, whose arguments have too many types to be told apart


class Kind(NamedTuple):
    """The type of a backend's rounded values, and its levels."""

    dtype: torch.dtype
    low: int
    high: int


INT8, UINT8 = Kind(torch.int8, -128, 127), Kind(torch.uint8, 0, 255)


def known_operators() -> None:
    """Lets torch know the operators; it has them, but not before they are asked for."""
    importlib.import_module(OPERATORS_OF_INTEGERS)


class Rounded(nn.Module):
    """``fake_quantize`` as the pair of operators that stands for it; a ValueError where it has more levels than 8 bits."""

    def __init__(self, kind: Kind, step: float, zero: int = 0, low: int = 0, high: int = 255) -> None:
        super().__init__()
        for given in (UINT8, INT8):
            if given.low <= low and high <= given.high:
                shift = kind.low - given.low
                break
        else:
            raise ValueError(f"levels from {low} to {high} take more than 8 bits")
        self.kind, self.step, self.zero = kind, float(torch.tensor(step)), zero + shift
        self.low, self.high = low + shift, high + shift

    def forward(self, x: Tensor) -> Tensor:
        q = torch.ops.quantized_decomposed
        dtype, low, high = self.kind
        levels = q.quantize_per_tensor.default(x, self.step, self.zero, self.low, self.high, dtype)
        whole: Tensor = q.dequantize_per_tensor.default(levels, self.step, self.zero, low, high, dtype)
        return whole


def rounded(node: Step, kind: Kind, form: str) -> Rounded:
    """The module for a ``fake_quantize``.

    Raises:
        UnsupportedOperatorError: Values on more levels than 8 bits have.
    """
    try:
        return Rounded(kind, *node.args[1:])
    except ValueError as error:
        raise unsupported(node, str(error), form) from error


class Measured(nn.Module):
    """``dynamic_quantize`` as the operators that stand for it: the same grid as `on_own_range`, but for float32's last digit."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        q = torch.ops.quantized_decomposed
        dtype, low, high = self.kind
        step, zero = q.choose_qparams.tensor(x, low, high, SMALLEST, dtype)
        levels = q.quantize_per_tensor.tensor(x, step, zero, low, high, dtype)
        whole: Tensor = q.dequantize_per_tensor.tensor(levels, step, zero, low, high, dtype)
        return whole


def exported(
    network: nn.Module, example: Tensor, batch: Any, integers: Callable[[ExportedProgram], Any]
) -> ExportedProgram:
    """The program of a network with integers in it.

    Args:
        network: With `Rounded` modules.
        example: (2, ...), what is given to the network.
        batch: The `torch.export.Dim` of the first axis.
        integers: As `with_integers`.
    """
    known_operators()
    program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    changed = integers(program)
    return program if changed is None else torch.export.export(changed, (example,), dynamic_shapes=({0: batch},))


def with_integers(program: ExportedProgram, kind: Kind, before_sums: Callable[[Any, Call], bool]) -> GraphModule | None:
    """The program's module with the integers of its weights; None where nothing is rounded.

    Args:
        program: Of a network with `Rounded` modules of this ``kind``.
        kind: Of the backend.
        before_sums: Given the graph and a layer that reads rounded values and gives float: makes of it what the backend wants, and
            says whether it takes the layer with weights of integers.
    """
    module: Any = program.module()
    graph = module.graph
    rounded = [node for node in graph.nodes if _is_rounded(node)]
    if not rounded and not any(_is_measured(node) for node in graph.nodes):
        return None
    for node in rounded:
        _bound(graph, _spread(graph, node), kind)
    for node in list(graph.nodes):
        if node.target in LAYERS:
            _weights(module, node, before_sums)
    for node in list(graph.nodes):
        if _is_rounded(node) or _is_measured(node):
            for user in list(node.users)[1:]:
                with graph.inserting_before(user):
                    user.replace_input_with(node, graph.call_function(node.target, node.args))
    _without_unused(module)
    graph.lint()
    module.recompile()
    return module


def _without_unused(module: Any) -> None:
    """Weights that nothing reads any more would be written, too."""
    graph = module.graph
    for node in [node for node in graph.nodes if node.op == "get_attr" and not node.users]:
        graph.erase_node(node)
    read = {node.target for node in graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in [*module.named_parameters(), *module.named_buffers()] if name not in read]:
        owner, _, last = name.rpartition(".")
        delattr(module.get_submodule(owner), last)


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


def _bound(graph: Any, levels: Call, kind: Kind) -> None:
    """Of fewer levels than the type has, the bounds go into an activation before them, as backends take all levels."""
    given, step, zero, low, high, dtype = levels.args
    if (low, high) == (kind.low, kind.high):
        return
    least, most = (low - zero) * step, (high - zero) * step
    before = given
    if given.target in FUSED and len(given.users) == 1:
        ends = {ATEN.relu.default: (0.0, torch.inf), ATEN.relu6.default: (0.0, 6.0)}.get(given.target)
        lower, upper = ends or (*given.args[1:], *(-1.0, 1.0)[len(given.args) - 1 :])
        least, most, before = max(least, lower), min(most, upper), given.args[0]
    with graph.inserting_before(levels):
        bounded = graph.call_function(ATEN.hardtanh.default, (before, least, most))
    levels.args = (bounded, step, zero, kind.low, kind.high, dtype)
    if not given.users:
        graph.erase_node(given)


def _weights(module: Any, layer: Call, before_sums: Callable[[Any, Call], bool]) -> None:
    """A layer's weight as int8 levels and steps, where it reads a rounded value and the backend has a kernel."""
    given, weight = layer.args[0], layer.args[1]
    if not (_is_rounded(given) or _is_measured(given)) or weight.op != "get_attr":
        return
    found = row_steps(_tensor(module, weight.target), LEVELS)
    if found is None or not (_is_measured(given) or _gives_integers(layer) or before_sums(module.graph, layer)):
        return
    steps, levels = found
    held = {"levels": levels, "steps": steps, "zeros": torch.zeros(len(steps), dtype=torch.int64)}
    stem = weight.target.replace(".", "_")
    graph = module.graph
    with graph.inserting_before(layer):
        for name, tensor in held.items():
            module.register_buffer(f"{stem}_{name}", tensor)
        names = [graph.get_attr(f"{stem}_{name}") for name in held]
        per_row = torch.ops.quantized_decomposed.dequantize_per_channel.default
        layer.update_arg(1, graph.call_function(per_row, (*names, 0, -LEVELS, LEVELS, torch.int8)))


def _is_rounded(node: Any) -> bool:
    return isinstance(node, Node) and node.target == torch.ops.quantized_decomposed.dequantize_per_tensor.default


def _is_measured(node: Any) -> bool:
    return isinstance(node, Node) and node.target == torch.ops.quantized_decomposed.dequantize_per_tensor.tensor


def _gives_integers(layer: Call) -> bool:
    """Whether the one reader of a layer, or of the activation behind it, rounds."""
    users = list(layer.users)
    if len(users) == 1 and users[0].target in FUSED:
        users = list(users[0].users)
    return len(users) == 1 and users[0].target == torch.ops.quantized_decomposed.quantize_per_tensor.default


def _tensor(module: nn.Module, name: str) -> Tensor:
    owner, _, last = name.rpartition(".")
    found: Tensor = getattr(module.get_submodule(owner), last)
    return found
