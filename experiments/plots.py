"""Draws the figures from their CSV files, as SVG and PNG. Equal files give equal bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

from cpal.files import whole_file
from cpal.maps.drawing import class_palette
from experiments.origin import read_rows

Rows = list[dict[str, str]]
TIGHT: Any = {"bbox_inches": "tight", "pad_inches": 0.08}
Plot = Callable[[Rows], Figure]
SOFT, RULE = "#59616d", "#dfe2e6"
SERIES = ("#86abd2", "#1f5fa8", "#e08a2e", "#8a4fb0", "#4c9a57")
STYLE = {
    "svg.hashsalt": "cpal",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.titlesize": 10,
    "legend.frameon": False,
}


def draw(path: Path, plot: Plot) -> list[Path]:
    """Draw the CSV file at `path` beside it, as SVG and PNG; returns both paths."""
    made = [path.with_suffix(ending) for ending in (".svg", ".png")]
    with context(STYLE):
        figure = plot(read_rows(path))
        for target in made:
            metadata = {"Date": None, "Creator": None} if target.suffix == ".svg" else {"Software": None}
            with whole_file(target) as temporary:
                figure.savefig(
                    temporary, format=target.suffix[1:], dpi=150, facecolor="white", metadata=metadata, **TIGHT
                )
    return made


def embedding(rows: Rows) -> Figure:
    """Fig. 3: a panel for each `panel`; instances as points, context prototypes as stars, in the classes' colors."""
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    classes = {row["class"]: class_palette()[int(row["label"])] / 255 for row in rows}
    figure = Figure(figsize=(4.4 * len(panels), 4.9), layout="constrained")
    for axes, panel, letter in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, "ab", strict=False):
        for name, color in classes.items():
            of_class = [row for row in rows if (row["panel"], row["class"]) == (panel, name)]
            x, y = (np.array([float(row[key]) for row in of_class]) for key in ("x", "y"))
            star = np.array([row["kind"] == "prototype" for row in of_class])
            axes.scatter(x[star], y[star], s=90, marker="*", facecolors="none", edgecolors=[color], linewidths=0.8)
            axes.scatter(x[~star], y[~star], s=11, color=[color], label=name)
        axes.set_title(f"({letter}) {panel}")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(RULE)
    first = figure.axes[0]
    first.scatter([], [], s=90, marker="*", facecolors="none", edgecolors=SOFT, label="prototype")
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(7, len(labels)), markerscale=1.4)
    return figure


def spread(rows: Rows) -> Figure:
    """Compactness, separation and silhouette of each class, a mark for each `panel`."""
    classes = list(dict.fromkeys(row["class"] for row in rows))
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    titles = {
        "compactness": "compactness: distance to own mean\n(smaller is better)",
        "separation": "separation: distance to next class's mean\n(larger is better)",
        "silhouette": "silhouette\n(larger is better)",
    }
    figure = Figure(figsize=(9.6, 1.5 + 0.32 * len(classes)), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, len(titles), sharey=True), titles.items(), strict=True):
        values = np.array(
            [[float(row[key]) for row in rows if row["panel"] == panel] for panel in panels]
        )  # panels x classes
        places = np.arange(len(classes))
        axes.hlines(places, values.min(axis=0), values.max(axis=0), color=RULE, linewidth=3)
        for panel, of_panel, color in zip(panels, values, (SERIES[2], SERIES[1]), strict=False):
            axes.plot(of_panel, places, "o", color=color, markersize=6, label=panel)
        axes.set_title(title, fontsize=9, color=SOFT)
        axes.set_yticks(places, classes)
        axes.set_xlim(left=min(0.0, float(values.min()) * 1.05))
        _grid(axes, "x")
    figure.axes[0].invert_yaxis()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def confusion(rows: Rows) -> Figure:
    """Each true class's pixels by predicted class, in percent of the row."""
    columns = [name for name in rows[0] if name != "truth"]
    counts = np.array([[float(row[name]) for name in columns] for row in rows])
    share = 100 * counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    size = 1.9 + 0.46 * len(columns)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    if len(columns) <= 25:
        for (i, j), value in np.ndenumerate(share):
            if value >= 0.5:
                color = "white" if value > 55 else "#1f242b"
                axes.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [row["truth"] for row in rows])
    axes.set_xlabel("predicted")
    axes.set_ylabel("ground truth")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.7, label="% of the true class's pixels").outline.set_visible(False)
    return figure


def class_iou(rows: Rows) -> Figure:
    """IoU of each class, a mark for each step."""
    steps = [name for name in rows[0] if name != "class"]
    figure = Figure(figsize=(7.2, 1.3 + 0.34 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        found = [float(row[step]) for step in steps if row[step]]
        if found:
            axes.hlines(place, min(found), max(found), color=RULE, linewidth=3, zorder=1)
    for step, color, marker in zip(steps, SERIES, "osD^v", strict=False):
        points = [(float(row[step]), place) for place, row in enumerate(rows) if row[step]]
        axes.plot([x for x, _ in points], [y for _, y in points], marker, color=color, markersize=6, label=step)
    axes.set_yticks(range(len(rows)), [row["class"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("IoU, %")
    _grid(axes, "x")
    figure.legend(loc="outside lower center", ncols=len(steps))
    return figure


def thresholds(rows: Rows) -> Figure:
    """mIoU over the background threshold, a curve for each map; marks: the settings' threshold, Otsu's, the best."""
    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.add_subplot()
    markers = {"fixed": "o", "Otsu": "s", "best": "*"}
    for name, color in zip(dict.fromkeys(row["map"] for row in rows), SERIES[1:], strict=False):
        curve = [row for row in rows if row["map"] == name]
        axes.plot([float(r["threshold"]) for r in curve], [float(r["miou"]) for r in curve], color=color, label=name)
        for row in curve:
            for mark in row["mark"].split():
                size = 13 if mark == "best" else 7
                point = ([float(row["threshold"])], [float(row["miou"])])
                axes.plot(*point, markers[mark], color=color, markersize=size, markeredgecolor="white", zorder=3)
    for mark, marker in markers.items():
        title = {"fixed": "threshold of the settings", "Otsu": "Otsu's threshold", "best": "best threshold (oracle)"}[
            mark
        ]
        axes.plot([], [], marker, color=SOFT, markersize=10 if mark == "best" else 7, label=title)
    axes.set_xlabel("background threshold")
    axes.set_ylabel("mIoU of the seeds, %")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    _grid(axes, "both")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def tag_curve(rows: Rows) -> Figure:
    """mIoU of the segmentation model over the number of training images, a line through the means for each teacher.

    A row is one training: `learned_from` (labels | masks), `images`, `iterations`, `miou`.
    """
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    names = {"labels": "labels alone", "masks": "ground-truth masks"}
    for teacher, color, marker in zip(names, SERIES[1:], "os", strict=False):
        found = [(int(row["images"]), float(row["miou"])) for row in rows if row["learned_from"] == teacher]
        sizes = sorted({size for size, _ in found})
        means = [float(np.mean([value for size, value in found if size == of])) for of in sizes]
        axes.plot(*zip(*found, strict=True), marker, color=color, markersize=4, alpha=0.45, linestyle="none")
        axes.plot(sizes, means, f"-{marker}", color=color, markersize=7, label=names[teacher])
        if len(sizes) == 1:
            axes.axhline(means[0], color=color, linestyle=":", linewidth=1)  # to compare the other teacher's points
    axes.set_xscale("log", base=2)
    ticks = sorted({int(row["images"]) for row in rows})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("training photographs")
    axes.set_ylabel("mIoU on validation images, %")
    _grid(axes, "both")
    axes.legend(loc="lower right")
    return figure


def _grid(axes: Axes, which: Literal["x", "both"]) -> None:
    axes.grid(axis=which, color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
