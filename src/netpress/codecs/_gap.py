"""What the (gap, value) codecs share: the events of a tensor, the payload's head, products from blocks.

Payload, numbers as varints unless said otherwise:

- the palette (`_palette.pack`); nothing follows when no value but zero occurs, or none at all;
- two bytes: precision - 1 in 4 bits, the binary logarithm of the lanes in 3, raw in 3, zeros;
- the number of quotients of a gap (one byte), and the rows of a block;
- the levels of values and of gaps (`_gap_model.pack_levels`); absent values are those of the palette that do not occur;
- for each block its number of symbols and what the codec needs to find its streams; then the streams.

A block is a number of whole rows, the last one what is left; within it, positions run on over the ends of rows. Blocks are decoded
independently of each other. The symbols of a block are shared out to lanes, a run of consecutive ones to each, so that several
can be decoded at once; where the lanes' runs begin is not stored but counted once, when a payload is opened and checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import _palette
from netpress.codecs._gap_model import (
    ABSENT,
    MOST_GAPS,
    MOST_RAW,
    Model,
    fit,
    pack_levels,
    statistics_of,
    unpack_levels,
)
from netpress.codecs._palette import Palette, read_varint, varint
from netpress.codecs._tensors import UNSIGNED, AnyType, Tensor, is_plain, tensor_of
from netpress.errors import FormatError
from netpress.kernels import _gap_events
from netpress.kernels.threads import run_all

PADDING = 8192
"""Bytes behind a stream that the kernels may read ahead of their checks."""

LEAST_SHARE_NS = 200_000
"""Work for which another thread is not worth waking: handing a task over costs some 50 microseconds."""

MOST_POSITIONS = 2**31 - 1
MOST_VALUES = 65536


@dataclass(frozen=True)
class Events:
    """A tensor as events: a number of zeros, then a value.

    Attributes:
        gaps: (n,) zeros before each value, within its block.
        values: (n,) which value, among those that occur.
        counts: (blocks,) events of each block.
    """

    gaps: NDArray[np.uint32]
    values: NDArray[np.uint16]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """How a matrix is cut into blocks and lanes."""

    rows: int
    columns: int
    block_rows: int
    lanes: int

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.block_rows)


@dataclass(frozen=True)
class Head:
    """Everything of a payload before its blocks.

    Attributes:
        palette: All values.
        present: (v,) the palette's symbols that occur, zero left out.
        model: Their weights; None when nothing is coded.
        plan: Blocks and lanes.
        end: Where the blocks' numbers begin.
    """

    palette: Palette
    present: NDArray[np.int64]
    model: Model | None
    plan: Plan
    end: int


def accepts(tensor: Tensor) -> bool:
    """Whether the tensor has at most 65,536 distinct values, and rows that a block can hold."""
    if not is_plain(tensor):
        return False
    return (
        matrix_shape(tuple(tensor.shape))[1] <= MOST_POSITIONS and _palette.symbols_of(tensor, MOST_VALUES) is not None
    )


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the matrix that a tensor is seen as."""
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


def plan_for(
    rows: int, columns: int, entropy_bytes: float, most_lanes: int, lane_bytes: float, block_bytes: int
) -> Plan:
    """Blocks and lanes that lengthen the payload by about a thousandth (a 400th where it is small).

    Args:
        rows: Of the matrix, at least 1.
        columns: Of the matrix, at least 1.
        entropy_bytes: About the payload's length.
        most_lanes: Of a block.
        lane_bytes: What a lane costs in each block.
        block_bytes: What a block costs besides.
    """
    lanes = 1
    while lanes < most_lanes and 2 * lanes * lane_bytes * 400 <= entropy_bytes:
        lanes *= 2
    most = int(entropy_bytes / (1000 * (lanes * lane_bytes + block_bytes))) if lanes == most_lanes else 1
    needed = -(-rows * columns // MOST_POSITIONS)
    block_rows = min(
        -(-rows // min(max(most, needed), rows)) if most > 1 or needed > 1 else rows, MOST_POSITIONS // columns
    )
    return Plan(rows, columns, block_rows, lanes)


@dataclass(frozen=True)
class Analysis:
    """A tensor ready to be coded; ``model`` is None when no value but zero occurs."""

    palette: Palette
    counts: NDArray[np.int64]
    plan: Plan
    events: Events
    model: Model | None

    def most_symbols(self, model: Model) -> int:
        """A bound on the symbols of all blocks."""
        zeros = int(self.events.gaps.sum(dtype=np.int64))
        return len(self.events.gaps) + zeros // (model.quotients << model.raw)


def analyse(
    tensor: Tensor,
    lengths: Callable[[Model], NDArray[np.float64]],
    *,
    precision: int,
    most_lanes: int,
    lane_bytes: float,
    block_bytes: int,
    symbol_bits: float = 0.0,
    most_precision: int = 16,
) -> Analysis:
    """Symbols, events and the model with the shortest stream.

    Args:
        tensor: Of at most 65,536 distinct values.
        lengths: Bits of each symbol under a model.
        precision: The least that a model gets.
        most_lanes: Of a block; ``lane_bytes`` and ``block_bytes`` are what one costs.
        symbol_bits: As for `fit`.
        most_precision: The most that a model gets, unless its values alone need more.

    Raises:
        FormatError: the tensor has more values.
    """
    shared = _palette.symbols_of(tensor, MOST_VALUES)
    if shared is None:
        raise FormatError("a tensor has too many values for this codec", allowed=f"at most {MOST_VALUES}")
    palette, symbols = shared
    counts = symbol_counts(symbols, len(palette))
    values = counts[present_values(palette, counts)]
    rows, columns = matrix_shape(tuple(tensor.shape))
    if not len(values):
        empty = Events(np.empty(0, np.uint32), np.empty(0, np.uint16), np.zeros(1, np.int64))
        return Analysis(palette, counts, Plan(rows, columns, max(rows, 1), 1), empty, None)
    plan = plan_for(rows, columns, entropy_bytes(counts), most_lanes, lane_bytes, block_bytes)
    events = events_of(symbols, palette, counts, plan)
    statistics = statistics_of(events.gaps, values)
    needed = (len(values) + bool(statistics.gaps[-1]) - 1).bit_length()
    least = max(precision, needed)
    precisions = tuple(range(least, max(least, most_precision) + 1)) if len(values) > 64 else (least,)
    return Analysis(palette, counts, plan, events, fit(statistics, precisions, lengths, symbol_bits))


def events_of(symbols: NDArray[np.uint16], palette: Palette, counts: NDArray[np.int64], plan: Plan) -> Events:
    """The events of a matrix, given how often each symbol occurs."""
    zero = palette.origin if palette.has_zero else -1
    number = int(counts.sum()) - (int(counts[zero]) if zero >= 0 else 0)
    gaps, values = np.empty(number + 1, np.uint32), np.empty(number + 1, np.uint16)
    block_counts = np.zeros(plan.blocks, np.int64)
    _gap_events.events(symbols, zero, plan.block_rows * plan.columns, block_counts, gaps, values)
    rank = np.zeros(len(counts), np.uint16)
    present = present_values(palette, counts)
    rank[present] = np.arange(len(present), dtype=np.uint16)
    return Events(gaps[:number], rank[values[:number]], block_counts)


def present_values(palette: Palette, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The symbols that occur, zero left out."""
    present = counts > 0
    if palette.has_zero:
        present[palette.origin] = False
    return np.flatnonzero(present)


def symbol_counts(symbols: NDArray[np.uint16], values: int) -> NDArray[np.int64]:
    counts = np.zeros(values, np.int64)
    _gap_events.histogram(symbols, counts)
    return counts


def entropy_bytes(counts: NDArray[np.int64]) -> float:
    """The zero-order entropy of all entries, in bytes."""
    some = counts[counts > 0]
    return float(-(some * np.log2(some / some.sum())).sum()) / 8


def pack_head(palette: Palette, counts: NDArray[np.int64], model: Model, plan: Plan) -> bytes:
    """The payload up to its blocks."""
    value_levels = np.full(len(palette), ABSENT, np.uint8)
    value_levels[present_values(palette, counts)] = model.values
    if palette.has_zero:
        value_levels = np.delete(value_levels, palette.origin)
    packed = (model.precision - 1) | (plan.lanes.bit_length() - 1) << 4 | model.raw << 7
    return (
        _palette.pack(palette)
        + packed.to_bytes(2, "little")
        + bytes([model.quotients])
        + varint(plan.block_rows)
        + pack_levels(value_levels, model.gaps)
    )


def unpack_head(payload: memoryview, dtype: AnyType, shape: tuple[int, ...]) -> Head:
    """Reads what `pack_head` wrote.

    Raises:
        FormatError: the bytes are no such head, or no head for this shape.
    """
    palette, at = _palette.unpack(payload, dtype)
    rows, columns = matrix_shape(shape)
    numel = rows * columns
    if (numel == 0) != (len(palette) == 0):
        raise FormatError("the palette does not fit the shape", got=f"{len(palette)} values for {list(shape)}")
    others = np.delete(np.arange(len(palette)), palette.origin) if palette.has_zero else np.arange(len(palette))
    if not len(others):
        if at != len(payload):
            raise FormatError("bytes follow a tensor that needs none", got=len(payload) - at)
        return Head(palette, others, None, Plan(rows, columns, max(rows, 1), 1), at)
    if len(payload) < at + 3:
        raise FormatError("the payload ends within its head", got=f"{len(payload)} bytes")
    packed, quotients = int.from_bytes(payload[at : at + 2], "little"), payload[at + 2]
    precision, lanes, raw = (packed & 15) + 1, 1 << (packed >> 4 & 7), packed >> 7 & 7
    block_rows, at = read_varint(payload, at + 3)
    if packed >> 10 or lanes > 64 or raw > MOST_RAW or precision + raw > 16 or not 1 <= quotients <= MOST_GAPS:
        raise FormatError("a head has numbers out of range", got=f"{packed:#x}, {quotients} quotients")
    if not 1 <= block_rows <= rows or block_rows * columns > MOST_POSITIONS:
        raise FormatError("a block has a number of rows that cannot be", got=block_rows, allowed=f"1 to {rows}")
    (value_levels, gap_levels), at = unpack_levels(payload, at, len(others), quotients + 1)
    present = others[value_levels != ABSENT]
    model = Model(value_levels[value_levels != ABSENT], gap_levels, precision, raw)
    if not palette.has_zero and (quotients > 1 or raw or model.has_skip):
        raise FormatError("a model has gaps, though no value is zero", got=f"{quotients} quotients, {raw} raw bits")
    if (
        not len(present)
        or (gap_levels[:-1] == ABSENT).any()
        or len(present) * quotients + model.has_skip > 1 << precision
    ):
        raise FormatError("a model's symbols do not fit its precision", got=len(present) * quotients)
    plan = Plan(rows, columns, block_rows, lanes)
    if plan.blocks > len(payload) - at:
        raise FormatError(
            "the payload ends before its blocks", got=f"{len(payload) - at} bytes for {plan.blocks} blocks"
        )
    return Head(palette, present, model, plan, at)


def check_numbers(head: Head, numbers: NDArray[np.int64]) -> None:
    """Without a zero among the values, each block must have as many symbols as positions.

    Raises:
        FormatError: there are others.
    """
    plan = head.plan
    rows = np.minimum(plan.block_rows, plan.rows - np.arange(plan.blocks) * plan.block_rows)
    if not head.palette.has_zero and (numbers != rows * plan.columns).any():
        raise FormatError("positions without a value, though none is zero", got=numbers.tolist()[:8])


def value_payloads(head: Head, model: Model, *, as_bits: bool) -> NDArray[np.uint32]:
    """(symbols,) what decoding a symbol gives: the bits of its value, or the value's place in the palette."""
    if as_bits:
        patterns, zero = head.palette.patterns[head.present].astype(np.uint32), 0
    else:
        patterns, zero = head.present.astype(np.uint32), head.palette.origin
    return np.concatenate([np.tile(patterns, model.quotients), np.array([zero], np.uint32)])


def padded(payload: memoryview) -> NDArray[np.uint8]:
    """A copy of the payload with bytes behind it that kernels may read: nobody else can change it under them."""
    stream = np.zeros(len(payload) + PADDING, np.uint8)
    stream[: len(payload)] = np.frombuffer(payload, np.uint8)
    return stream


def checked(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a kernel; what it finds wrong is the stream's fault.

    Raises:
        FormatError: the kernel raised ValueError.
    """
    try:
        return kernel(*arguments)
    except ValueError as error:
        raise FormatError("a coded stream is damaged", got=str(error)) from error


def decoded(kernel: ModuleType, coded: tuple[Any, ...], head: Head, dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The tensor of a stream: values of 4 bytes go to their places at once, others by way of their symbols.

    Args:
        kernel: The extension module that decodes it.
        coded: The arguments that its functions begin with, made ``as_bits`` where ``places_bits`` says so.
    """
    positions = head.plan.rows * head.plan.columns
    if places_bits(dtype):
        patterns = np.zeros(positions, np.uint32)
        checked(kernel.place, *coded, patterns)
        return tensor_of(patterns, dtype, shape)
    symbols = np.full(positions, head.palette.origin, np.uint16)
    checked(kernel.place, *coded, symbols)
    return head.palette.tensor(symbols, shape)


def places_bits(dtype: AnyType) -> bool:
    """Whether a symbol stands for its value's bits while a tensor is decoded; else for its place in the palette."""
    return bool(dtype.itemsize == 4)


def filled(head: Head, dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The tensor of a payload that codes nothing: empty, or zero everywhere."""
    return tensor_of(np.zeros(math.prod(shape), UNSIGNED[dtype.itemsize]), dtype, shape)


class GapCoded:
    """A matrix in blocks of (gap, value) streams, ready for products.

    Args:
        kernel: The extension module that decodes it.
        coded: The arguments that its functions begin with.
        plan: Blocks and lanes.
        block_symbols: (blocks,) symbols of each block, by which threads share the work.
    """

    def __init__(
        self, kernel: ModuleType, coded: tuple[Any, ...], plan: Plan, block_symbols: NDArray[np.int64]
    ) -> None:
        self._kernel, self._coded, self._plan = kernel, coded, plan
        self._load = np.concatenate([[0], np.cumsum(block_symbols + 1)])

    @property
    def rows(self) -> int:
        return self._plan.rows

    @property
    def columns(self) -> int:
        return self._plan.columns

    @property
    def memory_bytes(self) -> int:
        return self._load.nbytes + sum(part.nbytes for part in self._coded if isinstance(part, np.ndarray))

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """W x: (columns, N) float32, C-contiguous, to a new (rows, N). Sums do not depend on ``threads``."""
        n = x.shape[1]
        if n == 0 or not self._coded:
            return np.zeros((self.rows, n), np.float32)
        if n > 1 and n % 8:  # the kernel adds eight columns at once
            wide = np.zeros((self.columns, n + -n % 8), np.float32)
            wide[:, :n] = x
            return np.ascontiguousarray(self._product(wide, threads)[:, :n])
        return self._product(x, threads)

    def _product(self, x: NDArray[np.float32], threads: int) -> NDArray[np.float32]:
        y = np.empty((self.rows, x.shape[1]), np.float32)  # (rows, N)
        nanoseconds = float(self._load[-1]) * (0.6 + 0.1 * x.shape[1])  # about, with vectors; more without
        parts = int(max(1, min(threads, self._plan.blocks, nanoseconds / max(LEAST_SHARE_NS, 1e-9))))
        shares = np.arange(parts + 1) * (self._load[-1] / parts)
        cuts = [int(np.abs(self._load - share).argmin()) for share in shares]
        run_all([self._task(first, last, x, y) for first, last in pairwise(cuts)], threads)
        return y

    def _task(self, first: int, last: int, x: NDArray[np.float32], y: NDArray[np.float32]) -> Callable[[], Any]:
        return lambda: checked(self._kernel.multiply, *self._coded, y, first, last, x.shape[1], x)
