"""Writes the measured scores as CSV, and from that file, beside the paper's scores, as Markdown and PNG.

"Seed" has two meanings here: a seed map, and a random seed. Values are mean ± deviation over the random seeds.
"""

from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cpal.files import whole_file
from cpal.maps.cams import MAP_NAMES
from experiments.origin import origin, read_rows, write_rows
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
QUESTIONS = {  # that the page of a table answers
    "table1": "how much does each component of CPAL add to the seeds? Rows I to V follow the paper's Table 1; each adds"
    " one component.",
    "table2": "how should the neighbours of an instance be chosen: all, the nearest, or the nearest weighted by their"
    " positiveness?",
    "table3": "which metric of the positiveness gives the best seeds?",
    "figure4": "how much do the threshold tau and the length of the support bank matter?",
}
BY_HAND = "<!-- Written by hand from here on: -->"


class Value(NamedTuple):
    """A line of the CSV file: a score in percent, or None where it was not measured. `images`: the split it is of."""

    row: str
    figure: str
    images: str
    seed: int
    value: float | None
    paper: float | None = None


def write(table: str, found: Found, seeds: list[int], present: dict[str, Any], *, folder: Path) -> Path:
    """Write the files of a table, made from the present settings; returns the path of the Markdown file.

    What a page has below the line BY_HAND stays.
    """
    path = folder / f"{table}.md"
    source = origin(f"make {table} SEEDS={','.join(map(str, seeds))}")
    lines = [value._asdict() | source for value in measured_values(table, found, seeds)]
    write_rows(path.with_suffix(".csv"), lines)
    values, source = read_values(path.with_suffix(".csv"))
    text = "\n".join(page(table, values, present, source)) + "\n"
    if any(value.value is not None for value in values) and table != "seeds":
        (_draw_hosts if table == "table4" else _draw_seeds)(path.with_suffix(".png"), values)
        text += f"\n![The measured rows, with each seed and the paper's figure]({table}.png)\n"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    _, marker, by_hand = before.partition(BY_HAND)
    with whole_file(path) as temporary:
        temporary.write_text(text + (f"\n{marker}{by_hand}" if marker else ""), encoding="utf-8")
    return path


def read_values(path: Path) -> tuple[list[Value], dict[str, str]]:
    """The values of a CSV file, and where they come from."""
    rows = read_rows(path)
    values = [
        Value(row["row"], row["figure"], row["images"], int(row["seed"]), _number(row["value"]), _number(row["paper"]))
        for row in rows
    ]
    return values, {name: rows[0][name] for name in ("date", "commit", "command", "machine")}


def _number(text: str) -> float | None:
    return float(text) if text else None


def measured_values(table: str, found: Found, seeds: list[int]) -> list[Value]:
    """The scores that a table shows, for each of its random seeds."""
    if table == "seeds":
        return [*_step_values(found[0][1], seeds), *_class_values(found[0][1], seeds)]
    values = []
    for row, done in found:
        papers = PAPER_HOSTS[row.name] if table == "table4" else (row.paper,)
        for step, paper in zip(SEED_TO_MASK, papers, strict=False):
            for seed in seeds:
                metrics = done[seed][step] if seed in done else None
                score = metrics and (metrics["miou"] if table == "table4" else metrics[row.score]["miou_oracle"])
                values.append(Value(row.name, STEP_NAMES[step], _split(done, step), seed, score, paper))
    return values


def _step_values(done: dict[int, Metrics], seeds: list[int]) -> list[Value]:
    """mIoU of each map at three thresholds, and of each step."""
    values = []
    for name, title in MAP_NAMES.items():
        sweeps = {seed: metrics["seed"][name] for seed, metrics in done.items() if name in metrics["seed"]}
        if done and not sweeps:  # these settings do not make this map
            continue
        fixed = next((f" {sweep['threshold']}" for sweep in sweeps.values()), "")
        for key, threshold in (("", f"fixed threshold{fixed}"), ("_otsu", "Otsu's threshold"), ("_oracle", "oracle")):
            scores = {seed: sweep[f"miou{key}"] for seed, sweep in sweeps.items()}
            row, images = f"{title}, {threshold}", _split(done, "seed")
            values += [Value(row, "mIoU", images, seed, scores.get(seed)) for seed in seeds]
    for step, title in STEP_NAMES.items():
        scores = {seed: metrics[step]["miou"] for seed, metrics in done.items()}
        values += [Value(title, "mIoU", _split(done, step), seed, scores.get(seed)) for seed in seeds]
    return values


def _class_values(done: dict[int, Metrics], seeds: list[int]) -> list[Value]:
    """IoU of each class in each step, where the class occurs."""
    values = []
    for step, title in STEP_NAMES.items():
        for seed in seeds:
            rows = done[seed][f"{step}_iou"] if seed in done else []
            values += [Value(row["class"], title, _split(done, step), seed, row["iou"]) for row in rows]
    return values


def _split(done: dict[int, Metrics], step: str) -> str:
    return next((metrics[step]["scored"]["split"] for metrics in done.values() if "scored" in metrics[step]), "")


def page(table: str, values: list[Value], present: dict[str, Any], source: dict[str, str]) -> list[str]:
    """Lines of Markdown."""
    make = {"seeds": over_seeds, "table4": host_table}.get(table, seed_table)
    return make(table, values, present, source)


def seed_table(table: str, values: list[Value], present: dict[str, Any], source: dict[str, str]) -> list[str]:
    """mIoU of the seeds of each row, from the row's map at its best threshold."""
    facts = {
        "epochs": str(present["hosts"]["irn"]["epochs"]),
        "values": "mIoU in percent, each map at its best threshold; mean ± deviation over the random seeds",
    }
    lines = [
        f"# {table[:-1].capitalize()} {table[-1]}: seed mIoU",
        "",
        f"This page answers: {QUESTIONS[table]}",
        "",
        *_header(values, present, facts, source),
        "",
        "The paper uses ResNet-50 on VOC 2012. Compare only the order of the rows.",
        "",
        "| row | paper | here |",
        "|---|---|---|",
    ]
    papers = {value.row: value.paper for value in values}
    return lines + [f"| {row} | {paper or ''} | {_cell(values, row=row)} |" for row, paper in papers.items()]


def host_table(table: str, values: list[Value], present: dict[str, Any], source: dict[str, str]) -> list[str]:
    """mIoU of each host for seed, CRF and mask, at the thresholds of the settings."""
    animals = has_data_of("voc-animals", present)
    facts = {
        "thresholds": "for irn those of the settings, for amn those of "
        + ("profile voc-animals-amn" if animals else "the settings"),
        "mask": "after IRN's random walk",
        "values": "mIoU in percent; mean ± deviation over the random seeds",
    }
    lines = [
        "# Table 4: hosts without and with CPAL",
        "",
        *_header(values, present, facts, source),
        "",
        "The paper uses ResNet-50 on VOC 2012 train. Compare only the order of the rows.",
        "",
        "| host | seed, paper | seed, here | CRF, paper | CRF, here | mask, paper | mask, here |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in dict.fromkeys(value.row for value in values):
        papers = {value.figure: value.paper for value in values if value.row == row}
        cells = [f"{paper} | {_cell(values, row=row, figure=figure)}" for figure, paper in papers.items()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def over_seeds(table: str, values: list[Value], present: dict[str, Any], source: dict[str, str]) -> list[str]:
    """mIoU of each step for each random seed, then IoU of each class as mean ± deviation."""
    facts = {
        "host": present["host"],
        "seeds.source": present["seeds"]["source"],
        "affinity.method": present["affinity"]["method"],
        "values": "IoU in percent for each random seed; mean ± deviation",
        "Otsu's threshold": "computed from the maps, without ground truth",
        "oracle": "the best threshold, chosen with the ground truth; an upper bound, not usable without it",
    }
    seeds = _seeds(values)
    lines = [
        "# The current settings with several random seeds",
        "",
        *_header(values, present, facts, source),
        "",
        *([SEEDED_DATA[data], ""] if (data := present["data"]["source"]) in SEEDED_DATA else []),
        f"| mIoU | images of | {' | '.join(f'seed {seed}' for seed in seeds)} | mean ± deviation |",
        f"|---|---|{'---|' * len(seeds)}---|",
    ]
    images = {value.row: value.images for value in values if value.figure == "mIoU"}
    for row, split in images.items():
        cells = [_cell(values, row=row, seed=seed) for seed in seeds]
        lines.append(f"| {row} | {split} | {' | '.join(cells)} | {_cell(values, row=row)} |")
    lines += ["", f"| IoU | {' | '.join(STEP_NAMES.values())} |", f"|---|{'---|' * len(STEP_NAMES)}"]
    for row in dict.fromkeys(value.row for value in values if value.figure != "mIoU"):
        cells = [_cell(values, expected=len(seeds), row=row, figure=figure) for figure in STEP_NAMES.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def _seeds(values: list[Value]) -> list[int]:
    return list(dict.fromkeys(value.seed for value in values))


def _chosen(values: list[Value], wanted: dict[str, Any]) -> list[Value]:
    return [value for value in values if wanted.items() <= value._asdict().items()]


def _cell(values: list[Value], *, expected: int | None = None, **wanted: Any) -> str:
    """The values with these fields; `expected`: how many there should be, else as many as there are lines."""
    chosen = _chosen(values, wanted)
    return shown([value.value for value in chosen if value.value is not None], expected or len(chosen))


def _header(values: list[Value], present: dict[str, Any], facts: dict[str, str], source: dict[str, str]) -> list[str]:
    """Table of the settings that all rows share, and of where the figures come from."""
    data = present["data"]
    shared = {
        "data": f"{data['source']}, scored list {data['score_list']}",
        **({"classes": ", ".join(data["classes"])} if data["classes"] else {}),
        "backbone": present["hosts"]["irn"]["backbone"],
        "scales": ", ".join(map(str, present["cam"]["scales"])),
        "random seeds": ", ".join(map(str, _seeds(values))),
    }
    measured = {
        "command": f"`{source['command']}`",
        "commit": source["commit"],
        "machine": f"{source['machine']}; {source['date']}",
    }
    rows = {**shared, **facts, **measured}
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


def shown(values: list[float], expected: int) -> str:
    """Mean and standard deviation of a score over seeds, and how many of the expected seeds there are."""
    if not values:
        return "not measured"
    deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{deviation}" + (
        f" ({len(values)} of {expected} seeds)" if len(values) < expected else ""
    )


def _bar(values: list[Value], **wanted: Any) -> Bar:
    chosen = _chosen(values, wanted)
    return [value.value for value in chosen if value.value is not None], chosen[0].paper


def _draw_seeds(path: Path, values: list[Value]) -> None:
    """Draw a bar for each measured row."""
    rows = {row: _bar(values, row=row) for row in dict.fromkeys(value.row for value in values)}
    rows = {row: bar for row, bar in rows.items() if bar[0]}
    bars = [*rows.values()]
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.42 * len(rows)), layout="constrained")
    _bars(axes, [float(y) for y in range(len(rows))], bars, height=0.6, color="#86abd2", label="here, mean")
    axes.set_yticks(range(len(rows)), [*rows])
    axes.set_xlabel("mIoU of the seeds, %")
    _finish(figure, axes, path, bars)


def _draw_hosts(path: Path, values: list[Value]) -> None:
    """Draw a bar for each host and step."""
    rows = list(dict.fromkeys(value.row for value in values))
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.9 * len(rows)), layout="constrained")
    every: list[Bar] = []
    for i, (step, color) in enumerate(zip(SEED_TO_MASK, ("#dbe7f4", "#b3cde6", "#86abd2"), strict=True)):
        bars = [_bar(values, row=row, figure=STEP_NAMES[step]) for row in rows]
        places = [y + 0.26 * (i - 1) for y in range(len(rows))]
        _bars(axes, places, bars, height=0.24, color=color, label=f"{STEP_NAMES[step]}, mean")
        every += bars
    axes.set_yticks(range(len(rows)), rows)
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
