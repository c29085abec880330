"""Labels from class folders: images/cat/1.jpg, also inside folders of splits."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from cpal.sources.labels.image_labels import ImageLabels
from cpal.sources.problems import some
from cpal.sources.tables.columns import PARTS

LAYOUT = {"images", "image", "imgs", "JPEGImages", "labels", "photos"}  # folders that are no classes


def labels_of_folders(
    folder: Path, files: Iterable[str], classes: Sequence[str] | None, problems: list[str]
) -> ImageLabels:
    """Labels from a sub-folder for each class, also inside folders of splits."""
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
    if (found := {part[0] for part in parts.values()}) and found <= LAYOUT - set(classes or ()):
        problems.append(
            f"{folder}: {some(sorted(found))} is no class but the kind of its files; let data.images name the folder "
            "of the class folders, or take the labels from another place"
        )
    return ImageLabels({file: frozenset(part[:1]) for file, part in parts.items()}, splits, told)


def _check_depth(
    folder: Path, parts: Sequence[Sequence[str]], classes: Sequence[str] | None, problems: list[str]
) -> None:
    """Ask if there is a single class folder that holds only folders: it may be a folder above the class folders."""
    tops, inner = {part[0] for part in parts}, sorted({part[1] for part in parts if len(part) > 2})
    if len(tops) == 1 and all(len(part) > 2 for part in parts) and not tops & set(classes or ()):
        top = next(iter(tops))
        problems.append(
            f"{folder}: all images are below {top}, which would be the only class; if its folders "
            f"({some(inner)}) are the classes, let data.images end in {folder.name}/{top}; if {top} is the class, set "
            f"data.classes: [{top}]"
        )
