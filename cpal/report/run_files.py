"""What a run recorded, read for the report: metrics of the evaluate stages, curves of DVCLive."""

import csv
import json
import math
from pathlib import Path
from typing import Any

from cpal.errors import reading
from cpal.report.page import Curve, Scores


def read_scores(folder: Path, name: str) -> Scores:
    """Metrics of one step and its IoU by class, as evaluate wrote them.

    Raises UserError when they are missing or damaged.
    """
    stage, path = f"evaluate_{name}", folder / f"{name}_iou.json"
    with reading(path, stage=stage):
        rows = {row["class"]: row["iou"] for row in _read(path, stage)}
    return Scores(_read(folder / f"{name}.json", stage), rows)


def read_labels(folder: Path) -> dict[str, Any]:
    """The classifier's metrics, as fit_prototypes wrote them.

    Raises UserError when they are missing or damaged.
    """
    return _read(folder / "classifier.json", "fit_prototypes")


def _read(path: Path, stage: str) -> Any:
    with reading(path, stage=stage):
        return json.loads(path.read_text(encoding="utf-8"))


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
    with reading(path, stage="train_cam"):
        rows = json.loads(path.read_text(encoding="utf-8"))
        for name in [name for name in rows[0] if name != "epoch"]:
            points = [(row["epoch"], row[name]) for row in rows if row[name] is not None]
            if points:
                curves.append(Curve(name, [epoch for epoch, _ in points], [value for _, value in points]))
    return curves
