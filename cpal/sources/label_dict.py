"""Image-level labels in `cls_labels.npy`: a pickled dictionary, image id -> 0 or 1 for each class, or a bare matrix.

Integer keys, such as COCO's, have lost the zeros in front; a list of ids brings the zeros back. A further column is
background.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from cpal.data.images import ENDINGS
from cpal.errors import UserError
from cpal.settings.access import check_readable
from cpal.sources.labels.list_files import image_id_of, never, read_list
from cpal.sources.pickled import read_pickled
from cpal.sources.tables.file_names import ENDING


class Background(StrEnum):
    """Place of a column of background."""

    auto = "auto"
    first = "first"
    last = "last"


@dataclass(frozen=True)
class DictLabels:
    """Image id and names of its classes, joined by `;`, in the order of the ids. `notes`: what was understood."""

    rows: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


def read_label_dict(
    path: Path,
    classes: Sequence[str],
    *,
    ids: Path | None = None,
    background: Background = Background.auto,
) -> DictLabels:
    """Labels of a dictionary or of a matrix (images, classes). `classes` names the columns, without background.

    `ids`: a list file, or a folder of images. Integer keys are matched with its ids, the rows of a matrix follow it.
    `background`: place of the further column, if there are more columns than classes.
    Raises UserError as `read_pickled` does, and for keys or values that are no ids or labels.
    """
    matrix = _matrix(path)
    listed = None if ids is None else _listed_ids(ids, ordered=matrix is not None)
    try:
        if matrix is not None:
            content: dict[Any, Any] = dict(zip(_ids_of_rows(matrix, listed, ids), matrix, strict=True))
        else:
            content = read_pickled(path, what="labels")
        if not content:
            raise UserError("holds no image; name the file that the method wrote")
        values = {key: _row(key, value) for key, value in content.items()}
        table, notes = _without_background(values, len(classes), background)
        names, left_out = _image_ids(table, listed)
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(f"{path}: ") else f"{path}: {error}") from None
    rows = sorted((names[key], _joined(key, row, classes)) for key, row in table.items() if key in names)
    if len(dict(rows)) < len(rows):
        raise UserError(f"{path}: names an image twice, as a number and as text; keep one of the two")
    if left_out:
        notes.append(f"{left_out} image(s) that are not on {ids} are left out")
    return DictLabels(tuple(rows), tuple(notes))


def _matrix(path: Path) -> np.ndarray | None:
    """The array in the file; None if the file holds a pickle, or something else."""
    check_readable(path, missing="no such file; name an existing one")
    with path.open("rb") as stream:
        if stream.read(6) != b"\x93NUMPY":
            return None
    try:  # the map refuses a file that is shorter than its header says, before memory is taken
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of a pickle, or of damage, which read_pickled reports
        if "greater than file size" in str(error):
            raise UserError(f"{path}: is shorter than its header says; copy it anew") from None
        return None
    return np.array(array) if isinstance(array, np.ndarray) and array.ndim else None


def _listed_ids(path: Path, *, ordered: bool) -> list[str]:
    """Image ids of a list file, or of the pictures in a folder."""
    if not path.is_dir():
        lines = read_list(path, never, missing="no such list of image ids; name an existing one with --ids")
        return [ENDING.sub("", image_id_of(line.image)) for line in lines]
    if ordered:
        raise UserError(f"{path}: is a folder, which gives the rows of a matrix no order; name a list file with --ids")
    return sorted(file.stem for file in path.rglob("*") if file.suffix.lower() in ENDINGS)


def _ids_of_rows(matrix: np.ndarray, listed: Sequence[str] | None, path: Path | None) -> Sequence[str]:
    shape = " x ".join(map(str, matrix.shape))
    if listed is None:
        raise UserError(
            f"holds a matrix of {shape} and no dictionary of labels; add --ids LIST, a file with the id of each row"
        )
    if len(listed) != len(matrix) or len(set(listed)) < len(listed):
        raise UserError(
            f"holds a matrix of {shape}, but {path} names {len(listed)} images, {len(set(listed))} different; name the "
            "list from which the matrix was made: a line for each row"
        )
    return listed


def _row(key: Any, value: Any) -> np.ndarray:
    """Numbers of an image, float (N,). Rows of shape (1, N) and (N, 1) are flattened."""
    flat = isinstance(value, list | tuple) and all(isinstance(item, int | float | np.generic) for item in value)
    try:
        row = np.asarray(value, float) if flat or isinstance(value, np.ndarray) else np.full(1, np.nan)
    except (TypeError, ValueError, OverflowError):
        row = np.full(1, np.nan)
    return row.reshape(-1) if row.size and max(row.shape) == row.size else row


def _without_background(
    values: dict[Any, np.ndarray], count: int, background: Background
) -> tuple[dict[Any, np.ndarray], list[str]]:
    """Rows of `count` columns. A further column is background: the outer column of ones, or as `background` says."""
    for key, row in values.items():
        if row.shape not in ((count,), (count + 1,)) or not np.isin(row, (0, 1)).all():
            odd = sorted(set(np.unique(row[~np.isin(row, (0, 1))]).tolist())) if row.shape == (count,) else []
            seen = (
                f"; it has {', '.join(f'{number:g}' for number in odd[:4])}" if odd else f"; it has {row.size} of them"
            )
            raise UserError(f"image {key}: expected {count} values of 0 or 1, one for each of --classes{seen}")
    widths = {len(row) for row in values.values()}
    if len(widths) > 1:
        raise UserError(f"some images have {count} values and some {count + 1}; keep one form")
    if widths != {count + 1}:
        return values, []
    always: np.ndarray = np.all(np.stack(list(values.values())), axis=0)
    if background == Background.auto:
        if len(values) < 2 or always[0] == always[-1]:
            raise UserError(
                f"{count + 1} values for {count} classes: if the first is background, add --background first; if the "
                "last, --background last; else name all classes with --classes"
            )
        background = Background.first if always[0] else Background.last
    part = slice(1, None) if background == Background.first else slice(None, -1)
    return {key: row[part] for key, row in values.items()}, [f"the {background} of {count + 1} columns is background"]


def _image_ids(keys: Iterable[Any], listed: Sequence[str] | None) -> tuple[dict[Any, str], int]:
    """Image id of each key, and the number of keys that the list lacks."""
    if listed is None:
        return {key: _image_id(key) for key in keys}, 0
    known, numbers = set(listed), dict[str, set[str]]()
    for image_id in listed:
        digits = re.findall(r"\d+", image_id)
        for number in {"".join(digits), *digits[-1:]} - {""}:
            numbers.setdefault(number.lstrip("0"), set()).add(image_id)
    found, left_out = dict[Any, str](), 0
    for key in keys:
        text = str(key)
        matches = {text} & known or {ENDING.sub("", text)} & known
        if not matches and text.isdecimal():
            matches = numbers.get(text.lstrip("0"), set())
        if len(matches) > 1:
            raise UserError(f"key {text[:40]} can be {' or '.join(sorted(matches)[:3])} of --ids; name a shorter list")
        if matches:
            found[key] = matches.pop()
        else:
            left_out += 1
    if not found:
        raise UserError(
            f"none of its keys, such as {next(iter(keys), '')!r}, is an image id of --ids; name another list"
        )
    return found, left_out


def _image_id(key: Any) -> str:
    """A text key is the id. The number 2007000032 stands for VOC's 2007_000032."""
    if isinstance(key, str):
        return str(key)
    if isinstance(key, int | np.integer) and re.fullmatch(r"20\d{8}", str(key)):
        return f"{str(key)[:4]}_{str(key)[4:]}"
    raise UserError(
        f"key {key!r} is neither text nor a number such as 2007000032, which stands for 2007_000032; if it is an id "
        "without its leading zeros, add --ids with a list of the image ids, or with the folder of images"
    )


def _joined(key: Any, row: np.ndarray, classes: Sequence[str]) -> str:
    """Names of the classes whose column is 1."""
    return ";".join(name for name, column in zip(classes, row, strict=True) if column)
