"""Which values of a network become integers: what layers read, what they give to sums, and what a backend asks for besides."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from netpress.graph import GraphNetwork, Ref

ROUNDED, MEASURED = "fake_quantize", "dynamic_quantize"
#: Behind these a layer's value is still the layer's: a runtime makes them part of it.
ACTIVATIONS = ("ReLU", "relu", "ReLU6", "relu6", "Hardtanh", "hardtanh", "clamp")

#: What only moves or compares values: runtimes round before it instead of behind it.
UNCHANGED = (
    "MaxPool1d", "MaxPool2d", "max_pool1d", "max_pool2d", "Flatten", "flatten", "reshape", "view", "Identity", "Dropout",
)  # fmt: skip


def integer_points(network: GraphNetwork, layers: Collection[str], *, conv_outputs: bool = False) -> dict[int, str]:
    """Values that are integers where these layers are: by number the name of the module that calls their reader.

    They are what a layer reads, and what a layer gives to a sum, behind an activation or not; the sum's other operand is such a
    value already, or is moved or padded from one. What is rounded already is left out.

    Args:
        conv_outputs: Whether what a convolution gives, behind an activation or not, is one in any case, unless it is the network's
            output, or is rounded behind a maximum or a move.
    """
    points: dict[int, str] = {}
    nodes = network.nodes

    def add(index: int, reader: str) -> None:
        made = nodes[index - 1] if index else None
        if made is None or not (made.is_tensor or made.op in (ROUNDED, MEASURED)):
            points.setdefault(index, reader)

    def of_a_layer(index: int) -> bool:
        while index and nodes[index - 1].op in ACTIVATIONS:
            index = nodes[index - 1].inputs[0]
        return bool(index) and nodes[index - 1].is_module and nodes[index - 1].name in layers

    for node in nodes:
        if node.is_module and node.name in layers:
            add(node.inputs[0], node.name.rpartition(".")[0])
        elif node.op == "add" and all(isinstance(arg, Ref) for arg in node.args):
            for index in node.inputs:
                if of_a_layer(index):
                    add(index, node.name)
    if conv_outputs:
        readers = _readers(network)
        for index, node in enumerate(nodes, 1):
            if node.is_module and node.name in layers and not isinstance(network.get_submodule(node.name), nn.Linear):
                end = _behind_activations(network, readers, index)
                if end < len(nodes) and not _rounded_later(network, readers, points, end):
                    add(end, node.name.rpartition(".")[0])
    return points


def _readers(network: GraphNetwork) -> dict[int, list[int]]:
    """By a value's number those of the values that are made of it."""
    found: dict[int, list[int]] = {index: [] for index in range(len(network.nodes) + 1)}
    for index, node in enumerate(network.nodes, 1):
        for source in node.inputs:
            found[source].append(index)
    return found


def _behind_activations(network: GraphNetwork, readers: Mapping[int, list[int]], index: int) -> int:
    """The value behind the activations that alone read this one."""
    while len(readers[index]) == 1 and network.nodes[readers[index][0] - 1].op in ACTIVATIONS:
        index = readers[index][0]
    return index


def _rounded_later(
    network: GraphNetwork, readers: Mapping[int, list[int]], points: Collection[int], index: int
) -> bool:
    """Whether all that is made of a value is rounded, at most a move or a maximum over places between."""
    if index in points:
        return True
    return bool(readers[index]) and all(
        network.nodes[k - 1].op == ROUNDED
        or (network.nodes[k - 1].op in UNCHANGED and _rounded_later(network, readers, points, k))
        for k in readers[index]
    )
