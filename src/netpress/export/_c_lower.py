"""From a traced network to the steps of the C runner; what the runner does not know is named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from netpress.errors import UnsupportedOperatorError
from netpress.export._c_operators import FUNCTION_OF, MAKERS, Call, RefusedError, affine, bounds
from netpress.export._c_steps import INFINITY, Add, Clamp, Matrix, Program, Step, Work
from netpress.graph import GraphNetwork, Node, Ref, fold_norms
from netpress.graph.fold import NORMS
from netpress.graph.operators import FUNCTIONS, MODULES
from netpress.graph.shapes import infer_values, sample_shape

MOST_SIZE = 32767
"""Of any axis, so that products of two fit 32 bits."""

_SAME = {"Identity", "Dropout", "Dropout1d", "Dropout2d", "dropout", "dropout1d", "dropout2d", "detach"}
_SHAPED = {"Flatten", "Unflatten", "flatten", "reshape", "squeeze", "unsqueeze"}

KNOWN = sorted({*FUNCTION_OF, *FUNCTION_OF.values(), *MAKERS, *_SAME, *_SHAPED, "add", "clamp"})
"""Every operator that `lower` takes."""


def lower(network: GraphNetwork) -> Program:
    """The steps of a network, one a node and none fused; batch normalisations are in the layers before them.

    Raises:
        UnsupportedOperatorError: An operator, or arguments of one, that the C runner does not have; it names the module.
    """
    if network.input_dtype != torch.float32:
        raise UnsupportedOperatorError(
            "the C runner takes float32 inputs", got=str(network.input_dtype), allowed="torch.float32"
        )
    return _Lowering(network).program()


class _Lowering:
    """One network on its way; values are numbered as the nodes' are, and ``same`` says which is but another's name."""

    def __init__(self, network: GraphNetwork) -> None:
        self.plain = network
        self.folded = fold_norms(network)
        self.scales = _scales(network, self.folded)
        self.shapes = [sample_shape(value) for value in infer_values(self.folded)]
        self.same = list(range(len(self.shapes)))

    def program(self) -> Program:
        steps, known = [], {0: self.shape(0, self.folded.nodes[0])}
        for k, node in enumerate(self.folded.nodes, 1):
            if node.is_tensor:
                continue
            try:
                made = self.lowered(k, node)
            except RefusedError as reason:
                raise _unsupported(node, str(reason)) from None
            if isinstance(made, int):
                self.same[k] = made
                continue
            work, inputs, low, high = made
            known[k] = self.shape(k, node)
            steps.append(Step(work, inputs, k, low, high))
        return Program(tuple(steps), known, self.same[-1])

    def shape(self, value: int, node: Node) -> tuple[int, ...]:
        """The shape of one sample of a value."""
        shape = self.shapes[value]
        if shape is None or any(size > MOST_SIZE for size in shape[1:]) or math.prod(shape) >= 2**31:
            raise _unsupported(node, f"a value of shape {shape}")
        return shape

    def lowered(self, k: int, node: Node) -> int | tuple[Work, tuple[int, ...], float, float]:
        """Of the node that makes value ``k``: the number of the value that it only passes on, or its work, inputs and bounds."""
        settings: Mapping[str, Any]
        if node.is_module:
            module = self.folded.get_submodule(node.name)
            if isinstance(module, nn.Identity):  # also where a normalisation was
                return self.value(node.args[0])
            settings = {
                name: getattr(module, name) for name in MODULES[node.op].signature.names if hasattr(module, name)
            }
            settings = {**settings, "input": node.args[0]}
        else:
            settings = FUNCTIONS[node.op].signature.bind(node.args)
        if node.op in _SAME or node.op in _SHAPED:
            source = self.value(settings["input"])
            if math.prod(self.shape(source, node)) != math.prod(self.shape(k, node)):
                raise RefusedError("a shape that mixes samples")
            return source
        op = FUNCTION_OF.get(node.op, node.op)
        if op == "add":
            return self.sum(settings)
        ends = bounds(op, settings)
        x = self.value(settings["input"])
        if ends is not None:
            return Clamp(), (x,), *ends
        make = MAKERS.get(op)
        if make is None:
            raise _unsupported(node, None)
        seen = self.shape(settings["input"].index, node)  # under the name that the node reads, which may be a flatten's
        owner = self.folded.get_submodule(node.name) if node.is_module else None
        call = Call(settings, seen, self.shape(k, node), owner, lambda: self.matrix(node, settings))
        return make(call), (x,), -INFINITY, INFINITY

    def value(self, ref: Any) -> int:
        """The number of the value behind a reference."""
        if not isinstance(ref, Ref) or (ref.index and self.folded.nodes[ref.index - 1].is_tensor):
            raise RefusedError("a number or a constant tensor for a value")
        return self.same[ref.index]

    def sum(self, settings: Mapping[str, Any]) -> tuple[Work, tuple[int, ...], float, float]:
        a, b = self.value(settings["input"]), self.value(settings["other"])
        shapes = [self.shapes[settings[name].index] for name in ("input", "other")]
        if shapes[0] != shapes[1]:
            raise RefusedError(f"a sum of shapes {shapes[0]} and {shapes[1]}")
        return Add(), (a, b), -INFINITY, INFINITY

    def tensor(self, ref: Any) -> Tensor | None:
        """The parameter or buffer behind a reference."""
        if ref is None:
            return None
        node = self.folded.nodes[ref.index - 1] if ref.index else None
        if node is None or not node.is_tensor:
            raise RefusedError("a weight that is computed")
        owner, _, last = node.name.rpartition(".")
        found = getattr(self.folded.get_submodule(owner), last)
        return found.detach().to("cpu", torch.float32)

    def matrix(self, node: Node, settings: Mapping[str, Any]) -> Matrix:
        """The weight and bias of a layer, module or function."""
        if not node.is_module:
            weight = self.tensor(settings["weight"])
            if weight is None:
                raise RefusedError("no weight")
            return Matrix(node.name, weight, None, weight, self.tensor(settings["bias"]))
        plain, folded = (_layer(network, node.name) for network in (self.plain, self.folded))
        return Matrix(node.name, plain[0], self.scales.get(node.name), *folded)


def _layer(network: GraphNetwork, name: str) -> tuple[Tensor, Tensor | None]:
    module: Any = network.get_submodule(name)
    bias = None if module.bias is None else module.bias.detach().to("cpu", torch.float32)
    return module.weight.detach().to("cpu", torch.float32), bias


def _scales(plain: GraphNetwork, folded: GraphNetwork) -> dict[str, Tensor]:
    """What each normalisation that was folded multiplies the rows of its layer by, by the layer's name."""
    scales = {}
    for node in plain.nodes:
        if not node.is_module or not isinstance(folded.get_submodule(node.name), nn.Identity):
            continue
        norm = plain.get_submodule(node.name)
        if isinstance(norm, NORMS):
            scales[plain.nodes[node.inputs[0] - 1].name] = affine(norm)[0]
    return scales


def _unsupported(node: Node, reason: str | None) -> UnsupportedOperatorError:
    return UnsupportedOperatorError(
        f"the C runner does not have the operator {node.op!r} of module {node.name!r}"
        + (" in this form" if reason else ""),
        got=reason,
        allowed=", ".join(KNOWN) if reason is None else None,
        remedy="export to another target, or change the network before it is compressed",
    )
