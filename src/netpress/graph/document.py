"""A traced network as a JSON document, and back.

A document is ``{"v": 1, "in": [3, 32, 32], "n": [node, ...]}``, with ``"dt"`` where the input is not float32 and ``"t"``
where tensors are shared (``[[second name, first name], ...]``). A node is one list:

- a leaf module: ``[operator, name, [configuration], how many values back its input lies]``;
- a function: ``[operator, name of the calling module, argument, ...]``;
- a tensor: ``["parameter" | "buffer", name, shape, dtype]``, without shape and dtype where a leaf module holds it.

Defaults at the end of a list are left out. A tensor argument is how many values back it lies: 1 is the node before.
Shapes of tensors follow from the configurations, so that a document says which tensors there must be, in which order
(`expected_tensors`), and nothing else is kept of them. Reading looks names up in the closed list only, and takes no
memory for a number that a document claims: modules are built on the meta device and given tensors must fit them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from netpress.errors import FormatError, GraphError, UnsupportedOperatorError
from netpress.graph.assemble import find_tensor
from netpress.graph.kinds import DTYPE_NAMES, DTYPES, LARGEST
from netpress.graph.leaves import build_leaf, leaf_configuration, leaf_operator
from netpress.graph.network import GraphNetwork, Node, check_name
from netpress.graph.operators import BUFFER, FUNCTIONS, MODULES, PARAMETER, returns_many
from netpress.graph.shapes import infer_values, sample_shape
from netpress.graph.signature import Signature

VERSION = 1
MOST_NODES = 10_000
MOST_DIMS = 8

_SOURCE = Signature.parse("input")  # of a leaf module
_TENSOR = Signature.parse("shape:dimensions?=null dtype:dtype?=null")


def to_document(net: GraphNetwork) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The document of ``net`` and its tensors by their name in ``state_dict``, shared ones once, in the document's order.

    The tensors are the network's own, not copies.

    Raises:
        UnsupportedOperatorError: A module outside the closed list has been put in; `trace` the network first.
        GraphError: The network holds tensors that its program does not use, or that do not fit their modules.
    """
    document: dict[str, Any] = {"v": VERSION, "in": list(net.input_shape)}
    if net.input_dtype != torch.float32:
        document["dt"] = DTYPE_NAMES[net.input_dtype]
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
    expected = expected_tensors(document)
    if expected.keys() != tensors.keys():
        odd = sorted(expected.keys() ^ tensors.keys())
        raise GraphError("the network holds other tensors than its program uses", got=", ".join(odd[:5]))
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise GraphError(
                f"the tensor {name!r} does not fit its module",
                got=tuple(tensor.shape),
                allowed=tuple(expected[name].shape),
                remedy="set the module's configuration along with its tensors",
            )
    return document, {name: tensors[name] for name in expected}


class Blueprint:
    """A document that was read: a network that still lacks its tensors.

    Attributes:
        expected: The tensors that it needs, on the meta device (shapes without memory), by name in their order. Where one is
            of floating point, any floating type may be given in its place.

    Args:
        document: As `to_document` gives it; not trusted.

    Raises:
        FormatError: Anything that `to_document` could not have written: an operator outside the closed list, a value of
            another type or range, a reference forwards, a name taken twice.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._network = _skeleton(document)
        self._ties = _ties(document)
        self.expected: Mapping[str, Tensor] = _expected(self._network, self._ties)
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
    """The tensors that ``document`` needs, as `Blueprint.expected` has them.

    Raises:
        FormatError: As `Blueprint`.
    """
    return Blueprint(document).expected


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
        source = _SOURCE.encode(node.args, base)
        if source != [1]:
            return [op, node.name, configuration, *source]
        return [op, node.name, configuration] if configuration else [op, node.name]
    if node.is_tensor:
        if node.name.rpartition(".")[0] in leaves:
            return [node.op, node.name]
        tensor = find_tensor(net, node.name)
        dtype = None if node.op == PARAMETER or tensor.dtype == torch.float32 else tensor.dtype
        args = _TENSOR.normalise({"shape": tuple(tensor.shape), "dtype": dtype})
        return [node.op, node.name, *_TENSOR.encode(args, base)]
    return [node.op, node.name, *FUNCTIONS[node.op].signature.encode(node.args, base)]


# ---------------------------------------------------------------- reading


def _skeleton(document: Mapping[str, Any]) -> GraphNetwork:
    """The network of ``document`` with all tensors on the meta device; output shape not known yet."""
    _check_head(document)
    modules: dict[str, nn.Module] = {}
    written: dict[str, tuple[str, Any]] = {}
    shapes: dict[str, tuple[str, Any]] = {}
    nodes: list[Node] = []
    for k, item in enumerate(document["n"]):
        try:
            nodes.append(_decode_node(item, nodes, modules, written, shapes))
        except (ValueError, GraphError) as error:
            raise FormatError(f"node {k} of the document is not valid", got=str(error)[:400]) from None
    used = {index for node in nodes for index in node.inputs}
    if dead := [k for k in range(len(nodes) - 1) if k + 1 not in used]:
        raise FormatError("a node's result is never used", got=f"node {dead[0]}, {nodes[dead[0]].op}")
    if nodes and returns_many(nodes[-1].op):
        raise FormatError("the last node must give one tensor", got=nodes[-1].op)
    tensors: dict[str, Tensor] = {}
    for name, (op, args) in shapes.items():
        if name.rpartition(".")[0] in modules:
            _check_held(name, op, args, modules)
        else:
            tensors[name] = _meta_tensor(name, op, args)
    try:
        return GraphNetwork(
            nodes,
            modules,
            tensors,
            input_shape=document["in"],
            output_shape=(),
            input_dtype=DTYPES[document.get("dt", "float32")],
        )
    except GraphError as error:
        raise FormatError("the document's names clash", got=str(error)) from None


def _check_head(document: Any) -> None:
    if not isinstance(document, Mapping) or not set(document) <= {"v", "in", "dt", "n", "t"}:
        raise FormatError("not a network's document", allowed="an object of v, in, dt, n, t")
    if type(document.get("v")) is not int or document["v"] != VERSION:
        raise FormatError("a document of another version", got=repr(document.get("v"))[:40], allowed=VERSION)
    shape, nodes = document.get("in"), document.get("n")
    if (
        not isinstance(shape, list)
        or len(shape) > MOST_DIMS
        or not all(type(size) is int and 1 <= size <= LARGEST for size in shape)
    ):
        raise FormatError("not an input shape", got=repr(shape)[:80], allowed=f"up to {MOST_DIMS} sizes of at least 1")
    if not isinstance(document.get("dt", ""), str) or document.get("dt", "float32") not in DTYPES:
        raise FormatError("not a type of input", got=repr(document["dt"])[:40], allowed=", ".join(DTYPES))
    if not isinstance(nodes, list) or len(nodes) > MOST_NODES:
        raise FormatError("not a list of nodes", allowed=f"up to {MOST_NODES} nodes")


def _decode_node(
    item: Any,
    nodes: list[Node],
    modules: dict[str, nn.Module],
    written: dict[str, tuple[str, Any]],
    shapes: dict[str, tuple[str, Any]],
) -> Node:
    if not isinstance(item, list) or len(item) < 2 or not isinstance(item[0], str) or not isinstance(item[1], str):
        raise ValueError("a node must be a list that starts with an operator and a name")
    op, name, *rest = item
    base = len(nodes) + 1
    if name or op not in FUNCTIONS:
        check_name(name)
    if op in (PARAMETER, BUFFER):
        args = _TENSOR.decode(rest, base)
        if shapes.setdefault(name, (op, args)) != (op, args):
            raise ValueError(f"the tensor {name!r} is described twice, not alike")
        return Node(name, op)
    if op in MODULES:
        configuration = MODULES[op].signature.decode(rest[0] if rest else [], base)
        if written.setdefault(name, (op, configuration)) != (op, configuration):
            raise ValueError(f"the module {name!r} is described twice, not alike")
        if name not in modules:
            modules[name] = build_leaf(op, configuration)
        node = Node(name, op, _SOURCE.decode(rest[1:] or [1], base))
    elif op in FUNCTIONS:
        node = Node(name, op, FUNCTIONS[op].signature.decode(rest, base))
    else:
        raise ValueError(f"{op[:60]!r} is not an operator of the closed list")
    for index in node.inputs:
        if (index > 0 and returns_many(nodes[index - 1].op)) != (op == "item"):
            raise ValueError("results of many tensors are taken apart by item, and nothing else is")
    return node


def _check_held(name: str, op: str, args: tuple[Any, ...], modules: Mapping[str, nn.Module]) -> None:
    path, _, last = name.rpartition(".")
    held = modules[path]._parameters if op == PARAMETER else modules[path]._buffers
    if held.get(last) is None or args:
        raise FormatError(f"the leaf module {path!r} has no {op} {last!r}, or the document gives it another shape")


def _meta_tensor(name: str, op: str, args: tuple[Any, ...]) -> Tensor:
    values = _TENSOR.bind(args)
    if values["shape"] is None or (op == PARAMETER and values["dtype"] is not None):
        raise FormatError(f"the {op} {name!r} must have a shape, and a parameter no type", got=repr(args))
    try:
        tensor = torch.empty(values["shape"], dtype=values["dtype"] or torch.float32, device="meta")
    except RuntimeError as error:
        raise FormatError(f"the shape of {name!r} is not possible", got=str(error)) from None
    return nn.Parameter(tensor) if op == PARAMETER else tensor


def _ties(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    ties = document.get("t", [])
    if not isinstance(ties, list):
        raise FormatError("not a list of shared tensors")
    for tie in ties:
        if not isinstance(tie, list) or len(tie) != 2 or not all(isinstance(name, str) for name in tie):
            raise FormatError("not two names of one shared tensor", got=repr(tie)[:80])
    return [(second, first) for second, first in ties]


def _expected(network: GraphNetwork, ties: list[tuple[str, str]]) -> dict[str, Tensor]:
    every = network.state_dict(keep_vars=True)
    expected = dict(every)
    for second, first in ties:
        one, two = every.get(first), expected.pop(second, None)
        if first not in expected or one is None or two is None:
            raise FormatError("a shared tensor that is not there", got=f"{second!r} and {first!r}")
        if one.shape != two.shape or one.dtype != two.dtype or type(one) is not type(two):
            raise FormatError("shared tensors that are not alike", got=f"{second!r} and {first!r}")
    return {name: tensor.detach() for name, tensor in expected.items()}


def _check_tensor(name: str, tensor: Any, wanted: Tensor) -> None:
    if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or tensor.dtype not in DTYPE_NAMES:
        raise FormatError(f"the tensor {name!r} is not a dense tensor", got=type(tensor).__name__)
    if tensor.shape != wanted.shape:
        raise FormatError(
            f"the tensor {name!r} has another shape", got=tuple(tensor.shape), allowed=tuple(wanted.shape)
        )
    alike = tensor.is_floating_point() if wanted.is_floating_point() else tensor.dtype == wanted.dtype
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
