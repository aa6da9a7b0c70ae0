"""Spectra of features as a plot: how much energy is left behind the first so many principal directions, a curve a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 440, 58, 190, 34, 46
DECADES = 4  # of the energy that is left: from all of it to a ten-thousandth


def spectrum_svg(curves: Mapping[str, Sequence[float]], title: str) -> str:
    """An SVG page of the energy left (log scale) over the share of directions taken.

    Args:
        curves: By name the shares of energy in principal directions, falling, with sum 1; an empty spectrum is left out.
        title: Above the plot.
    """
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for decade in range(DECADES + 1):
        y = TOP + high * decade / DECADES
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + wide}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * 10.0**-decade:g} %</text>')
    for tenth in range(0, 11, 2):
        x = LEFT + wide * tenth / 10
        parts.append(f'<text x="{x:.1f}" y="{TOP + high + 16}" text-anchor="middle">{10 * tenth} %</text>')
    parts.append(
        f'<text x="{LEFT + wide / 2:.1f}" y="{HEIGHT - 10}" text-anchor="middle">principal directions taken</text>'
    )
    parts.append(
        f'<text transform="translate(14 {TOP + high / 2:.1f}) rotate(-90)" text-anchor="middle">energy left</text>'
    )
    drawn = {name: shares for name, shares in curves.items() if sum(shares) > 0}
    for number, (name, shares) in enumerate(drawn.items()):
        colour = f"hsl({round(280 * number / max(1, len(drawn) - 1))} 70% 42%)"
        points, left = [f"{LEFT:.1f},{TOP:.1f}"], 1.0
        for index, share in enumerate(shares, start=1):
            left -= share
            depth = DECADES if left <= 10.0**-DECADES else -math.log10(left)
            points.append(f"{LEFT + wide * index / len(shares):.1f},{TOP + high * depth / DECADES:.1f}")
            if depth == DECADES:
                break
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{" ".join(points)}"/>')
        if number * 13 < high:
            y = TOP + 8 + 13 * number
            parts.append(f'<text x="{LEFT + wide + 12}" y="{y}" fill="{colour}">{escape(name)} ({len(shares)})</text>')
    return "\n".join([*parts, "</svg>", ""])
