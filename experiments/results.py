"""Writes the measured scores and the paper's scores as Markdown and PNG.

"Seed" has two meanings here: a seed map, and a random seed. Values are mean ± deviation over the random seeds.
"""

from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cpal.maps.cams import MAP_NAMES
from experiments.tables import PAPER_HOSTS, SEED_TO_MASK, Row, has_data_of

Metrics = dict[str, Any]  # of one experiment: content of the files in data/metrics, by file stem
Found = list[tuple[Row, dict[int, Metrics]]]  # for each row, the finished experiments by random seed
Bar = tuple[list[float], float | None]  # our values, one for each random seed; the paper's value
STEP_NAMES = {
    "seed": "seed map",
    "crf": "after the CRF",
    "pseudo_mask": "pseudo-mask",
    "segmentation": "segmentation model",
}
SEEDED_DATA = {
    "toy": "The random seed draws the images as well.",
    "folder": "The random seed also selects the validation images, unless the table of labels has a column `split`.",
}


def write(table: str, found: Found, seeds: list[int], present: dict[str, Any], *, folder: Path) -> Path:
    """Write the files of a table, made from the present settings; returns the path of the Markdown file."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"{table}.png"
    if table == "seeds":
        lines = over_seeds(found[0][1], seeds, present)
    elif table == "table4":
        lines = host_table(found, seeds, present)
        _draw_hosts(picture, found)
    else:
        lines = seed_table(table, found, seeds, present)
        if bars := [(row, values) for row, done in found if (values := _best(row, done))]:
            _draw_seeds(picture, bars)
    path = folder / f"{table}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def seed_table(table: str, found: Found, seeds: list[int], present: dict[str, Any]) -> list[str]:
    """mIoU of the seeds of each row, from the row's map at its best threshold."""
    epochs = present["hosts"]["irn"]["epochs"]
    values = "mIoU in percent, each map at its best threshold; mean ± deviation over the random seeds"
    lines = [
        f"# {table[:-1].capitalize()} {table[-1]}: seed mIoU",
        "",
        *_header(table, seeds, present, {"epochs": str(epochs), "values": values}),
        "",
        "The paper uses ResNet-50 on VOC 2012. Compare only the order of the rows.",
        "",
        "| row | paper | here |",
        "|---|---|---|",
    ]
    return lines + [
        f"| {row.name} | {row.paper or ''} | {shown(_best(row, done), len(seeds))} |" for row, done in found
    ]


def host_table(found: Found, seeds: list[int], present: dict[str, Any]) -> list[str]:
    """mIoU of each host for seed, CRF and mask, at the thresholds of the settings."""
    animals = has_data_of("voc-animals", present)
    thresholds = "for irn those of the settings, for amn those of " + (
        "profile voc-animals-amn" if animals else "the settings"
    )
    values = "mIoU in percent; mean ± deviation over the random seeds"
    lines = [
        "# Table 4: hosts without and with CPAL",
        "",
        *_header(
            "table4", seeds, present, {"thresholds": thresholds, "mask": "after IRN's random walk", "values": values}
        ),
        "",
        "The paper uses ResNet-50 on VOC 2012 train. Compare only the order of the rows.",
        "",
        "| host | seed, paper | seed, here | CRF, paper | CRF, here | mask, paper | mask, here |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, done in found:
        here = [shown(_miou(done, step), len(seeds)) for step in SEED_TO_MASK]
        cells = [f"{paper} | {value}" for paper, value in zip(PAPER_HOSTS[row.name], here, strict=True)]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return lines


def over_seeds(done: dict[int, Metrics], seeds: list[int], present: dict[str, Any]) -> list[str]:
    """mIoU of each step for each random seed, then IoU of each class as mean ± deviation."""
    facts = {
        "host": present["host"],
        "seeds.source": present["seeds"]["source"],
        "affinity.method": present["affinity"]["method"],
        "values": "IoU in percent for each random seed; mean ± deviation",
        "Otsu's threshold": "computed from the maps, without ground truth",
        "oracle": "the best threshold, chosen with the ground truth; an upper bound, not usable without it",
    }
    lines = [
        "# The current settings with several random seeds",
        "",
        *_header("seeds", seeds, present, facts),
        "",
        *([SEEDED_DATA[source], ""] if (source := present["data"]["source"]) in SEEDED_DATA else []),
        f"| mIoU | images of | {' | '.join(f'seed {seed}' for seed in seeds)} | mean ± deviation |",
        f"|---|---|{'---|' * len(seeds)}---|",
    ]
    for name, title in MAP_NAMES.items():
        sweeps = {seed: metrics["seed"][name] for seed, metrics in done.items() if name in metrics["seed"]}
        if done and not sweeps:  # these settings do not make this map
            continue
        fixed = next((f" {sweep['threshold']}" for sweep in sweeps.values()), "")
        for key, threshold in (("", f"fixed threshold{fixed}"), ("_otsu", "Otsu's threshold"), ("_oracle", "oracle")):
            values = {seed: sweep[f"miou{key}"] for seed, sweep in sweeps.items()}
            lines.append(_seed_line(f"{title}, {threshold}", _split(done, "seed"), values, seeds))
    for step, title in STEP_NAMES.items():
        values = {seed: metrics[step]["miou"] for seed, metrics in done.items()}
        lines.append(_seed_line(title, _split(done, step), values, seeds))
    lines += ["", f"| IoU | {' | '.join(STEP_NAMES.values())} |", f"|---|{'---|' * len(STEP_NAMES)}"]
    by_class = {step: _class_iou(done, step) for step in STEP_NAMES}
    for name in dict.fromkeys(name for values in by_class.values() for name in values):
        cells = [shown(by_class[step].get(name, []), len(seeds)) for step in STEP_NAMES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _header(table: str, seeds: list[int], present: dict[str, Any], facts: dict[str, str]) -> list[str]:
    """Table of the settings that all rows share."""
    data = present["data"]
    shared = {
        "data": f"{data['source']}, scored list {data['score_list']}",
        **({"classes": ", ".join(data["classes"])} if data["classes"] else {}),
        "backbone": present["hosts"]["irn"]["backbone"],
        "scales": ", ".join(map(str, present["cam"]["scales"])),
        "random seeds": ", ".join(map(str, seeds)),
    }
    command = {"command": f"`make {table}`"}
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in {**shared, **facts, **command}.items())]


def _best(row: Row, done: dict[int, Metrics]) -> list[float]:
    return [metrics["seed"][row.score]["miou_oracle"] for metrics in done.values()]


def _miou(done: dict[int, Metrics], step: str) -> list[float]:
    return [metrics[step]["miou"] for metrics in done.values()]


def _split(done: dict[int, Metrics], step: str) -> str:
    return next((metrics[step]["scored"]["split"] for metrics in done.values()), "")


def _class_iou(done: dict[int, Metrics], step: str) -> dict[str, list[float]]:
    """IoU of each class, for the random seeds in which the class occurs."""
    values: dict[str, list[float]] = {}
    for metrics in done.values():
        for row in metrics[f"{step}_iou"]:
            values.setdefault(row["class"], []).append(row["iou"])
    return values


def _seed_line(name: str, split: str, values: dict[int, float], seeds: list[int]) -> str:
    cells = [f"{values[seed]:.1f}" if seed in values else "not measured" for seed in seeds]
    return f"| {name} | {split} | {' | '.join(cells)} | {shown(list(values.values()), len(seeds))} |"


def shown(values: list[float], expected: int) -> str:
    """Mean and standard deviation of a score over seeds, and how many of the expected seeds there are."""
    if not values:
        return "not measured"
    deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{deviation}" + (
        f" ({len(values)} of {expected} seeds)" if len(values) < expected else ""
    )


def _draw_seeds(path: Path, found: list[tuple[Row, list[float]]]) -> None:
    """Draw a bar for each measured row."""
    bars = [(values, row.paper) for row, values in found]
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.42 * len(found)), layout="constrained")
    _bars(axes, [float(y) for y in range(len(found))], bars, height=0.6, color="#86abd2", label="here, mean")
    axes.set_yticks(range(len(found)), [row.name for row, _ in found])
    axes.set_xlabel("mIoU of the seeds, %")
    _finish(figure, axes, path, bars)


def _draw_hosts(path: Path, found: Found) -> None:
    """Draw a bar for each host and step."""
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.9 * len(found)), layout="constrained")
    every: list[Bar] = []
    for i, (step, color) in enumerate(zip(SEED_TO_MASK, ("#dbe7f4", "#b3cde6", "#86abd2"), strict=True)):
        bars: list[Bar] = [(_miou(done, step), PAPER_HOSTS[row.name][i]) for row, done in found]
        places = [y + 0.26 * (i - 1) for y in range(len(found))]
        _bars(axes, places, bars, height=0.24, color=color, label=f"{STEP_NAMES[step]}, mean")
        every += bars
    axes.set_yticks(range(len(found)), [row.name for row, _ in found])
    axes.set_xlabel("mIoU, %")
    _finish(figure, axes, path, every)


def _bars(axes: Axes, places: list[float], bars: list[Bar], *, height: float, color: str, label: str) -> None:
    measured = [(y, values) for y, (values, _) in zip(places, bars, strict=True) if values]
    axes.barh([y for y, _ in measured], [mean(v) for _, v in measured], height=height, color=color, label=label)
    points = [(value, y) for y, values in measured for value in values]
    axes.plot(
        [x for x, _ in points], [y for _, y in points], "o", color="#2563a8", markersize=4, label="here, each seed"
    )
    paper = [(figure, y) for y, (_, figure) in zip(places, bars, strict=True) if figure]
    axes.plot([x for x, _ in paper], [y for _, y in paper], "D", color="#c0392b", markersize=5, label="paper, VOC 2012")


def _finish(figure: Figure, axes: Axes, path: Path, bars: list[Bar]) -> None:
    """Start the axis a little below the smallest value, show a legend entry for each kind of bar, save the figure."""
    axes.invert_yaxis()
    lowest = min(value for values, paper in bars for value in (*values, 100.0 if paper is None else paper))
    axes.set_xlim(max(0, lowest - 5), None)
    handles, labels = axes.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
