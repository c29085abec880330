"""Image-level labels of a folder's pictures: from a file of any tool, from class folders, from VOC's annotations."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from cpal.settings.access import check_readable
from cpal.settings.data import DataConfig
from cpal.sources.listing import noted, some
from cpal.sources.negatives import without_negatives
from cpal.sources.tables.coco_labels import read_coco_labels
from cpal.sources.tables.columns import PARTS
from cpal.sources.tables.file_names import FileNames
from cpal.sources.tables.read import read_table
from cpal.sources.tables.rows import Table, counted, reading_of
from cpal.sources.tables.xml_labels import names_of_annotation

XML_FOLDERS = ("Annotations", "annotations", "xml", "labels")  # below data.root, beside the images' own folder
MEANT = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev")}


@dataclass(frozen=True)
class ImageLabels:
    """Classes of each labeled image and its split, None where the file tells none. `told`: how they were understood.

    `written`: how a table names a file; `lost`: its rows that name no picture, with their split.
    """

    names: dict[str, frozenset[str]] = field(default_factory=dict)
    splits: dict[str, str] | None = None
    told: str = ""
    written: dict[str, str] = field(default_factory=dict)
    lost: tuple[tuple[str, str | None], ...] = ()


def labels_from_files(root: Path, settings: DataConfig, files: Sequence[str], problems: list[str]) -> ImageLabels:
    """Labels by data.labels: a table in any form (csv), coco, folders or xml; `files` are paths below the images."""
    if settings.labels == "folders":
        found = _of_folders(root / settings.images, files, settings.classes, problems)
    elif settings.labels == "xml":
        found = _of_annotations(root, settings, files, problems)
    else:
        found = _of_tables(root, settings, files, problems)
    names, told = without_negatives(found.names, settings.negatives, settings.classes, problems)
    number = len(frozenset().union(*names.values()))
    parts = [found.told, told, f"{counted(len(names), 'image')}, {counted(number, 'class', 'classes')}"]
    if none := sum(not found.names[file] for file in names):
        parts.append(f"{none} without a label")
    splits = None if found.splits is None else _usual_splits(found.splits, settings)
    sentence = "; ".join(part for part in parts if part) if names else ""
    sentence = sentence if sentence.isprintable() else ascii(sentence)[1:-1]  # it is printed, and may quote a file
    return replace(found, names=names, splits=splits, told=sentence)


def _usual_splits(splits: dict[str, str], settings: DataConfig) -> dict[str, str]:
    """`valid` or `Validation` is what data.val_list calls val, where no image says val; train likewise."""
    values, meant = set(splits.values()), dict[str, str]()
    for part, wanted in (("train", settings.train_list), ("val", settings.val_list)):
        alike = [value for value in values if value.casefold() in MEANT[part]]
        if wanted in MEANT[part] and wanted not in values and len(alike) == 1:
            meant[alike[0]] = wanted
    return {file: meant.get(split, split) for file, split in splits.items()}


# Tables


def _of_tables(root: Path, settings: DataConfig, files: Sequence[str], problems: list[str]) -> ImageLabels:
    """One file of labels, or one of this name in each split's folder, as Roboflow exports them."""
    assert settings.labels_file is not None, "the settings demand labels_file with these labels"
    path, images = root / settings.labels_file, root / settings.images
    inside = [] if path.exists() else _split_folders(images, path.name)
    if not inside:
        return _of_table(path, settings, files, images, problems)
    names, splits, written = dict[str, frozenset[str]](), dict[str, str](), dict[str, str]()
    told, lost = list[str](), list[tuple[str, str | None]]()
    for folder in inside:
        below = [file for file in files if file.startswith(f"{folder}/")]
        found = _of_table(images / folder / path.name, settings, below, images, problems)
        names |= found.names
        splits |= {file: folder for file in found.names} | (found.splits or {})
        told.append(found.told)
        written |= found.written
        lost += found.lost
    same = " and ".join(dict.fromkeys(filter(None, told)))
    return ImageLabels(names, splits, f"{path.name} in {', '.join(inside)}: {same}", written, tuple(lost))


def _split_folders(images: Path, name: str) -> list[str]:
    try:
        return sorted(f.name for f in images.iterdir() if f.name.casefold() in PARTS and (f / name).is_file())
    except OSError:
        return []


def _of_table(path: Path, settings: DataConfig, files: Sequence[str], images: Path, problems: list[str]) -> ImageLabels:
    places = FileNames(files, str(images))
    known: dict[str, bool] = {}

    def named(text: str) -> bool:
        if text not in known:
            match = places.find(text)
            known[text] = match.file is not None or len(match.candidates) > 1
        return known[text]

    table: Table | None = None
    if settings.labels == "coco":
        with noted(problems):
            check_readable(path, missing="no such file; put it there, or name another one in data.labels_file")
            table = read_coco_labels(path)
    else:
        table = read_table(path, reading_of(settings), named, problems)
    return ImageLabels() if table is None else _matched(table, places, path, images, problems)


def _matched(table: Table, places: FileNames, path: Path, images: Path, problems: list[str]) -> ImageLabels:
    """The table's rows by the files that they mean; what means none or several is a problem."""
    found = {row.image: places.find(row.image) for row in table.rows}
    missing = [image for image, match in found.items() if match.file is None and not match.candidates]
    if missing:
        problems.append(f"{path}: {len(missing)} image(s) that are not below {images}: {some(missing)}")
    unsure = [f"{i} ({some(m.candidates)})" for i, m in found.items() if m.file is None and m.candidates]
    if unsure:
        problems.append(
            f"{path}: {len(unsure)} image(s) whose name can mean the files in brackets; write the path below {images}: "
            f"{some(unsure)}"
        )
    names, splits = dict[str, frozenset[str]](), dict[str, str]()
    for row in table.rows:
        file = found[row.image].file
        if file is None:
            continue
        if file in names:
            problems.append(f"{path}: image {file} twice; {_why_twice(file, found, row.image)}")
        names[file] = row.names
        if row.split is not None:
            splits[file] = row.split
    told = table.told
    other = [(image, match.file) for image, match in found.items() if match.file is not None and not match.exact]
    if other:
        told += f"; {counted(len(other), 'name')} written in another way ({other[0][0]} is {other[0][1]})"
    lost = tuple((row.image, row.split) for row in table.rows if found[row.image].file is None)
    written = {match.file: image for image, match in found.items() if match.file is not None}
    return ImageLabels(names, splits if any(row.split is not None for row in table.rows) else None, told, written, lost)


def _why_twice(file: str, found: Mapping[str, object], image: str) -> str:
    same = str(PurePosixPath(file).with_suffix("")) in found and file in found
    return "with and without its ending is the same" if same else f"{image} means the same file as another name"


# Class folders


def _of_folders(folder: Path, files: Iterable[str], classes: Sequence[str] | None, problems: list[str]) -> ImageLabels:
    """One sub-folder a class, or class folders inside folders of splits."""
    parts = {file: PurePosixPath(file).parts for file in files}
    if loose := [file for file, part in parts.items() if len(part) == 1]:
        problems.append(
            f"{folder}: {len(loose)} image(s) in no sub-folder (data.labels: folders takes its name for the class): "
            f"{some(loose)}"
        )
    parts = {file: part for file, part in parts.items() if len(part) > 1}
    tops = sorted({part[0] for part in parts.values()})
    told, splits = "one sub-folder a class", None
    if tops and all(top.casefold() in PARTS for top in tops) and not set(tops) & set(classes or ()):
        if bare := [file for file, part in parts.items() if len(part) == 2]:
            problems.append(
                f"{folder}: folders {', '.join(tops)} are splits and no classes, and {len(bare)} image(s) in them are "
                f"in no class folder ({some(bare)}); put them into class folders, or use a table"
            )
        parts = {file: part for file, part in parts.items() if len(part) > 2}
        splits = {file: part[0] for file, part in parts.items()} if len(tops) > 1 else None
        told = f"class folders inside {', '.join(tops)}"
        parts = {file: part[1:] for file, part in parts.items()}
        folder = folder / tops[0]
    _check_depth(folder, list(parts.values()), classes, problems)
    return ImageLabels({file: frozenset(part[:1]) for file, part in parts.items()}, splits, told)


def _check_depth(
    folder: Path, parts: Sequence[Sequence[str]], classes: Sequence[str] | None, problems: list[str]
) -> None:
    """A single class folder that holds folders only may be a folder too many."""
    tops, inner = {part[0] for part in parts}, sorted({part[1] for part in parts if len(part) > 2})
    if len(tops) == 1 and all(len(part) > 2 for part in parts) and not tops & set(classes or ()):
        top = next(iter(tops))
        problems.append(
            f"{folder}: all images are below {top}, which would be the only class; if its folders "
            f"({some(inner)}) are the classes, let data.images end in {folder.name}/{top}; if {top} is the class, set "
            f"data.classes: [{top}]"
        )


# VOC's annotations


def _of_annotations(root: Path, settings: DataConfig, files: Sequence[str], problems: list[str]) -> ImageLabels:
    """An XML for each image, in data.labels_file, beside the images, or in a folder such as Annotations."""
    images = root / settings.images
    told = [root / settings.labels_file] if settings.labels_file else [images, *(root / name for name in XML_FOLDERS)]
    held = {place: xmls for place in told if (xmls := _xml_files(place))}
    held = {place: xmls for place, xmls in held.items() if not any(p in place.parents for p in held)}
    if len(held) != 1:
        where = ", ".join(map(str, held or told))
        why = "no XML file in" if not held else "XML files in each of"
        problems.append(f"data.labels: xml: {why} {where}; name their folder in data.labels_file")
        return ImageLabels()
    place, xmls = next(iter(held.items()))
    places, found, lost = FileNames(files, str(images)), dict[str, frozenset[str]](), list[str]()
    for xml in xmls:
        match = places.find(xml.relative_to(place).with_suffix("").as_posix())
        if match.file is None or match.file in found:
            lost.append(xml.relative_to(place).as_posix())
            continue
        with noted(problems):
            found[match.file] = names_of_annotation(xml)
    if lost:
        problems.append(
            f"{place}: {len(lost)} XML file(s) of no image of {images}, or of one that has another: {some(lost)}"
        )
    bare = len(files) - len(found)
    left = f", {counted(bare, 'image')} without XML left out" if bare > 0 else ""
    return ImageLabels(found, None, f"VOC's XML in {place.name}{left}")


def _xml_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.rglob("*.xml") if not path.name.startswith("."))
    except OSError:
        return []
