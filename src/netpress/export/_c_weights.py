"""How a layer's weight lies in flash: the form with the fewest bytes, by actual count.

==========  ==========================================================================================
form        bytes
==========  ==========================================================================================
dense       4 a value
int8        1 a value: whole numbers of a row's step
palette     of each value its number in a palette, in whole bits
mask        a bit a value, and 4 bytes for each that is not zero
gaps        the stream of the codec ``gap_huffman`` as it is, and half a byte for each symbol's code length
==========  ==========================================================================================

Palettes take 1 byte a value where the values are multiples of one step, else 4. The forms of the weight as the file has it compete
with those of the weight in which a batch normalisation is multiplied in, and, where every row is whole numbers of one step, with
those of the whole numbers; the first and the last need 4 bytes a row for the scale beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from netpress.codecs import _palette, gap_huffman
from netpress.export._c_steps import Grid, Matrix
from netpress.program.row_levels import rows_on_grids

LONGEST = 15
MOST_LEVEL = 127
MOST_SYMBOLS = 4095
MOST_PALETTE = 65535


@dataclass(frozen=True)
class Coded:
    """A weight in one form, as the fields of ``np_weight``; see ``netpress_runtime.h``.

    Attributes:
        form: Name of the form.
        palette: Values in full; with ``levels`` none.
        levels: (v,) int8, multiples of ``step``.
        scale: (rows,) what the sums of each row are still to be multiplied by, or None.
    """

    form: str
    bits: int = 0
    raw: int = 0
    quotients: int = 0
    symbols: int = 0
    stream: bytes = b""
    lengths: bytes = b""
    palette: NDArray[np.float32] | None = None
    levels: NDArray[np.int8] | None = None
    step: float = 0.0
    scale: NDArray[np.float32] | None = None

    @property
    def values(self) -> int:
        """How many the palette has."""
        return len(self.levels) if self.levels is not None else 0 if self.palette is None else len(self.palette)

    @property
    def size_bytes(self) -> int:
        """Of all arrays."""
        tables = [table.nbytes for table in (self.palette, self.levels) if table is not None]
        return len(self.stream) + len(self.lengths) + sum(tables)

    @property
    def whole(self) -> bool:
        """Whether a decoder gets whole numbers out of it."""
        return self.form == "int8" or (self.levels is not None and self.step == 1)

    @property
    def scale_bytes(self) -> int:
        """Of the scale beside it."""
        return 0 if self.scale is None else self.scale.nbytes

    @property
    def table_symbols(self) -> int:
        """Symbols that the decoder's tables must have room for."""
        return self.values * self.quotients + 1 if self.form == "gaps" else 0


def choose(matrix: Matrix, grid: Grid | None = None) -> Coded:
    """The form with the fewest bytes, the scale counted where it stays beside the weight.

    Args:
        matrix: A layer's weight.
        grid: Of what it multiplies, where that is whole numbers: then the weight is such, too, and the scale is of the products.
    """
    scale = None if matrix.scale is None else matrix.scale.numpy()
    if grid is not None:
        units = np.float32(grid.scale) * (np.ones(len(matrix.weight), np.float32) if scale is None else scale)
        found = [coded for coded in row_forms(matrix.weight, units) if coded.whole]
    else:
        found = [*forms(matrix.folded), *row_forms(matrix.weight, scale)]
        if scale is not None:
            found += forms(matrix.weight, scale)
    return min(found, key=lambda coded: coded.size_bytes + coded.scale_bytes)


def whole_rows(weight: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """(rows,) steps and (rows, columns) levels of a byte, where every row is whole numbers of one step."""
    if not weight.numel():
        return None
    return rows_on_grids(np.ascontiguousarray(weight.numpy(), np.float32).reshape(len(weight), -1), MOST_LEVEL)


def row_forms(weight: Tensor, scale: NDArray[np.float32] | None) -> Iterator[Coded]:
    """Those of a weight whose rows are whole numbers of one step each; none of another."""
    found = whole_rows(weight)
    if found is None:
        return
    steps, levels = found
    rows = steps if scale is None else steps * scale
    yield Coded("int8", stream=levels.astype(np.int8).tobytes(), scale=rows)
    whole = torch.from_numpy(levels.astype(np.float32)).reshape(weight.shape)
    yield from (coded for coded in forms(whole, rows) if coded.form in ("palette", "gaps"))


def forms(weight: Tensor, scale: NDArray[np.float32] | None = None) -> Iterator[Coded]:
    """Every form that can hold the weight; ``scale`` as in `Coded`."""
    values = weight.numpy().reshape(-1).astype(np.float32)
    yield Coded("dense", palette=values, scale=scale)
    there = values != 0
    packed = np.packbits(there, bitorder="little").tobytes()
    yield Coded("mask", bits=1, symbols=int(there.sum()), stream=packed, palette=values[there], scale=scale)
    found = _palette.symbols_of(weight, MOST_PALETTE)
    if found is None:
        return
    palette, symbols = found
    width = max(1, (len(palette) - 1).bit_length())
    bits = symbols[:, None] >> np.arange(width, dtype=np.uint16) & 1  # (numel, width)
    levels = None if palette.step is None else np.arange(len(palette)) - palette.origin
    yield Coded(
        "palette",
        bits=width,
        stream=np.packbits(bits.astype(np.uint8), bitorder="little").tobytes(),
        scale=scale,
        **_table(palette.values(), levels, palette.step or 0.0),
    )
    if len(palette) > MOST_SYMBOLS:
        return
    payload = gap_huffman.encode(weight, for_small=True)
    parts = gap_huffman.take_apart(payload, tuple(weight.shape))
    if parts is None or len(parts.lengths) > MOST_SYMBOLS or int(parts.lengths.max()) > LONGEST:
        return
    nibbles = np.append(parts.lengths, np.zeros(len(parts.lengths) % 2, np.uint8)).reshape(-1, 2)
    yield Coded(
        "gaps",
        bits=int(parts.lengths.max()),
        raw=parts.raw,
        quotients=parts.quotients,
        symbols=parts.symbols,
        stream=parts.stream,
        lengths=(nibbles[:, 0] | nibbles[:, 1] << 4).astype(np.uint8).tobytes(),
        scale=scale,
        **_table(parts.palette, parts.levels, parts.step),
    )


def _table(values: NDArray[np.float32], levels: NDArray[np.int64] | None, step: float) -> dict[str, Any]:
    """The palette's fields: levels where they fit a byte, else values."""
    if levels is None or int(np.abs(levels).max()) > 127:
        return {"palette": values}
    return {"levels": levels.astype(np.int8), "step": step}
