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
MASKS = ("mask", "segmentation", "groundtruth", "ground_truth", "gt", "annotation", "label")  # how names begin
LAYOUT = ("JPEGImages", "images", "ImageSets")  # parts of a layout, which are no classes
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


def _pictures(root: Path) -> dict[str, set[str]]:
    """Paths without ending of the pictures, by the folder in root that holds them; "" stands for root itself."""
    found: dict[str, set[str]] = {}
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        top, *below = Path(parent).relative_to(root).parts or ("",)
        stems = {"/".join([*below, os.path.splitext(n)[0]]) for n in names if n.lower().endswith(ENDINGS)}
        if stems:
            found.setdefault(top, set()).update(stems)
    return found


def mask_folders(root: Path) -> list[str]:
    """Folders in root with a name of masks, most of whose pictures have the name of a picture elsewhere in root."""
    pictures = _pictures(root)
    found = []
    for top, stems in pictures.items():
        others = set().union(*(names for other, names in pictures.items() if other != top))
        if top.lower().startswith(MASKS) and len(stems & others) > len(stems) / 2:
            found.append(top)
    return sorted(found)


def _image_folder(root: Path) -> str:
    """The folder in root that holds all pictures except masks; `.` if there are several."""
    tops = _pictures(root).keys() - set(mask_folders(root))
    if not tops:
        raise UserError(f"{root}: holds no image ({' '.join(ENDINGS)}); name the folder of your photographs")
    return next(iter(tops)) or "." if len(tops) == 1 else "."


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
    yield folder | {"labels": "xml", "labels_file": None}
    if not any((root / images / name).is_dir() for name in LAYOUT):
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
