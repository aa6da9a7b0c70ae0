"""What a traced network costs by counting: parameters, nonzeros, multiply-accumulates.

Convention. One MAC is one multiplication whose product is added to a sum, for one sample: convolutions, linear maps,
matrix products, einsum of two operands and attention (both of its products). Everything else (normalisation,
activations, pooling, additions, biases, softmax) counts 0. One MAC is two FLOPs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from netpress.graph.network import GraphNetwork
from netpress.graph.operators import FUNCTIONS
from netpress.graph.shapes import PROBE_BATCH, depends_on_input, infer_values, sample_shape
from netpress.program.nodes import Node
from netpress.program.operators import PARAMETER


@dataclass(frozen=True)
class LayerCount:
    """One row: a module, a parameter that lies outside leaf modules, or a function with MACs.

    Attributes:
        name: Dotted name; of a function that of the module which calls it.
        kind: The operator.
        output_shape: Shape of one sample, or the whole shape where there is no batch.
        params: Parameters not counted in an earlier row.
        macs: Multiply-accumulates of one sample.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int


@dataclass(frozen=True)
class Counts:
    """Totals and their rows, in order of execution; the rows add up to the totals."""

    params: int
    nonzeros: int
    macs: int
    layers: list[LayerCount]


def count(net: GraphNetwork) -> Counts:
    """Counts ``net``; nothing is run but shapes.

    ``params`` are the elements of all parameters, frozen ones too and shared ones once; buffers (such as running
    statistics) are not parameters. ``nonzeros`` are those of them that are not 0.

    Raises:
        GraphError: The parts of the network do not fit together.
    """
    values = infer_values(net)
    macs = node_macs(net, values)
    seen: set[int] = set()
    layers = []
    for k, node in enumerate(net.nodes):
        params = 0
        for parameter in node_parameters(net, node):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                params += parameter.numel()
        if node.is_module or node.op == PARAMETER or macs[k]:
            layers.append(LayerCount(node.name, node.op, _shape(values[k + 1]), params, macs[k]))
    return Counts(
        params=sum(parameter.numel() for parameter in net.parameters()),
        nonzeros=sum(int(parameter.count_nonzero()) for parameter in net.parameters()),
        macs=sum(macs),
        layers=layers,
    )


def node_parameters(net: GraphNetwork, node: Node) -> list[nn.Parameter]:
    """The parameters that ``node`` itself holds or reads."""
    if node.is_module:
        return list(net.get_submodule(node.name).parameters())
    return [net.get_parameter(node.name)] if node.op == PARAMETER else []


def node_macs(net: GraphNetwork, values: list[Any]) -> list[int]:
    """MACs of one sample, node by node, given the shapes of ``infer_values(net)``.

    Products of parameters alone, made anew in each run, count in full.
    """
    depends = depends_on_input(net)
    macs = []
    for k, node in enumerate(net.nodes):
        total = _macs(net, node, values, values[k + 1])
        macs.append(total // PROBE_BATCH if depends[k + 1] else total)
    return macs


def _macs(net: GraphNetwork, node: Node, values: list[Any], output: Any) -> int:
    if node.is_module:
        return _module_macs(net.get_submodule(node.name), values[node.args[0].index], output)
    if node.is_tensor:
        return 0
    a = FUNCTIONS[node.op].signature.bind(node.args)
    x = values[node.inputs[0]]
    match node.op:
        case "linear":
            return output.numel() * x.shape[-1]
        case "matmul" | "bmm":
            return output.numel() * x.shape[-1]
        case "addmm" | "baddbmm":
            return output.numel() * values[node.inputs[1]].shape[-1]
        case "conv1d" | "conv2d" | "conv3d":
            return output.numel() * math.prod(values[a["weight"].index].shape[1:])
        case "conv_transpose1d" | "conv_transpose2d":
            return x.numel() * math.prod(values[a["weight"].index].shape[1:])
        case "einsum" if len(a["operands"]) == 2:
            return _einsum_macs(a["equation"], [values[ref.index] for ref in a["operands"]])
        case "scaled_dot_product_attention":
            key, value = values[a["key"].index], values[a["value"].index]
            # scores: (..., L, E) with (..., S, E); mixture: (..., L, S) with (..., S, V)
            return x.numel() * key.shape[-2] + output.numel() * value.shape[-2]
    return 0


def _module_macs(module: nn.Module, x: Tensor, output: Tensor) -> int:
    match module:
        case nn.Linear():
            return output.numel() * module.weight.shape[1]
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return output.numel() * math.prod(module.weight.shape[1:])
        case nn.ConvTranspose1d() | nn.ConvTranspose2d():
            return x.numel() * math.prod(module.weight.shape[1:])
    return 0


def _einsum_macs(equation: str, operands: list[Tensor]) -> int:
    sizes: dict[str, int] = {}
    for labels, operand in zip(equation.partition("->")[0].split(","), operands, strict=True):
        before, dots, after = labels.partition("...")
        spread = operand.dim() - len(before) - len(after) if dots else 0
        # dimensions under an ellipsis are matched from the right, as in broadcasting
        names = [*before, *(f"...{spread - place}" for place in range(spread)), *after]
        for name, size in zip(names, operand.shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    return math.prod(sizes.values())


def _shape(value: Any) -> tuple[int, ...]:
    shape = sample_shape(value)
    return tuple(value.shape) if shape is None else shape
