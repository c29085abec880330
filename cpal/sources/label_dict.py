"""Image-level labels in a pickled dictionary, as `cls_labels.npy` holds them: image id -> a 0 or 1 for each class."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from cpal.errors import UserError
from cpal.sources.pickled import read_pickled


def read_label_dict(path: Path, classes: list[str], *, allow_pickle: bool) -> list[tuple[str, str]]:
    """Image id and its classes' names, joined by `;`, sorted by id; `classes` names the columns.

    Raises UserError as `read_pickled` does, and for keys or values that are no ids or labels.
    """
    content = read_pickled(path, what="labels", allow_pickle=allow_pickle)
    try:
        rows = sorted((_image_id(key), ";".join(_shown(key, value, classes))) for key, value in content.items())
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if len(dict(rows)) < len(rows):
        raise UserError(f"{path}: names an image twice, as a number and as text; keep one of the two")
    return rows


def _image_id(key: Any) -> str:
    """Text as it is; the number 2007000032 is VOC's 2007_000032."""
    if isinstance(key, str):
        return str(key)
    if isinstance(key, int | np.integer) and re.fullmatch(r"20\d{8}", str(key)):
        return f"{str(key)[:4]}_{str(key)[4:]}"
    raise UserError(
        f"key {key!r} is neither text nor a number such as 2007000032, which stands for 2007_000032; rename it"
    )


def _shown(key: Any, value: Any, names: list[str]) -> list[str]:
    """Names of the classes whose column holds 1."""
    flat = isinstance(value, list | tuple) and all(isinstance(item, int | float | np.generic) for item in value)
    try:
        columns = np.asarray(value, float) if flat or isinstance(value, np.ndarray) else np.full(1, np.nan)
    except (TypeError, ValueError, OverflowError):
        columns = np.full(1, np.nan)
    if columns.shape != (len(names),) or not np.isin(columns, (0, 1)).all():
        raise UserError(f"image {key}: expected {len(names)} values of 0 or 1, one for each of --classes")
    return [name for name, column in zip(names, columns, strict=True) if column]
