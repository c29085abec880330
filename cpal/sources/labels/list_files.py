"""List files: a line for each image, with its id, its path, or the paths of image and mask.

The repositories of the field ship `train_aug.txt` and `val.txt` with lines such as
`/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png`, where `/` is the folder of the data set.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cpal.errors import UserError
from cpal.settings.access import check_readable
from cpal.settings.data import DataConfig
from cpal.sources.problems import noted, some
from cpal.sources.tables.file_names import ENDING, FileNames, cleaned
from cpal.sources.tables.rows import counted
from cpal.sources.tables.text import read_text

ENDINGS = (".txt", ".lst")
NO_LIST = "on no list"  # the split of an image that is in neither list


class Line(NamedTuple):
    """A line of a list. `mask`: the path of its mask; None if the line names no mask."""

    image: str
    mask: str | None


@dataclass(frozen=True)
class ListedSplits:
    """Split of each image by two list files, and the masks that the lists name, by image."""

    splits: dict[str, str]
    masks: dict[str, Path]
    told: str


def is_list_file(name: str) -> bool:
    """Whether data.train_list or data.val_list is the path of a file."""
    return name.lower().endswith(ENDINGS)


def read_list(path: Path, named: Callable[[str], bool], missing: str) -> list[Line]:
    """Lines of a list; blank lines are left out. `named` tells whether a text names a picture.

    `missing` is the message for a list that does not exist. Raises UserError for an unreadable or an empty list.
    """
    check_readable(path, missing=missing)
    text, _ = read_text(path, None)
    lines = [_parsed(line.strip(), named) for line in text.split("\n") if line.strip()]
    if not lines:
        raise UserError(f"{path}: names no image")
    return lines


def _parsed(line: str, named: Callable[[str], bool]) -> Line:
    """Split a line. The image is the longest start of the line that names a picture, since names may hold blanks."""
    gaps = [match for match in re.finditer(r"\s*[\s,;]\s*", line)]
    if named(line) or not gaps:
        return Line(line, None)
    gap = next((match for match in reversed(gaps) if named(line[: match.start()])), gaps[0])
    rest = line[gap.end() :].strip()
    return Line(line[: gap.start()], rest if ENDING.search(rest) else None)


def never(text: str) -> bool:
    """The `named` of lists of ids: ids hold no blanks, so that the first word of a line is the image."""
    return False


def image_id_of(text: str) -> str:
    """`/JPEGImages/2007_000032.jpg` -> `2007_000032`; an id is not changed."""
    return ENDING.sub("", PurePosixPath(cleaned(text)).name) if re.search(r"[/\\]", text) else text


def told_masks(lines: Sequence[Line], name: str, masks: str | None) -> str:
    """A phrase on masks that a list names and that data.masks does not use; empty if there are none."""
    folders = {str(PurePosixPath(cleaned(line.mask)).parent) for line in lines if line.mask is not None}
    others = sorted(folder for folder in folders if masks is None or PurePosixPath(folder) != PurePosixPath(masks))
    return f"masks that {name} names in {some(others)} are not used (data.masks: {masks or 'null'})" if others else ""


def splits_of_lists(root: Path, settings: DataConfig, files: Sequence[str], problems: list[str]) -> ListedSplits | None:
    """Splits of a folder's images by data.train_list and data.val_list; None if these settings name no files.

    `files`: paths below the folder of images. A mask that a line names is used if it lies in data.masks.
    """
    names = (settings.train_list, settings.val_list)
    if not any(map(is_list_file, names)):
        return None
    if not all(map(is_list_file, names)) or names[0] == names[1]:
        problems.append(f"data.train_list {names[0]} and data.val_list {names[1]}: name two different list files")
        return None
    places = FileNames(files, str(root / settings.images))
    splits, masks, told = dict.fromkeys(files, NO_LIST), dict[str, Path](), list[str]()
    for name in names:
        lines = list_below(root, name, lambda text: places.find(text).file is not None, problems)
        found = [(line, places.find(line.image).file) for line in lines]
        if lost := [line.image for line, file in found if file is None]:
            problems.append(
                f"{root / name}: {len(lost)} line(s) name no image below {root / settings.images}: {some(lost)}"
            )
        chosen = [file for _, file in found if file is not None]
        counts = Counter([*chosen, *(file for file in set(chosen) if splits[file] != NO_LIST)])
        if twice := sorted(file for file, count in counts.items() if count > 1):
            problems.append(
                f"{root / name}: {len(twice)} image(s) are listed twice, here or in {names[0]}: {some(twice)}"
            )
        splits |= dict.fromkeys(chosen, name)
        if settings.masks is not None:
            named = _masks_in(root, settings.masks, found)
            masks |= {file: path for file, path in named.items() if os.path.isfile(path)}
            if gone := [str(path) for path in named.values() if not os.path.isfile(path)]:
                problems.append(f"{root / name}: {len(gone)} mask(s) that it names are missing: {some(gone)}")
        told.append(told_masks(lines, name, settings.masks))
    left = sum(split == NO_LIST for split in splits.values())
    told.insert(
        0, f"lists {names[0]} and {names[1]}" + (f", {counted(left, 'image')} on neither left out" if left else "")
    )
    return ListedSplits(splits, masks, "; ".join(filter(None, told)))


def list_below(root: Path, name: str, named: Callable[[str], bool], problems: list[str]) -> list[Line]:
    """Lines of a list file below data.root; empty if there is a problem."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        problems.append(f"{name}: a list must lie below data.root, which DVC watches; copy it there")
        return []
    known = ", ".join(sorted(path.relative_to(root).as_posix() for path in root.glob("*.txt"))) or "none"
    with noted(problems):
        return read_list(root / name, named, missing=f"no such list; lists in {root}: {known}")
    return []


def _masks_in(root: Path, folder: str, found: Sequence[tuple[Line, str | None]]) -> dict[str, Path]:
    masks = {file: root / cleaned(line.mask) for line, file in found if line.mask is not None and file is not None}
    return {file: path for file, path in masks.items() if path.is_relative_to(root / folder)}
