"""One run of a network, written down as a list of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from netpress.errors import NetpressError, TraceError, UnsupportedOperatorError
from netpress.graph.calls import ADAPTED, CALLS, CASTS, DECOMPOSED, MODE_DEPENDENT, READS, SAME_VALUES, SHAPE_ONLY
from netpress.graph.leaves import leaf_operator
from netpress.graph.network import GraphNetwork
from netpress.graph.operators import FUNCTIONS
from netpress.program.operators import BUFFER, PARAMETER
from netpress.program.values import Ref


@dataclass
class Record:
    """One call: as `Node`, but with integers as they were in this run and tensors that nothing recorded in place."""

    name: str
    op: str
    args: dict[str, Any]
    depends_on_input: bool


@dataclass
class _State:
    """What a call's first argument was before the call: ``kept`` is a copy of a tensor that nothing recorded."""

    dtype: torch.dtype | None
    version: int
    kept: Tensor | None

    @classmethod
    def of(cls, x: Any, is_tracked: Callable[[Tensor], bool]) -> _State:
        if not isinstance(x, Tensor):
            return cls(None, 0, None)
        return cls(x.dtype, x._version, None if is_tracked(x) else x.detach().clone())


class Recorder(TorchFunctionMode):
    """Records the calls that ``network(batch)`` makes; `Recorder.record` does all of it.

    Attributes:
        records: The calls, in order; record ``k`` makes value ``k + 1``.
        names: All names of modules, parameters and buffers.
        output: What the network returned.
        result: Index of the value that it returned.
    """

    def __init__(self, network: nn.Module, batch: Tensor) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.output: Tensor = batch
        self.result = 0
        self.names = {name for name, _ in network.named_modules()}
        self._batch = batch
        self._scopes = [""]
        self._paused = False
        self._kept: list[Any] = [batch]  # ids stay unique only while their tensors live
        self._values: dict[int, int] = {}
        self._storages: dict[int, set[int]] = {}
        self._stale: set[int] = set()
        self._tensors: dict[int, tuple[str, str]] = {}
        self._wrapped: list[nn.Module] = []
        for name, parameter in network.named_parameters():
            self._tensors[id(parameter)] = (name, PARAMETER)
        for name, buffer in network.named_buffers():
            self._tensors.setdefault(id(buffer), (name, BUFFER))
        self.names.update(name for name, _ in self._tensors.values())

    @classmethod
    def record(cls, network: nn.Module, batch: Tensor) -> Recorder:
        """One run of ``network`` in eval mode on ``batch``; the network's modules are as before afterwards.

        Raises:
            UnsupportedOperatorError: A call outside the closed list.
            TraceError: The network fails, or cannot be followed.
        """
        recorder = cls(network, batch)
        try:
            for name, module in network.named_modules():
                recorder._wrap(name, module)
            with recorder:
                recorder._run(network)
        finally:
            for module in recorder._wrapped:
                del module.__dict__["forward"]
        return recorder

    def _run(self, network: nn.Module) -> None:
        """Runs the network and takes its output down."""
        batch = self._batch.clone()
        self._name_value(batch, 0)
        try:
            output = network(batch)
        except NetpressError:
            raise
        except Exception as error:  # whatever the network's own code raises
            raise TraceError(
                f"the network fails on a batch of shape {tuple(batch.shape)}",
                got=f"{type(error).__name__}: {error}",
                remedy="give an example of the shape, type and device that the network takes, as its only input",
            ) from error
        if not isinstance(output, Tensor):
            raise TraceError(
                "the network must return one tensor", got=type(output).__name__, remedy="wrap it to return that one"
            )
        result = self._find(output)
        if result is None or not self._depends(result):
            raise TraceError("the network's output does not depend on its input")
        if output.dim() < 1 or output.shape[0] != batch.shape[0]:
            raise TraceError(
                "the network's output must be batch-first", got=f"{tuple(output.shape)} for {batch.shape[0]} samples"
            )
        # the recorded tensor may be changed in place by nobody from here on
        self.output, self.result = output.detach(), result

    # ------------------------------------------------------------ modules

    def _wrap(self, name: str, module: nn.Module) -> None:
        if "forward" in module.__dict__:
            raise TraceError(f"the module {name!r} has a forward of its own instance", got=type(module).__name__)
        if isinstance(module, torch.jit.ScriptModule):
            raise TraceError(f"the module {name!r} is TorchScript", remedy="use the module it was scripted from")
        forward = module.forward
        op = leaf_operator(module) if name else None
        if isinstance(module, GraphNetwork):
            module.__dict__["forward"] = lambda x: self._run_graph(name, module, x)
        elif op is not None:
            module.__dict__["forward"] = lambda *args, **kwargs: self._run_leaf(name, op, module, forward, args, kwargs)
        else:
            module.__dict__["forward"] = lambda *args, **kwargs: self._run_scope(name, forward, args, kwargs)
        self._wrapped.append(module)

    def _run_scope(self, name: str, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        with self._scope(name):
            return forward(*args, **kwargs)

    def _run_graph(self, name: str, network: GraphNetwork, x: Tensor) -> Tensor:
        scopes = [f"{name}.{node.name}" if name and node.name else name or node.name for node in network.nodes]
        # a node's calls belong to the scope that the node names, beneath the network's own
        self._scopes.append(scopes[0] if scopes else name)

        def enter_next(k: int, value: Any) -> None:
            self._scopes[-1] = scopes[min(k + 1, len(scopes) - 1)]

        try:
            return network.run(x, enter_next)
        finally:
            self._scopes.pop()

    def _run_leaf(
        self, name: str, op: str, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        inputs = (*args, *kwargs.values())
        stateless = next(module.parameters(), None) is None
        if self._paused or (stateless and not any(self._is_tracked(x) for x in _tensors_in(inputs))):
            return forward(*args, **kwargs)
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
            raise UnsupportedOperatorError(f"{op} with more than its input", got=f"module {name!r}")
        with self._pause():
            result = forward(*args, **kwargs)
            changed = inputs[0] if result is inputs[0] and getattr(module, "inplace", False) else None
            self._record(name, op, {"input": self._to_ref(inputs[0])}, result, changed)
        return result

    @contextmanager
    def _scope(self, name: str) -> Iterator[None]:
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    @contextmanager
    def _pause(self) -> Iterator[None]:
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    # ------------------------------------------------------------ calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        tracked = [x for x in _tensors_in((args, kwargs)) if self._is_tracked(x)]
        if not tracked:
            return func(*args, **kwargs)
        if func in DECOMPOSED:
            try:
                with self:
                    return DECOMPOSED[func](*args, **kwargs)
            except ValueError as error:
                raise self._unsupported(func, error) from None
        source = args[0] if args else next(iter(kwargs.values()))
        before = _State.of(source, self._is_tracked)
        result = func(*args, **kwargs)
        changed = isinstance(source, Tensor) and source._version != before.version
        if not any(True for _ in _tensors_in(result)):
            if changed:
                raise self._unsupported(func, None)
            self._check_read(func, args, kwargs)
        elif func not in SHAPE_ONLY:
            self._take_down(func, args, kwargs, result, before, source if changed else None)
        return result

    def _take_down(
        self, func: Any, args: Any, kwargs: Any, result: Any, before: _State, changed: Tensor | None
    ) -> None:
        if func in SAME_VALUES or func in CASTS:
            if before.kept is not None:
                return  # of a tensor that nothing recorded: so is the result
            source = args[0]
            if func in SAME_VALUES or result.dtype == before.dtype:
                self._name_value(result, self._to_ref(source).index)
            else:
                self._record(
                    self._scopes[-1], "to", {"input": self._to_ref(source), "dtype": result.dtype}, result, None
                )
            return
        try:
            if func in ADAPTED:
                op, values = ADAPTED[func](*args, **kwargs)
            elif func in CALLS:
                op, values = CALLS[func].op, CALLS[func].bind(args, kwargs)
            else:
                raise self._unsupported(func, None)
        except (ValueError, TypeError) as error:
            raise self._unsupported(func, error) from None
        self._check_mode(func, args, kwargs, values)
        with self._pause():
            made_of = {
                # a tensor made in forward and changed in place: as it was before
                name: before.kept
                if changed is not None and value is changed and before.kept is not None
                else self._to_ref(value)
                for name, value in values.items()
            }
        self._record(self._scopes[-1], op, made_of, result, changed)

    def _record(self, name: str, op: str, values: dict[str, Any], result: Any, changed: Tensor | None) -> None:
        depends = any(self._depends(ref.index) for ref in _refs_in(values))
        self.records.append(Record(name, op, values, depends))
        made = len(self.records)
        if changed is not None:
            self._outdate_views(changed)
        if isinstance(result, Tensor):
            self._name_value(result, made)
            return
        for index, piece in enumerate(result):
            self.records.append(Record(name, "item", {"input": Ref(made), "index": index}, depends))
            self._name_value(piece, len(self.records))

    # ------------------------------------------------------------ tensors

    def _is_tracked(self, x: Tensor) -> bool:
        return id(x) in self._values or id(x) in self._tensors

    def _find(self, x: Tensor) -> int | None:
        """Index of the value that ``x`` is; None if nothing recorded made it. Reads a parameter when first used."""
        if id(x) in self._stale:
            raise TraceError(
                "a tensor is used after another view of its memory was changed in place",
                got=f"in {place_of(self._scopes[-1])}",
                remedy="write that change out of place",
            )
        if id(x) not in self._values and id(x) in self._tensors:
            name, op = self._tensors[id(x)]
            self.records.append(Record(name, op, {}, False))
            self._values[id(x)] = len(self.records)
        return self._values.get(id(x))

    def _depends(self, value: int) -> bool:
        return value == 0 or self.records[value - 1].depends_on_input

    def _name_value(self, x: Tensor, index: int) -> None:
        if id(x) in self._tensors and id(x) not in self._values:
            raise TraceError(
                f"the network changes its {self._tensors[id(x)][1]} {self._tensors[id(x)][0]!r} in eval mode"
            )
        self._values[id(x)] = index
        self._stale.discard(id(x))
        self._kept.append(x)
        self._storages.setdefault(x.untyped_storage()._cdata, set()).add(id(x))

    def _outdate_views(self, changed: Tensor) -> None:
        if id(changed) in self._tensors:
            name, op = self._tensors[id(changed)]
            raise TraceError(f"the network changes its {op} {name!r} in eval mode")
        self._stale |= self._storages.get(changed.untyped_storage()._cdata, set())

    def _to_ref(self, x: Any) -> Any:
        """``x`` with recorded tensors as `Ref`; a tensor that nothing recorded is copied as it is now."""
        if isinstance(x, Tensor):
            index = self._find(x)
            return x.detach().clone() if index is None else Ref(index)
        if isinstance(x, np.generic):
            return x.item()
        if isinstance(x, list | tuple):
            return tuple(self._to_ref(item) for item in x)
        return x

    # ------------------------------------------------------------ refusals

    def _check_read(self, func: Any, args: Any, kwargs: Any) -> None:
        if func not in READS:
            return
        for x in _tensors_in((args, kwargs)):
            value = self._find(x)
            if value is not None and self._depends(value):
                raise TraceError(
                    "the network reads values of its input into python, so that its course depends on them",
                    got=f"{_name(func)} in {place_of(self._scopes[-1])}",
                    remedy="use torch.where or another operator on tensors",
                )

    def _check_mode(self, func: Any, args: Any, kwargs: Any, values: dict[str, Any]) -> None:
        if func not in MODE_DEPENDENT:
            return
        place = MODE_DEPENDENT[func]
        default = func is not F.batch_norm
        training = kwargs.get("training", args[place] if len(args) > place else default)
        if training and not (func is F.batch_norm and values.get("running_mean") is None):
            raise TraceError(
                f"{_name(func)} is active in eval mode",
                got=f"training=True in {place_of(self._scopes[-1])}",
                remedy="pass training=self.training",
            )

    def _unsupported(self, func: Any, error: Exception | None) -> UnsupportedOperatorError:
        return UnsupportedOperatorError(
            f"{_name(func)} is not among the operators a traced network is made of",
            got=f"{error or 'a call'} in {place_of(self._scopes[-1])}",
            remedy=f"say it with those: {', '.join(FUNCTIONS)}",
        )


def place_of(name: str) -> str:
    """How error texts call the module ``name``."""
    return f"module {name!r}" if name else "the root module"


def _name(func: Any) -> str:
    return resolve_name(func) or getattr(func, "__qualname__", None) or repr(func)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors_in(item)
    elif isinstance(value, slice):
        yield from _tensors_in((value.start, value.stop, value.step))


def _refs_in(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _refs_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _refs_in(item)
