"""What a folder of photographs may be: the settings `data` under which its images and labels can be read."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cpal.data.images import ENDINGS
from cpal.errors import UserError
from cpal.settings.data import DataConfig
from cpal.sources.dispatch import list_images
from cpal.sources.listing import Listing

TABLES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml")
MASKS = (
    "mask",
    "segmentationclass",
    "segmentationobject",
    "groundtruth",
    "ground_truth",
    "gt",
    "annotations",
    "labels",
)
NO_CLASSES = {"images", "jpegimages", "train", "training", "val", "valid", "validation", "test", "testing", "data"}
DEEPEST = 3  # folders below the given one in which a table may lie
MOST_TABLES = 50


@dataclass(frozen=True)
class Reading:
    """One way to read the folder: keys of `data`, and the listing that they give."""

    keys: dict[str, Any]
    listing: Listing

    @property
    def sentence(self) -> str:
        train = sum(image.split == "train" for image in self.listing.images)
        classes = self.listing.classes
        shown = ", ".join(classes[:6]) + (", ..." if len(classes) > 6 else "")
        return (
            f"labels from {_where(self.keys)}: {train} training and {len(self.listing.images) - train} validation "
            f"images in {self.keys['images']}, {len(classes)} classes ({shown})"
        )


def readings(root: Path, present: dict[str, Any], *, seed: int) -> tuple[list[Reading], list[str]]:
    """Every way in which the folder can be read without a problem, and why the other ways fail.

    `present` are the values of `data` that stay where a way does not name them.
    Raises UserError when the folder holds no image.
    """
    images = _image_folder(root)
    found, failed = list[Reading](), list[str]()
    for keys in _ways(root, images):
        if found and keys["source"] != found[0].keys["source"]:  # VOC's layout tells the rest
            break
        try:
            settings = DataConfig.model_validate(present | keys)
            listing = list_images(settings, seed=seed)
        except (ValidationError, UserError) as error:
            failed.append(f"labels from {_where(keys)}: {_last_line(error)}")
            continue
        if listing.problems:
            failed.append(f"labels from {_where(keys)}: {listing.problems[0]}")
        elif listing.images and not any(_same(listing, other.listing) for other in found):
            found.append(Reading(keys, listing))
    return found, failed


def _same(first: Listing, second: Listing) -> bool:
    """Whether two ways of reading give the same labels; a COCO file is also a table."""
    labels = ({(image.image_id, image.names, image.mask) for image in listing.images} for listing in (first, second))
    return len(set(map(frozenset, labels))) == 1


def _where(keys: dict[str, Any]) -> str:
    """Where labels come from, in a message."""
    if keys["labels"] == "masks":
        return f"the masks in {keys['masks']}"
    return {"folders": "the names of folders", "xml": "Annotations"}.get(keys["labels"]) or str(keys["labels_file"])


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()


def _image_folder(root: Path) -> str:
    """The folder below root that holds the images, as deep as all but masks lie in it; `.` for root itself."""
    counts: Counter[Path] = Counter()
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and not _of_masks(name)]
        counts[Path(parent).relative_to(root)] += sum(os.path.splitext(name)[1].lower() in ENDINGS for name in names)
    folders_with = [folder for folder, count in counts.items() if count]
    if not folders_with:
        raise UserError(f"{root}: holds no image ({' '.join(ENDINGS)}); name the folder of your photographs")
    tops = {folder.parts[:1] for folder in folders_with}
    if len(tops) > 1 or tops == {()}:
        return "."
    return tops.pop()[0]


def _ways(root: Path, images: str) -> Iterator[dict[str, Any]]:
    """Keys of `data` to try, the most telling first."""
    free: dict[str, Any] = {"root": str(root), "masks": None, "mask_classes": None, "classes": None, "val_share": 0.2}
    lists = root / "ImageSets" / "Segmentation"
    if (root / "JPEGImages").is_dir() and (lists / "train.txt").is_file() and (lists / "val.txt").is_file():
        splits = {"train_list": "train", "score_list": "train", "val_list": "val"}
        voc = free | splits | {"source": "voc", "images": "JPEGImages"}
        for masks in sorted(path.name for path in root.glob("SegmentationClass*") if path.is_dir()):
            yield voc | {"labels": "masks", "masks": masks}
        if (root / "Annotations").is_dir():
            yield voc | {"labels": "xml"}
    folder = free | {"source": "folder", "images": images, "train_list": "train", "score_list": "train"}
    folder |= {"val_list": "val"}
    for table in _tables(root):
        yield folder | {"labels": "csv", "labels_file": table.as_posix()}
    names = {path.name.lower() for path in (root / images).iterdir() if path.is_dir() and not path.name.startswith(".")}
    if not names & NO_CLASSES and not any(map(_of_masks, names)):
        yield folder | {"labels": "folders"}


def _tables(root: Path) -> list[Path]:
    """Files that may be a table of labels, those nearest to the root first.

    A file that lies in several folders under one name, such as train/_classes.csv and valid/_classes.csv, is one table.
    """
    found = []
    for parent, folders, names in os.walk(root):
        below = Path(parent).relative_to(root)
        folders[:] = [name for name in folders if not name.startswith(".") and len(below.parts) < DEEPEST]
        found += [below / name for name in names if os.path.splitext(name)[1].lower() in TABLES]
    counts = Counter(path.name for path in found)
    found = [path for path in found if counts[path.name] == 1] + [Path(n) for n, count in counts.items() if count > 1]
    found.sort(key=lambda path: (len(path.parts), path.as_posix()))
    return found[:MOST_TABLES]


def mask_folders(root: Path) -> list[str]:
    """Folders in root whose name says that they hold ground-truth masks."""
    return sorted(path.name for path in root.iterdir() if path.is_dir() and _of_masks(path.name))


def _of_masks(name: str) -> bool:
    return name.lower().startswith(MASKS)
