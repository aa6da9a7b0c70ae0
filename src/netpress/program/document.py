"""A program read from its JSON document, without torch: steps, leaf modules, and which tensors there must be.

A document is ``{"v": 1, "in": [3, 32, 32], "n": [node, ...]}``, with ``"dt"`` where the input is not float32 and ``"t"``
where tensors are shared (``[[second name, first name], ...]``). A node is one list:

- a leaf module: ``[operator, name, [configuration], how many values back its input lies]``;
- a function: ``[operator, name of the calling module, argument, ...]``;
- a tensor: ``["parameter" | "buffer", name, shape, dtype]``, without shape and dtype where a leaf module holds it.

Defaults at the end of a list are left out. A tensor argument is how many values back it lies: 1 is the node before.
Shapes of tensors follow from the configurations, so that a document says which tensors there must be, in which order, and
nothing else is kept of them. Reading looks names up in the closed list only, and takes no memory for a number that a document
claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netpress.dtypes import FLOAT32, TYPES, Type
from netpress.errors import FormatError, GraphError
from netpress.program.kinds import LARGEST
from netpress.program.leaves import Leaf, TensorSpec
from netpress.program.nodes import RESERVED, RESERVED_AT_THE_ROOT, Node, check_name
from netpress.program.operators import BUFFER, FUNCTIONS, MODULES, PARAMETER, returns_many
from netpress.program.signature import Signature

VERSION = 1
MOST_NODES = 10_000
MOST_DIMS = 8

SOURCE = Signature.parse("input")  # of a leaf module
TENSOR = Signature.parse("shape:dimensions?=null dtype:dtype?=null")


class Program:
    """A document that was read.

    Attributes:
        input_shape: Of one sample, without N.
        input_dtype: Of the input.
        nodes: The steps; the last one makes the output.
        leaves: Leaf modules by dotted name, in the order of their first use.
        tensors: All tensors by dotted name, in the order of the network's ``state_dict``.
        ties: (second name, first name) of tensors that are one.
        expected: ``tensors`` without the second names: what a file holds. Where one is of floating point, any floating type may be
            given in its place.

    Args:
        document: Not trusted.

    Raises:
        FormatError: Anything that `netpress.graph.to_document` could not have written: an operator outside the closed list, a value of
            another type or range, a reference forwards, a name taken twice.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        _check_head(document)
        self.input_shape: tuple[int, ...] = tuple(document["in"])
        self.input_dtype: Type = TYPES[document.get("dt", "float32")]
        self.leaves: dict[str, Leaf] = {}
        self._held: dict[str, dict[str, TensorSpec]] = {}
        shapes: dict[str, tuple[str, Any]] = {}
        nodes: list[Node] = []
        for k, item in enumerate(document["n"]):
            try:
                nodes.append(self._decode(item, nodes, shapes))
            except (ValueError, GraphError) as error:
                raise FormatError(f"node {k} of the document is not valid", got=str(error)[:400]) from None
        used = {index for node in nodes for index in node.inputs}
        if dead := [k for k in range(len(nodes) - 1) if k + 1 not in used]:
            raise FormatError("a node's result is never used", got=f"node {dead[0]}, {nodes[dead[0]].op}")
        if nodes and returns_many(nodes[-1].op):
            raise FormatError("the last node must give one tensor", got=nodes[-1].op)
        self.nodes: tuple[Node, ...] = tuple(nodes)
        self.free = self._free(shapes)
        self.tensors: dict[str, TensorSpec] = _in_order(self._held, self.free)
        self.ties = _ties(document)
        self.expected: dict[str, TensorSpec] = _expected(self.tensors, self.ties)

    def _decode(self, item: Any, nodes: list[Node], shapes: dict[str, tuple[str, Any]]) -> Node:
        if not isinstance(item, list) or len(item) < 2 or not isinstance(item[0], str) or not isinstance(item[1], str):
            raise ValueError("a node must be a list that starts with an operator and a name")
        op, name, *rest = item
        base = len(nodes) + 1
        if name or op not in FUNCTIONS:
            check_name(name)
        if op in (PARAMETER, BUFFER):
            args = TENSOR.decode(rest, base)
            if shapes.setdefault(name, (op, args)) != (op, args):
                raise ValueError(f"the tensor {name!r} is described twice, not alike")
            return Node(name, op)
        if op in MODULES:
            leaf = Leaf(op, MODULES[op].decode(rest[0] if rest else [], base))
            if self.leaves.setdefault(name, leaf) != leaf:
                raise ValueError(f"the module {name!r} is described twice, not alike")
            if name not in self._held:
                self._held[name] = leaf.tensors()
            node = Node(name, op, SOURCE.decode(rest[1:] or [1], base))
        elif op in FUNCTIONS:
            node = Node(name, op, FUNCTIONS[op].signature.decode(rest, base))
        else:
            raise ValueError(f"{op[:60]!r} is not an operator of the closed list")
        for index in node.inputs:
            if (index > 0 and returns_many(nodes[index - 1].op)) != (op == "item"):
                raise ValueError("results of many tensors are taken apart by item, and nothing else is")
        return node

    def _free(self, shapes: Mapping[str, tuple[str, Any]]) -> dict[str, TensorSpec]:
        """Tensors that lie outside leaf modules."""
        free = {}
        for name, (op, args) in shapes.items():
            path, _, last = name.rpartition(".")
            if path not in self._held:
                free[name] = _spec(name, op, args)
                continue
            held = self._held[path].get(last)
            if held is None or held.parameter != (op == PARAMETER) or args:
                raise FormatError(
                    f"the leaf module {path!r} has no {op} {last!r}, or the document gives it another shape"
                )
        return free


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
    if not isinstance(document.get("dt", ""), str) or document.get("dt", "float32") not in TYPES:
        raise FormatError("not a type of input", got=repr(document["dt"])[:40], allowed=", ".join(TYPES))
    if not isinstance(nodes, list) or len(nodes) > MOST_NODES:
        raise FormatError("not a list of nodes", allowed=f"up to {MOST_NODES} nodes")


def _spec(name: str, op: str, args: tuple[Any, ...]) -> TensorSpec:
    values = TENSOR.bind(args)
    if values["shape"] is None or (op == PARAMETER and values["dtype"] is not None):
        raise FormatError(f"the {op} {name!r} must have a shape, and a parameter no type", got=repr(args))
    try:
        return TensorSpec(values["shape"], values["dtype"] or FLOAT32, op == PARAMETER)
    except ValueError as error:
        raise FormatError(f"the shape of {name!r} is not possible", got=str(error)) from None


class _Scope:
    """A module that only holds others, while names are put in their places."""

    def __init__(self, reserved: frozenset[str]) -> None:
        self.reserved = reserved
        self.scopes: dict[str, _Scope | dict[str, TensorSpec]] = {}
        self.tensors: dict[str, TensorSpec] = {}

    def claim(self, part: str, name: str) -> None:
        if part in self.reserved or part in self.scopes or part in self.tensors:
            raise FormatError("the document's names clash", got=f"the name {name!r} is taken")

    def inner(self, part: str, name: str) -> _Scope:
        """The scope called ``part``, made where there is none."""
        if part not in self.scopes:
            self.claim(part, name)
            self.scopes[part] = _Scope(RESERVED)
        found = self.scopes[part]
        if not isinstance(found, _Scope):
            raise FormatError("the document's names clash", got=f"{name!r} is a leaf module")
        return found

    def listed(self, prefix: str) -> dict[str, TensorSpec]:
        """All tensors in the order of ``state_dict``: own parameters, own buffers, then what is inside, as it was put in."""
        ordered = sorted(self.tensors.items(), key=lambda pair: not pair[1].parameter)
        found = {prefix + part: spec for part, spec in ordered}
        for part, inner in self.scopes.items():
            if isinstance(inner, _Scope):
                found |= inner.listed(f"{prefix}{part}.")
            else:
                found |= {f"{prefix}{part}.{last}": spec for last, spec in inner.items()}
        return found


def _in_order(held: Mapping[str, dict[str, TensorSpec]], free: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    root = _Scope(RESERVED_AT_THE_ROOT)
    every: list[tuple[str, TensorSpec | dict[str, TensorSpec]]] = [*held.items(), *free.items()]
    for name, what in every:
        *path, last = name.split(".")
        owner = root
        for depth, part in enumerate(path, 1):
            owner = owner.inner(part, ".".join(path[:depth]))
        owner.claim(last, name)
        if isinstance(what, TensorSpec):
            owner.tensors[last] = what
        else:
            owner.scopes[last] = what
    return root.listed("")


def _ties(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    ties = document.get("t", [])
    if not isinstance(ties, list):
        raise FormatError("not a list of shared tensors")
    for tie in ties:
        if not isinstance(tie, list) or len(tie) != 2 or not all(isinstance(name, str) for name in tie):
            raise FormatError("not two names of one shared tensor", got=repr(tie)[:80])
    return [(second, first) for second, first in ties]


def _expected(every: Mapping[str, TensorSpec], ties: list[tuple[str, str]]) -> dict[str, TensorSpec]:
    expected = dict(every)
    for second, first in ties:
        one, two = every.get(first), expected.pop(second, None)
        if first not in expected or one is None or two is None:
            raise FormatError("a shared tensor that is not there", got=f"{second!r} and {first!r}")
        if one != two:
            raise FormatError("shared tensors that are not alike", got=f"{second!r} and {first!r}")
    return expected
