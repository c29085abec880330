"""The record of an image that every stage reads: its file, its image-level labels and, for scoring only, its mask.

`prepare` writes a folder with `dataset.json` and masks/ID.png. Mask values are the class ids of this data set: 0
background, 1..N the foreground classes in order, 255 void. Class ids are mask values everywhere. Column n - 1 of a
multi-hot label stands for class n.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import numpy as np
from pydantic import TypeAdapter

from cpal.errors import UserError, again, reading
from cpal.files import write_json

FORMAT = 1
MAX_PIXELS = 178_956_970  # of an image; Pillow refuses to decode larger images
MAX_ID = 230  # bytes of an image id; a file name has at most 255, and .ID.png.PID.tmp adds some
MAX_CLASSES = 254  # masks of 8 bits also hold background and void
Split = Literal["train", "val"]


@dataclass(frozen=True)
class Record:
    """One image. `scored`: its mask takes part in scoring. `sha256`: hash of the image file, which reveals a change."""

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
        """Image size (H, W) in pixels."""
        return self.height, self.width

    def multi_hot(self, num_foreground: int) -> np.ndarray:
        """Image-level label, float32 (N,) of 0/1."""
        label = np.zeros(num_foreground, np.float32)
        label[[class_id - 1 for class_id in self.labels]] = 1
        return label


@dataclass(frozen=True)
class Dataset:
    """All records, in a fixed order. `splits`: the data set's own names of the lists train, score and val.

    `source`: a sentence that says how prepare understood the file of labels; empty if there is nothing to explain.
    """

    classes: tuple[str, ...]
    splits: dict[str, str]
    image_root: Path
    mask_root: Path
    records: tuple[Record, ...]
    source: str = ""

    @property
    def num_foreground(self) -> int:
        return len(self.classes)

    @property
    def num_classes(self) -> int:
        """Number of foreground classes, plus one for background."""
        return len(self.classes) + 1

    def split(self, name: Split, limit: int | None = None) -> list[Record]:
        """Records of a split, at most the first `limit`."""
        return [record for record in self.records if record.split == name][:limit]

    def scored(self, name: Split, limit: int | None = None) -> list[Record]:
        """Records of a split whose mask takes part in scoring, at most the first `limit`."""
        return [record for record in self.records if record.split == name and record.scored][:limit]

    def predicted(self, limit: int | None = None, *, images: int | None = None, seed: int = 0) -> list[Record]:
        """Training records that the segmentation model predicts: the scored records, or all if no record is scored.

        Of more than `images`, so many are drawn by `seed`; then at most the first `limit` are taken.
        """
        records = self.scored("train") or self.split("train")
        if images is not None and images < len(records):
            chosen = np.random.default_rng(seed).choice(len(records), images, replace=False)
            records = [records[index] for index in sorted(chosen)]
        return records[:limit]

    def image_path(self, record: Record) -> Path:
        return self.image_root / record.image

    def mask_path(self, record: Record) -> Path:
        if record.mask is None:
            raise UserError(
                f"image {record.image_id} has no ground-truth mask to score against; set data.masks, or do not score it"
            )
        return self.mask_root / record.mask


@dataclass(frozen=True)
class _Stored:
    """Content of dataset.json."""

    format: int
    classes: tuple[str, ...]
    splits: dict[str, str]
    image_root: str | None
    records: tuple[Record, ...]
    source: str = ""  # missing in files of earlier versions


def write_dataset(
    folder: Path,
    records: Iterable[Record],
    *,
    classes: Iterable[str],
    splits: dict[str, str],
    image_root: str | None,
    source: str = "",
) -> None:
    """Write folder/dataset.json. With image_root None, the images lie in the folder itself."""
    content = {
        "format": FORMAT,
        "classes": list(classes),
        "splits": splits,
        "image_root": image_root,
        "source": source,
        "records": [asdict(record) for record in records],
    }
    write_json(folder / "dataset.json", content)


def id_problem(image_id: str) -> str | None:
    """Why a text cannot be an image id, which names result files on every operating system; None if it can."""
    if not image_id or image_id.startswith(".") or set("/\\") & set(image_id) or not image_id.isprintable():
        return "is no plain name of a file"
    if len(os.fsencode(image_id)) > MAX_ID:
        return f"has more than {MAX_ID} bytes"
    return None


def twins(ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of ids that are equal, or that some file systems do not distinguish.

    Such ids differ only in upper and lower case, or in the Unicode form of composed letters.
    """
    seen: dict[str, str] = {}
    for image_id in ids:
        key = normalize("NFC", image_id).casefold()
        if key in seen:
            yield seen[key], image_id
        seen.setdefault(key, image_id)


def read_dataset(folder: Path) -> Dataset:
    """Read what `write_dataset` wrote.

    Raises UserError if `prepare` has not run, or ran with another version of this format; if the file is damaged; and
    if it holds values that `prepare` never writes. The file may come from another person's cache, and its ids and paths
    name files.
    """
    path = folder / "dataset.json"
    with reading(path, stage="prepare"):
        stored = TypeAdapter(_Stored).validate_json(path.read_bytes(), strict=True)
    if stored.format != FORMAT:
        raise UserError(f"{path}: written in another format; {again('prepare')}")
    for problem in _stored_problems(stored):
        raise UserError(f"{path}: {problem}; {again('prepare')}")
    image_root = folder if stored.image_root is None else Path(stored.image_root)
    return Dataset(stored.classes, stored.splits, image_root, folder, stored.records, stored.source)


def _stored_problems(stored: _Stored) -> Iterator[str]:
    """A message for each value that `prepare` never writes."""
    classes = stored.classes
    if not all(name.strip() for name in classes) or len(set(classes)) < len(classes):
        yield "a class has no name, or two have the same"
    if len(classes) > MAX_CLASSES:
        yield f"{len(classes)} classes; masks of 8 bits hold {MAX_CLASSES}"
    if not stored.splits.keys() >= {"train", "score", "val"}:
        yield "does not name the lists of its splits train, score and val"
    if "\0" in (stored.image_root or ""):
        yield "image_root is no path"
    values = set(range(1, len(classes) + 1))
    for number, record in enumerate(stored.records):
        where = f"record {number} ({record.image_id[:100]!r})"
        if why := id_problem(record.image_id):
            yield f"{where}: the id {why}"
        if _leaves(record.image):
            yield f"{where}: image {record.image[:100]!r} is no path below image_root"
        if record.mask is not None and _leaves(record.mask):
            yield f"{where}: mask {record.mask[:100]!r} is no path below the data set's folder"
        if record.width < 1 or record.height < 1 or record.width * record.height > MAX_PIXELS:
            yield f"{where}: {record.width} x {record.height} pixels, not 1 to {MAX_PIXELS}"
        if not values.issuperset(record.labels):
            yield f"{where}: labels {list(record.labels)[:10]} of {len(classes)} classes"
    for first, second in twins(record.image_id for record in stored.records):
        yield f"the ids {first!r} and {second!r} name the same file, or do so where capital letters do not count"


def _leaves(path: str) -> bool:
    """Whether a relative path may lead out of its folder. Links inside the folder are the choice of its owner."""
    return not path or path.startswith("/") or ".." in path.split("/") or bool(set("\0\\") & set(path))
