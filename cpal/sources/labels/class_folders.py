"""Labels from class folders: images/cat/1.jpg, also inside folders of splits."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from cpal.sources.labels.image_labels import ImageLabels
from cpal.sources.problems import some
from cpal.sources.tables.columns import PARTS, part_of

LAYOUT = {"images", "image", "img", "imgs", "jpegimages", "labels", "photos"}  # folders that are no classes


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
    if _are_splits(tops, parts.values()) and not set(tops) & set(classes or ()):
        parts = _inside_splits(folder, parts, problems)
        splits = {file: part[0] for file, part in parts.items()} if len(tops) > 1 else None
        told = f"class folders inside {', '.join(tops)}"
        parts = {file: part[1:] for file, part in parts.items()}
        folder = folder / tops[0]
    _check_depth(folder, list(parts.values()), classes, problems)
    found = {part[0] for part in parts.values()}
    if found and {name.casefold() for name in found} <= LAYOUT and not found & set(classes or ()):
        problems.append(
            f"{folder}: {some(sorted(found))} is no class but the kind of its files; let data.images name the folder "
            "of the class folders, or take the labels from another place"
        )
    return ImageLabels({file: frozenset(part[:1]) for file, part in parts.items()}, splits, told)


def _are_splits(tops: Sequence[str], parts: Iterable[Sequence[str]]) -> bool:
    """Whether folders are splits: `train`, `val`; or one for training and another one, as `seg_train`, `seg_test`.

    Beside them may lie other folders, such as `seg_pred`, if the splits hold class folders.
    """
    found = {part_of(top) for top in tops}
    if tops and all(top.casefold() in PARTS for top in tops):
        return True
    deep = all(len(part) > 2 for part in parts if part_of(part[0]) is not None)
    return "train" in found and bool(found & {"val", "test"}) and (deep or None not in found)


def _inside_splits(folder: Path, parts: Mapping[str, Sequence[str]], problems: list[str]) -> dict[str, tuple[str, ...]]:
    """Folders of each image: split, class, ... A split inside a folder of its name is the inner one.

    Images that are in no split or in no class folder are a problem.
    """
    found = {file: (part[1:] if part[0] == part[1] else part) for file, part in parts.items() if len(part) > 1}
    tops = sorted({part[0] for part in found.values()})
    wrong = [file for file, part in found.items() if len(part) < 3 or part_of(part[0]) is None]
    if wrong:
        problems.append(
            f"{folder}: folders {', '.join(tops)} are splits and no classes, and {len(wrong)} image(s) are in no split "
            f"or in no class folder ({some(wrong)}); put them into class folders of a split, take them out, let "
            "data.images name one of the folders, or use a table"
        )
    left_out = set(wrong)
    return {file: tuple(part) for file, part in found.items() if file not in left_out}


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
