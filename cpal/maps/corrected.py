"""Masks that annotators corrected, which replace pseudo-masks: a folder of label maps ID.png."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from cpal.data.dataset import Record
from cpal.data.masks import check_mask, read_mask
from cpal.errors import UserError

AGAIN = "import the corrected masks again: python -m stages.import_masks"


def corrected_ids(folder: Path, image_ids: Collection[str]) -> set[str]:
    """The ids of the corrected masks.

    Raises UserError if there are no masks, or if a mask belongs to no training image.
    """
    found = {path.stem for path in folder.glob("*.png")}
    if not found:
        raise UserError(f"{folder}: holds no masks; {AGAIN}, or set pseudo_mask.corrected: false")
    if left := sorted(found - set(image_ids)):
        raise UserError(
            f"{folder}: {left[0]}.png is of no training image; move the file away, or make the image a training "
            "image by the column split of the labels"
        )
    return found


def read_corrected(folder: Path, record: Record) -> np.ndarray:
    """Label map uint8 (H, W) of an image. Raises UserError if it is damaged or does not match the image's record."""
    path = folder / f"{record.image_id}.png"
    mask = read_mask(path)
    check_mask(path, mask, record.size, record.labels, cure=AGAIN)
    return mask
