"""Shapes of every value of a traced network, without computing any: the program is run on meta tensors."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from netpress.errors import GraphError
from netpress.graph.network import GraphNetwork

PROBE_BATCH = 1021  # a prime that is the size of nothing else, so that the batch is known where it is seen


def meta_twin(network: GraphNetwork) -> GraphNetwork:
    """A copy of ``network`` whose tensors have shapes and types but no memory."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, memo)


def infer_values(network: GraphNetwork, batch: int = PROBE_BATCH) -> list[Any]:
    """Meta tensors (tuples of them where an operator returns many) of all values, for a batch of ``batch`` samples.

    Raises:
        GraphError: The parts of the network do not fit together.
    """
    twin = meta_twin(network).eval()
    values: list[Any] = []
    try:
        with torch.no_grad():
            x = torch.empty(
                (batch, *network.input_shape), dtype=network.input_dtype, device="meta"
            )  # (N, *input_shape)
            values.append(x)
            twin.run(x, lambda k, value: values.append(value))
    except (RuntimeError, ValueError, TypeError, IndexError, OverflowError, ArithmeticError, AssertionError) as error:
        node = network.nodes[len(values) - 1] if values else None
        place = f"{node.op} {node.name!r}" if node else "the input"
        raise GraphError(
            f"the network does not run on an input of shape {network.input_shape}",
            got=f"{place}: {type(error).__name__}: {str(error)[:300]}",
        ) from error
    return values


def sample_shape(value: Any, batch: int = PROBE_BATCH) -> tuple[int, ...] | None:
    """Shape of one sample of a batch-first tensor; None of anything else."""
    if isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == batch:
        return tuple(value.shape[1:])
    return None


def depends_on_input(network: GraphNetwork) -> list[bool]:
    """For every value whether it depends on the network's input."""
    depends = [True]
    for node in network.nodes:
        depends.append(any(depends[index] for index in node.inputs))
    return depends
