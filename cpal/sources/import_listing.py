"""Read every image of a listing, and write dataset.json and the masks with our own class ids."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from joblib import delayed

from cpal.data.dataset import Record, write_dataset
from cpal.data.masks import BACKGROUND, VOID, write_mask
from cpal.errors import UserError
from cpal.running.parallel import processes
from cpal.sources.labels_and_masks import order_of_masks, scored_images, undrawn
from cpal.sources.listing import LabelOrigin, Listing, Progress, silent
from cpal.sources.mask_colors import ColorTable, read_values
from cpal.sources.problems import refuse
from cpal.sources.read_listed import ImportedImage, read_listed


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

    `drop_unlabeled` leaves out training images without a kept class. `complete`: each class needs a training image.
    All images are read before anything is written.
    Raises UserError that lists all problems: of the listing, missing or unreadable images and masks, a mask of another
    size than its image, labels outside the class list, a class without any training image.
    """
    found = _read_all(listing, workers, progress)
    problems = [*listing.problems, *(problem for image in found for problem in image.problems)]
    if complete:
        problems += [*unlearnable(found, listing), *_mask_problems(listing, found)]
    refuse(problems, listing.root)
    records = kept(found, drop_unlabeled=drop_unlabeled)
    table = label_table(listing.classes, listing.mask_classes, other_classes)
    _write_masks(folder, listing, records, table, workers, progress)
    write_dataset(
        folder,
        records,
        classes=listing.classes,
        splits=listing.splits,
        image_root=str(listing.root),
        source=listing.origin.told,
    )


def _read_all(listing: Listing, workers: int, progress: Progress) -> list[ImportedImage]:
    if not listing.images:  # joblib warns of a generator that nobody reads
        return []
    shared = replace(listing, images=(), origin=LabelOrigin())  # is sent to the workers with every image
    results = processes(workers)(delayed(read_listed)(shared, item) for item in listing.images)
    return list(progress(results, total=len(listing.images), what="read images"))


def _write_masks(
    folder: Path, listing: Listing, records: Sequence[Record], table: np.ndarray, workers: int, progress: Progress
) -> None:
    """masks/ID.png of each record that has a mask. `table` uint8 (256,): our id of each mask value."""
    sources = {item.image_id: item.mask for item in listing.images}
    masks = [(sources[record.image_id], folder / record.mask) for record in records if record.mask is not None]
    if masks:
        written = processes(workers)(
            delayed(_write_remapped)(source, target, table, listing.colors) for source, target in masks
        )
        for _ in progress(written, total=len(masks), what="write masks"):
            pass


def _write_remapped(source: Path, target: Path, table: np.ndarray, colors: ColorTable | None) -> None:
    write_mask(target, table[read_values(source, colors)])


def _mask_problems(listing: Listing, found: Sequence[ImportedImage]) -> list[str]:
    """Classes that no mask has, or mask values whose names are exchanged."""
    scored = [
        (item, frozenset(listing.classes[n - 1] for n in image.labels or ()), image.drawn)
        for item, image in zip(listing.images, found, strict=True)
        if item.scored
    ]
    if wrong := order_of_masks(listing, scored_images(scored)):
        return [wrong.problem()]
    return undrawn((labels, drawn) for _, labels, drawn in scored)


def kept(found: Iterable[ImportedImage], *, drop_unlabeled: bool) -> list[Record]:
    """The records to write. Raises UserError if no training image is left."""
    records = [image.record for image in found if image.record is not None]
    records = [r for r in records if r.labels or r.split == "val" or not drop_unlabeled]
    if all(record.split == "val" for record in records):
        raise UserError(
            "no training image shows a kept class, and data.without_labels: drop leaves the others out; set it to "
            "keep, or put classes that occur into data.classes"
        )
    return records


def unlearnable(found: Sequence[ImportedImage], listing: Listing) -> list[str]:
    """Problems of classes that no training image shows; none while the labels of an image are unknown."""
    labels = [image.labels for image in found if image.split == "train"]
    if not labels or None in labels:
        return []
    shown = {label for some_labels in labels for label in some_labels or ()}
    absent = [name for n, name in enumerate(listing.classes, 1) if n not in shown]
    train = listing.splits["train"]
    return [f"class {name}: no image of {train} shows it; take it off data.classes" for name in absent]


def label_table(classes: Sequence[str], mask_classes: Sequence[str], other_classes: str) -> np.ndarray:
    """Our id of each mask value, uint8 (256,): kept classes 1..N in their order, others background or void."""
    table = np.full(256, VOID if other_classes == "void" else BACKGROUND, np.uint8)
    table[BACKGROUND], table[VOID] = BACKGROUND, VOID
    for value, name in enumerate(mask_classes, 1):
        if name in classes:
            table[value] = classes.index(name) + 1
    return table
