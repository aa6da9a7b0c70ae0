"""A program and the modules and tensors it names, put together as a `GraphNetwork`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from netpress.errors import GraphError, TraceError
from netpress.graph.network import GraphNetwork
from netpress.program.nodes import Node


def assemble(
    nodes: Sequence[Node],
    source: nn.Module,
    constants: Mapping[str, Tensor],
    *,
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    input_dtype: torch.dtype,
) -> GraphNetwork:
    """The network of ``nodes`` with the modules and tensors that ``source`` has at their names.

    They are taken over, not copied; ``source`` is of no use afterwards. Modules come in the order of their first use,
    so that a program alone says the order of ``state_dict``.

    Raises:
        TraceError: A name that a traced network cannot hold.
    """
    modules = {node.name: source.get_submodule(node.name) for node in nodes if node.is_module}
    for module in modules.values():
        if getattr(module, "inplace", False):
            module.__dict__["inplace"] = False  # values of a program are never changed
    tensors = {
        node.name: constants[node.name] if node.name in constants else find_tensor(source, node.name)
        for node in nodes
        if node.is_tensor and node.name.rpartition(".")[0] not in modules
    }
    try:
        return GraphNetwork(
            nodes, modules, tensors, input_shape=input_shape, output_shape=output_shape, input_dtype=input_dtype
        )
    except GraphError as error:
        raise TraceError(f"the network uses a name that a traced network cannot hold: {error}") from None


def find_tensor(network: nn.Module, name: str) -> Tensor:
    """The parameter or buffer at the dotted ``name``."""
    path, _, last = name.rpartition(".")
    owner = network.get_submodule(path)
    parameter: Tensor | None = owner._parameters.get(last)
    tensor = owner._buffers.get(last) if parameter is None else parameter
    if tensor is None:
        raise GraphError(f"the network has no tensor {name!r}")
    return tensor
