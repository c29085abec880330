"""The files of one step's scores: a short one of metrics, IoU by class, and details. Readers beside writers.

STEP.json holds what fits one line of `dvc metrics show`. STEP_iou.json has a row for each class. STEP_details.json has
a row for each further figure: of a map's thresholds, of the training images, of what needs no ground truth. DVC plots
both.
"""

import json
from pathlib import Path
from typing import Any

from cpal.errors import reading
from cpal.files import write_json

Rows = list[dict[str, Any]]


def write_scores(
    folder: Path, step: str, metrics: dict[str, Any], by_class: Rows, details: dict[str, dict[str, Any]]
) -> None:
    """Write the three files of a step. `details` gives figures by name, such as `cam` or `without_truth`."""
    rows = [
        {"of": name, "figure": figure, "value": value}
        for name, figures in details.items()
        for figure, value in figures.items()
    ]
    contents = {f"{step}.json": metrics, f"{step}_iou.json": by_class, f"{step}_details.json": rows}
    for name, content in contents.items():
        write_json(folder / name, content, scratch=folder.parent)  # git keeps what lies in the folder itself


def join_details(metrics: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """All figures of a step: its metrics, and the details by name."""
    details: dict[str, dict[str, Any]] = {}
    for row in rows:
        details.setdefault(row["of"], {})[row["figure"]] = row["value"]
    return metrics | details


def read_scores(folder: Path, step: str) -> tuple[dict[str, Any], dict[str, float]]:
    """All figures of a step, see `join_details`, and its IoU by class.

    Raises UserError when a file is missing or damaged.
    """
    names = (step, f"{step}_details", f"{step}_iou")
    metrics, details, by_class = (read_metrics(folder / f"{name}.json", f"evaluate_{step}") for name in names)
    with reading(folder / f"{step}_details.json", stage=f"evaluate_{step}"):
        figures = join_details(metrics, details)
    with reading(folder / f"{step}_iou.json", stage=f"evaluate_{step}"):
        return figures, {row["class"]: row["iou"] for row in by_class}


def read_metrics(path: Path, stage: str) -> Any:
    """A JSON file of metrics. Raises UserError when it is missing or damaged; `stage` makes it anew."""
    with reading(path, stage=stage):
        return json.loads(path.read_text(encoding="utf-8"))
