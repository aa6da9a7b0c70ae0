"""The traced network: a straight-line program over a closed list of operators, with real ``torch.nn`` modules inside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netpress.errors import GraphError
from netpress.graph.operators import FUNCTIONS
from netpress.program.nodes import Node, check_name
from netpress.program.values import Batch, Ref


class GraphNetwork(nn.Module):
    """A network as a straight-line program; made by `trace`, `from_document` and `split`.

    Modules, parameters and buffers lie at their dotted names in ordinary nested modules, so ``state_dict``, ``to``,
    ``train``, optimizers, ``copy.deepcopy`` and assignment of a new module to an old name work as ever. A module that
    is put in place of a leaf may be of any class; `trace` the result before it is saved.

    Args:
        nodes: The program; its last node makes the output.
        modules: Leaf modules by dotted name.
        tensors: Parameters and buffers that lie outside leaf modules, by dotted name.
        input_shape: Shape of one sample, without N.
        output_shape: Shape of one output, without N.
        input_dtype: Type of the input.

    Raises:
        GraphError: A name that is no dotted name or that is taken twice.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        modules: Mapping[str, nn.Module],
        tensors: Mapping[str, Tensor],
        *,
        input_shape: Sequence[int],
        output_shape: Sequence[int],
        input_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self._nodes = tuple(nodes)
        self._input_shape = tuple(input_shape)
        self._output_shape = tuple(output_shape)
        self._input_dtype = input_dtype
        self._program = _compile(self._nodes)
        for name, module in modules.items():
            owner, last = _owner(self, name, modules)
            _claim(owner, last, name)
            owner.add_module(last, module)
        for name, tensor in tensors.items():
            owner, last = _owner(self, name, modules)
            _claim(owner, last, name)
            if isinstance(tensor, nn.Parameter):
                owner.register_parameter(last, tensor)
            else:
                owner.register_buffer(last, tensor)

    def with_nodes(self, nodes: Sequence[Node]) -> GraphNetwork:
        """The same modules and tensors, shared, under another program over them."""
        other = copy.copy(self)
        other._nodes = tuple(nodes)
        other._program = _compile(other._nodes)
        return other

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The program, in order of execution."""
        return self._nodes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without N."""
        return self._input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output, without N."""
        return self._output_shape

    @property
    def input_dtype(self) -> torch.dtype:
        """The type of the example that the network was traced with."""
        return self._input_dtype

    def forward(self, x: Tensor) -> Tensor:
        """The output (N, \\*output_shape) of a batch (N, \\*input_shape)."""
        return self.run(x)

    def run(self, x: Tensor, watch: Callable[[int, Any], None] | None = None) -> Tensor:
        """As `forward`; ``watch(k, value)`` is told the result of node ``k`` as soon as there is one."""
        program = self._program
        batch = x.shape[0]
        values: list[Any] = [None] * (len(program) + 1)
        values[0] = x
        for index, step in enumerate(program, 1):
            if step.path is None:
                args = step.fill(values, batch)
                if step.follows_training:
                    value = step.call(*args, training=self.training)
                else:
                    value = step.call(*args)
            else:
                # looked up each time: whoever replaces a module by assignment means the new one
                owner: Any = self
                for part in step.path:
                    owner = owner._modules[part]
                value = owner(values[step.source]) if step.tensor is None else getattr(owner, step.tensor)
            values[index] = value
            for used_up in step.frees:
                values[used_up] = None
            if watch is not None:
                watch(index - 1, value)
        return values[-1]

    def __getstate__(self) -> dict[str, Any]:
        # compiled steps are closures, which can neither be copied nor pickled
        return {name: value for name, value in self.__dict__.items() if name != "_program"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._program = _compile(self._nodes)

    def extra_repr(self) -> str:
        return f"{self._input_shape} -> {self._output_shape}, {len(self._nodes)} nodes"


@dataclass(slots=True)
class _Step:
    """A node made ready to run: a module call or tensor read (``path``), or a function (``call`` and ``fill``)."""

    path: tuple[str, ...] | None
    source: int
    tensor: str | None
    call: Callable[..., Any]
    fill: Callable[[list[Any], int], Any]
    follows_training: bool
    frees: tuple[int, ...]


def _nothing(*_: Any) -> tuple[()]:
    return ()


def _compile(nodes: tuple[Node, ...]) -> list[_Step]:
    last_use: dict[int, int] = {}
    for k, node in enumerate(nodes):
        for index in node.inputs:
            last_use[index] = k
    frees: list[list[int]] = [[] for _ in nodes]
    for index, k in last_use.items():
        frees[k].append(index)
    steps = []
    for node, used_up in zip(nodes, frees, strict=True):
        parts = tuple(node.name.split("."))
        free = tuple(used_up)
        if node.is_tensor:
            steps.append(_Step(parts[:-1], 0, parts[-1], _nothing, _nothing, False, free))
        elif node.is_module:
            steps.append(_Step(parts, node.args[0].index, None, _nothing, _nothing, False, free))
        else:
            function = FUNCTIONS[node.op]
            steps.append(_Step(None, 0, None, function.call, _filler(node.args), function.follows_training, free))
    return steps


def _filler(args: tuple[Any, ...]) -> Callable[[list[Any], int], Any]:
    """A function of ``(values, N)`` that gives the arguments to call with."""
    makers = [_maker(arg) for arg in args]
    if all(isinstance(arg, Ref) for arg in args):
        indices = [arg.index for arg in args]
        return lambda values, batch: [values[index] for index in indices]
    if makers and isinstance(args[0], Ref) and not any(makers[1:]):
        first, rest = args[0].index, args[1:]
        return lambda values, batch: (values[first], *rest)
    pairs = list(zip(makers, args, strict=True))
    return lambda values, batch: [make(values, batch) if make else arg for make, arg in pairs]


def _maker(arg: Any) -> Callable[[list[Any], int], Any] | None:
    """A function that gives ``arg`` with tensors and batch sizes put in; None where there are none to put in."""
    if isinstance(arg, Ref):
        index = arg.index
        return lambda values, batch: values[index]
    if isinstance(arg, Batch):
        factor = arg.factor
        return lambda values, batch: factor * batch
    if isinstance(arg, slice):
        arg = (arg.start, arg.stop, arg.step)
        make = _maker(arg)
        return None if make is None else lambda values, batch: slice(*make(values, batch))
    if isinstance(arg, tuple):
        pairs = [(_maker(item), item) for item in arg]
        if not any(make for make, _ in pairs):
            return None
        return lambda values, batch: tuple([make(values, batch) if make else item for make, item in pairs])
    return None


def _owner(root: nn.Module, name: str, leaves: Mapping[str, nn.Module]) -> tuple[nn.Module, str]:
    """The module that holds ``name``, made of plain containers where there is none yet, and the last part."""
    *path, last = check_name(name)
    owner = root
    for depth, part in enumerate(path, 1):
        prefix = ".".join(path[:depth])
        if prefix in leaves:
            raise GraphError(f"{name!r} lies inside the leaf module {prefix!r}")
        if part not in owner._modules:
            _claim(owner, part, prefix)
            owner.add_module(part, nn.Module())
        inner = owner._modules[part]
        if inner is None:
            raise GraphError(f"the name {prefix!r} is taken")
        owner = inner
    return owner, last


def _claim(owner: nn.Module, last: str, name: str) -> None:
    # nn.Module would raise KeyError for the same names, without the whole dotted name
    if hasattr(owner, last):
        raise GraphError(f"the name {name!r} is taken", got=f"an attribute {last!r} of {type(owner).__name__}")
