"""What a run recorded, read for the report: metrics of the evaluate stages, curves of DVCLive."""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cpal.errors import reading
from cpal.evaluation.score_files import Figure, read_metrics, read_scores
from cpal.maps.cams import MAP_NAMES
from cpal.report.charts import Curve
from cpal.report.page import STEPS, ScoreRow, Scores
from cpal.report.words import GOOD_MAP
from cpal.settings.hosts import HostSection, TrainedHost

LABEL_FIGURES = ("map", "f1", "f1_micro", "images", "classes", "split")  # of `image_labels.score_labels`


def read_step(folder: Path, name: str, *, note: str = "") -> Scores:
    """All figures of one step, its IoU by class, and its rows of the table of scores, the first with a note.

    Raises UserError when they are missing or damaged.
    """
    figures, by_class = read_scores(folder, name)
    with reading(folder / f"{name}_details.json", stage=f"evaluate_{name}"):
        return Scores(figures, by_class, list(_score_rows(name, figures, note)), _reliability(figures))


def _score_rows(step: str, metrics: Mapping[str, Any], note: str) -> Iterator[ScoreRow]:
    """A step, and within the seeds each map at each threshold."""
    yield from _scored_rows(step, metrics, note) if "miou" in metrics else [ScoreRow("step", STEPS[step], note)]
    if part := metrics.get("on_train"):
        yield ScoreRow("part", "on images it learned from", "", part["miou"], part["pixel_accuracy"], part["split"])


def _scored_rows(step: str, metrics: Mapping[str, Any], note: str) -> Iterator[ScoreRow]:
    split, images = metrics["scored"]["split"], metrics["scored"].get("images")  # files of older versions lack it
    if "void" in metrics:
        note = f"{metrics['void']:.1f}% of the pixels void"
    where = split if images is None else f"{split}, {images:g} images"
    yield ScoreRow("step", STEPS[step], note, metrics["miou"], metrics["pixel_accuracy"], where)
    for source, name in {**MAP_NAMES, "walk": "WALK"}.items():
        part = metrics.get(source)
        for kind, title in (("", "threshold"), ("_otsu", "Otsu's threshold"), ("_oracle", "oracle threshold")):
            if isinstance(part, dict):
                yield ScoreRow(
                    "part", name, f"{title} {part[f'threshold{kind}']:.4g}", part[f"miou{kind}"], None, split
                )


def _reliability(metrics: Mapping[str, Any]) -> Curve | None:
    if "ece" not in metrics:
        return None
    confidence, accuracy = (metrics[f"reliability_{part}"] for part in ("confidence", "accuracy"))
    return Curve("reliability", [float(value) for value in confidence.values()], [accuracy[n] for n in confidence])


def read_label_scores(folder: Path) -> dict[str, Any]:
    """The classifier's metrics, as evaluate_labels wrote them.

    Raises UserError when they are missing or damaged.
    """
    path = folder / "classifier.json"
    rows = read_metrics(path, list[dict[str, Figure]], stage="evaluate_labels")
    with reading(path, stage="evaluate_labels"):
        return {name: rows[0][name] for name in LABEL_FIGURES}


def weak_map(labels: Mapping[str, Any] | None, host: HostSection) -> float | None:
    """mAP of a classifier that needs more training; None of a good one, and where the mAP does not tell.

    It does not if no validation image has a label, if nothing trains (clip_es), and for amn, which is told the labels.
    """
    if labels is None or labels["map"] is None or not isinstance(host, TrainedHost) or host.first_round:
        return None
    return labels["map"] if labels["map"] < GOOD_MAP else None


def read_curves(folder: Path) -> list[Curve]:
    """The losses that DVCLive recorded below a training's folder; points that are no numbers are left out."""
    curves = []
    for path in sorted((folder / "plots" / "metrics").rglob("*loss*.tsv")):
        with reading(path, stage=folder.name), path.open(encoding="utf-8", newline="") as stream:
            points = [(float(row["step"]), float(row[path.stem])) for row in csv.DictReader(stream, delimiter="\t")]
        points = [(step, value) for step, value in points if math.isfinite(value)]
        if points:
            name = path.relative_to(folder / "plots" / "metrics").with_suffix("").as_posix()
            curves.append(Curve(name, [step for step, _ in points], [value for _, value in points]))
    return curves


def read_diagnostics(path: Path) -> list[Curve]:
    """Curves by epoch of what `diagnose` found; a figure that no epoch could count is left out."""
    curves = []
    rows = read_metrics(path, list[dict[str, Figure]], stage="train_cam")
    with reading(path, stage="train_cam"):
        columns = {name: [(row["epoch"], row[name]) for row in rows] for name in rows[0] if name != "epoch"}
    for name, column in columns.items():
        if points := [(epoch, value) for epoch, value in column if value is not None]:
            curves.append(Curve(name, [epoch for epoch, _ in points], [value for _, value in points]))
    return curves
