"""The one record every stage reads: an image, its image-level labels and, for scoring only, its mask.

`prepare` writes a folder with `dataset.json` and masks/ID.png whose values are this data set's own ids:
0 background, 1..N the classes in order, 255 void. Class ids are mask values everywhere; column n - 1 of a
multi-hot label stands for class n.
"""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps
from pydantic import TypeAdapter

from cpal.errors import UserError, again, reading
from cpal.files import write_json

FORMAT = 1
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # of image files, in small letters
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")  # that are opened; an EPS would start another program
Split = Literal["train", "val"]


@dataclass(frozen=True)
class Record:
    """One image. `scored`: its mask takes part in scoring; `sha256` is the image file's, so that a change is seen."""

    image_id: str
    split: Split
    scored: bool
    image: str
    width: int
    height: int
    labels: tuple[int, ...]
    mask: str | None
    sha256: str

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.height, self.width

    def multi_hot(self, num_foreground: int) -> np.ndarray:
        """Image-level label, float32 (N,) of 0/1."""
        label = np.zeros(num_foreground, np.float32)
        label[[class_id - 1 for class_id in self.labels]] = 1
        return label


@dataclass(frozen=True)
class Dataset:
    """All records, in a fixed order. `splits` gives the lists' own names for train, score and val."""

    classes: tuple[str, ...]
    splits: dict[str, str]
    image_root: Path
    mask_root: Path
    records: tuple[Record, ...]

    @property
    def num_foreground(self) -> int:
        return len(self.classes)

    @property
    def num_classes(self) -> int:
        """Foreground and background."""
        return len(self.classes) + 1

    def split(self, name: Split, limit: int | None = None) -> list[Record]:
        """Records of a split, the first `limit` of them."""
        return [record for record in self.records if record.split == name][:limit]

    def scored(self, name: Split, limit: int | None = None) -> list[Record]:
        """Records of a split that have a mask to be scored on."""
        return [record for record in self.records if record.split == name and record.scored][:limit]

    def predicted(self, limit: int | None = None) -> list[Record]:
        """Training images that the segmentation model is looked at on: those that are scored, or all where none is."""
        return self.scored("train", limit) or self.split("train", limit)

    def image_path(self, record: Record) -> Path:
        return self.image_root / record.image

    def mask_path(self, record: Record) -> Path:
        if record.mask is None:
            raise UserError(f"{record.image_id} has no ground-truth mask to score against")
        return self.mask_root / record.mask


@dataclass(frozen=True)
class _Stored:
    """dataset.json as it is written."""

    format: int
    classes: tuple[str, ...]
    splits: dict[str, str]
    image_root: str | None
    records: tuple[Record, ...]


def write_dataset(
    folder: Path,
    records: Iterable[Record],
    *,
    classes: Iterable[str],
    splits: dict[str, str],
    image_root: str | None,
) -> None:
    """Write folder/dataset.json; image_root None: the images lie in the folder itself."""
    content = {
        "format": FORMAT,
        "classes": list(classes),
        "splits": splits,
        "image_root": image_root,
        "records": [asdict(record) for record in records],
    }
    write_json(folder / "dataset.json", content)


def read_dataset(folder: Path) -> Dataset:
    """Read what `write_dataset` wrote.

    Raises UserError when `prepare` has not run, or ran with another version of this format, and for a damaged file.
    """
    path = folder / "dataset.json"
    with reading(path, stage="prepare"):
        stored = TypeAdapter(_Stored).validate_json(path.read_bytes(), strict=True)
    if stored.format != FORMAT:
        raise UserError(f"{path}: written in another format; {again('prepare')}")
    values = range(1, len(stored.classes) + 1)
    for record in stored.records:
        if record.width < 1 or record.height < 1 or not set(values).issuperset(record.labels):
            raise UserError(
                f"{path}: image {record.image_id} has {record.width} x {record.height} pixels and labels "
                f"{list(record.labels)[:10]} of {len(values)} classes; {again('prepare')}"
            )
    image_root = folder if stored.image_root is None else Path(stored.image_root)
    return Dataset(stored.classes, stored.splits, image_root, folder, stored.records)


def read_record_image(path: Path, record: Record) -> np.ndarray:
    """RGB uint8 (H, W, 3) of this image. Raises as `read_image`, and when it has another size than at `prepare`."""
    image = read_image(path)
    if image.shape[:2] != record.size:
        raise UserError(f"{path}: is of {image.shape[:2]}, but was of {record.size} at prepare; {again('prepare')}")
    return image


def read_image(path: Path) -> np.ndarray:
    """RGB uint8 (H, W, 3), turned upright by its EXIF orientation.

    Raises UserError when the file is missing, no regular file, has gray values of more than 8 bits, or cannot be
    decoded to the end.
    """
    if not os.path.isfile(path):  # to open a pipe would wait for ever
        raise UserError(f"{path}: no such image file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode == "F" or image.mode.startswith("I"):
                raise UserError(f"{path}: gray values above 255 would all be read as white; save it with 8 bits")
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # for damaged files Pillow raises almost any kind
        raise UserError(f"{path}: unreadable image ({error}); replace the file or take it off the list") from None
