"""From a program and its tensors to an ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress._version import __version__
from netpress.dtypes import FLOAT32, known_type, type_of
from netpress.errors import ConfigError, FormatError, NetpressError
from netpress.onnx import wire
from netpress.onnx.building import Builder, Value
from netpress.onnx.integers import round_moved
from netpress.onnx.operators import FUNCTIONS, MODULES
from netpress.program import Node, Program, operators
from netpress.program.folding import MATRICES, NORMS, adjacent
from netpress.program.values import Batch, Ref

MOST_BYTES = 2**31 - 1
"""Of a message of protobuf."""

LEAST_APART_BYTES = 1024
"""Smaller initializers stay in the model: ONNX Runtime looks at the values of some."""

INPUT, OUTPUT = "input", "output"

_MISFITS = (ValueError, TypeError, IndexError, KeyError, ArithmeticError)


def write(
    program: Program,
    arrays: Mapping[str, NDArray[Any]],
    *,
    metadata: Mapping[str, str] | None = None,
    apart: dict[str, NDArray[Any]] | None = None,
    integers: bool = False,
) -> list[wire.Piece]:
    """The model's bytes in pieces: ``b"".join`` makes one of them, and `writelines` of a file none.

    The model has one input, ``input`` of (N, \\*input_shape), and one output, ``output``, with N left open. Weights are initializers
    under their names in the file (those that were folded or turned have new ones); batch normalisations are folded into the layer
    before where they alone read it; dropout and identity vanish.

    Args:
        program: What is computed.
        arrays: Its tensors as numpy arrays, by name, those of `Program.expected`; not copied, not changed.
        metadata: Texts that go with the model.
        apart: Where to put the larger initializers, by name, instead of into the model: to be given to the runtime beside it, which
            saves copying them.
        integers: Whether convolutions' weights on grids of 8 bits are integers also where what they multiply is not rounded. That is
            a quarter of the bytes; OpenVINO turns them into floats when it opens the model, but ONNX Runtime at each run: ResNet-20
            and VGG-16-BN then took 1.7 to 2 times as long there. Of linear layers OpenVINO would round the input.

    Raises:
        UnsupportedOperatorError: An operator that cannot be said in ONNX, or a type that ONNX runtimes do not have.
        FormatError: The program's parts do not fit together.
        ConfigError: More than protobuf can hold.
    """
    builder = Builder(program.input_shape, program.input_dtype, _with_ties(program, arrays), integers=integers)
    output = _Writer(program, builder).run()
    _name_output(builder, output)
    round_moved(builder)
    _drop_unread(builder)
    if not output.shape or not isinstance(output.shape[0], Batch) or output.shape[0].factor != 1:
        raise FormatError("the output is not batch-first", got=_spelled(output.shape))
    pieces = wire.model(
        nodes=[wire.node(s.op, s.name, s.inputs, s.outputs, s.attributes) for s in builder.steps],
        initializers=[_initializer(name, array, apart) for name, array in builder.initializers.items()],
        inputs=[_info(replace(builder.input, name=INPUT), builder)],
        outputs=[_info(replace(output, name=OUTPUT), builder)],
        name="netpress",
        producer="netpress",
        version=__version__,
        metadata=metadata or {},
    )
    if (size := sum(len(piece) for piece in pieces)) > MOST_BYTES:
        raise ConfigError("the network is too large for one ONNX file", got=f"{size} bytes", allowed=MOST_BYTES)
    return pieces


def _initializer(name: str, array: NDArray[Any], apart: dict[str, NDArray[Any]] | None) -> list[wire.Piece]:
    if apart is None or array.nbytes < LEAST_APART_BYTES:
        return wire.tensor(name, array)
    apart[name] = np.ascontiguousarray(array)
    return wire.tensor_apart(name, array)


def _with_ties(program: Program, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    every = dict(arrays)
    for second, first in program.ties:
        every[second] = every[first]
    return every


def _spelled(shape: tuple[Any, ...]) -> list[int | str]:
    """A shape as ONNX says it: the batch as the symbol N."""
    return [("N" if size.factor == 1 else f"{size.factor}N") if isinstance(size, Batch) else size for size in shape]


def _info(value: Value, builder: Builder) -> list[wire.Piece]:
    if value.dtype.name not in wire.DATA_TYPES:
        builder.unsupported(f"the type {value.dtype}")
    return wire.value_info(value.name, wire.DATA_TYPES[value.dtype.name], _spelled(value.shape))


def _name_output(builder: Builder, output: Value) -> None:
    """Gives the last value the name of the output, wherever it stands."""
    if output.data is not None or output.name == builder.input.name:
        builder.add("Identity", [output], output.shape)
        output = replace(output, name=builder.steps[-1].outputs[0])

    def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(OUTPUT if name == output.name else name for name in names)

    builder.steps = [replace(s, inputs=renamed(s.inputs), outputs=renamed(s.outputs)) for s in builder.steps]


def _drop_unread(builder: Builder) -> None:
    """Takes out steps that nothing reads, such as the float of a value whose readers all read its integers."""
    read, kept = {OUTPUT}, []
    for step in reversed(builder.steps):
        if read.intersection(step.outputs):
            read.update(step.inputs)
            kept.append(step)
    builder.steps = kept[::-1]
    builder.initializers = {name: array for name, array in builder.initializers.items() if name in read}


class _Writer:
    """Writes one program, node by node."""

    def __init__(self, program: Program, builder: Builder) -> None:
        self.program, self.builder = program, builder
        self.values: list[Any] = [builder.input]

    def run(self) -> Value:
        behind = dict(self._foldable())
        folded: set[int] = set()
        for k, node in enumerate(self.program.nodes):
            self.builder.where = (node.op, node.name)
            try:
                if k in folded:
                    value = self.values[node.inputs[0]]
                elif k in behind and (node.op != "Linear" or self.values[node.inputs[0]].rank == 2):
                    # a linear layer's rows are the last axis, a normalisation's channels the second
                    value = self._module(node, self._fold(node, self.program.nodes[behind[k]]))
                    folded.add(behind[k])
                else:
                    value = self._value(node)
            except _MISFITS as error:
                if isinstance(error, NetpressError):
                    raise
                got = f"{node.op} {node.name!r}: {error}"[:400]
                raise FormatError("the document's parts do not fit together", got=got) from None
            self.values.append(value)
        last: Value = self.values[-1]
        return last

    def _value(self, node: Node) -> Any:
        if node.is_tensor:
            return self._tensor(node.name)
        if node.is_module:
            return self._module(node, {})
        call = FUNCTIONS.get(node.op)
        if call is None:
            self.builder.unsupported("no ONNX operators are known for it")
        arguments = operators.FUNCTIONS[node.op].signature.bind(node.args)
        given = {name: self._filled(value) for name, value in arguments.items()}
        return call(self.builder, **given)

    def _filled(self, argument: Any) -> Any:
        """An argument with values in the place of references."""
        if isinstance(argument, Ref):
            return self.values[argument.index]
        if isinstance(argument, tuple):
            return tuple(self._filled(each) for each in argument)
        return argument

    def _tensor(self, name: str) -> Value:
        """A tensor in the type that it is stored in: a file may hold any floating type where one is usual."""
        dtype = type_of(self.builder.arrays[name].dtype)
        if dtype is None or dtype.name not in wire.DATA_TYPES:
            self.builder.unsupported(f"the type of the tensor {name!r}: bfloat16")
        return self.builder.tensor(name, dtype)

    def _module(self, node: Node, instead: Mapping[str, NDArray[Any]]) -> Value:
        leaf = self.program.leaves[node.name]
        call = MODULES.get(leaf.op)
        if call is None:
            self.builder.unsupported("no ONNX operators are known for it")
        tensors = {last: self._tensor(f"{node.name}.{last}") for last in leaf.tensors()}
        for last, array in instead.items():
            name = self.builder.fresh(f"{node.name}.{last}.folded")
            tensors[last] = self.builder.known(name, array, known_type(array.dtype))
        return call(self.builder, self.values[node.args[0].index], tensors, leaf.arguments)

    # ------------------------------------------------------------ folding

    def _foldable(self) -> list[tuple[int, int]]:
        """Layers and the normalisations that become part of them."""
        leaves, found = self.program.leaves, []
        for layer, norm in adjacent(self.program.nodes):
            first, second = (self.program.nodes[k] for k in (layer, norm))
            if leaves[first.name].op not in MATRICES or leaves[second.name].op not in NORMS:
                continue
            channels = leaves[first.name].tensors()["weight"].shape[0]
            arguments = leaves[second.name].arguments
            fits = arguments["track_running_stats"] and arguments["num_features"] == channels
            plain = all(
                self.builder.arrays[f"{node.name}.{last}"].dtype == np.float32
                for node in (first, second)
                for last, spec in leaves[node.name].tensors().items()
                if spec.dtype == FLOAT32
            )
            if fits and plain:
                found.append((layer, norm))
        return found

    def _fold(self, layer: Node, norm: Node) -> dict[str, NDArray[Any]]:
        """Weight and bias of a layer that does what both do; see `netpress.graph.fold`. Scale and bias are computed in float64."""
        arrays, arguments = self.builder.arrays, self.program.leaves[norm.name].arguments

        def exact(node: Node, last: str, otherwise: float) -> NDArray[np.float64]:
            return np.asarray(arrays.get(f"{node.name}.{last}", otherwise), np.float64)

        scale = exact(norm, "weight", 1.0) / np.sqrt(exact(norm, "running_var", 1.0) + arguments["eps"])
        bias = exact(norm, "bias", 0.0) + (exact(layer, "bias", 0.0) - exact(norm, "running_mean", 0.0)) * scale
        weight = arrays[f"{layer.name}.weight"]
        rows = scale.astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
        return {"weight": weight * rows, "bias": bias.astype(np.float32)}
