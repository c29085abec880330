"""Label maps as palette PNG: 0 background, 1..N classes, 255 void. A viewer shows the colors, NumPy reads the ids.

Beside them, confidence maps as gray PNG: 0 to 255 for a probability of 0 to 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cpal.data.dataset import Dataset, Record
from cpal.data.images import open_image
from cpal.errors import UserError, again
from cpal.files import whole_file
from cpal.settings.access import check_readable

BACKGROUND = 0
VOID = 255


def voc_palette() -> np.ndarray:
    """PASCAL VOC's color of each label, uint8 (256, 3): the bits of the label spread over red, green and blue."""
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    palette[VOID] = (224, 224, 192)
    return palette


def read_mask(path: Path, *, verify: bool = False) -> np.ndarray:
    """Label map uint8 (H, W).

    With `verify`, the checksums of a PNG must be right: Pillow reads pixels without them, and other programs write
    wrong ones. Raises UserError if the file is missing, cannot be read, or does not hold 8-bit labels.
    """
    check_readable(path, missing="no such mask file; put it there, or run the stage that writes it again")
    try:
        if verify:
            with open_image(path) as image:
                image.verify()
        with open_image(path) as image:
            if image.mode not in ("P", "L"):
                cure = ", or name the table of its colors in data.mask_colors" if image.mode.startswith("RGB") else ""
                raise UserError(
                    f"{path}: mode {image.mode} does not hold 8-bit labels; save it as an 8-bit palette PNG{cure}"
                )
            return np.array(image, dtype=np.uint8)
    except UserError:
        raise
    except Exception as error:  # Pillow raises almost any exception for damaged files
        raise UserError(f"{path}: unreadable mask ({error}); replace the file") from None


@dataclass(frozen=True)
class LabelMaps:
    """Label maps folder/ID.png that `stage` wrote.

    A map may show only the labels of its image; with `num_foreground` it may show every class from 1 to num_foreground.
    """

    folder: Path
    stage: str
    num_foreground: int | None = None

    def read(self, record: Record) -> np.ndarray:
        """Label map uint8 (H, W) of a record. Raises as `read_record_mask`."""
        allowed = record.labels if self.num_foreground is None else range(1, self.num_foreground + 1)
        return read_record_mask(self.folder / f"{record.image_id}.png", record, allowed, stage=self.stage)


def read_record_mask(path: Path, record: Record, allowed: Iterable[int], *, stage: str) -> np.ndarray:
    """Label map uint8 (H, W) of a record, which `stage` wrote.

    Raises UserError if the file is missing or damaged, has another size than the image, or shows a value other than
    background, void and the `allowed` classes.
    """
    mask = _read_written(path, record, stage=stage)
    check_mask(path, mask, record.size, allowed, cure=again(stage))
    return mask


def check_mask(path: Path, mask: np.ndarray, size: tuple[int, int], allowed: Iterable[int], *, cure: str) -> None:
    """Raise UserError if a label map uint8 does not fit its image, of (H, W) and with the `allowed` classes.

    Background and void are always allowed.
    """
    _check_size(path, mask, size, cure)
    shown = set(np.flatnonzero(np.bincount(mask.ravel())).tolist())
    if other := sorted(shown - {BACKGROUND, VOID, *allowed}):
        raise UserError(f"{path}: shows {other}, which are no labels of this image; {cure}")


def read_confidence(folder: Path, record: Record, *, stage: str) -> np.ndarray:
    """Confidence uint8 (H, W), 255 for 100 %, of a record's label map in folder/ID.png, which `stage` wrote.

    Raises UserError if the file is missing or damaged, or has another size than the image.
    """
    return _read_written(folder / f"{record.image_id}.png", record, stage=stage)


def _read_written(path: Path, record: Record, *, stage: str) -> np.ndarray:
    if not path.exists():
        raise UserError(f"{path}: no such file; run the {stage} stage first: dvc repro {stage}")
    try:
        found = read_mask(path, verify=True)
    except UserError as error:
        raise UserError(f"{error}; {again(stage)}") from None
    _check_size(path, found, record.size, again(stage))
    return found


def _check_size(path: Path, pixels: np.ndarray, size: tuple[int, int], cure: str) -> None:
    if pixels.shape != size:
        raise UserError(f"{path}: is of {pixels.shape}, but the image is of {size}; {cure}")


def read_truth(dataset: Dataset, record: Record) -> np.ndarray:
    """Ground truth uint8 (H, W) of a record with a mask, in the data set's class ids. Raises as `read_record_mask`."""
    return read_record_mask(dataset.mask_path(record), record, range(1, dataset.num_classes), stage="prepare")


def write_mask(path: Path, mask: np.ndarray, scratch: Path | None = None) -> None:
    """Write a label map uint8 (H, W) with VOC's palette; `scratch` as in `whole_file`."""
    image = Image.fromarray(mask.astype(np.uint8, casting="same_kind"))
    image.putpalette(voc_palette().tobytes())
    with whole_file(path, scratch) as temporary:
        image.save(temporary, format="PNG", optimize=False)


def write_confidence(path: Path, confidence: np.ndarray, scratch: Path | None = None) -> None:
    """Write a confidence map uint8 (H, W), 255 for 100 %; `scratch` as in `whole_file`."""
    with whole_file(path, scratch) as temporary:
        Image.fromarray(confidence).save(temporary, format="PNG", optimize=False)
