"""A network in the words of ExecuTorch's partitioner for XNNPACK.

Where layers give a sum in float, such as the last, XNNPACK rounds their input again, on a grid of 8 bits for each image; depthwise and
other convolutions for which it has no such kernel keep their weights in float.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from netpress.export import _torch_integers
from netpress.export._torch_integers import INT8, LEVELS, SMALLEST, Call, Measured, rounded
from netpress.export._torch_programs import with_substitutes
from netpress.graph import GraphNetwork
from netpress.graph import Node as Step
from netpress.maths.ranges import on_own_range
from netpress.maths.row_grids import row_steps

ATEN = torch.ops.aten
ADAPTIVE = {"AdaptiveMaxPool1d": 1, "AdaptiveMaxPool2d": 2, "adaptive_max_pool1d": 1, "adaptive_max_pool2d": 2}  # axes
FORM = "ExecuTorch"


class _Measured(Measured):
    """In plain arithmetic before linear layers over several axes: XNNPACK takes the rounding there and then cannot be loaded."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.dim() == 2 else on_own_range(x)


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
            return rounded(node, INT8, FORM)
        if node.op == "dynamic_quantize" and _before_integers(network, node):
            return _Measured(INT8)
        return _Largest(ADAPTIVE[node.op]) if _pools_to_one(network, node) else None

    return with_substitutes(network, instead_of)


def with_integers(exported: ExportedProgram) -> GraphModule | None:
    """The program's module with the integers of its weights; None where nothing is rounded."""
    return _torch_integers.with_integers(exported, INT8, _round_again)


def _before_integers(network: GraphNetwork, node: Step) -> bool:
    """Whether all that reads it is linear layers whose weights are on grids; ExecuTorch has no kernels for the rounding alone."""
    place = next(k for k, other in enumerate(network.nodes, 1) if other is node)
    readers = [network.get_submodule(r.name) if r.is_module else None for r in network.nodes if place in r.inputs]
    return all(isinstance(r, nn.Linear) and row_steps(r.weight, LEVELS) is not None for r in readers)


def _pools_to_one(network: GraphNetwork, node: Step) -> bool:
    """Whether it is an adaptive max pooling that leaves one place of all."""
    if node.op not in ADAPTIVE:
        return False
    size: Any = network.get_submodule(node.name).output_size if node.is_module else node.args[1]
    return set(size if isinstance(size, tuple | list) else (size,)) == {1}


def _round_again(graph: Any, layer: Call) -> bool:
    """Rounds what the layer reads on a grid of its own for each image, where XNNPACK has a kernel for that."""
    if not _has_dynamic(layer):
        return False
    given, (low, high) = layer.args[0], INT8[1:]
    q = torch.ops.quantized_decomposed
    with graph.inserting_before(layer):
        chosen = graph.call_function(q.choose_qparams.tensor, (given, low, high, SMALLEST, torch.int8))
        step_and_zero = (graph.call_function(operator.getitem, (chosen, place)) for place in (0, 1))
        grid = (*step_and_zero, low, high, torch.int8)
        again = graph.call_function(q.quantize_per_tensor.tensor, (given, *grid))
        layer.update_arg(0, graph.call_function(q.dequantize_per_tensor.tensor, (again, *grid)))
    return True


def _has_dynamic(layer: Call) -> bool:
    """Whether XNNPACK has a kernel that rounds the layer's input itself and gives float."""
    if layer.target is ATEN.linear.default:  # of more axes, XNNPACK takes it and then cannot be loaded
        return bool(layer.meta["val"].dim() == 2)
    groups = layer.args[6] if len(layer.args) > 6 else 1
    return bool(layer.target is ATEN.conv2d.default and groups == 1)
