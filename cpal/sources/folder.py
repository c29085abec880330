"""A folder of images with labels from a table, class folders, XML, YOLO's texts, a COCO file or masks -> listing."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cpal.data.dataset import MAX_ID
from cpal.data.images import ENDINGS, files_passed_over, passed_over_lines
from cpal.data.masks import VOID
from cpal.settings.data import DataConfig
from cpal.sources.labels.image_labels import ImageLabels
from cpal.sources.labels.list_files import NO_LIST, ListedSplits, splits_of_lists
from cpal.sources.labels.negatives import plain
from cpal.sources.labels.read import labels_from_files, with_splits
from cpal.sources.listing import LabelOrigin, ListedImage, Listing
from cpal.sources.mask_colors import ColorTable, read_color_table, voc_colors
from cpal.sources.mask_files import mask_files, without_masks
from cpal.sources.problems import missing_folder, noted, reserved_names, some, twin_problems
from cpal.sources.read_listed import names_in_mask

Names = Mapping[str, frozenset[str]]  # an image's path below the folder of images -> its classes


def list_folder(settings: DataConfig, *, seed: int, limit: int | None = None) -> Listing:
    """Every image that has labels, training images first. `limit` keeps the first images of each split.

    An image's id is its path below the folder of images, without ending and with `__` for `/`.
    """
    root, problems = Path(settings.root), list[str]()
    if no_root := missing_folder(root, f"set it to the folder that holds {settings.images} (data.images)"):
        return Listing(root, (), settings.classes or (), (), settings.splits, tuple(no_root))
    colors, mask_classes = _mask_values(root, settings, problems)
    files = without_masks(image_files(root / settings.images, problems), root, settings)
    lists = splits_of_lists(root, settings, list(files), problems)
    masks = mask_files(root, settings, files, problems, lists.masks if lists else {})
    if settings.labels == "masks":
        labels = with_splits(ImageLabels(_names_of_masks(masks, mask_classes, colors)), settings)
    else:
        labels = labels_from_files(root, settings, list(files), problems)
    if lists is not None:
        labels = _in_lists(labels, lists, problems)
    names, told = labels.names, labels.splits
    if not names and not problems:
        where = f"data.labels: {settings.labels}" + (f" of {settings.labels_file}" if settings.labels_file else "")
        problems.append(f"{where}: labels no image below {root / settings.images}, so that nothing could be learned")
    classes = settings.classes or tuple(sorted(frozenset().union(*names.values())))
    named_by_colors = settings.mask_colors is not None and not mask_classes  # the table could not be read: told above
    known = classes if settings.masks is None or named_by_colors else mask_classes
    problems += _class_problems(
        classes, names, known, values=settings.masks is not None and colors is None, masks=settings.labels == "masks"
    )
    parts = _told_parts(told, settings, problems) if told is not None else stratified(names, settings.val_share, seed)

    def listed(file: str, part: str) -> ListedImage:
        known = None if settings.labels == "masks" else names[file]
        scored = file in masks and masks[file].exists()
        mask = masks[file] if scored or known is None else None
        return ListedImage(_image_id(file), "train" if part == "train" else "val", scored, files[file], mask, known)

    images = [listed(file, part) for part in ("train", "val") for file in parts[part][:limit]]
    if masks and limit is None and not problems:
        problems += _none_scored(images, root / settings.images)
    origin = _origin(labels, parts, settings)
    return Listing(root, tuple(images), classes, mask_classes, settings.splits, tuple(problems), origin, colors)


def _none_scored(images: Sequence[ListedImage], folder: Path) -> list[str]:
    if not images or any(image.scored for image in images):
        return []
    return [
        f"{folder}: none of the {len(images)} images that are used has a mask, so that nothing would be scored; label "
        "images that have one, or write data.masks: null"
    ]


def _mask_values(root: Path, settings: DataConfig, problems: list[str]) -> tuple[ColorTable | None, tuple[str, ...]]:
    """The table of colors (None if the pixels are values), and the classes of the mask values 1, 2, ..."""
    named = settings.mask_classes or settings.classes or ()
    if settings.masks is None or settings.mask_colors is None:
        return None, named
    if settings.mask_colors == "voc":
        return voc_colors(named), named
    with noted(problems):
        colors = read_color_table(root / settings.mask_colors)
        if strange := [name for name in named if name not in colors.names]:
            problems.append(
                f"data.mask_classes or data.classes: {', '.join(strange)} has no color in {settings.mask_colors}; it "
                f"has {', '.join(colors.names)}"
            )
        return colors, colors.names
    return None, named


def image_files(folder: Path, problems: list[str]) -> dict[str, Path]:
    """Images below a folder, by their path below it, sorted. Hidden files and folders are left out."""
    if not folder.is_dir():
        problems.append(f"{folder}: no such folder; data.images names the folder of images below data.root")
        return {}
    found = _image_names(folder, problems)
    if unprintable := sorted(repr(file) for file in found if not file.isprintable() or "\\" in file):
        problems.append(
            f"{folder}: {len(unprintable)} image name(s) with unprintable characters or \\; rename: {some(unprintable)}"
        )
    counts = Counter(map(_image_id, found))
    if twice := sorted(file for file in found if counts[_image_id(file)] > 1):
        problems.append(
            f"{folder}: {len(twice)} images share an id with another (it is the path without ending): {some(twice)}"
        )
    problems += twin_problems(map(_image_id, sorted(found)))
    if long := sorted(file for file in found if len(os.fsencode(_image_id(file))) > MAX_ID):
        problems.append(
            f"{folder}: {len(long)} image(s) with an id of more than {MAX_ID} bytes (it is the whole path below this "
            f"folder), which names the results' files; shorten: {some(long)}"
        )
    if not found:
        problems.append(f"{folder}: holds no image ({' '.join(ENDINGS)})")
        problems += passed_over_lines(files_passed_over(folder))
    return {file: folder / file for file in sorted(found)}


def _image_names(folder: Path, problems: list[str]) -> list[str]:
    found, closed, links = list[str](), list[OSError](), list[str]()
    for parent, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links += [path for name in folders if os.path.islink(path := os.path.join(parent, name))]
        below = Path(parent).relative_to(folder)
        found += [
            (below / name).as_posix()
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in ENDINGS
        ]
    problems += [f"{error.filename}: {error.strerror}; its images cannot be found" for error in closed]
    if links:
        problems.append(
            f"{folder}: {len(links)} link(s) to folders, behind which DVC sees no change; put the folders there, or "
            f"begin the links' names with a dot: {some(sorted(links))}"
        )
    return found


def _image_id(file: str) -> str:
    return str(PurePosixPath(file).with_suffix("")).replace("/", "__")


def _in_lists(labels: ImageLabels, lists: ListedSplits, problems: list[str]) -> ImageLabels:
    """Labels with the splits of the list files, which overrule those of a table."""
    bare = [file for file, name in lists.splits.items() if name != NO_LIST and file not in labels.names]
    if bare and labels.names:
        problems.append(f"{len(bare)} image(s) of the lists have no label: {some(bare)}; label them, or unlist them")
    splits = {file: lists.splits[file] for file in labels.names}
    return replace(labels, splits=splits, told="; ".join(filter(None, (labels.told, lists.told))))


def _names_of_masks(
    masks: Mapping[str, Path], mask_classes: Sequence[str], colors: ColorTable | None
) -> dict[str, frozenset[str]]:
    """Classes with a pixel in each mask. `read_listed` reports missing and damaged masks."""
    names = dict[str, frozenset[str]]()
    for file, mask in masks.items():
        names[file] = frozenset()
        if mask.exists():
            with noted([]):
                names[file] = names_in_mask(mask, None, mask_classes, [], colors)
    return names


def _origin(labels: ImageLabels, parts: Mapping[str, Sequence[str]], settings: DataConfig) -> LabelOrigin:
    """How the labels were understood, and which rows of their table are not used."""
    used = {file for part in parts.values() for file in part}
    told = [
        (labels.written.get(file, file), split) for file, split in (labels.splits or {}).items() if file not in used
    ]
    known = set(settings.splits.values())
    told += [(image, split) for image, split in labels.lost if split is not None and split not in known]
    other = dict(told)
    unlisted = tuple(image for image, _ in labels.lost if image not in other)
    return LabelOrigin(labels.told, tuple(f"{image} ({split or 'empty'})" for image, split in told), unlisted)


def _class_problems(
    classes: Sequence[str], names: Names, mask_classes: Sequence[str], *, values: bool, masks: bool
) -> list[str]:
    """`values`: pixels of the masks are numbers of classes. `masks`: labels come from the masks."""
    problems = []
    if strange := [name for name in classes if name not in mask_classes]:
        problems.append(
            f"class {', '.join(strange)} not among data.mask_classes {', '.join(mask_classes)}; its pixels could not "
            "be scored: write both alike, or leave it out by data.classes"
        )
    if names and not classes:
        white = "; white (255) of a black and white mask is void: name its color in a table data.mask_colors"
        problems.append("no image has a label; each needs the names of what it shows" + white * masks)
    if values and plain(mask_classes[0] if mask_classes else "").strip("_") == "background":
        problems.append(
            f"data.mask_classes begins with {mask_classes[0]}, but names the values 1, 2, ...: take it out, since 0 is "
            "background already"
        )
    problems += reserved_names(classes)
    if len(classes) >= VOID:
        problems.append(f"{len(classes)} classes; masks of 8 bits hold {VOID - 1}")
    return problems


def _told_parts(told: Mapping[str, str], settings: DataConfig, problems: list[str]) -> dict[str, list[str]]:
    """Training and validation images by their split. Images of other splits are left out."""
    values = {"train": settings.train_list, "val": settings.val_list}
    parts = {part: [file for file, split in told.items() if split == value] for part, value in values.items()}
    known = ", ".join(sorted(set(told.values())))
    problems += [
        f"{settings.labels_file or settings.images}: no image is in the split {value} (data.{part}_list); there are: "
        f"{known}; let data.{part}_list{' and data.score_list' * (part == 'train')} name one of them, in quotes"
        for part, value in values.items()
        if not parts[part]
    ]
    if values["train"] == values["val"]:
        problems.append(f"data.train_list and data.val_list are both {values['val']}")
    return parts


def stratified(names: Names, val_share: float, seed: int) -> dict[str, list[str]]:
    """A random split in which each class has a share of `val_share` validation images, rounded to whole images.

    The rarest class chooses first. A class with one image keeps it for training. Images without labels are treated as
    a further class. The order of choice follows from each name and the seed, so that most images stay on their side
    when others are added.
    """
    files = sorted(names)
    shuffled = sorted(files, key=lambda file: hashlib.sha256(f"{seed}/{file}".encode()).digest())
    members: dict[str, list[str]] = {}
    for file in shuffled:
        for name in sorted(names[file]) or [""]:
            members.setdefault(name, []).append(file)
    val, train = set[str](), set[str]()
    for name in sorted(members, key=lambda name: (len(members[name]), name)):
        images = members[name]
        wanted = min(round(val_share * len(images)), len(images) - 1) - sum(file in val for file in images)
        free = [file for file in images if file not in val and file not in train]
        val.update(free[: max(0, wanted)])
        train.update(free[max(0, wanted) :])
    return {"train": [f for f in files if f in train], "val": [f for f in files if f in val]}
