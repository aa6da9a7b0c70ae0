"""Small changes of a program that leave its modules as they are: steps that do nothing taken out, new ones put in.

Both give a new network over the same modules and tensors, which are shared, not copied; what was given keeps its program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from netpress.errors import GraphError
from netpress.graph.assemble import find_tensor
from netpress.graph.network import GraphNetwork
from netpress.program.nodes import Node
from netpress.program.operators import returns_many
from netpress.program.values import Ref, map_refs


def without_identities(network: GraphNetwork) -> GraphNetwork:
    """The network without its ``nn.Identity`` nodes, such as `fold_norms` leaves; all others are numbered anew.

    One that hands the network's input on as its output stays: a program makes at least one value.
    """
    nodes: list[Node] = []
    place = [0]  # of each old value among the new ones
    for node in network.nodes:
        if node.is_module and type(network.get_submodule(node.name)) is nn.Identity:  # the node may name what was there
            source = place[node.args[0].index]
            if source == len(nodes) or node is not network.nodes[-1]:  # the last node's value is the output
                place.append(source)
                continue
        nodes.append(_moved(node, place))
        place.append(len(nodes))
    return _over(network, nodes) if nodes else network


def insert_behind(
    network: GraphNetwork, steps: Mapping[int, Node], readers: Callable[[Node], bool] = lambda node: True
) -> GraphNetwork:
    """The network with a step behind some of its values, which later readers read in place of the value itself.

    Args:
        network: What is given; a step behind its last value makes the new output.
        steps: By a value's number (0 is the network's input) a function's node without its first argument, the value.
        readers: Which nodes read the step's; the others read the value as it was. All, where it is not said.

    Raises:
        GraphError: A value that is not there, or one that is many tensors.
    """
    nodes: list[Node] = []
    place: list[int] = []  # of each old value among the new ones
    behind: list[int] = []  # of the step behind it, or its own
    if beyond := [index for index in steps if not 0 <= index <= len(network.nodes)]:
        raise GraphError("no such value", got=beyond[0], allowed=f"0 to {len(network.nodes)}")
    for index in range(len(network.nodes) + 1):
        if index:
            node = network.nodes[index - 1]
            nodes.append(_moved(node, behind if readers(node) else place))
        place.append(len(nodes))
        if index in steps:
            step = steps[index]
            if index and returns_many(network.nodes[index - 1].op):
                raise GraphError("a step behind many tensors", got=network.nodes[index - 1].op, allowed="one tensor")
            nodes.append(replace(step, args=(Ref(len(nodes)), *step.args)))
        behind.append(len(nodes))
    return network.with_nodes(nodes)


def _moved(node: Node, place: Sequence[int]) -> Node:
    args = map_refs(node.args, lambda ref: Ref(place[ref.index]))
    return replace(node, args=args)


def _over(network: GraphNetwork, nodes: Sequence[Node]) -> GraphNetwork:
    """A network of these nodes alone: no module is left that none of them names."""
    modules: dict[str, nn.Module] = {n.name: network.get_submodule(n.name) for n in nodes if n.is_module}
    tensors: dict[str, Tensor] = {
        n.name: find_tensor(network, n.name) for n in nodes if n.is_tensor and n.name.rpartition(".")[0] not in modules
    }
    made = GraphNetwork(
        nodes,
        modules,
        tensors,
        input_shape=network.input_shape,
        output_shape=network.output_shape,
        input_dtype=network.input_dtype,
    )
    training = {name: module.training for name, module in network.named_modules()}
    for name, module in made.named_modules():
        module.training = training[name]
    return made
