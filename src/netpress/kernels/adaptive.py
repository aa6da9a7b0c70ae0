"""Context-adaptive binary arithmetic coding of integer tensors, and quantization against its rate.

A tensor of integer levels is seen as a matrix (the first axis by all others together) and coded row after row, or column after
column; `adaptive_model.h` says how a level is predicted. Three things are done with that model:

- `choose_scan`, `encode` and `Reader`: levels to bytes and back;
- `bits`: the size that `encode` would come to, without writing;
- `quantize(weights, sensitivity, lambda_, ...) -> (levels, bits)`: rate-distortion quantization. ``weights`` are divided by the
  step already. In coding order, each weight w takes the level q among 0, the next integer towards zero and, where it is
  at most .65 off, the next away from zero, with the least ``sensitivity * (w - q)**2 + lambda_ * bits(q)``, the bits being
  what the model, in the state that the levels before have left it in, would spend on q. ``lambda_`` is in units of
  sensitivity times squared steps a bit;
  ``lambda_ = 0`` rounds to the nearest (halves towards zero). The result is a pure function of the arguments.

The kernels release the GIL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.errors import ConfigError
from netpress.kernels import _adaptive

MOST_LEVEL = 65535
PROFILES = 4
"""Sets of learning rates: 1 and 2 forget faster than 0; 3 lets the mixing weights come to rest."""
STEADY = 3


@dataclass(frozen=True)
class Scan:
    """How a tensor is walked through.

    Attributes:
        rows: Lines that are coded one after the other.
        columns: Places of a line.
        period: Places of a line that make one group with an order of its own, such as the kernel places of an input channel.
        row_period: The same for lines.
        breadth: Places of a row of the kernel, so that places one below the other are so far apart; equal to the period, the
            columns are an image of that width.
        transposed: Whether a line is a column of the tensor's matrix.
        profile: Which learning rates, 0 to 3.
        flags: 1 if columns of zeros alone are flagged and skipped, plus 2 if lines are.
    """

    rows: int
    columns: int
    period: int = 1
    row_period: int = 1
    breadth: int = 1
    transposed: bool = False
    profile: int = 0
    flags: int = 0

    @property
    def strides(self) -> tuple[int, int]:
        """Items from a line to the next, and from a place to the next."""
        return (1, self.rows) if self.transposed else (self.columns, 1)


def scan_of(
    shape: tuple[int, ...], *, transposed: bool = False, profile: int = 0, flags: int = 0, period: int | None = None
) -> Scan:
    """The scan of a tensor of ``shape`` (first axis, all others); a vector is one line.

    Args:
        period: Columns of the matrix that make one group; by default the kernel places, which are all axes after the second.
            A square number means square maps, one after the other; any other the width of one image.
    """
    rows = shape[0] if len(shape) > 1 else 1
    columns = math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)
    group = math.prod(shape[2:]) if period is None else period
    if period is None:
        breadth = shape[-1] if len(shape) > 3 and shape[-1] < group else 1
    else:
        breadth = math.isqrt(period) if math.isqrt(period) ** 2 == period else period
    if transposed:
        return Scan(columns, rows, 1, group, breadth, True, profile, flags)
    return Scan(rows, columns, group, 1, breadth, False, profile, flags)


def choose_scan(
    symbols: NDArray[np.uint16], shape: tuple[int, ...], low: int, high: int, sample: int = 1 << 17
) -> tuple[Scan, bytes]:
    """The scan that gives the shortest stream, each choice made in turn, and that stream.

    Args:
        symbols: (n,) row-major; symbol s stands for the level s + low.
        shape: Of the tensor.
        sample: About how many levels are asked: of larger tensors the first rows.
    """
    whole = scan_of(shape)
    rows = min(whole.rows, max(1, sample // whole.columns))
    asked = (rows, *shape[1:]) if len(shape) > 1 else shape
    part = symbols[: rows * whole.columns]
    best: dict[str, Any] = {}
    shortest: bytes | None = None

    def consider(**changes: Any) -> None:
        nonlocal best, shortest
        most = 1 << 60 if shortest is None else len(shortest) - 1 - ("period" in changes)
        stream = encode(part, scan_of(asked, **(best | changes)), low, high, most)
        if stream is not None:
            best, shortest = best | changes, stream

    consider()
    if whole.rows > 1 and whole.columns > 1:
        for period in _periods(whole.columns) if len(shape) == 2 else ():
            consider(period=period)
        consider(transposed=True)
        zero = (part == -low).reshape(rows, whole.columns)
        lines = bool(zero.all(1 - best.get("transposed", False)).any())
        places = bool(zero.all(0 + best.get("transposed", False)).any())
        for flags in sorted({lines * 2 + places, lines * 2, places * 1} - {0}, reverse=True):
            consider(flags=flags)
    for profile in range(1, PROFILES):
        consider(profile=profile)
    scan = scan_of(shape, **best)
    if rows == whole.rows:
        return scan, shortest or b""
    stream = encode(symbols, scan, low, high) or b""
    steady = replace(scan, profile=STEADY)  # pays off later than a sample shows
    better = encode(symbols, steady, low, high, len(stream) - 1) if steady != scan and stream else None
    return (scan, stream) if better is None else (steady, better)


def _periods(columns: int) -> list[int]:
    """Square maps that were flattened, and images of one channel or three."""
    maps = [side * side for side in range(2, 9) if columns % (side * side) == 0 and columns > side * side]
    images = [math.isqrt(columns // channels) for channels in (1, 3) if columns % channels == 0]
    return maps + [
        w for w in images if w > 8 and (w * w == columns or 3 * w * w == columns) and math.isqrt(w) ** 2 != w
    ]


def encode(symbols: NDArray[np.uint16], scan: Scan, low: int, high: int, most: int = 1 << 60) -> bytes | None:
    """The stream of ``symbols - (-low)``, or None as soon as it is longer than ``most`` bytes.

    Args:
        symbols: (n,) row-major; symbol s stands for the level s + low.
        low: Least level, -65535 to 0.
        high: Greatest level, 0 to 65535.

    Raises:
        ValueError: a symbol above high - low, or sizes that do not fit.
    """
    return _adaptive.encode(symbols, *scan.strides, most, *_fields(scan, low, high))


class Reader:
    """A stream of `encode`, read line by line.

    Raises:
        ValueError: a scan or range that cannot be.
        MemoryError: the lines are too long.
    """

    def __init__(self, payload: Any, scan: Scan, low: int, high: int) -> None:
        self._scan = scan
        self._reader = _adaptive.reader(payload, *_fields(scan, low, high))

    def read(self, symbols: NDArray[np.uint16], lines: int) -> None:
        """Fills the next ``lines`` lines into ``symbols`` (lines * columns,), walked as the scan says.

        Raises:
            ValueError: the stream is none that `encode` writes (all of it has been read, and something is left or missing).
        """
        strides = (1, lines) if self._scan.transposed else (self._scan.columns, 1)
        _adaptive.read_rows(self._reader, symbols, lines, *strides)


def reader_bytes(scan: Scan, low: int, high: int) -> int:
    """Bytes that a `Reader` keeps while it reads, the stream not counted."""
    return _adaptive.memory(*_fields(scan, low, high))


def bits(levels: NDArray[np.int32], scan: Scan | None = None) -> float:
    """Bits that the stream of ``levels`` (a tensor's shape) takes.

    Args:
        scan: How to walk; by default `scan_of` the levels' shape.
    """
    if not levels.size:
        return 0.0
    low, high = min(0, int(levels.min())), max(0, int(levels.max()))
    if low < -MOST_LEVEL or high > MOST_LEVEL:
        raise ConfigError("levels reach too far", got=f"{low} to {high}", allowed=f"-{MOST_LEVEL} to {MOST_LEVEL}")
    scan = scan or scan_of(levels.shape)
    return _adaptive.bits(np.ascontiguousarray(levels, np.int32), *scan.strides, *_fields(scan, low, high))


def quantize(
    weights: NDArray[np.float32],
    sensitivity: NDArray[np.float32] | float,
    lambda_: float,
    *,
    scan: Scan | None = None,
    passes: int = 1,
    low: int = -32767,
    high: int = 32767,
) -> tuple[NDArray[np.int32], float]:
    """Levels worth their bits.

    Args:
        weights: The tensor's own shape, in steps (w / step), finite.
        sensitivity: What a squared error of one step costs: a number, or one for each weight; finite, not negative.
        lambda_: What a bit costs.
        scan: How to walk; by default `scan_of` the weights' shape (convolutions: kernel places known). `choose_scan` of levels
            found before finds a better one.
        passes: 2 warms the model up in a first pass and decides in a second; the bits of that pass are then a little too low.
        low: Least level, -65535 to 0.
        high: Greatest level, 0 to 65535.

    Returns:
        Levels, int32 of the weights' shape, and the bits that the model spent on them.

    Raises:
        ConfigError: weights or sensitivities that are not finite, a negative lambda, shapes that differ.
    """
    scan = scan or scan_of(weights.shape)
    levels = np.zeros(weights.shape, np.int32)
    if not weights.size:
        return levels, 0.0
    costs = np.asarray(sensitivity, np.float32)
    if costs.ndim and costs.shape != weights.shape:
        raise ConfigError("sensitivity has another shape than the weights", got=costs.shape, allowed=weights.shape)
    try:
        spent = _adaptive.quantize(
            np.ascontiguousarray(weights, np.float32),
            np.ascontiguousarray(costs),
            levels,
            lambda_,
            passes,
            *scan.strides,
            *_fields(scan, low, high),
        )
    except ValueError as error:
        raise ConfigError("these weights cannot be quantized", got=str(error)) from error
    return levels, spent


def _fields(scan: Scan, low: int, high: int) -> tuple[int, ...]:
    return (scan.rows, scan.columns, scan.period, scan.row_period, scan.breadth, low, high, scan.flags, scan.profile)
