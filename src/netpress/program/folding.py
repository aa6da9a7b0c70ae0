"""Which batch normalisations may be folded into the layer before them: what graph and ONNX writer have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from netpress.program.nodes import Node

NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")
MATRICES = ("Linear", "Conv1d", "Conv2d", "Conv3d")


def adjacent(nodes: Sequence[Node], keep: Collection[int] = ()) -> Iterator[tuple[int, int]]:
    """Pairs of nodes, a layer and the module that alone reads it, each of a module that is called once.

    What is behind one call of a module is not behind the other, and what somebody else reads must stay what it is.

    Args:
        nodes: Of a program.
        keep: Numbers of nodes whose values somebody looks at; they are no first of a pair.
    """
    readers = Counter(index for node in nodes for index in node.inputs)
    calls = Counter(node.name for node in nodes if node.is_module)
    for k, node in enumerate(nodes):
        before = node.inputs[0] - 1 if node.is_module else -1
        if before < 0 or before in keep or not nodes[before].is_module or readers[before + 1] > 1:
            continue
        if calls[node.name] == 1 and calls[nodes[before].name] == 1:
            yield before, k
