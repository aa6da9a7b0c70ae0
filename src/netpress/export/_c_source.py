"""The C text of one network: its weights as constant arrays, its layers as structures over them, its program as calls."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from netpress.data import Preprocess
from netpress.errors import ConfigError
from netpress.export._c_plan import Plan
from netpress.export._c_steps import Add, Affine, Clamp, Conv, Grid, Linear, Matrix, Pool, Program, Round, View
from netpress.export._c_weights import Coded

_KINDS = {"max": "NP_MAX", "mean": "NP_MEAN", "mean_inside": "NP_MEAN_INSIDE"}


@dataclass(frozen=True)
class Pixels:
    """How stored bytes become the input: as (count, channels), times scale, plus shift, to (channels, count)."""

    channels: int
    count: int
    scale: tuple[float, ...]
    shift: tuple[float, ...]


def pixels_of(shape: tuple[int, ...], preprocess: Preprocess) -> Pixels:
    """The affine map of each channel of an input of ``shape`` (without N), rounded as `Preprocess` does.

    Raises:
        ConfigError: mean or std have neither one number nor as many as there are channels.
    """
    longest = max(len(preprocess.mean), len(preprocess.std))
    channels = shape[0] if len(shape) > 1 or longest > 1 else 1
    if longest not in (0, 1, channels):
        raise ConfigError("preprocessing does not fit the input", got=f"{longest} numbers", allowed=f"1 or {channels}")
    std = np.broadcast_to(np.array(preprocess.std or (1.0,)), channels)
    mean = np.broadcast_to(np.array(preprocess.mean or (0.0,)), channels)
    scale, shift = (preprocess.scale / std).astype(np.float32), (-mean / std).astype(np.float32)
    return Pixels(channels, math.prod(shape) // channels, tuple(scale.tolist()), tuple(shift.tolist()))


def header(program: Program) -> str:
    """``netpress_model.h``."""
    return f"""/* A network that netpress exported. Not reentrant: all memory is in static arrays. */
#ifndef NETPRESS_MODEL_H
#define NETPRESS_MODEL_H

#include <stdint.h>

#define NETPRESS_INPUTS {program.size(0)} /* {_times(program.shapes[0])} */
#define NETPRESS_OUTPUTS {program.size(program.output)} /* {_times(program.shapes[program.output])} */

/* The network's input as it is: float32, channels first, preprocessed. */
void netpress_run(const float *input, float *output);

/* One stored image: bytes, channels last; preprocessing is done here. */
void netpress_run_bytes(const uint8_t *pixels, float *output);

#endif
"""


def model(program: Program, plan: Plan, weights: dict[int, Coded], pixels: Pixels) -> str:
    """``netpress_model.c``.

    Args:
        program: What to run.
        plan: Where values lie.
        weights: The coded weight of each `Conv` and `Linear`, by the place of its step.
        pixels: Preprocessing of bytes.
    """
    symbols = max((coded.table_symbols for coded in weights.values()), default=0)
    tables = "tables" if symbols else "0"
    parts, calls = [], []
    for at in range(len(program.steps)):
        text, call = _Written(program, plan, at, weights, tables).both()
        parts.append(text)
        calls.append(f"    {call}\n")
    head = (
        '/* A network that netpress exported: see netpress_model.h. */\n#include "netpress_model.h"\n\n#include <math.h>\n'
        '#include <string.h>\n\n#include "netpress_runtime.h"\n\n'
        f"static float arena[{max(plan.size, 1)}];\n"
        + (f"static int32_t sums[{program.sums}];\n" if program.sums else "")
        + (f"static uint16_t tables[NP_TABLE_ITEMS({symbols}u)];\n" if symbols else "")
    )
    first, last = plan.values[0], plan.values[program.output]
    tail = f"""
static void run(float *output) {{
{"".join(calls)}    memcpy(output, arena + {last}, NETPRESS_OUTPUTS * sizeof(float));
}}

void netpress_run(const float *input, float *output) {{
    memcpy(arena + {first}, input, NETPRESS_INPUTS * sizeof(float));
    run(output);
}}

{_floats("pixel_scale", np.array(pixels.scale))}{_floats("pixel_shift", np.array(pixels.shift))}
void netpress_run_bytes(const uint8_t *pixels, float *output) {{
    np_run_bytes(pixels, pixel_scale, pixel_shift, {pixels.channels}, {pixels.count}, arena + {first});
    run(output);
}}
"""
    return head + "".join(parts) + tail


class _Written:
    """One step as C: its constants, and the call that runs it."""

    def __init__(self, program: Program, plan: Plan, at: int, weights: dict[int, Coded], tables: str) -> None:
        self.program, self.at, self.weights, self.tables = program, at, weights, tables
        self.step = step = program.steps[at]
        self.x, *more = (f"arena + {plan.values[value]}" for value in step.inputs)
        self.more = more[0] if more else "0"
        self.y = f"arena + {plan.values[step.output]}"
        self.plane = f"arena + {plan.planes[at]}" if at in plan.planes else "0"
        self.count = program.size(step.output)
        self.bounds = f"{_float(step.low)}, {_float(step.high)}"
        names = {value: f"&grid{value}" for value in program.grids}
        self.x_grid, *more_grid = (names.get(value, "0") for value in step.inputs)
        self.more_grid = more_grid[0] if more_grid else "0"
        self.y_grid = names.get(step.output, "0")
        self.grids = f"{self.x_grid}, {self.more_grid}, {self.y_grid}"

    def both(self) -> tuple[str, str]:
        """The constants and the call."""
        text, call = self._both()
        grid = self.step.work.grid if isinstance(self.step.work, Round) else self.step.grid
        return (
            "" if grid is None else f"\nstatic const np_grid grid{self.step.output} = {_grid(grid)};\n"
        ) + text, call

    def _both(self) -> tuple[str, str]:
        work = self.step.work
        if isinstance(work, Conv):
            return self._conv(work)
        if isinstance(work, Linear):
            rows, columns = work.matrix.folded.shape
            text, fields = self._matrix(work.matrix)
            text += f"static const np_linear linear{self.at} = {{{fields}, {self.grids}, {self.bounds}, {rows}, {columns}}};\n"
            return text, f"np_run_linear(&linear{self.at}, {self.x}, {self.more}, {self.y}, {self.tables});"
        if isinstance(work, Pool):
            channels = self.program.size(self.step.inputs[0]) // (work.size[0] * work.size[1])
            return self._pool(work), f"np_run_pool(&pool{self.at}, {channels}, {self.x}, {self.y});"
        if isinstance(work, View):
            fields = ", ".join(
                _pairs(getattr(work, name)) for name in ("size", "out", "before", "length", "start", "step")
            )
            text = f"\nstatic const np_view view{self.at} = {{{fields}, {_float(work.fill)}}};\n"
            return text, f"np_run_view(&view{self.at}, {self.y_grid}, {self.x}, {self.y});"
        if isinstance(work, Affine):
            text = (
                "\n" + _floats(f"scale{self.at}", work.scale.numpy()) + _floats(f"shift{self.at}", work.shift.numpy())
            )
            channels = len(work.scale)
            values = f"scale{self.at}, shift{self.at}, {channels}, {self.count // channels}"
            return text, f"np_run_affine({values}, {self.x}, {self.y}, {self.bounds});"
        if isinstance(work, Add):
            return "", f"np_run_add({self.grids}, {self.x}, {self.more}, {self.y}, {self.count}, {self.bounds});"
        if isinstance(work, Clamp):
            return "", f"np_run_clamp({self.x_grid}, {self.y_grid}, {self.x}, {self.y}, {self.count}, {self.bounds});"
        if isinstance(work, Round):
            return "", f"np_run_round(&grid{self.step.output}, {self.x}, {self.y}, {self.count});"
        return "", f"np_run_softmax({self.x}, {self.y}, {self.count});"

    def _conv(self, conv: Conv) -> tuple[str, str]:
        text, fields = self._matrix(conv.matrix)
        if conv.pool is not None:
            text += self._pool(conv.pool)
        sizes = ", ".join(map(str, (conv.out[0], conv.groups, *conv.size, *conv.out[1:])))
        pairs = ", ".join(map(_pairs, (conv.kernel, conv.stride, conv.dilation, conv.pad)))
        pool = f"&pool{self.at}" if conv.pool is not None else "0"
        text += f"static const np_conv conv{self.at} = {{{fields}, {self.grids}, {pool}, {self.bounds}, {sizes}, {pairs}}};\n"
        sums = "0" if self.x_grid == "0" else "sums"
        given = f"{self.x}, {self.more}, {self.y}, {self.plane}, {sums}, {self.tables}"
        return text, f"np_run_conv(&conv{self.at}, {given});"

    def _pool(self, pool: Pool) -> str:
        sizes = ", ".join(map(str, (*pool.size, *pool.out)))
        pairs = ", ".join(map(_pairs, (pool.kernel, pool.stride, pool.pad, pool.dilation)))
        return f"static const np_pool pool{self.at} = {{{_KINDS[pool.kind]}, {sizes}, {pairs}, {pool.divisor}}};\n"

    def _matrix(self, matrix: Matrix) -> tuple[str, str]:
        """The arrays of a layer, and the fields weight, scale and bias of its structure."""
        coded = self.weights[self.at]
        text, names = f"\n/* {matrix.name}: {_times(matrix.folded.shape)}, {coded.form} */\n", {}
        for name, content in (("stream", coded.stream), ("lengths", coded.lengths)):
            text += _bytes(f"{name}{self.at}", content)
            names[name] = f"{name}{self.at}" if content else "0"
        floats = {
            "palette": coded.palette,
            "scale": coded.scale,
            "bias": None if matrix.bias is None else matrix.bias.numpy(),
        }
        for name, values in floats.items():
            there = values is not None and len(values) > 0
            text += _floats(f"{name}{self.at}", values) if values is not None and there else ""
            names[name] = f"{name}{self.at}" if there else "0"
        names["levels"] = "0" if coded.levels is None else f"levels{self.at}"
        if coded.levels is not None:
            text += _array("int8_t", names["levels"], map(str, coded.levels.tolist()))
        listed = 0 if coded.form in ("dense", "mask") else coded.values  # theirs is no palette, and may be longer
        fields = [
            f"NP_{coded.form.upper()}",
            coded.bits,
            coded.raw,
            coded.quotients,
            listed,
            coded.symbols,
            len(coded.stream),
        ]
        fields += [names["stream"], names["lengths"], names["palette"], names["levels"], _float(coded.step)]
        return text, f"{{{', '.join(map(str, fields))}}}, {names['scale']}, {names['bias']}"


def _float(value: float) -> str:
    """A literal that gives exactly this float32."""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = f"{value:.9g}"
    return f"{text}f" if set(text) & {".", "e"} else f"{text}.0f"


def _grid(grid: Grid) -> str:
    scale = np.float32(grid.scale)
    return f"{{{_float(float(scale))}, {_float(float(np.float32(1) / scale))}, {grid.low}, {grid.high}}}"


def _floats(name: str, values: NDArray[np.floating]) -> str:
    return _array("float", name, map(_float, values.reshape(-1).tolist()))


def _bytes(name: str, content: bytes) -> str:
    return _array("uint8_t", name, map(str, content)) if content else ""


def _array(kind: str, name: str, items: Iterable[str]) -> str:
    listed = list(items)
    lines = [",".join(listed[at : at + 24]) for at in range(0, len(listed), 24)]
    return f"static const {kind} {name}[{len(listed)}] = {{\n" + ",\n".join(lines) + "};\n"


def _pairs(values: Iterable[int]) -> str:
    return f"{{{', '.join(map(str, values))}}}"


def _times(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape)) or "1"
