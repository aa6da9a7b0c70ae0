"""Two recorded runs with different batch sizes, brought to one program."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from netpress.errors import TraceError, UnsupportedOperatorError
from netpress.graph.operators import FUNCTIONS, MODULES
from netpress.graph.recorder import Record, Recorder, place_of
from netpress.program.nodes import Node
from netpress.program.operators import BUFFER
from netpress.program.values import Batch, Ref, map_refs


class _DifferError(Exception):
    """Two arguments that no single expression of the batch size gives."""


def unify(first: Recorder, second: Recorder, sizes: tuple[int, int]) -> tuple[tuple[Node, ...], dict[str, Tensor]]:
    """The program that both runs followed, and the constants it needs, by name.

    Integers in the proportion of ``sizes`` become `Batch`; tensors made during the run become constants if they are
    equal in both runs, or constant rows repeated along the batch. Nodes that the output does not need are left out, and
    those that do not depend on the input stand right before their first use.

    Raises:
        TraceError: The runs differ otherwise.
        UnsupportedOperatorError: An argument of a kind that the operator does not take.
    """
    if [record.op for record in first.records] != [record.op for record in second.records]:
        raise TraceError(
            "the network takes another course for another batch size",
            got=_first_difference(first.records, second.records),
            remedy="let nothing but shapes depend on the number of samples",
        )
    unifier = _Unifier(sizes, first.names)
    for one, two in zip(first.records, second.records, strict=True):
        unifier.add(one, two)
    result = unifier.index[first.result]
    return prune(unifier.nodes, result), unifier.constants


def prune(nodes: list[Node], result: int) -> tuple[Node, ...]:
    """The nodes that value ``result`` needs, those without the input right before their first use; ``result`` last."""
    depends = [True]
    for node in nodes:
        depends.append(any(depends[index] for index in node.inputs))
    needed = {result}
    for k in range(len(nodes), 0, -1):
        if k in needed:
            needed.update(nodes[k - 1].inputs)
    order: list[int] = []
    placed = {0}

    def place(value: int) -> None:
        pending = [(value, False)]
        while pending:  # depth first without recursion: programs may be long chains
            top, inputs_done = pending.pop()
            if top in placed:
                continue
            if inputs_done:
                placed.add(top)
                order.append(top)
            else:
                pending.append((top, True))
                pending.extend((index, False) for index in reversed(nodes[top - 1].inputs))

    for value in range(1, len(nodes) + 1):
        if value in needed and depends[value]:
            place(value)
    new_index = {0: 0} | {value: place + 1 for place, value in enumerate(order)}
    return tuple(
        Node(nodes[v - 1].name, nodes[v - 1].op, map_refs(nodes[v - 1].args, lambda ref: Ref(new_index[ref.index])))
        for v in order
    )


class _Unifier:
    def __init__(self, sizes: tuple[int, int], taken: set[str]) -> None:
        self.sizes = sizes
        self.taken = set(taken)
        self.nodes: list[Node] = []
        self.constants: dict[str, Tensor] = {}
        self.index = {0: 0}

    def add(self, one: Record, two: Record) -> None:
        try:
            if one.name != two.name or one.args.keys() != two.args.keys():
                raise _DifferError("the calling modules or the arguments given")
            scope = one.name.rpartition(".")[0] if one.op in MODULES else one.name
            values = {name: self.value(one.args[name], two.args[name], scope) for name in one.args}
        except _DifferError as error:
            raise TraceError(
                "the network depends on the batch size in a way that is not a multiple of it",
                got=f"{error} in {one.op} of {place_of(one.name)}",
                remedy="let nothing but shapes depend on the number of samples, and make no random numbers in forward",
            ) from None
        if one.op in FUNCTIONS:
            try:
                args = FUNCTIONS[one.op].signature.normalise(values)
            except ValueError as error:
                raise UnsupportedOperatorError(
                    f"{one.op} with these arguments is not among the operators a traced network is made of",
                    got=f"{error} in {place_of(one.name)}",
                ) from None
        else:
            args = (values["input"],) if one.op in MODULES else ()
        self.nodes.append(Node(one.name, one.op, args))
        self.index[len(self.index)] = len(self.nodes)

    def value(self, a: Any, b: Any, scope: str) -> Any:
        """The one expression that is ``a`` in the first and ``b`` in the second run."""
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return self.constant(a, b, scope)
        if type(a) is not type(b):
            raise _DifferError(f"{a!r} and {b!r}")
        if isinstance(a, Ref):
            if a != b:
                raise _DifferError("the tensors used")
            return Ref(self.index[a.index])
        if isinstance(a, tuple):
            if len(a) != len(b):
                raise _DifferError(f"{len(a)} and {len(b)} items")
            return tuple(self.value(x, y, scope) for x, y in zip(a, b, strict=True))
        if isinstance(a, slice):
            parts = zip((a.start, a.stop, a.step), (b.start, b.stop, b.step), strict=True)
            return slice(*(self.value(x, y, scope) for x, y in parts))
        if type(a) is int and a != b:
            factor = a // self.sizes[0]
            if (a, b) != (factor * self.sizes[0], factor * self.sizes[1]):
                raise _DifferError(f"{a} for {self.sizes[0]} and {b} for {self.sizes[1]} samples")
            return Batch(factor)
        if a != b and not (a != a and b != b):
            raise _DifferError(f"{a!r} and {b!r}")
        return a

    def constant(self, a: Tensor, b: Tensor, scope: str) -> Ref:
        if a.dtype != b.dtype or a.dim() != b.dim():
            raise _DifferError("a tensor made in forward")
        if a.shape == b.shape:
            if not _same(a, b):
                raise _DifferError("the values of a tensor made in forward")
            return self.read(a, scope)
        factor = a.shape[0] // self.sizes[0]
        alike = a.shape[1:] == b.shape[1:] and (a.shape[0], b.shape[0]) == tuple(factor * n for n in self.sizes)
        if factor < 1 or not alike or not (_same(a, a[:1].expand_as(a)) and _same(b, a[:1].expand_as(b))):
            raise _DifferError("the values of a tensor made in forward")
        row = self.read(a[:1].clone(), scope)
        self.nodes.append(Node(scope, "expand", (row, (Batch(factor), *[-1] * (a.dim() - 1)))))
        return Ref(len(self.nodes))

    def read(self, tensor: Tensor, scope: str) -> Ref:
        """A node that reads ``tensor``, kept as a buffer named after the module that made it."""
        prefix = f"{scope}." if scope else ""
        for name, known in self.constants.items():
            if name.rpartition(".")[0] == scope and known.dtype == tensor.dtype and _same(known, tensor):
                break
        else:
            number = 0
            while (name := f"{prefix}constant{number}") in self.taken:
                number += 1
            self.taken.add(name)
            self.constants[name] = tensor
        self.nodes.append(Node(name, BUFFER))
        return Ref(len(self.nodes))


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) and _same_nans(a, b)


def _same_nans(a: Tensor, b: Tensor) -> bool:
    return not a.is_floating_point() or bool((a.isnan() == b.isnan()).all())


def _first_difference(first: list[Record], second: list[Record]) -> str:
    for one, two in zip(first, second, strict=False):
        if one.op != two.op:
            return f"{one.op} and {two.op} in {place_of(one.name)}"
    return f"{len(first)} and {len(second)} calls"
