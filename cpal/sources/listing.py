"""What every source of image files and label files comes to: a listing, read, checked and written in our own ids.

A source only lists: ids, files, names. `import_listing` then opens every file before it writes anything. Functions that
take `problems` append a line for each thing that the user has to put right, so that one message can tell all of them.
"""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib import delayed

from cpal.data.dataset import Record, Split, twins, write_dataset
from cpal.data.images import read_image
from cpal.data.masks import BACKGROUND, VOID, write_mask
from cpal.errors import UserError
from cpal.files import file_sha256
from cpal.parallel import processes
from cpal.settings.access import check_readable
from cpal.sources.labels_and_masks import ScoredImage, WrongOrder, wrong_order
from cpal.sources.mask_colors import ColorTable, read_values

SHOWN = 20  # problems of a data set that one message lists
Progress = Callable[..., Iterable[Any]]


@dataclass(frozen=True)
class ListedImage:
    """One image to read. Its classes come from `names`, else from `xml`, else from `mask`.

    `mask` is where a mask would lie, and must be there when `scored` or when the classes come from it; None where the
    source makes the masks itself, or there are none. `size` (H, W) is what an instances JSON says.
    """

    image_id: str
    split: Split
    scored: bool
    image: Path
    mask: Path | None
    names: frozenset[str] | None = None
    xml: Path | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class LabelOrigin:
    """How the labels' file was understood, in one sentence, and what of it is not used.

    `other_splits`: images of a split that is not read, `unlisted`: rows that name no listed image.
    """

    told: str = ""
    other_splits: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """A data set by names. `classes` are kept, in order; `mask_classes` name the source's mask values 1, 2, ...

    `colors` is the table of masks whose colors stand for these values; None: their pixels are the values.
    """

    root: Path
    images: tuple[ListedImage, ...]
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    splits: dict[str, str]
    problems: tuple[str, ...]
    origin: LabelOrigin = LabelOrigin()
    colors: ColorTable | None = None


@dataclass(frozen=True)
class ImportedImage:
    """What reading a listed image gave. `labels` None: unknown; `record` None: there are problems.

    `drawn`: the classes that have a pixel in its mask, None where no mask was read.
    """

    split: Split
    labels: tuple[int, ...] | None
    record: Record | None
    problems: tuple[str, ...]
    drawn: frozenset[str] | None = None


def silent(items: Iterable[Any], *, total: int, what: str) -> Iterable[Any]:
    return items


def import_listing(
    folder: Path,
    listing: Listing,
    *,
    other_classes: str,
    drop_unlabeled: bool,
    complete: bool,
    workers: int,
    progress: Progress = silent,
) -> None:
    """Write dataset.json and the masks in our own ids into `folder`; the images stay where they are.

    `drop_unlabeled` leaves out training images without a kept class; `complete`: each class needs a training image.
    `progress(items, total=, what=)` hands its items on, to show a bar. Nothing is written before everything is read.
    Raises UserError that lists what is wrong: the listing's problems, missing or unreadable images and masks, a mask of
    another size than its image, labels outside the class list, a class without any training image.
    """
    problems = list(listing.problems)
    parallel = processes(workers)
    found: list[ImportedImage] = []
    if listing.images:  # joblib warns of a generator that nobody reads
        shared = replace(listing, images=(), origin=LabelOrigin())  # goes to the workers with every image
        results = parallel(delayed(read_one)(shared, item) for item in listing.images)
        found = list(progress(results, total=len(listing.images), what="read images"))
    problems += [problem for one in found for problem in one.problems]
    if complete:
        problems += unlearnable(found, listing)
        problems += _mask_problems(listing, found)
    refuse(problems, listing.root)

    records = kept(found, drop_unlabeled=drop_unlabeled)
    sources = {item.image_id: item.mask for item in listing.images}
    masks = [(sources[r.image_id], folder / r.mask) for r in records if r.mask is not None]
    table = label_table(listing.classes, listing.mask_classes, other_classes)
    if masks:
        written = parallel(delayed(_write_remapped)(source, target, table, listing.colors) for source, target in masks)
        for _ in progress(written, total=len(masks), what="write masks"):
            pass
    write_dataset(
        folder,
        records,
        classes=listing.classes,
        splits=listing.splits,
        image_root=str(listing.root),
        source=listing.origin.told,
    )


def _mask_problems(listing: Listing, found: Sequence[ImportedImage]) -> list[str]:
    """Classes that no mask has, or mask values that are other classes than their names say."""
    scored = [
        (item, frozenset(listing.classes[n - 1] for n in one.labels or ()), one.drawn)
        for item, one in zip(listing.images, found, strict=True)
        if item.scored
    ]
    if wrong := order_of_masks(listing, scored_images(scored)):
        return [wrong.problem()]
    return undrawn((labels, drawn) for _, labels, drawn in scored)


def scored_images(
    looked_at: Iterable[tuple[ListedImage, frozenset[str] | None, frozenset[str] | None]],
) -> list[ScoredImage]:
    """Scored images whose labels are known and do not come from their masks, by their labels and classes drawn."""
    return [
        ScoredImage(item.image_id, labels, drawn)
        for item, labels, drawn in looked_at
        if item.scored and labels is not None and drawn is not None and (item.names is not None or item.xml is not None)
    ]


def order_of_masks(listing: Listing, scored: Sequence[ScoredImage]) -> WrongOrder | None:
    """What is wrong with the order of the listing's mask values, by its scored images."""
    colors = listing.colors.source if listing.colors is not None else None
    return wrong_order(listing.classes, listing.mask_classes, scored, colors)


def kept(found: Iterable[ImportedImage], *, drop_unlabeled: bool) -> list[Record]:
    """The records to write. Raises UserError when none is left to learn from."""
    records = [one.record for one in found if one.record is not None]
    records = [r for r in records if r.labels or r.split == "val" or not drop_unlabeled]
    if all(record.split == "val" for record in records):
        raise UserError(
            "no training image shows a kept class, and data.without_labels: drop leaves the others out; set it to "
            "keep, or put classes that occur into data.classes"
        )
    return records


def refuse(problems: Sequence[str], root: Path) -> None:
    """Raise a UserError that lists the problems, if there are any."""
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        title = f"data set {root}: {len(problems)} problem(s) to put right:"
        raise UserError("\n  - ".join([title, *problems[:SHOWN], *more]))


def label_table(classes: Sequence[str], mask_classes: Sequence[str], other_classes: str) -> np.ndarray:
    """Our id of each mask value, uint8 (256,): kept classes 1..N in their order, others background or void."""
    table = np.full(256, VOID if other_classes == "void" else BACKGROUND, np.uint8)
    table[BACKGROUND], table[VOID] = BACKGROUND, VOID
    for value, name in enumerate(mask_classes, 1):
        if name in classes:
            table[value] = classes.index(name) + 1
    return table


def _write_remapped(source: Path, target: Path, table: np.ndarray, colors: ColorTable | None) -> None:
    write_mask(target, table[read_values(source, colors)])


def missing_folder(root: Path, cure: str) -> list[str]:
    """The problem of a data.root that is no folder, if it is one."""
    if root.is_dir():
        return []
    start = "" if root.is_absolute() else f" (a relative path starts at {Path.cwd()})"
    return [f"data.root: no folder {root}{start}; {cure}"]


def read_one(listing: Listing, item: ListedImage) -> ImportedImage:
    """Decode and check a listed image, its mask and its labels."""
    problems: list[str] = []
    size: tuple[int, int] | None = None
    with noted(problems):
        height, width = read_image(item.image).shape[:2]
        size = (height, width)
    names, drawn = read_names(item, size, listing.mask_classes, problems, listing.colors)
    labels = None if names is None else labels_of(names, listing.classes)
    if problems or size is None or labels is None:
        return ImportedImage(item.split, labels, None, tuple(problems), drawn)
    masked = item.mask is not None and item.mask.exists()
    return ImportedImage(item.split, labels, make_record(item, listing.root, size, labels, masked=masked), (), drawn)


def labels_of(names: frozenset[str], classes: Sequence[str]) -> tuple[int, ...]:
    """Mask values of the kept classes among the names."""
    return tuple(n for n, name in enumerate(classes, 1) if name in names)


def make_record(
    item: ListedImage, root: Path, size: tuple[int, int], labels: tuple[int, ...], *, masked: bool
) -> Record:
    """The record of an image of this size (H, W); `masked`: masks/ID.png is its mask."""
    return Record(
        image_id=item.image_id,
        split=item.split,
        scored=item.scored,
        image=item.image.relative_to(root).as_posix(),
        width=size[1],
        height=size[0],
        labels=labels,
        mask=f"masks/{item.image_id}.png" if masked else None,
        sha256=file_sha256(item.image),
    )


def read_names(
    item: ListedImage,
    size: tuple[int, int] | None,
    mask_classes: Sequence[str],
    problems: list[str],
    colors: ColorTable | None = None,
) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """Names of the classes that a listed image shows, and of those in its mask; checks size, mask and annotation.

    Either is None when it is unknown.

    `size` (H, W) is the upright image's, None when it is unknown.
    """
    names, drawn = item.names, None
    if size is not None and item.size is not None and size != item.size:
        (height, width), (told_height, told_width) = size, item.size
        problems.append(f"{item.image}: {width}x{height} pixels, but the JSON says {told_width}x{told_height}")
    from_mask = item.names is None and item.xml is None
    if item.mask is not None and item.mask.exists():
        with noted(problems):
            drawn = names_in_mask(item.mask, size, mask_classes, problems, colors)
            names = drawn if from_mask else names
    elif item.mask is not None and (item.scored or from_mask):
        why = "scores are taken on this image" if item.scored else "its labels come from it (data.labels: masks)"
        problems.append(f"{item.mask}: no such mask; {why}")
    if item.xml is not None:
        with noted(problems):
            names = _names_in_xml(item.xml, mask_classes)
    return names, drawn


def names_in_mask(
    path: Path,
    size: tuple[int, int] | None,
    mask_classes: Sequence[str],
    problems: list[str],
    colors: ColorTable | None = None,
) -> frozenset[str]:
    """Classes that have a pixel; size (H, W) is the image's, None when it is unknown."""
    mask = read_values(path, colors)
    if size is not None and mask.shape != size:
        problems.append(
            f"{path}: {mask.shape[1]}x{mask.shape[0]} pixels, but its image has {size[1]}x{size[0]}; "
            "one of the two was resized or turned"
        )
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
    if strange := [value for value in values if len(mask_classes) < value < VOID]:
        problems.append(
            f"{path}: label {', '.join(map(str, strange))} is outside the classes' 0 to {len(mask_classes)} "
            f"and void {VOID}"
        )
    return frozenset(mask_classes[value - 1] for value in values if 0 < value <= len(mask_classes))


def _names_in_xml(path: Path, known: Sequence[str]) -> frozenset[str]:
    """Names of the objects in an annotation of VOC's form."""
    check_readable(path, missing="no such file; data.labels: xml needs one for each image, data.labels: masks does not")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "<!DOCTYPE" in text:  # where entities that grow without bound are declared
            raise UserError(f"{path}: has a document type (DOCTYPE), which VOC's annotations never have; remove it")
        objects = ElementTree.fromstring(text).findall("object")
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise UserError(f"{path}: not a readable XML file ({error}); replace it") from None
    names = frozenset(node.findtext("name", "").strip() for node in objects)
    if strange := sorted(names - set(known)):
        raise UserError(
            f"{path}: object {', '.join(map(repr, strange))} is not among VOC's classes; rename or remove it, or set "
            "data.source: folder, which takes classes of your own"
        )
    return names


def unlearnable(found: Sequence[ImportedImage], listing: Listing) -> list[str]:
    """Problems of classes that no training image shows; none while an image's labels are unknown."""
    labels = [one.labels for one in found if one.split == "train"]
    if not labels or None in labels:
        return []
    shown = {label for one in labels for label in one or ()}
    absent = [name for n, name in enumerate(listing.classes, 1) if n not in shown]
    train = listing.splits["train"]
    return [f"class {name}: no image of {train} shows it; take it off data.classes" for name in absent]


def undrawn(
    scored: Iterable[tuple[Collection[str], Collection[str] | None]],
    cure: str = f"objects must have the values 1, 2, ... of their classes, and {VOID} is void",
) -> list[str]:
    """Problems of classes that no mask has, by the labels of each scored image and the classes in its mask."""
    known = [(labels, drawn) for labels, drawn in scored if drawn is not None]
    counts = Counter(name for labels, _ in known for name in labels)
    absent = sorted(counts.keys() - {name for _, drawn in known for name in drawn})
    return [
        f"no mask has a pixel of {name}, which {counts[name]} scored image(s) are labeled with; {cure}"
        for name in absent
    ]


def twin_problems(ids: Iterable[str]) -> list[str]:
    """A problem of ids that some file systems do not tell apart; those that are equal are told elsewhere."""
    pairs = [f"{first} and {second}" for first, second in twins(ids) if first != second]
    if not pairs:
        return []
    return [
        f"{len(pairs)} image(s) whose id differs from another's in capital letters only, which are one file on many "
        f"computers; rename: {some(pairs)}"
    ]


@contextmanager
def noted(problems: list[str]) -> Iterator[None]:
    """A UserError in the block becomes one of the problems."""
    try:
        yield
    except UserError as error:
        problems.append(str(error))


def some(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
