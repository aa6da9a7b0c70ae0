"""A traced network as a document (`netpress.program.document` says what one is), and back.

Modules are built on the meta device and given tensors must fit them, so that reading takes no memory for what a document claims.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from netpress.dtypes import torch_type, type_of
from netpress.errors import FormatError, GraphError, UnsupportedOperatorError
from netpress.graph.assemble import find_tensor
from netpress.graph.leaves import build_leaf, leaf_configuration, leaf_operator
from netpress.graph.network import GraphNetwork
from netpress.graph.operators import FUNCTIONS, MODULES
from netpress.graph.shapes import infer_values, sample_shape
from netpress.program import Node, Program, TensorSpec
from netpress.program.document import SOURCE, TENSOR, VERSION
from netpress.program.operators import PARAMETER


def to_document(net: GraphNetwork) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The document of ``net`` and its tensors by their name in ``state_dict``, shared ones once, in the document's order.

    The tensors are the network's own, not copies.

    Raises:
        UnsupportedOperatorError: A module outside the closed list has been put in; `trace` the network first.
        GraphError: The network holds tensors that its program does not use, or that do not fit their modules.
    """
    document: dict[str, Any] = {"v": VERSION, "in": list(net.input_shape)}
    if net.input_dtype != torch.float32:
        document["dt"] = str(type_of(net.input_dtype))
    leaves = {node.name for node in net.nodes if node.is_module}
    document["n"] = [_encode_node(net, node, k + 1, leaves) for k, node in enumerate(net.nodes)]
    first_name: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    ties = []
    for name, tensor in net.state_dict(keep_vars=True).items():
        if id(tensor) in first_name:
            ties.append([name, first_name[id(tensor)]])
        else:
            first_name[id(tensor)] = name
            tensors[name] = tensor.detach()
    if ties:
        document["t"] = ties
    expected = Program(document).expected
    if expected.keys() != tensors.keys():
        odd = sorted(expected.keys() ^ tensors.keys())
        raise GraphError("the network holds other tensors than its program uses", got=", ".join(odd[:5]))
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise GraphError(
                f"the tensor {name!r} does not fit its module",
                got=tuple(tensor.shape),
                allowed=expected[name].shape,
                remedy="set the module's configuration along with its tensors",
            )
    return document, {name: tensors[name] for name in expected}


class Blueprint:
    """A program that was read, as a network of torch that still lacks its tensors.

    Attributes:
        program: The program.
        expected: The tensors that it needs, as `Program.expected` has them.

    Args:
        program: What was read, or a document as `to_document` gives it; not trusted.

    Raises:
        FormatError: As `Program`.
    """

    def __init__(self, program: Program | Mapping[str, Any]) -> None:
        self.program = program if isinstance(program, Program) else Program(program)
        self.expected: Mapping[str, TensorSpec] = self.program.expected
        self._ties = self.program.ties
        self._network = _skeleton(self.program)
        nodes = self._network.nodes
        self._leaves = {node.name for node in nodes if node.is_module}
        self._used_elsewhere = {node.name for node in nodes if node.is_tensor}.union(*self._ties)

    def sole_owner(self, name: str) -> nn.Module | None:
        """The leaf module, its tensors on the meta device, that alone uses the tensor ``name``; None where there is none.

        No tensor that other modules share or that the program itself reads has one.
        """
        path = name.rpartition(".")[0]
        return self._network.get_submodule(path) if path in self._leaves and name not in self._used_elsewhere else None

    def build(self, tensors: Mapping[str, Tensor]) -> GraphNetwork:
        """The network, in eval mode, with ``tensors`` in it (not copied); to be called once.

        A tensor on the meta device stays one: its module cannot run until it is replaced.

        Raises:
            FormatError: Tensors that are missing, left over or of other shapes, parts that do not fit together.
        """
        network, expected = self._network, self.expected
        if missing := sorted(expected.keys() - set(tensors)):
            raise FormatError("tensors are missing", got=", ".join(missing[:5]))
        if left_over := sorted(str(name) for name in set(tensors) - expected.keys()):
            raise FormatError("tensors that the network has no place for", got=", ".join(left_over[:5]))
        for name, wanted in expected.items():
            _check_tensor(name, tensors[name], wanted)
        placed: dict[str, Tensor] = {}
        for name in expected:
            placed[name] = _place(network, name, tensors[name].detach())
        for second, first in self._ties:
            _put(network, second, placed[first])
        network.eval()
        network._output_shape = _output_shape(network)
        return network


def expected_tensors(document: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The tensors that ``document`` needs, on the meta device (shapes without memory), by name in their order.

    Raises:
        FormatError: As `Program`.
    """
    return {name: _meta(spec).detach() for name, spec in Program(document).expected.items()}


def from_document(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> GraphNetwork:
    """The network that ``document`` describes, in eval mode, with ``tensors`` in it (not copied).

    Raises:
        FormatError: As `Blueprint` and `Blueprint.build`.
    """
    return Blueprint(document).build(tensors)


# ---------------------------------------------------------------- writing


def _encode_node(net: GraphNetwork, node: Node, base: int, leaves: set[str]) -> list[Any]:
    if node.is_module:
        module = net.get_submodule(node.name)
        op = leaf_operator(module)
        if op is None:
            raise UnsupportedOperatorError(
                f"the module {node.name!r} is not among the leaf modules of a traced network",
                got=type(module).__name__,
                remedy="trace the network again before it is saved",
            )
        configuration = MODULES[op].signature.encode(leaf_configuration(module), base)
        source = SOURCE.encode(node.args, base)
        if source != [1]:
            return [op, node.name, configuration, *source]
        return [op, node.name, configuration] if configuration else [op, node.name]
    if node.is_tensor:
        if node.name.rpartition(".")[0] in leaves:
            return [node.op, node.name]
        tensor = find_tensor(net, node.name)
        dtype = None if node.op == PARAMETER or tensor.dtype == torch.float32 else tensor.dtype
        args = TENSOR.normalise({"shape": tuple(tensor.shape), "dtype": dtype})
        return [node.op, node.name, *TENSOR.encode(args, base)]
    return [node.op, node.name, *FUNCTIONS[node.op].signature.encode(node.args, base)]


# ---------------------------------------------------------------- reading


def _skeleton(program: Program) -> GraphNetwork:
    """The network of ``program`` with all tensors on the meta device; output shape not known yet."""
    modules: dict[str, nn.Module] = {}
    for name, leaf in program.leaves.items():
        try:
            modules[name] = build_leaf(leaf.op, leaf.configuration)
        except ValueError as error:
            raise FormatError(f"the module {name!r} of the document cannot be", got=str(error)[:400]) from None
    tensors = {name: _meta(spec) for name, spec in program.free.items()}
    try:
        return GraphNetwork(
            program.nodes,
            modules,
            tensors,
            input_shape=program.input_shape,
            output_shape=(),
            input_dtype=torch_type(program.input_dtype),
        )
    except GraphError as error:
        raise FormatError("the document's names clash", got=str(error)) from None


def _meta(spec: TensorSpec) -> Tensor:
    tensor = torch.empty(spec.shape, dtype=torch_type(spec.dtype), device="meta")
    return nn.Parameter(tensor) if spec.parameter else tensor


def _check_tensor(name: str, tensor: Any, wanted: TensorSpec) -> None:
    if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or type_of(tensor.dtype) is None:
        raise FormatError(f"the tensor {name!r} is not a dense tensor", got=type(tensor).__name__)
    if tensor.shape != wanted.shape:
        raise FormatError(f"the tensor {name!r} has another shape", got=tuple(tensor.shape), allowed=wanted.shape)
    alike = tensor.is_floating_point() if wanted.dtype.is_floating_point else type_of(tensor.dtype) == wanted.dtype
    if not alike:
        raise FormatError(f"the tensor {name!r} is of another type", got=tensor.dtype, allowed=wanted.dtype)


def _place(network: GraphNetwork, name: str, tensor: Tensor) -> Tensor:
    placed = nn.Parameter(tensor) if isinstance(find_tensor(network, name), nn.Parameter) else tensor
    _put(network, name, placed)
    return placed


def _put(network: GraphNetwork, name: str, tensor: Tensor) -> None:
    path, _, last = name.rpartition(".")
    owner = network.get_submodule(path)
    if isinstance(tensor, nn.Parameter):
        owner._parameters[last] = tensor
    else:
        owner._buffers[last] = tensor


def _output_shape(network: GraphNetwork) -> tuple[int, ...]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of slow paths; that is the writer's affair
            output = infer_values(network)[-1]
    except GraphError as error:
        raise FormatError("the document's parts do not fit together", got=error.got) from None
    shape = sample_shape(output)
    if shape is None:
        raise FormatError("the output is not batch-first", got=tuple(output.shape))
    return shape
