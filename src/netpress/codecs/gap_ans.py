"""(gap, value) streams by range ANS: within a thousandth or so of the entropy, and products straight from the stream.

Range ANS (Duda 2013, arXiv 1311.2540), up to 64 states a block that take turns at one sequence of 16-bit words (Giesen 2014,
arXiv 1402.3392), so that 16 of them are decoded by one vector instruction where the processor has such. A symbol is a gap and a
value together: one look-up of 8 bytes gives both, and the float32 value itself. `_gap` says how the payload begins; of each block
the number of symbols and, but for the last block, the number of bytes follow; then the streams.

A block's stream: the states (4 bytes each, little-endian, as many as lanes or symbols), then the words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.codecs import Coded, _gap, _palette
from netpress.codecs._gap import GapCoded, Head, Plan
from netpress.codecs._gap_model import Model
from netpress.codecs._palette import read_varint, varint
from netpress.codecs._tensors import AnyType, Tensor, is_type
from netpress.errors import FormatError
from netpress.kernels import _gap_ans

CODE = 7
FAST = True
PRECISION = 12
"""At least: a table of 4096 entries of 8 bytes stays in the nearest cache."""
MOST_NARROW = 4095
"""The largest frequency with which a table entry holds a value itself; else two further look-ups are needed."""

accepts = _gap.accepts


def encode(tensor: Tensor) -> bytes:
    """The payload of a tensor of at most 65,536 distinct values, any shape and device.

    Raises:
        FormatError: the tensor has more values than that.
    """
    found = _gap.analyse(tensor, _lengths, precision=PRECISION, most_lanes=64, lane_bytes=2, block_bytes=6)
    model, plan, events = found.model, found.plan, found.events
    if model is None:
        return _palette.pack(found.palette)
    sizes = np.zeros((plan.blocks, 2), np.int64)
    out = np.empty(2 * found.most_symbols(model) + 4 * plan.lanes * plan.blocks, np.uint8)
    used = _gap_ans.encode(
        events.gaps,
        events.values,
        events.counts,
        _frequencies(model),
        len(model.values),
        model.quotients,
        model.precision,
        model.raw,
        plan.lanes,
        sizes,
        out,
    )
    table = b"".join(
        varint(int(number)) + (varint(int(length)) if block < plan.blocks - 1 else b"")
        for block, (number, length) in enumerate(sizes)
    )
    return _gap.pack_head(found.palette, found.counts, model, plan) + table + out[:used].tobytes()


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
    return _gap.decoded(_gap_ans, coded, head, dtype, shape)


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
        return GapCoded(_gap_ans, (), head.plan, np.zeros(1, np.int64))
    coded, sizes = _coded(view, head, head.model, as_bits=True)
    return GapCoded(_gap_ans, coded, head.plan, sizes)


def _frequencies(model: Model) -> NDArray[np.uint32]:
    out = np.empty(model.symbols, np.uint32)
    _gap_ans.frequencies(model.values, model.gaps, model.precision, out)
    return out


def _lengths(model: Model) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return model.precision - np.log2(_frequencies(model))


def _coded(
    payload: memoryview, head: Head, model: Model, *, as_bits: bool
) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    """The arguments that the kernel's functions begin with, the stream checked; and the symbols of each block."""
    plan = head.plan
    blocks = _read_blocks(payload, head.end, plan)
    _gap.check_numbers(head, blocks[:, 2])
    frequencies = _frequencies(model)
    wide = int(frequencies.max()) > MOST_NARROW
    table, advances = np.empty(1 << model.precision, np.uint64), np.empty(model.symbols + 4, np.uint8)
    payloads = _gap.value_payloads(head, model, as_bits=as_bits)
    quotients = model.quotients
    _gap_ans.table(
        frequencies, len(model.values), quotients, model.precision, model.raw, payloads, wide, table, advances
    )
    coded = (
        _gap.padded(payload),
        table,
        advances if wide else advances[:0],
        payloads if wide else payloads[:0],
        wide,
        quotients,
        model.precision,
        model.raw,
        plan.lanes,
        plan.rows,
        plan.columns,
        plan.block_rows,
        blocks,
        np.zeros((plan.blocks, plan.lanes), np.uint32),
    )
    _gap.checked(_gap_ans.check, *coded)
    return coded, blocks[:, 2]


def _read_blocks(payload: memoryview, at: int, plan: Plan) -> NDArray[np.int64]:
    """(blocks, 3) offset, bytes and symbols of each block."""
    blocks = np.zeros((plan.blocks, 3), np.int64)
    for block in range(plan.blocks):
        blocks[block, 2], at = read_varint(payload, at)
        if block < plan.blocks - 1:
            blocks[block, 1], at = read_varint(payload, at)
    if (blocks[:, 1:] > len(payload) * 16 + plan.rows * plan.columns).any() or int(blocks[:, 1].sum()) > len(
        payload
    ) - at:
        raise FormatError("the payload's blocks are longer than it is", got=f"{len(payload)} bytes")
    blocks[-1, 1] = len(payload) - at - int(blocks[:, 1].sum())
    blocks[:, 0] = at + np.concatenate([[0], np.cumsum(blocks[:-1, 1])])
    return blocks
