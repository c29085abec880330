"""Reads a result folder of `stages.predict` as images to export."""

from pathlib import Path
from typing import Any

from cpal.errors import UserError
from cpal.exports.items import Item
from cpal.settings.access import check_readable

SUMMARY = "summary.json"
AGAIN = "label the photographs again with python -m stages.predict"


def read_predicted(folder: Path) -> tuple[list[Item], tuple[str, ...]]:
    """The photographs in the folder's summary, and the classes.

    The folder may have been moved since the prediction; the photographs must be where they were. Raises UserError if
    the folder has no summary or one of its masks is missing.
    """
    from pydantic import TypeAdapter, ValidationError

    path = folder / SUMMARY
    check_readable(path, missing=f"no such file; name a folder of stages.predict, or {AGAIN}")
    try:
        content = TypeAdapter(dict[str, Any]).validate_json(path.read_bytes())
        rows = {row["id"]: str(row["name"]) for row in content["classes"]}
        classes = tuple(rows[n] for n in range(1, len(rows)))
        ids = {name: n for n, name in rows.items()}
        items = [_item(folder, row, ids) for row in content["images"]]
    except (ValidationError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: no summary of stages.predict; {AGAIN}") from None
    if not items:
        raise UserError(f"{path}: names no photographs; {AGAIN}")
    return items, classes


def _item(folder: Path, row: dict[str, Any], ids: dict[str, int]) -> Item:
    parts = Path(row["mask"]).parts
    starts = [n for n, part in enumerate(parts) if part == "masks"]
    found = (Path(*parts[n + 1 :]) for n in starts if (folder / Path(*parts[n:])).is_file())
    name = next(found, None)
    if name is None or ".." in name.parts:
        raise UserError(f"{row['mask']}: no such mask in {folder}; {AGAIN}")
    confidence = {ids[label]: float(entry["confidence"]) / 100 for label, entry in row["classes"].items()}
    size = int(row["height"]), int(row["width"])
    return Item(name.with_suffix("").as_posix(), Path(row["file"]), folder / "masks" / name, size, confidence)
