"""Small plots as SVG: horizontal bars, and lines.

Written by hand, because two kinds of plot do not justify a plotting library of 50 MB, whose output would be large and
change with its version. The same data gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["Bar", "Line", "bar_chart", "line_chart", "number", "ticks"]

WIDTH = 760
STYLE = """
  text { font-family: system-ui, sans-serif; font-size: 13px; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 }
  .small { font-size: 12px; fill: #57606a }
  .grid { stroke: #8c959f; stroke-opacity: 0.3 }
  .other { fill: #8c959f }
  .own { fill: #1f7ae0 }
  .spread { stroke: #24292f; stroke-opacity: 0.7 }
  polyline { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #9da7b1 }
    .spread { stroke: #e6edf3 }
  }
"""
COLOURS = ("#1f7ae0", "#d9822b", "#2da44e", "#a475f9")
"""Readable on white and on black."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, with its spread."""

    label: str
    value: float
    least: float
    most: float
    own: bool
    """Whether it is one of ours, and drawn in colour."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points, in the order of x."""

    label: str
    points: Sequence[tuple[float, float]]
    marked: bool = field(default=True)
    """Whether each point has a dot and its value."""


def ticks(most: float, about: int = 5) -> list[float]:
    """Round values from 0 to just beyond *most*, about so many."""
    rough = max(most, 1e-9) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [step * count for count in range(max(1, math.ceil(most / step * 0.999)) + 1)]


def number(value: float) -> str:
    """A number for an axis: with commas, or with the digits that it needs."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def bar_chart(title: str, axis: str, bars: Sequence[Bar], *, cut: float = math.inf) -> str:
    """Horizontal bars, one below the other.

    Args:
        title: What is shown.
        axis: The quantity and its unit.
        bars: At least one.
        cut: Longer bars end here, and say so.
    """
    left, row, top = 215, 26, 44
    longest = max(min(bar.value, cut) for bar in bars)
    steps = ticks(max(longest, max((bar.most for bar in bars if bar.most <= cut), default=0)))
    bottom = top + row * len(bars) + 6
    scale = (WIDTH - left - 120) / steps[-1]
    body = []
    for step in steps:
        x = left + step * scale
        body.append(f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>')
        body.append(text(x, bottom + 18, number(step), "small", "middle"))
    for place, bar in enumerate(bars):
        y = top + place * row + 5
        length = min(bar.value, cut) * scale
        body.append(text(left - 8, y + 13, bar.label, "", "end"))
        kind = "own" if bar.own else "other"
        body.append(f'<rect class="{kind}" x="{left}" y="{y}" width="{max(length, 1):.1f}" height="17" rx="2"/>')
        value, end = f"{bar.value:.3g}" if bar.value < 100 else f"{bar.value:.0f}", left + length
        if bar.value > cut:
            value += " (bar cut off)"
        elif bar.most > bar.least:
            low, high = left + bar.least * scale, left + min(bar.most, steps[-1]) * scale
            body.append(f'<line class="spread" x1="{low:.1f}" y1="{y + 8.5}" x2="{high:.1f}" y2="{y + 8.5}"/>')
            end = max(end, high)
        body.append(text(end + 6, y + 13, value, "", "start"))
    body.append(text(left + (WIDTH - left - 120) / 2, bottom + 38, axis, "small", "middle"))
    return document(title, bottom + 50, body)


def line_chart(title: str, x_axis: str, y_axis: str, lines: Sequence[Line], *, logarithmic: bool = False) -> str:
    """Lines over a common x axis, y from 0.

    Args:
        title: What is shown.
        x_axis: The quantity along x, and its unit.
        y_axis: The quantity along y, and its unit.
        lines: At least one, each with a point at least.
        logarithmic: Whether x is by powers of ten; its values are then above 0.
    """
    left, top, width, height = 90, 64, WIDTH - 90 - 40, 260
    bottom = top + height
    values = sorted({x for line in lines for x, _ in line.points})
    y_ticks = ticks(max(y for line in lines for _, y in line.points))
    x_ticks = values if lines[0].marked and len(values) <= 8 else ticks(values[-1], 8)
    low, high = (math.log10(values[0]), math.log10(values[-1])) if logarithmic else (0.0, max(values[-1], x_ticks[-1]))

    def across(x: float) -> float:
        share = ((math.log10(x) if logarithmic else x) - low) / (high - low) if high > low else 0.5
        return left + share * width

    def up(y: float) -> float:
        return bottom - y / y_ticks[-1] * height

    body = [text(left - 70, top - 16, y_axis, "small", "start")]
    for y in y_ticks:
        body.append(f'<line class="grid" x1="{left}" y1="{up(y):.1f}" x2="{left + width}" y2="{up(y):.1f}"/>')
        body.append(text(left - 8, up(y) + 4, number(y), "small", "end"))
    body += [text(across(x), bottom + 20, number(x), "small", "middle") for x in x_ticks]
    body.append(text(left + width / 2, bottom + 42, x_axis, "small", "middle"))
    for place, line in enumerate(lines):
        colour = COLOURS[place % len(COLOURS)]
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line.points)
        body.append(f'<polyline stroke="{colour}" points="{points}"/>')
        if line.marked:
            for x, y in line.points:
                body.append(f'<circle fill="{colour}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="4"/>')
                body.append(text(across(x), up(y) + (-10 if place % 2 == 0 else 20), number(y), "small", "middle"))
        if len(lines) > 1:
            x = left + 130 + place * 170
            body.append(f'<rect fill="{colour}" x="{x}" y="{top - 26}" width="12" height="12"/>')
            body.append(text(x + 18, top - 16, line.label, "small", "start"))
    return document(title, bottom + 54, body)


def text(x: float, y: float, content: str, kind: str, anchor: str) -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'


def document(title: str, height: float, body: Sequence[str]) -> str:
    """The whole picture."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            text(16, 26, title, "title", "start"),
            *body,
            "</svg>\n",
        ]
    )
