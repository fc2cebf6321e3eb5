"""Line charts as SVG. Colours come from the page's style sheet, which has a light and a dark theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 34
TICKS = 5
FEW = 5  # points that are marked


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: Name in the legend.
        points: (x, y) points with ascending x.
        dashed: Whether it is a baseline, drawn dashed.
    """

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


def chart(title: str, lines: Sequence[Line], x_label: str, logarithmic: bool = False) -> str:
    """Returns an SVG figure. Points that are not finite are left out, and so are lines without points.

    Args:
        title: Title above the chart, also read by screen readers.
        lines: Curves.
        x_label: Label of the x axis.
        logarithmic: Whether the y axis is logarithmic; only positive values are drawn then.
    """
    shown = [(line, _finite(line.points, logarithmic)) for line in lines]
    shown = [(line, points) for line, points in shown if points]
    if not shown:
        return f'<p class="hint">{escape(title)}: nothing was logged.</p>'
    every = [point for _, points in shown for point in points]
    x_ticks = _ticks(0.0, max(max(x for x, _ in every), 1.0))
    low, high = min(y for _, y in every), max(y for _, y in every)
    y_ticks = _powers(low, high) if logarithmic else _ticks(min(0.0, low), high)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        bottom, top = (_scaled(value, logarithmic) for value in (y_ticks[0], y_ticks[-1]))
        up = (_scaled(y, logarithmic) - bottom) / (top - bottom)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(place(x_ticks[0], tick)[1], tick) for tick in y_ticks]
    parts += [
        f'<text class="tick" x="{place(tick, y_ticks[0])[0]:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
        f"{tick:g}</text>"
        for tick in x_ticks
    ]
    parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x_label)}</text>')
    for number, (line, points) in enumerate(shown, 1):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        style = f'class="line s{number}{" dashed" if line.dashed else ""}"'
        parts.append(f'<polyline {style} points="{path}"/>')
        if len(points) <= FEW and not line.dashed:
            dots = (place(*point) for point in points)
            parts += [f'<circle class="dot s{number}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in dots]
    legend = "".join(
        f'<span><i class="key s{number}{" dashed" if line.dashed else ""}"></i>{escape(line.name)}</span>'
        for number, (line, _) in enumerate(shown, 1)
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f'<div class="legend">{legend}</div></figure>'
    )


def _grid(y: float, tick: float) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    )


def _finite(points: Sequence[tuple[float, float]], logarithmic: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not logarithmic)]


def _scaled(value: float, logarithmic: bool) -> float:
    return math.log10(value) if logarithmic else value


def _ticks(low: float, high: float) -> list[float]:
    """Returns round numbers from at most ``low`` to at least ``high``."""
    span = (high - low) or abs(high) or 1.0
    rough = span / (TICKS - 1)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, max(last, first + 1) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Returns 1, 2 and 5 times powers of ten around the values."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    marks = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    below = [mark for mark in marks if mark <= low] or marks[:1]
    above = [mark for mark in marks if mark >= high] or marks[-1:]
    inside = [round(mark, 12) for mark in marks if below[-1] <= mark <= above[0]]
    return inside if len(inside) > 1 else [inside[0], inside[0] * 10]
