"""What both forms share that torch.export makes: modules in place of operators it cannot say, and the name of one it refuses."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from netpress.errors import UnsupportedOperatorError
from netpress.graph import GraphNetwork
from netpress.graph import Node as Step


@contextmanager
def exporting() -> Iterator[None]:
    """Without what torch warns of its own inner workings, and without NNPACK and oneDNN.

    Whether torch takes these depends on the batch, and where it looks, it would bound the batch.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.backends.nnpack.flags(enabled=False), torch.backends.mkldnn.flags(enabled=False):
            yield


def with_substitutes(network: GraphNetwork, instead_of: Callable[[Step], nn.Module | None]) -> GraphNetwork:
    """The network with modules of the same answers in place of some steps, which have one input each.

    Args:
        network: Left as it is; what is given shares its modules.
        instead_of: The module for a step; None where the step stays.
    """
    nodes = list(network.nodes)
    modules: dict[str, nn.Module] = {}
    for k, node in enumerate(nodes):
        module = instead_of(node)
        if module is not None:
            name = f"substitute!{k}"  # as no module of a file is called
            modules[name], nodes[k] = module, replace(node, name=name, op="Identity", args=node.args[:1])
    other = network.with_nodes(nodes)
    other._modules = {**network._modules, **modules}
    return other


def first_refused(
    network: GraphNetwork, error: Exception, attempt: Callable[[GraphNetwork], object], form: str
) -> UnsupportedOperatorError:
    """The error that names the first operator with which ``attempt`` no longer takes the network; found by halving.

    Args:
        network: Refused as a whole, with ``error``.
        error: Why.
        attempt: Raises where it does not take a network.
        form: What it is exported to, in words.
    """
    nodes = network.nodes
    fine, refused = 0, len(nodes)  # of so many nodes it is known
    while refused - fine > 1:
        middle = (fine + refused) // 2
        try:
            attempt(network.with_nodes(nodes[:middle]))
            fine = middle
        except Exception as earlier:
            refused, error = middle, earlier
    why = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return unsupported(nodes[refused - 1], why, form)


def unsupported(node: Step, why: str, form: str) -> UnsupportedOperatorError:
    """The error that names the operator of a step and its module."""
    return UnsupportedOperatorError(
        f"the operator {node.op!r} of module {node.name!r} cannot be exported to {form}",
        got=why,
        remedy="export to another target, or change the network before it is compressed",
    )
