"""Integers: values that a network rounds, and weights on grids, as the pairs of QuantizeLinear and DequantizeLinear that runtimes fuse.

What reads the rounded value of a layer's input, and multiplies it with a weight whose rows are on grids of 8 bits, is written with the
integers themselves: int8 levels with a step for each row, and the bias in units of the two steps together, which is where a runtime
adds it. A runtime that does not fuse them computes the same in float.

What reads a value whose range is measured at each run is a product of integers, MatMulInteger, whose sums are multiplied by both steps
in float; runtimes have fast kernels for that of linear layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from netpress.dtypes import FLOAT32, TYPES, Type
from netpress.onnx.building import Builder, Step, Value
from netpress.program.row_levels import rows_on_grids

MOVES = ("Slice", "Pad", "Transpose", "Reshape")
PASSED = (*MOVES, "Relu", "Clip", "MaxPool")  # runtimes may round before these as well as behind them
LEVELS = 127  # of int8 weights, as many on either side
MOST_BIAS = 2**31 - 1
_INT8, _UINT8, _INT32 = TYPES["int8"], TYPES["uint8"], TYPES["int32"]


def fake_quantize(
    b: Builder, input: Value, scale: float, zero_point: int = 0, quant_min: int = 0, quant_max: int = 255
) -> Value:
    kind = _kind(quant_min, quant_max)
    if kind is None:
        b.unsupported(f"levels from {quant_min} to {quant_max} take more than 8 bits")
    low, high = (-128, 127) if kind == _INT8 else (0, 255)
    if (quant_min, quant_max) != (low, high):  # fewer levels than the type has
        ends = [b.constant((level - zero_point) * scale, FLOAT32) for level in (quant_min, quant_max)]
        input = b.add("Clip", [input, *ends], input.shape)
    step, zero = b.constant(scale, FLOAT32), b.constant(zero_point, kind)
    levels = b.add("QuantizeLinear", [input, step, zero], input.shape, kind)
    value = b.add("DequantizeLinear", [levels, step, zero], input.shape, FLOAT32)
    b.steps_of_values[value.name] = scale
    return value


def dynamic_quantize(b: Builder, input: Value) -> Value:
    x = b.cast(input, FLOAT32)
    levels, step, zero = b.add_many("DynamicQuantizeLinear", [x], [x.shape, (), ()], _UINT8)
    step = replace(step, dtype=FLOAT32)
    value = b.add("DequantizeLinear", [levels, step, zero], x.shape, FLOAT32)
    b.levels_of_values[value.name] = levels, step, zero
    return b.cast(value, input.dtype)


OPERATORS: dict[str, Callable[..., Any]] = {"fake_quantize": fake_quantize, "dynamic_quantize": dynamic_quantize}


def product(b: Builder, input: Value, weight: Value, bias: Value | None) -> Value | None:
    """A linear layer of integers, where what it reads has a range of its own and the weight is on grids; else None.

    Args:
        input: (..., columns).
        weight: (rows, columns).
        bias: (rows,), or None.
    """
    if input.name not in b.levels_of_values or weight.data is None or weight.dtype != FLOAT32 or not weight.data.size:
        return None
    if weight.data.shape[1] * LEVELS * 255 > MOST_BIAS:  # sums of int32
        return None
    if bias is not None and bias.dtype != FLOAT32:
        return None
    found = rows_on_grids(np.ascontiguousarray(weight.data), LEVELS)
    if found is None:
        return None
    steps, whole = found
    levels, step, zero = b.levels_of_values[input.name]
    turned = b.known(b.fresh(f"{weight.name}/levels"), np.ascontiguousarray(whole.astype(np.int8).T), _INT8)
    per_row = b.known(b.fresh(f"{weight.name}/steps"), steps.astype(np.float32), FLOAT32)
    shape = (*input.shape[:-1], len(steps))
    sums = b.add("MatMulInteger", [levels, turned, zero], shape, _INT32)
    # in this order runtimes know it as one product
    made = b.add("Mul", [b.cast(sums, FLOAT32), b.add("Mul", [step, per_row], per_row.shape)], shape)
    return made if bias is None else b.add("Add", [made, bias], shape)


def weights(
    b: Builder, input: Value, weight: Value, bias: Value | None, *, always: bool = False
) -> tuple[Value, Value | None]:
    """Weight and bias of a layer that reads ``input``: with their integers where that is rounded, or ``always``, and the weight is
    on grids.

    Args:
        weight: (rows, ...).
        bias: (rows,), or None.
    """
    scale = b.steps_of_values.get(input.name)
    if (scale is None and not always) or weight.data is None or weight.dtype != FLOAT32 or not weight.data.size:
        return weight, bias
    if scale is not None and bias is not None and (bias.data is None or bias.dtype != FLOAT32):
        return weight, bias
    found = rows_on_grids(np.ascontiguousarray(weight.data).reshape(len(weight.data), -1), LEVELS)
    if found is None:
        return weight, bias
    steps, levels = found
    whole = levels.astype(np.int8).reshape(weight.data.shape)
    made = _dequantized(b, weight, whole, _INT8, steps)
    if scale is None or bias is None or bias.data is None:
        return made, bias
    units = np.float32(scale) * steps
    numbers = np.rint(bias.data.astype(np.float64) / units.astype(np.float64))
    if not bool((np.abs(numbers) <= MOST_BIAS).all()):
        return made, bias
    return made, _dequantized(b, bias, numbers.astype(np.int32), _INT32, units)


def round_moved(b: Builder) -> None:
    """Says of rounded values that were only moved or padded before they go into a rounded sum that they are rounded.

    They are: nothing changes but that a runtime can see it, and add integers.
    """
    made = {step.outputs[0]: step for step in b.steps}
    readers: dict[str, list[Step]] = {}
    for step in b.steps:
        for name in step.inputs:
            readers.setdefault(name, []).append(step)

    def is_rounded(name: str) -> bool:
        read = readers.get(name, [])
        while len(read) == 1 and read[0].op in PASSED:
            read = readers.get(read[0].outputs[0], [])
        return bool(read) and all(step.op == "QuantizeLinear" for step in read)

    def source(name: str) -> Step | None:
        """The step that rounded what lies under this name, moved since; None where there is none, or it was not moved."""
        moved = False
        while (step := made.get(name)) is not None and step.op in MOVES and (step.op != "Pad" or _pads_zeros(b, step)):
            name, moved = step.inputs[0], True
        of_one_step = (
            step is not None and step.op == "DequantizeLinear" and not step.attributes
        )  # an axis: a step a row
        return step if moved and of_one_step else None

    steps: list[Step] = []
    for step in b.steps:
        inputs = list(step.inputs)
        if step.op == "Add" and is_rounded(step.outputs[0]):
            for k, name in enumerate(inputs):
                rounded = source(name)
                if rounded is not None:
                    levels, value = b.fresh(f"{name}/QuantizeLinear"), b.fresh(f"{name}/DequantizeLinear")
                    grid = rounded.inputs[1:]
                    steps.append(Step("QuantizeLinear", levels, (name, *grid), (levels,), {}))
                    steps.append(Step("DequantizeLinear", value, (levels, *grid), (value,), {}))
                    inputs[k] = value
        steps.append(replace(step, inputs=tuple(inputs)))
    b.steps[:] = steps


def _pads_zeros(b: Builder, step: Step) -> bool:
    """Zero is on every grid, other numbers may lie between."""
    filler = b.initializers.get(step.inputs[2]) if len(step.inputs) > 2 else None
    return step.attributes["mode"] != "constant" or (filler is not None and not np.any(filler))


def _dequantized(b: Builder, value: Value, levels: Any, kind: Type, steps: Any) -> Value:
    """A tensor of the network as integers and a step for each row."""
    held = b.known(b.fresh(f"{value.name}/levels"), levels, kind)
    per_row = b.known(b.fresh(f"{value.name}/steps"), steps.astype(np.float32), FLOAT32)
    zero = b.known(b.fresh(f"{value.name}/zero"), np.zeros(len(steps), levels.dtype), kind)
    return b.add("DequantizeLinear", [held, per_row, zero], value.shape, FLOAT32, axis=0)


def _kind(low: int, high: int) -> Type | None:
    if low >= 0 and high <= 255:
        return _UINT8
    return _INT8 if low >= -128 and high <= 127 else None
