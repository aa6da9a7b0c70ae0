"""(gap, value) streams by canonical Huffman codes: a decoder of a few instructions a symbol, fast on any processor.

Huffman codes (Huffman, Proc. IRE 1952) of limited length (package-merge, Larmore and Hirschberg, JACM 1990) for the symbols of
`_gap_model`, a gap and a value together, so that one look-up of 8 bytes gives both. `_gap` says how the payload begins; for each
block the number of symbols follows and the bytes of each lane (but for the last lane of all); then the lanes, one after the other.

A lane is a stream of bits, the first lowest: codes, each followed by the gap's raw bits; zeros up to a whole byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import Coded, _gap, _palette
from netpress.codecs._gap import GapCoded, Head, Plan
from netpress.codecs._gap_model import Model
from netpress.codecs._palette import read_varint, varint
from netpress.codecs._tensors import AnyType, Tensor, is_type
from netpress.dtypes import FLOAT32
from netpress.errors import FormatError
from netpress.kernels import _gap_huffman

CODE = 6
FAST = True
LONGEST = 12
"""Bits of the longest code, at least: a table of 4096 entries of 8 bytes stays in the nearest cache."""

accepts = _gap.accepts


def encode(tensor: Tensor, *, for_small: bool = False) -> bytes:
    """The payload of a tensor of at most 65,536 distinct values, any shape and device.

    Args:
        tensor: Of at most 65,536 distinct values.
        for_small: Whether it is meant for a small decoder, which goes through one lane in order and holds half a byte for
            each symbol of the alphabet: fewer symbols, codes of 12 bits at most (unless there are more values than that).

    Raises:
        FormatError: the tensor has more values than that.
    """
    lanes, block_bytes = (1, 1 << 40) if for_small else (8, 3)  # blocks that dear are made only where they must be
    found = _gap.analyse(
        tensor,
        _expected,
        precision=LONGEST,
        most_lanes=lanes,
        lane_bytes=3,
        block_bytes=block_bytes,
        symbol_bits=4 if for_small else 0,
        most_precision=LONGEST if for_small else 16,
    )
    model, plan, events = found.model, found.plan, found.events
    if model is None:
        return _palette.pack(found.palette)
    numbers, sizes = np.zeros(plan.blocks, np.int64), np.zeros((plan.blocks, plan.lanes), np.int64)
    out = np.empty(2 * found.most_symbols(model) + 2 * plan.lanes * plan.blocks, np.uint8)
    used = _gap_huffman.encode(
        events.gaps,
        events.values,
        events.counts,
        _lengths(model),
        len(model.values),
        model.quotients,
        model.precision,
        model.has_skip,
        model.raw,
        plan.lanes,
        numbers,
        sizes,
        out,
    )
    table = [
        b"".join(map(varint, (number, *lengths)))
        for number, lengths in zip(numbers.tolist(), sizes.tolist(), strict=True)
    ]
    table[-1] = table[-1][: len(table[-1]) - len(varint(int(sizes[-1, -1])))]
    return _gap.pack_head(found.palette, found.counts, model, plan) + b"".join(table) + out[:used].tobytes()


def decode(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> Any:
    """The tensor of ``shape`` that `encode` stored.

    Raises:
        FormatError: the payload is not one that `encode` makes for this type and shape.
    """
    view = memoryview(payload)
    head = _gap.unpack_head(view, dtype, shape)
    if head.model is None:
        return _gap.filled(head, dtype, shape)
    coded, _ = _coded(view, head, head.model, as_bits=_gap.places_bits(dtype))
    return _gap.decoded(_gap_huffman, coded, head, dtype, shape)


def open(payload: memoryview | bytes, dtype: AnyType, shape: tuple[int, ...]) -> Coded:
    """The payload of a float32 tensor made ready for products: checked by decoding it once, and kept as it is.

    Raises:
        FormatError: the payload is not one that `encode` makes, or ``dtype`` is not float32.
    """
    if not is_type(dtype, "float32"):
        raise FormatError("products are of float32 alone", got=dtype)
    view = memoryview(payload)
    head = _gap.unpack_head(view, dtype, shape)
    if head.model is None:
        return GapCoded(_gap_huffman, (), head.plan, np.zeros(1, np.int64))
    coded, numbers = _coded(view, head, head.model, as_bits=True)
    return GapCoded(_gap_huffman, coded, head.plan, numbers)


@dataclass(frozen=True)
class Parts:
    """What a small decoder of float32 needs of a payload with one lane in one block.

    Attributes:
        palette: (v,) the values that occur, zero left out.
        levels: (v,) the same as multiples of ``step``; None where they are no such multiples.
        step: Of the grid, or 0.
        quotients: Quotients of a gap; symbol = quotient * v + value, and the skip behind them.
        raw: A gap's lowest bits, which follow the code as they are.
        lengths: (v * quotients + 1,) bits of each symbol's code; 0: it has none.
        symbols: How many symbols the stream has.
        stream: Its bytes.
    """

    palette: NDArray[np.float32]
    levels: NDArray[np.int64] | None
    step: float
    quotients: int
    raw: int
    lengths: NDArray[np.uint8]
    symbols: int
    stream: bytes


def take_apart(payload: memoryview | bytes, shape: tuple[int, ...]) -> Parts | None:
    """The parts of a float32 payload; None where nothing is coded, or in more than one lane or block.

    Raises:
        FormatError: the payload is not one that `encode` makes.
    """
    view = memoryview(payload)
    head = _gap.unpack_head(view, FLOAT32, shape)
    model = head.model
    if model is None or head.plan.lanes * head.plan.blocks > 1:
        return None
    _, numbers = _coded(view, head, model, as_bits=True)  # which checks the stream
    _, offsets = _read_blocks(view, head.end, head.plan)
    palette = head.palette
    return Parts(
        palette=palette.values()[head.present],
        levels=None if palette.step is None else head.present - palette.origin,
        step=palette.step or 0.0,
        quotients=model.quotients,
        raw=model.raw,
        lengths=_lengths(model),
        symbols=int(numbers[0]),
        stream=bytes(view[int(offsets[0]) : int(offsets[1])]),
    )


def _lengths(model: Model) -> NDArray[np.uint8]:
    out = np.empty(model.symbols, np.uint8)
    _gap_huffman.lengths(model.values, model.gaps, model.precision, out)
    return out


def _expected(model: Model) -> NDArray[np.float64]:
    return _lengths(model).astype(np.float64)


def _coded(
    payload: memoryview, head: Head, model: Model, *, as_bits: bool
) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    """The arguments that the kernel's functions begin with, the stream checked; and the symbols of each block."""
    plan = head.plan
    numbers, offsets = _read_blocks(payload, head.end, plan)
    _gap.check_numbers(head, numbers)
    table = np.empty(1 << model.precision, np.uint64)
    payloads = _gap.value_payloads(head, model, as_bits=as_bits)
    lengths, values = _lengths(model), len(model.values)
    _gap_huffman.table(lengths, values, model.quotients, model.precision, model.has_skip, model.raw, payloads, table)
    coded = (
        _gap.padded(payload),
        table,
        model.precision,
        model.raw,
        plan.lanes,
        plan.rows,
        plan.columns,
        plan.block_rows,
        numbers,
        offsets,
        np.zeros((plan.blocks, plan.lanes), np.uint32),
    )
    _gap.checked(_gap_huffman.check, *coded)
    return coded, numbers


def _read_blocks(payload: memoryview, at: int, plan: Plan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(blocks,) symbols of each block, and (blocks * lanes + 1,) where each lane begins, and the last one ends."""
    numbers, lengths = [], []
    for block in range(plan.blocks):
        number, at = read_varint(payload, at)
        numbers.append(number)
        for _ in range(plan.lanes - (block == plan.blocks - 1)):
            length, at = read_varint(payload, at)
            lengths.append(length)
    left = len(payload) - at - sum(lengths)
    if left < 0 or max(numbers) > plan.rows * plan.columns:
        raise FormatError("the payload's blocks are longer than it is", got=f"{len(payload)} bytes")
    return np.array(numbers, np.int64), at + np.cumsum([0, *lengths, left])
