"""Small charts as inline SVG."""

import html
import math
from collections.abc import Sequence


def bar(value: float) -> str:
    """SVG of a value on a track from 0 to 100; its width is the page's to set."""
    return (
        f'<svg class="bar" role="img" aria-label="{value:.1f} of 100"><rect width="100%" height="100%" class="track"/>'
        f'<rect width="{value:.2f}%" height="100%" class="value"/></svg>'
    )


def line_chart(title: str, steps: Sequence[float], values: Sequence[float]) -> str:
    """SVG of one curve over its steps, from zero where no value is negative; at least one point."""
    left, right, top, bottom, width, height = 46, 12, 30, 24, 360, 200
    y_ticks = _ticks(min(0.0, *values), max(0.0, *values), 4)
    x_ticks = [t for t in _ticks(min(steps), max(steps), 5) if min(steps) <= t <= max(steps)]
    x_span, y_span = max(steps) - min(steps) or 1, y_ticks[-1] - y_ticks[0]

    def place(step: float, value: float) -> tuple[float, float]:
        x = left + (width - left - right) * (step - min(steps)) / x_span
        return x, height - bottom - (height - top - bottom) * (value - y_ticks[0]) / y_span

    parts = [f'<text x="{left}" y="16" class="title">{html.escape(title)}</text>']
    for tick in y_ticks:
        y = place(min(steps), tick)[1]
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    for tick in x_ticks:
        parts.append(f'<text x="{place(tick, 0)[0]:.1f}" y="{height - 6}" text-anchor="middle">{tick:.6g}</text>')
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, steps, values))
    x, y = place(steps[-1], values[-1])
    parts.append(f'<polyline points="{points}" class="curve"/><circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="end"/>')
    parts.append(f'<text x="{width - right}" y="16" text-anchor="end" class="last">{values[-1]:.4g}</text>')
    label = html.escape(f"{title}: {values[0]:.4g} at step {steps[0]:g}, {values[-1]:.4g} at step {steps[-1]:g}")
    return f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers, about `count` of them, that enclose low and high."""
    raw = (high - low) / count or 1.0
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = magnitude * next(m for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * k for k in range(first, max(last, first + 1) + 1)]
