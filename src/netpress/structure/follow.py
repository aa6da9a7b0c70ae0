"""From the operators of a traced network to labels for every value: each node by the rule of its operator."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from netpress.errors import GraphError
from netpress.graph import GraphNetwork, Node
from netpress.graph.shapes import infer_values
from netpress.structure import functions, moves, products  # rules of operators; imported to be registered
from netpress.structure.flow import PROBE_BATCH, Arrays, Flow
from netpress.structure.labels import along, compressed, varied
from netpress.structure.modules import MODULE_RULES, passes
from netpress.structure.rules import FUNCTION_RULES, unknown
from netpress.structure.zeros import stays_zero

RULES_OF_FUNCTIONS = (functions, moves, products)
OUTPUT = "the network's output"


def flow_of(net: GraphNetwork) -> Flow:
    """Follows the channels of ``net`` from its parameters to its output.

    Raises:
        GraphError: The parts of the network do not fit together.
    """
    flow = Flow(net, [_shapes(value) for value in infer_values(net, PROBE_BATCH)])
    flow.arrays.append([])  # the input's places are the data's
    flow.zeros.append(True)
    for index, node in enumerate(net.nodes, 1):
        if node.is_tensor:
            made: Any = _tensor(flow, node, flow.shape(index))
        elif node.is_module:
            made = MODULE_RULES.get(node.op, passes)(flow, node, index)
        else:
            made = FUNCTION_RULES.get(node.op, unknown)(flow, node, index)
        flow.arrays.append(_checked(made, flow.shapes[index], node))
        flow.zeros.append(stays_zero(flow, node, index))
    flow.freeze(flow.arrays[-1], OUTPUT)
    return flow


def _tensor(flow: Flow, node: Node, shape: tuple[int, ...]) -> Arrays:
    """A parameter or buffer that is read as a value: one array for each axis."""
    arrays = []
    for axis, size in enumerate(shape):
        if size > 1:
            atoms = flow.held(node.name, axis)
            if atoms is None:
                atoms = flow.atoms.fresh(size)
            flow.add_slot(node.name, axis, atoms)
            arrays.append(along(atoms, axis, len(shape)))
    return arrays


def _shapes(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else [tuple(part.shape) for part in value]


def _checked(made: Any, shape: Any, node: Node) -> Any:
    """``made`` without arrays that label nothing, once it is sure that the others fit the value."""
    if isinstance(shape, list):
        return [_checked(part, one, node) for part, one in zip(made, shape, strict=True)]
    kept = []
    for labels in made:
        labels = compressed(labels)
        if varied(labels):
            if labels.ndim != len(shape) or any(labels.shape[axis] != shape[axis] for axis in varied(labels)):
                raise GraphError(
                    "channels were followed to places that are not there, which is a fault of netpress",
                    got=f"labels {labels.shape} of a value {shape} of {node.op} {node.name!r}",
                )
            kept.append(np.ascontiguousarray(labels))
    return kept
