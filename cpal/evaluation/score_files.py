"""The files with the scores of one step: metrics, IoU by class, and details. Writers and readers are side by side.

STEP.json holds what fits on one line of `dvc metrics show`. STEP_iou.json has a row for each class. STEP_details.json
has a row for each further figure: thresholds of a map, scores on training images, figures without ground truth. DVC
plots both tables.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from cpal.errors import reading
from cpal.files import write_json

Rows = list[dict[str, Any]]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Figure = int | Finite | str | None


def write_scores(
    folder: Path, step: str, metrics: dict[str, Any], by_class: Rows, details: dict[str, dict[str, Any]]
) -> None:
    """Write the three files of a step. `details` has figures by name, such as `cam` or `without_truth`."""
    rows = [
        {"of": name, "figure": figure, "value": value}
        for name, figures in details.items()
        for figure, value in figures.items()
    ]
    contents = {f"{step}.json": metrics, f"{step}_iou.json": by_class, f"{step}_details.json": rows}
    for name, content in contents.items():
        write_json(folder / name, content, scratch=folder.parent)  # git tracks all files in `folder`


def join_details(metrics: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """All figures of a step: its metrics, and the details by name."""
    details: dict[str, dict[str, Any]] = {}
    for row in rows:
        details.setdefault(row["of"], {})[row["figure"]] = row["value"]
    return metrics | details


def read_scores(folder: Path, step: str) -> tuple[dict[str, Any], dict[str, float]]:
    """All figures of a step, as `join_details` gives them, and the step's IoU by class.

    Raises UserError if a file is missing or damaged.
    """
    stage = f"evaluate_{step}"
    metrics = read_metrics(folder / f"{step}.json", dict[str, Figure], stage=stage)
    paths = (folder / f"{step}_details.json", folder / f"{step}_iou.json")
    details, by_class = (read_metrics(path, list[dict[str, Figure]], stage=stage) for path in paths)
    with reading(paths[0], stage=stage):
        figures = join_details(metrics, details)
    with reading(paths[1], stage=stage):
        return figures, {row["class"]: float(row["iou"]) for row in by_class}


def read_metrics(path: Path, kind: Any, *, stage: str) -> Any:
    """Content of a JSON file of metrics, of the type `kind`.

    Raises UserError if the file is missing or damaged; the message says to run `stage` again.
    """
    with reading(path, stage=stage):
        return TypeAdapter(kind).validate_json(path.read_bytes(), strict=True)
