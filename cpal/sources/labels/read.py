"""Image-level labels of a folder's pictures, as data.labels says."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cpal.settings.data import DataConfig
from cpal.sources.labels.annotations import labels_of_annotations
from cpal.sources.labels.class_folders import labels_of_folders
from cpal.sources.labels.image_labels import ImageLabels
from cpal.sources.labels.negatives import without_negatives
from cpal.sources.labels.table_files import labels_of_tables
from cpal.sources.labels.yolo import labels_of_yolo
from cpal.sources.tables.columns import PARTS, part_of
from cpal.sources.tables.rows import counted


def labels_from_files(root: Path, settings: DataConfig, files: Sequence[str], problems: list[str]) -> ImageLabels:
    """Labels by data.labels: csv (a table in any form), coco, folders, xml or yolo. `files`: paths below the images."""
    if settings.labels == "folders":
        found = labels_of_folders(root / settings.images, files, settings.classes, problems)
    elif settings.labels == "yolo":
        found = labels_of_yolo(root, settings, files, problems)
    elif settings.labels == "xml":
        found = labels_of_annotations(root, settings, files, problems)
    else:
        found = labels_of_tables(root, settings, files, problems)
    found = with_splits(found, settings)
    names, told = without_negatives(found.names, settings.negatives, settings.classes, problems)
    number = len(frozenset().union(*names.values()))
    parts = [found.told, told, f"{counted(len(names), 'image')}, {counted(number, 'class', 'classes')}"]
    if none := sum(not found.names[file] for file in names):
        parts.append(f"{none} without a label")
    sentence = "; ".join(part for part in parts if part) if names else ""
    sentence = sentence if sentence.isprintable() else ascii(sentence)[1:-1]  # it is printed, and may quote a file
    return replace(found, names=names, told=sentence)


def with_splits(labels: ImageLabels, settings: DataConfig) -> ImageLabels:
    """The labels with splits in the words of the settings; labels that come without splits have those of folders.

    `valid` becomes data.val_list's `val` if no image has the split `val`. `Train` and `TRAIN` are always `train`: a
    table that was put together from several has both.
    """
    splits, told = labels.splits, labels.told
    if splits is None and (splits := _split_folders(labels.names)):
        told = "; ".join(filter(None, (told, "folders are the splits")))
    if splits is None:
        return labels
    known = {name.casefold(): name for name in (settings.train_list, settings.val_list)}
    splits = {file: known.get(split.casefold(), split) for file, split in splits.items()}
    values, meant = set(splits.values()), dict[str, str]()
    for wanted in (settings.train_list, settings.val_list):
        alike = [value for value in values if part_of(value) == part_of(wanted)]
        if wanted in PARTS and wanted not in values and len(alike) == 1:
            meant[alike[0]] = wanted
    return replace(labels, splits={file: meant.get(split, split) for file, split in splits.items()}, told=told)


def _split_folders(files: Iterable[str]) -> dict[str, str] | None:
    """The split of each image, if all are in folders with the name of a split, and these name two splits at least."""
    found = {file: [part for part in PurePosixPath(file).parts[:-1] if part.casefold() in PARTS] for file in files}
    if not all(found.values()) or len({parts[0] for parts in found.values()}) < 2:
        return None
    return {file: parts[0] for file, parts in found.items()}
