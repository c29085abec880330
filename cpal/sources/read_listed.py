"""Read the files of a listed image: its pixels, its mask and its annotation; check that they fit together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpal.data.dataset import Record, Split
from cpal.data.images import read_image
from cpal.data.masks import VOID
from cpal.errors import UserError
from cpal.files import file_sha256
from cpal.settings.access import check_readable
from cpal.sources.listing import ListedImage, Listing
from cpal.sources.mask_colors import ColorTable, read_values
from cpal.sources.problems import noted
from cpal.sources.tables.xml_labels import names_of_annotation


@dataclass(frozen=True)
class ImportedImage:
    """A listed image after reading. `labels` None: unknown. `record` None: there are problems.

    `drawn`: classes that have a pixel in the mask; None if no mask was read.
    """

    split: Split
    labels: tuple[int, ...] | None
    record: Record | None
    problems: tuple[str, ...]
    drawn: frozenset[str] | None = None


def read_listed(listing: Listing, item: ListedImage) -> ImportedImage:
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
    """The record of an image of this size (H, W). `masked`: the mask is masks/ID.png."""
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
    """Classes that a listed image shows, and classes in its mask; each is None if it is unknown.

    Checks size, mask and annotation. `size` (H, W): of the upright image; None if it is unknown.
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
    """Classes that have a pixel in the mask. `size` (H, W): of the image; None if it is unknown."""
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
    """Names of the objects in an annotation of VOC's form. Raises UserError for a name that is not known."""
    check_readable(path, missing="no such file; data.labels: xml needs one for each image, data.labels: masks does not")
    names = names_of_annotation(path)
    if strange := sorted(names - set(known)):
        raise UserError(
            f"{path}: object {', '.join(map(repr, strange))} is not among VOC's classes; rename or remove it, or set "
            "data.source: folder, which takes classes of your own"
        )
    return names
