"""An ONNX graph while it is written: values with their shapes, nodes, constants.

Sizes are whole numbers, or `Batch`: a multiple of the batch, which the model leaves open as ``N``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netpress.dtypes import BOOL, FLOAT32, INT64, TYPES, Type
from netpress.errors import UnsupportedOperatorError
from netpress.onnx import wire
from netpress.program.values import Batch

Size: TypeAlias = int | Batch
Shape: TypeAlias = tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor of the graph.

    Attributes:
        name: Of the node's output, the input or the initializer.
        shape: Its sizes.
        dtype: Its type.
        data: What it holds, where that is known before any input is.
    """

    name: str
    shape: Shape
    dtype: Type
    data: NDArray[Any] | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class Step:
    """A node as it will be written."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class Builder:
    """Gathers nodes and constants; operators (`netpress.onnx.operators`) call it.

    Args:
        input_shape: Of one sample.
        input_dtype: Of the input.
        arrays: The network's tensors by name; those that are used become initializers, and are not copied.
        integers: As in `netpress.onnx.write`.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        input_dtype: Type,
        arrays: Mapping[str, NDArray[Any]],
        *,
        integers: bool = False,
    ) -> None:
        self.arrays, self.integers = arrays, integers
        self.steps: list[Step] = []
        self.initializers: dict[str, NDArray[Any]] = {}
        self.input = Value("input", (Batch(1), *input_shape), input_dtype)
        self.where = ("", "")
        self.steps_of_values: dict[str, float] = {}  # of those that were rounded to a grid, by name
        self.levels_of_values: dict[
            str, tuple[Value, Value, Value]
        ] = {}  # of those that are when they run: with step and zero
        self._names: dict[str, int] = {"input": 1, "output": 1}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Value] = {}

    # ------------------------------------------------------------ names and nodes

    def fresh(self, name: str) -> str:
        """``name``, or with a number behind it where it is taken."""
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return self.fresh(f"{name}_{count}") if count else name

    def unsupported(self, why: str) -> NoReturn:
        """Raises UnsupportedOperatorError for the node that is being written."""
        op, module = self.where
        raise UnsupportedOperatorError(
            f"the operator {op!r} of module {module!r} cannot be written to ONNX",
            got=why,
            remedy="run the file in PyTorch: netpress.load",
        )

    def add(
        self,
        op: str,
        inputs: Sequence[Value | None],
        shape: Sequence[Size],
        dtype: Type | None = None,
        **attributes: Any,
    ) -> Value:
        """One node with one output, of the first input's type unless said."""
        [value] = self.add_many(op, inputs, [tuple(shape)], dtype, **attributes)
        return value

    def add_many(
        self,
        op: str,
        inputs: Sequence[Value | None],
        shapes: Sequence[Shape],
        dtype: Type | None = None,
        **attributes: Any,
    ) -> list[Value]:
        """One node with an output for each shape."""
        first = next(value for value in inputs if value is not None)
        module = self.where[1] or self.where[0]
        name = self.fresh(f"{module}/{op}")
        outputs = [name if len(shapes) == 1 else f"{name}:{k}" for k in range(len(shapes))]
        given = list(inputs)
        while given[-1] is None:
            given.pop()  # an empty name at the end is legal, and crashes ONNX Runtime
        used = tuple("" if value is None else self._used(value) for value in given)
        self.steps.append(Step(op, name, used, tuple(outputs), attributes))
        return [Value(out, shape, dtype or first.dtype) for out, shape in zip(outputs, shapes, strict=True)]

    def _used(self, value: Value) -> str:
        """The name of a value that a node reads; one that is known becomes an initializer now."""
        if value.data is not None and value.name not in self.initializers:
            self.initializers[value.name] = value.data
        return value.name

    # ------------------------------------------------------------ constants

    def known(self, name: str, array: NDArray[Any], dtype: Type) -> Value:
        """A value that holds ``array``; it takes no place in the model before a node reads it."""
        return Value(name, tuple(array.shape), dtype, array)

    def tensor(self, name: str, dtype: Type) -> Value:
        """The network's tensor of that name."""
        return self.known(name, self.arrays[name], dtype)

    def constant(self, data: Any, dtype: Type = INT64) -> Value:
        """A small constant; equal ones are one initializer."""
        array = np.asarray(data, dtype.numpy)
        key = (dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.known(self.fresh("constant"), array, dtype)
        return self._constants[key]

    def full(self, shape: Sequence[Size], fill: float, dtype: Type) -> Value:
        """A constant of one value, of sizes that do not follow the batch."""
        return self.constant(np.full(self.whole(shape), fill, dtype.numpy), dtype)

    def batch(self, factor: int) -> Value:
        """``factor`` times the batch as a vector of one number."""
        size = self.add("Shape", [self.input], (1,), INT64, start=0, end=1)
        return size if factor == 1 else self.add("Mul", [size, self.constant([factor])], (1,))

    def sizes(self, shape: Sequence[Size]) -> Value:
        """A vector of sizes, which may follow the batch."""
        if not any(isinstance(size, Batch) for size in shape):
            return self.constant(list(shape))
        parts = [self.batch(size.factor) if isinstance(size, Batch) else self.constant([size]) for size in shape]
        return self.add("Concat", parts, (len(shape),), INT64, axis=0)

    # ------------------------------------------------------------ sizes

    def whole(self, shape: Sequence[Size]) -> tuple[int, ...]:
        """``shape``, of which nothing may follow the batch."""
        found: list[int] = []
        for size in shape:
            if isinstance(size, Batch):
                self.unsupported("a size that must be known follows the batch")
            found.append(size)
        return tuple(found)

    def product(self, shape: Sequence[Size]) -> Size:
        """The number of places of ``shape``."""
        factors = [size.factor for size in shape if isinstance(size, Batch)]
        if len(factors) > 1:
            self.unsupported("a product of two sizes that follow the batch")
        rest = math.prod(size for size in shape if isinstance(size, int))
        return Batch(factors[0] * rest) if factors else rest

    # ------------------------------------------------------------ what many operators need

    def cast(self, x: Value, dtype: Type) -> Value:
        """``x`` in another type."""
        if x.dtype == dtype:
            return x
        if dtype.name not in wire.DATA_TYPES or x.dtype.name not in wire.DATA_TYPES:
            self.unsupported(f"the type {dtype if dtype.name not in wire.DATA_TYPES else x.dtype}")
        return self.add("Cast", [x], x.shape, dtype, to=wire.DATA_TYPES[dtype.name])

    def floating(self, x: Value) -> Value:
        """``x`` in a type of floating point: what torch computes functions of whole numbers in."""
        return x if x.dtype.is_floating_point else self.cast(x, FLOAT32)

    def reshape(self, x: Value, shape: Sequence[Size]) -> Value:
        """``x`` in another shape with as many places."""
        if self.product(x.shape) != self.product(shape):
            raise ValueError(f"{x.shape} cannot become {tuple(shape)}")
        if tuple(shape) == x.shape:
            return x
        if x.data is not None:
            return self.known(self.fresh(f"{x.name}.reshaped"), x.data.reshape(self.whole(shape)), x.dtype)
        if sum(isinstance(size, Batch) for size in shape) > 1:
            self.unsupported("a shape with two sizes that follow the batch")
        open_shape = [-1 if isinstance(size, Batch) else size for size in shape]
        return self.add("Reshape", [x, self.constant(open_shape)], shape)

    def permute(self, x: Value, order: Sequence[int]) -> Value:
        """``x`` with its axes in another order."""
        if sorted(order) != list(range(x.rank)):
            raise ValueError(f"{tuple(order)} is no order of {x.rank} axes")
        if list(order) == list(range(x.rank)):
            return x
        shape = tuple(x.shape[axis] for axis in order)
        if x.data is not None:
            return self.known(self.fresh(f"{x.name}.T"), x.data.transpose(order), x.dtype)
        return self.add("Transpose", [x], shape, perm=list(order))

    def swapped(self, x: Value) -> Value:
        """``x`` with its last two axes exchanged."""
        return self.permute(x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])

    def cut(self, x: Value, axis: int, start: int, stop: int, step: int = 1, *, size: Size) -> Value:
        """The places ``start:stop:step`` along one axis; ``size`` is how many they are."""
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        ends = [self.constant([number]) for number in (start, stop, axis, step)]
        return self.add("Slice", [x, *ends], shape)

    def joined(self, parts: Sequence[Value], axis: int) -> Value:
        """The parts one behind the other along ``axis``."""
        if len(parts) == 1:
            return parts[0]
        rest = {part.shape[:axis] + part.shape[axis + 1 :] for part in parts}
        if len(rest) > 1:
            raise ValueError(f"parts of shapes {[part.shape for part in parts]} do not fit together")
        sizes = [part.shape[axis] for part in parts]
        numbers = [size for size in sizes if isinstance(size, int)]
        if numbers and len(numbers) < len(sizes):
            self.unsupported("parts of which some follow the batch")
        size: Size = sum(numbers) if numbers else Batch(sum(size.factor for size in sizes if isinstance(size, Batch)))
        return self.add("Concat", parts, (*parts[0].shape[:axis], size, *parts[0].shape[axis + 1 :]), axis=axis)


def axis_of(dim: int, rank: int) -> int:
    """A dimension counted from the start.

    Raises:
        ValueError: there is none.
    """
    if not -rank <= dim < max(rank, 1):
        raise ValueError(f"dimension {dim} of {rank}")
    return dim % rank if rank else 0


def broadcast(*shapes: Shape) -> Shape:
    """The shape that all others are stretched to.

    Raises:
        ValueError: they do not fit together.
    """
    rank = max(len(shape) for shape in shapes)
    found: list[Size] = []
    for k in range(rank):
        column = {shape[k - rank + len(shape)] for shape in shapes if k - rank + len(shape) >= 0} - {1}
        if len(column) > 1:
            raise ValueError(f"shapes {shapes} do not fit together")
        found.append(column.pop() if column else 1)
    return tuple(found)


def promoted(one: Type, other: Type) -> Type:
    """The type that torch computes two tensors in."""
    if one == other:
        return one
    if one.is_floating_point != other.is_floating_point:
        return one if one.is_floating_point else other
    if BOOL in (one, other):
        return other if one == BOOL else one
    if one.itemsize != other.itemsize:
        return one if one.itemsize > other.itemsize else other
    return FLOAT32 if one.is_floating_point else TYPES["int16"]  # float16 with bfloat16; int8 with uint8
