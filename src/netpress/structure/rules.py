"""What the rules of functions have in common, and the table that they stand in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from netpress.graph import Node
from netpress.graph.operators import FUNCTIONS
from netpress.structure.atoms import Labels
from netpress.structure.flow import Flow

Rule = Callable[[Flow, Node, int], Any]

FUNCTION_RULES: dict[str, Rule] = {}
NOT_FOLLOWED = "is not followed"


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Enters a rule for these operators: given flow, node and the value's index, label arrays of what the node makes."""

    def register(made: Rule) -> Rule:
        FUNCTION_RULES.update(dict.fromkeys(ops, made))
        return made

    return register


def arguments(node: Node) -> dict[str, Any]:
    """The arguments of a function node by name, defaults filled in."""
    return FUNCTIONS[node.op].signature.bind(node.args)


def where(node: Node) -> str:
    """What a reason calls a node."""
    if node.is_module:
        return node.name
    return f"{node.op} in {node.name}" if node.name else node.op


def unknown(flow: Flow, node: Node, index: int) -> Any:
    """An operator that channels cannot be followed through: all of its inputs stay whole."""
    for source in node.inputs:
        many = not isinstance(flow.shapes[source], tuple)
        for arrays in flow.arrays[source] if many else [flow.arrays[source]]:
            flow.freeze(arrays, f"{where(node)} {NOT_FOLLOWED}")
    return [[] for _ in flow.shapes[index]] if isinstance(flow.shapes[index], list) else []


def axes_of(dim: Any, rank: int) -> list[int]:
    """The axes that an argument ``dim`` names, counted from 0; None names all."""
    if dim is None:
        return list(range(rank))
    return [axis % rank for axis in (dim if isinstance(dim, tuple) else (dim,))]


def windowed_axes(op: str, rank: int) -> range:
    """The axes that a pooling or padding operator moves over: as many of the last as its name ends with, else all from 2 on."""
    digits = [int(letter) for letter in op if letter.isdigit()]
    return range(rank - digits[-1] if digits else 2, rank)


def without(labels: Labels, axes: Sequence[int]) -> Labels:
    """The labels of a value that has lost these axes, each of size 1 in the labels."""
    return labels.reshape([size for axis, size in enumerate(labels.shape) if axis not in axes])
