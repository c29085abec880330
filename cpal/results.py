"""What a run recorded, read for the report: metrics of the evaluate stages, curves of DVCLive."""

import csv
import json
import math
from pathlib import Path

from cpal.errors import UserError
from cpal.report import Curve, Scores


def read_scores(folder: Path, name: str, *, expected: bool) -> Scores | None:
    """Metrics of one step and its IoU by class, as evaluate wrote them; None where none are and none are expected.

    Raises UserError when they are missing.
    """
    path, rows = folder / f"{name}.json", folder / f"{name}_iou.json"
    if path.is_file() and rows.is_file():
        iou = {row["class"]: row["iou"] for row in json.loads(rows.read_text(encoding="utf-8"))}
        return Scores(json.loads(path.read_text(encoding="utf-8")), iou)
    if expected:
        raise UserError(f"{path}: missing; run the evaluate_{name} stage first: dvc repro evaluate_{name}")
    return None


def read_curves(folder: Path) -> list[Curve]:
    """The losses that DVCLive recorded below a training's folder; points that are no numbers are left out."""
    curves = []
    for path in sorted((folder / "plots" / "metrics").rglob("*loss*.tsv")):
        with path.open(encoding="utf-8", newline="") as stream:
            points = [(float(row["step"]), float(row[path.stem])) for row in csv.DictReader(stream, delimiter="\t")]
        points = [(step, value) for step, value in points if math.isfinite(value)]
        if points:
            name = path.relative_to(folder / "plots" / "metrics").with_suffix("").as_posix()
            curves.append(Curve(name, [step for step, _ in points], [value for _, value in points]))
    return curves


def read_diagnostics(path: Path) -> list[Curve]:
    """Curves by epoch of what `diagnose` found; a figure that no epoch could count is left out."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    curves = []
    for name in [name for name in rows[0] if name != "epoch"]:
        points = [(row["epoch"], row[name]) for row in rows if row[name] is not None]
        if points:
            curves.append(Curve(name, [epoch for epoch, _ in points], [value for _, value in points]))
    return curves
