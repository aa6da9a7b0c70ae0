"""The geometry of a scatter plot of quality against size: pure functions from points to positions on a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 520.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 30.0, 48.0
#: Colours (see the page's style) and shapes; the shape changes with the colour, so that neither is needed alone.
COLOURS, SHAPES = 7, ("circle", "square", "triangle", "diamond", "down", "cross")
_LABEL_HEIGHT, _LETTER_WIDTH, _MARK = 14.0, 6.4, 8.0


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured network: ``x`` its size (positive), ``y`` its quality, ``spread`` of y over seeds."""

    x: float
    y: float
    spread: float | None
    series: int
    label: str
    detail: str
    original: bool = False


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point's place on the page; ``low`` and ``high`` end its error bar, ``label_at`` is None where nothing was free."""

    x: float
    y: float
    low: float | None
    high: float | None
    point: Point
    label_at: tuple[float, float, str] | None

    @property
    def colour(self) -> int:
        return self.point.series % COLOURS

    @property
    def shape(self) -> str:
        return shape_of(self.point.series)


@dataclass(frozen=True, kw_only=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The line through the points of one series, by size; ``path`` is SVG's."""

    colour: int
    path: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """All that is drawn; lengths in the plot's own units, y downward.

    Attributes:
        level: The height of the original's quality.
    """

    marks: tuple[Mark, ...]
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    level: float | None
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def shape_of(series: int) -> str:
    """The shape of a series' marks."""
    return SHAPES[series % len(SHAPES)]


def scatter(points: Sequence[Point], *, x_text: Callable[[float], str]) -> Plot:
    """Lays out points, x on a logarithmic and y on a linear axis, and labels as far as they do not overlap.

    Args:
        points: At least one.
        x_text: Writes a tick of x.

    Raises:
        ValueError: No point, or an x that is not positive.
    """
    if not points or min(p.x for p in points) <= 0:
        raise ValueError("a scatter plot needs points with positive sizes")
    x_low, x_high = _log_range([p.x for p in points])
    lows = [p.y - (p.spread or 0.0) for p in points]
    highs = [p.y + (p.spread or 0.0) for p in points]
    y_ticks = linear_ticks(min(lows), max(highs))
    margin = 0.06 * max(y_ticks[-1] - y_ticks[0], 1e-9)
    y_low, y_high = min(y_ticks[0], min(lows) - margin), max(y_ticks[-1], max(highs) + margin)

    def to_x(value: float) -> float:
        part = (math.log10(value) - math.log10(x_low)) / (math.log10(x_high) - math.log10(x_low))
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 2)

    def to_y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM), 2)

    places = [(to_x(p.x), to_y(p.y)) for p in points]
    # A series of several points is named once, at its largest.
    largest = {p.series: p.x for p in sorted(points, key=lambda p: p.x) if not p.original}
    labels = place_labels(places, [p.label if p.original or p.x == largest[p.series] else "" for p in points])
    marks = tuple(
        Mark(
            x=x,
            y=y,
            low=to_y(p.y - p.spread) if p.spread else None,
            high=to_y(p.y + p.spread) if p.spread else None,
            point=p,
            label_at=label,
        )
        for p, (x, y), label in zip(points, places, labels, strict=True)
    )
    step = y_ticks[1] - y_ticks[0]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    level = next((mark.y for mark in marks if mark.point.original), None)
    return Plot(
        marks=marks,
        curves=_curves(marks),
        x_ticks=tuple(Tick(at=to_x(v), text=x_text(v)) for v in log_ticks(x_low, x_high)),
        y_ticks=tuple(Tick(at=to_y(v), text=f"{v:.{digits}f}") for v in y_ticks),
        level=level,
    )


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Two to ``most`` + 1 round numbers that span [low, high].

    >>> linear_ticks(81.2, 87.4)
    [80.0, 82.0, 84.0, 86.0, 88.0]
    """
    span = max(high - low, abs(high) * 1e-3, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers within [low, high]: powers of ten over a wide range, their multiples too over a narrow one.

    >>> log_ticks(0.9, 11.0)
    [1.0, 2.0, 5.0, 10.0]
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = math.log10(high / low)
    steps = (1, 1.5, 2, 3, 4, 6, 8) if decades <= 0.9 else (1, 2, 5) if decades <= 2.5 else (1,)
    return [m * 10.0**e for e in exponents for m in steps if low <= m * 10.0**e <= high]


def place_labels(places: Sequence[tuple[float, float]], texts: Sequence[str]) -> list[tuple[float, float, str] | None]:
    """For each mark (x, y, anchor) of its label, or None: right, left, above or below, where nothing else is. An empty text
    has no label.

    Anchors are those of SVG's ``text-anchor``.
    """
    taken = [(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in places]
    found: list[tuple[float, float, str] | None] = []
    for number, ((x, y), text) in enumerate(zip(places, texts, strict=True)):
        if not text:
            found.append(None)
            continue
        wide = len(text) * _LETTER_WIDTH
        options = (
            (x + 13, y + 4, "start", x + 13),
            (x - 13, y + 4, "end", x - 13 - wide),
            (x, y - 13, "middle", x - wide / 2),
            (x, y + 21, "middle", x - wide / 2),
            (x + 8, y - 12, "start", x + 8),
            (x - 8, y - 12, "end", x - 8 - wide),
            (x + 8, y + 20, "start", x + 8),
            (x - 8, y + 20, "end", x - 8 - wide),
        )
        others = taken[:number] + taken[number + 1 :]
        for at_x, at_y, anchor, left in options:
            box = (left, at_y - _LABEL_HEIGHT + 3, left + wide, at_y + 3)
            inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in others):
                found.append((round(at_x, 2), round(at_y, 2), anchor))
                taken.append(box)
                break
        else:
            found.append(None)
    return found


def _curves(marks: Sequence[Mark]) -> tuple[Curve, ...]:
    series: dict[int, list[Mark]] = {}
    for mark in sorted(marks, key=lambda mark: mark.x):
        if not mark.point.original:
            series.setdefault(mark.point.series, []).append(mark)
    return tuple(
        Curve(colour=members[0].colour, path="M" + "L".join(f"{m.x} {m.y}" for m in members))
        for members in series.values()
        if len(members) > 1
    )


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _log_range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max((high / low) ** 0.08, 1.12)
    low, high = low / margin, high * margin
    # At least two ticks must lie within, or the axis cannot be read.
    while len(log_ticks(low, high)) < 2:
        low, high = low / 1.1, high * 1.1
    return low, high
