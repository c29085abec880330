"""Labels from YOLO's files: a text for each image, whose lines begin with the number of a class.

Forms: images/train/a.jpg with labels/train/a.txt (Ultralytics), train/images/a.jpg with train/labels/a.txt (Roboflow),
and a.txt beside a.jpg (labelImg, darknet). The names of the classes are in data.yaml, classes.txt or obj.names.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cpal.errors import UserError
from cpal.settings.access import check_readable
from cpal.settings.data import DataConfig
from cpal.settings.yaml_files import parse_yaml
from cpal.sources.labels.image_labels import ImageLabels
from cpal.sources.problems import noted, some
from cpal.sources.tables.file_names import FileNames, cleaned
from cpal.sources.tables.rows import counted
from cpal.sources.tables.text import MISSING, read_text

NO_LABELS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt")  # texts that lie beside label files


@dataclass(frozen=True)
class YoloConfig:
    """data.yaml or classes.txt. `names`: class of each number. `parts`: what train, val and test name, by split.

    `keypoints`: lines hold keypoints, so that an even number of columns says nothing about a confidence.
    """

    path: Path
    names: dict[int, str]
    parts: dict[str, tuple[str, ...]]
    base: str
    keypoints: bool


def labels_of_yolo(root: Path, settings: DataConfig, files: Sequence[str], problems: list[str]) -> ImageLabels:
    """Classes of each image. An image without a label file, or with an empty file, shows no class.

    Source: docs.ultralytics.com/datasets/detect, "If there are no objects in an image, no *.txt file is required".
    """
    assert settings.labels_file is not None, "the settings demand labels_file with these labels"
    with noted(problems):
        config = read_config(root / settings.labels_file, settings.label_encoding)
        places = {file: _label_file(root, settings.images, file) for file in files}
        there = {file: path for file, path in places.items() if path.is_file()}
        if not there:
            raise UserError(
                f"{config.path}: no image has a label file; looked for {some([str(path) for path in places.values()])}"
            )
        _check_left_over(places.values(), problems)
        names, empty = _read_all(there, config, settings.label_threshold, problems)
        splits, told = _splits(root, settings, files, config, problems)
        bare = len(files) - len(there)
        parts = [f"YOLO's labels, {counted(len(config.names), 'name')} in {config.path.name}", told]
        if bare or empty:
            parts.append(f"{counted(bare, 'image')} without label file and {empty} with an empty one show no class")
        shown = dict.fromkeys(files, frozenset[str]()) | names
        return ImageLabels(shown, splits, "; ".join(filter(None, parts)))
    return ImageLabels()


# The names of the classes


def read_config(path: Path, encoding: str | None = None) -> YoloConfig:
    """Names and splits. Raises UserError for a file that is damaged or names no classes."""
    check_readable(path, missing=MISSING)
    text, _ = read_text(path, encoding)
    if path.suffix.lower() not in (".yaml", ".yml"):
        lines = [line.strip() for line in text.strip().split("\n")]
        if told := [line for line in lines if re.match(r"(classes|names|train|valid|backup)\s*=", line)]:
            raise UserError(
                f"{path}: {told[0]!r} is a setting of darknet and no class; name obj.names, which lists them"
            )
        return YoloConfig(
            path, _checked_names({n: line for n, line in enumerate(lines)}, path), {}, "", keypoints=False
        )
    content = parse_yaml(text, name=str(path), cure="export it again")
    if not isinstance(content, dict) or not isinstance(content.get("names"), dict | list):
        raise UserError(f"{path}: holds no `names`, the list of the classes; add it, or name classes.txt")
    names = content["names"]
    pairs = enumerate(names) if isinstance(names, list) else ((_whole(key), name) for key, name in names.items())
    numbered: dict[int | None, Any] = dict(pairs)
    checked, count = _checked_names(numbered, path), content.get("nc")
    if count is not None and count != len(checked):
        raise UserError(
            f"{path}: nc says {str(count)[:20]} classes, but names has {len(checked)}; correct one of the two"
        )
    parts = {part: _entries(content.get(part)) for part in ("train", "val", "test")}
    base = content.get("path")
    return YoloConfig(path, checked, parts, base if isinstance(base, str) else "", keypoints="kpt_shape" in content)


def _whole(value: Any) -> int | None:
    text = str(value).strip()
    return int(text) if text.isdecimal() and len(text) < 9 else None


def _checked_names(names: Mapping[int | None, Any], path: Path) -> dict[int, str]:
    """Names as text. Raises UserError for a class without a name or a number."""
    checked = {
        number: str(name).strip()
        for number, name in names.items()
        if number is not None and isinstance(name, str | int | float)
    }
    if len(checked) < len(names) or not checked or not all(checked.values()):
        raise UserError(f"{path}: a class has no name, or no number; write a name for each of 0, 1, ...")
    return checked


def _entries(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(entry for entry in values if isinstance(entry, str) and entry.strip())


# The label files


def _label_file(root: Path, images: str, file: str) -> Path:
    """Path of an image's label file: the last folder `images` becomes `labels`, or the file lies beside the image."""
    path = PurePosixPath(images) / file
    parts = [*path.with_suffix(".txt").parts]
    candidates = []
    if "images" in parts[:-1]:
        last = max(n for n, part in enumerate(parts[:-1]) if part == "images")
        candidates.append(root.joinpath(*parts[:last], "labels", *parts[last + 1 :]))
    candidates += [root.joinpath(*parts), root / "labels" / PurePosixPath(file).with_suffix(".txt")]
    return next((place for place in candidates if place.is_file()), candidates[0])


def _check_left_over(expected: Any, problems: list[str]) -> None:
    """A label file without an image is a problem: its labels would be lost, and an image would count as empty."""
    known = set(expected)
    for folder in sorted({path.parent for path in known if "labels" in path.parts}):
        lost = [path.name for path in sorted(folder.glob("*.txt")) if path not in known and path.name not in NO_LABELS]
        if lost:
            problems.append(
                f"{folder}: {len(lost)} label file(s) of no image: {some(lost)}; add the images, or remove them"
            )


def _read_all(
    files: Mapping[str, Path], config: YoloConfig, threshold: float | None, problems: list[str]
) -> tuple[dict[str, frozenset[str]], int]:
    """Classes of each image that has a label file, and the number of empty files."""
    names, wrong, empty = dict[str, frozenset[str]](), list[str](), 0
    for file, path in files.items():
        with noted(wrong):
            numbers = _numbers_in(path, config, threshold)
            names[file] = frozenset(config.names[number] for number in numbers or ())
            empty += numbers is None
    if wrong:
        problems.append(wrong[0] + (f" ({len(wrong) - 1} more label file(s) like this)" if len(wrong) > 1 else ""))
    return names, empty


def _numbers_in(path: Path, config: YoloConfig, threshold: float | None) -> set[int] | None:
    """Numbers of the classes in a label file; None if it is empty. Raises UserError for a line of another form."""
    text, _ = read_text(path, None)
    found = set[int]()
    lines = [(number, line.split()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    for number, cells in lines:
        where = f"{path}, line {number}"
        try:
            values = [float(cell) for cell in cells]
        except ValueError:
            values = []
        if len(values) < 5 or not all(map(math.isfinite, values)) or not values[0].is_integer():
            raise UserError(f"{where}: not a class number and a box or outline, as YOLO's lines are; correct it")
        if int(values[0]) not in config.names:
            raise UserError(
                f"{where}: class {int(values[0])}, but {config.path.name} names {min(config.names)} to "
                f"{max(config.names)}; correct the file of the names, or the number"
            )
        if len(values) % 2 == 0 and not config.keypoints:
            if threshold is None:
                raise UserError(
                    f"{where}: {len(values)} columns: if the last is a confidence, set data.label_threshold to the "
                    "number from which on a label counts; if not, a coordinate is missing"
                )
            if values[-1] < threshold:
                continue
        found.add(int(values[0]))
    return found if lines else None


# The splits


def _splits(
    root: Path, settings: DataConfig, files: Sequence[str], config: YoloConfig, problems: list[str]
) -> tuple[dict[str, str] | None, str]:
    """Split of each image by data.yaml; None if it tells none."""
    told = {part: entries for part, entries in config.parts.items() if entries}
    if not {"train", "val"} <= told.keys():
        return None, ""
    members = {part: _members(root, settings, files, config, part, problems) for part in told}
    if members["train"] == members["val"]:
        return None, "train and val name the same images, so that data.val_share holds images out"
    if both := sorted(members["train"] & members["val"]):
        problems.append(f"{config.path}: {len(both)} image(s) are in train and in val: {some(both)}")
    splits = {file: part for part in told for file in members[part]}
    left = len(files) - len(splits)
    return {file: splits.get(file, "in no split") for file in files}, (
        f"splits of {config.path.name}" + (f", {counted(left, 'image')} in none left out" if left else "")
    )


def _members(
    root: Path, settings: DataConfig, files: Sequence[str], config: YoloConfig, part: str, problems: list[str]
) -> set[str]:
    """Images that an entry of data.yaml names: a folder, a list file, or several of these."""
    found = set[str]()
    for entry in config.parts[part]:
        place = _existing(root, config, entry)
        if place is None and part != "test":
            problems.append(
                f"{config.path}: {part}: {entry} is not there; correct it, or take train and val out, so that "
                "data.val_share holds images out"
            )
        if place is not None and place.is_dir():
            paths = {file: (root / settings.images / file).absolute() for file in files}
            found |= {file for file, path in paths.items() if path.is_relative_to(place.absolute())}
        elif place is not None:
            names = FileNames(files, str(root / settings.images))
            lines = [line for line in read_text(place, None)[0].split("\n") if line.strip()]
            named = {line: names.find(line).file for line in lines}
            lost = [line.strip() for line, file in named.items() if file is None]
            if lost and part != "test":  # whose images are often not there, as those of COCO's test-dev2017.txt
                problems.append(
                    f"{place}: {len(lost)} line(s) name no image, or several: {some(lost)}; correct them, or put the "
                    "images there"
                )
            found |= {file for file in named.values() if file is not None}
    return found


def _existing(root: Path, config: YoloConfig, entry: str) -> Path | None:
    """The folder or file of an entry. Leading folders are dropped until it exists: the data set may have been moved."""
    parts = cleaned(entry).split("/")
    bases = [config.path.parent / cleaned(config.base), config.path.parent, root]
    tried = (base.joinpath(*parts[start:]) for start in range(len(parts)) for base in bases)
    return next((place for place in tried if os.path.exists(place) and place != root), None)  # a name may be too long
