"""Labels from JSON that refers to classes by number: Datumaro's items and the manifests of SageMaker Ground Truth."""

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

from cpal.errors import UserError
from cpal.sources.tables.rows import Row, Table, counted

OTHER_TOOLS = (  # keys of a file that is not read: its tool, and the cure
    ({"shapes", "imagePath"}, "labelme's file of one image", "write COCO with labelme's example labelme2coco.py"),
    ({"size", "tags", "objects"}, "Supervisely's file of one image", "export the project as COCO or Pascal VOC"),
    ({"classes", "tags"}, "Supervisely's list of classes", "export the project as COCO or Pascal VOC"),
    ({"asset", "regions"}, "VoTT's file of one image", "export as CSV in VoTT"),
    ({"assets", "tags"}, "VoTT's project", "export as CSV in VoTT"),
    ({"item", "annotations"}, "Darwin's file of one image", "export the data set as COCO in V7"),
    ({"label_classes", "images"}, "Hasty's export", "export it as COCO"),
    ({"data_row", "projects"}, "Labelbox's export", "convert it to COCO"),
)


def refuse_other_tools(keys: Sequence[str], path: Path) -> None:
    """Raise UserError that names the tool, if a file with these keys is of a tool that is not read."""
    for wanted, tool, cure in OTHER_TOOLS:
        if wanted <= set(keys):
            raise UserError(f"{path}: {tool}, which is not read; {cure}, or write a table image,labels")


def is_datumaro(content: dict[str, Any]) -> bool:
    return isinstance(content.get("items"), list) and isinstance(content.get("categories"), dict)


def read_datumaro(content: dict[str, Any], path: Path) -> Table:
    """Labels of all annotations. Source: open-edge-platform.github.io/datumaro, "Datumaro format"."""
    rows = list[Row]()
    try:
        names = [str(label["name"]) for label in content["categories"]["label"]["labels"]]
        for item in content["items"]:
            numbers = [one["label_id"] for one in item["annotations"] if one.get("label_id") is not None]
            image = item.get("image") or item.get("media") or {}
            shown = frozenset(_name(dict(enumerate(names)), number) for number in numbers)
            rows.append(Row(str(image.get("path") or item["id"]), shown))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged Datumaro's JSON ({type(error).__name__}: {error}); export it again") from None
    return Table(tuple(rows), f"Datumaro's JSON, {counted(len(names), 'label')}")


def is_manifest(entry: dict[str, Any]) -> bool:
    return "source-ref" in entry


def read_manifest(entries: Sequence[dict[str, Any]], path: Path, threshold: float | None = None) -> Table:
    """Labels of the only labeling job. Source: docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html.

    `threshold`: data.label_threshold; a label with a lower confidence is left out.
    """
    jobs = sorted({key for entry in entries for key in entry if f"{key}-metadata" in entry})
    if len(jobs) != 1:
        raise UserError(f"{path}: has {len(jobs)} labeling jobs ({', '.join(jobs[:4])}); keep the keys of one")
    rows, form = list[Row](), f"Ground Truth's manifest, job {jobs[0]}"
    for entry in entries:
        try:
            labels = _labels_of_job(entry.get(jobs[0]), entry[f"{jobs[0]}-metadata"])
            sure = (name for name, confidence in labels if threshold is None or confidence >= threshold)
            rows.append(Row(str(entry["source-ref"]), frozenset(sure)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            where = f"{path}: {str(entry.get('source-ref'))[:80]}"
            raise UserError(
                f"{where}: no label of Ground Truth ({type(error).__name__}: {error}); correct it"
            ) from None
    return Table(tuple(rows), form if threshold is None else f"{form}, confidences from {threshold:g} on")


def _labels_of_job(value: Any, about: dict[str, Any]) -> list[tuple[str, float]]:
    """The classes of an image or of its boxes, each with its confidence; a label without one is sure."""
    if "class-name" in about:
        return [(str(about["class-name"]), _confidence(about.get("confidence")))]
    names = about["class-map"]
    if isinstance(names, list | str):
        raise TypeError("class-map is no object")
    if isinstance(value, list):
        sure = about.get("confidence-map") or {}
        return [(_name(names, str(number)), _confidence(sure.get(str(number)))) for number in value]
    numbers = [one["class_id"] for one in value["annotations"]]
    sure = [_confidence(box.get("confidence")) for box in about.get("objects") or [{}] * len(numbers)]
    return [(_name(names, str(number)), confidence) for number, confidence in zip(numbers, sure, strict=True)]


def _confidence(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else inf


def _name(names: dict[Any, Any], number: Any) -> str:
    if not isinstance(number, int | str) or number not in names:
        raise KeyError(f"no class {str(number)[:20]}")
    return str(names[number])
