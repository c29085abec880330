"""Small charts as SVG, drawn by matplotlib: static, so that the page needs no script and no network for them."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

# Colors that the page replaces by its own, light or dark.
PAGE_COLORS = {"#010203": "var(--soft)", "#010204": "var(--rule)", "#010205": "var(--accent)"}
INK, RULE, CURVE = PAGE_COLORS


@dataclass(frozen=True)
class Curve:
    """Values over steps, at least one."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """A curve as a page shows it: its title, a sentence about it, and the curves whose axes it shares."""

    title: str
    note: str
    curve: Curve
    beside: Sequence[Curve] = ()


def line_chart(curve: Curve, *, beside: Sequence[Curve] = (), ideal: bool = False) -> str:
    """Content of an SVG of 302 x 151 points: a curve over its steps, from zero where no value is negative.

    The axes have room for the curves `beside` it too. `ideal`: a dashed line where a value equals its step, and axes in
    percent. Equal input gives equal bytes.
    """
    from matplotlib.figure import Figure
    from matplotlib.style import context

    steps, values = curve.steps, curve.values
    if len(steps) == 1:  # a curve needs two ends
        steps, values = [steps[0] - 0.5, steps[0] + 0.5], [values[0], values[0]]
    all_values = [0.0, *values, *(value for other in beside for value in other.values)]
    stream = io.BytesIO()
    with context({"svg.fonttype": "none", "svg.hashsalt": "cpal"}):
        figure = Figure(figsize=(4.2, 2.1), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(steps, values, color=CURVE, linewidth=1.8)
        for other in beside:
            axes.update_datalim(list(zip(other.steps, other.values, strict=True)))
        axes.autoscale_view()
        axes.set_ylim(bottom=min(all_values), top=1.04 * max(all_values) or 1.0)
        if ideal:
            axes.plot((0, 100), (0, 100), color=INK, linewidth=1, linestyle="--")
            axes.set(xlim=(0, 100), ylim=(0, 104))
        axes.locator_params(nbins=5)
        axes.grid(axis="y", color=RULE)
        axes.tick_params(labelcolor=INK, bottom=False, left=False, labelsize=9)
        axes.spines[:].set_visible(False)
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue().decode("utf-8")
    # Names of parts, which would occur twice on a page of several charts, and matplotlib's own font.
    body = re.sub(
        r' (id|clip-path|transform)="[^"]*"|font-family: [^;]*; ', "", svg[svg.index("<g ") : svg.rindex("<defs>")]
    )
    for color, own in PAGE_COLORS.items():
        body = body.replace(color, own)
    return body
