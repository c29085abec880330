"""Finds settings of the section `data` with which a folder of photographs can be read."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from cpal.data.images import ENDINGS, files_passed_over, passed_over_lines
from cpal.errors import UserError
from cpal.settings.data import LABEL_KEYS, DataConfig
from cpal.sources.dispatch import list_images
from cpal.sources.labels.list_files import never, read_list
from cpal.sources.listing import Listing
from cpal.sources.tables.columns import PARTS, SPLITS, part_of
from cpal.sources.tables.file_names import ENDING, cleaned

TABLES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".manifest", ".xml")
NO_TEXT = (".xlsx", ".xls", ".ods", ".parquet")  # tables that are not read; the message says how to save them
MASKS = ("mask", "segmentation", "groundtruth", "ground_truth", "gt", "annotation", "label")  # how names begin
LAYOUT = ("JPEGImages", "images", "ImageSets")  # parts of a layout, which are no classes
YAML_ENDINGS = (".yaml", ".yml")
TRAIN_LISTS = ("train_aug", "trainaug", "train")  # names of list files, the first that is there is taken
VAL_LISTS = ("val", "valid", "validation")
TEST = "test"  # validates where there is no other split
NO_TABLES = ("readme", "classes.txt", "license", "sample_submission", "samplesubmission")
DEEPEST = 3  # folders below the given one in which a table may lie
MOST_TABLES = 50
SHOWN = 10  # problems of one way that a message lists


@dataclass(frozen=True)
class Reading:
    """One way to read the folder: keys of `data`, and the listing that they give."""

    keys: dict[str, Any]
    listing: Listing

    @property
    def training(self) -> int:
        """Number of training images."""
        return sum(image.split == "train" for image in self.listing.images)

    @property
    def sentence(self) -> str:
        train = self.training
        classes = self.listing.classes
        shown = ", ".join(classes[:6]) + (", ..." if len(classes) > 6 else "")
        inside = "" if self.keys["images"] == "." else f" in {self.keys['images']}"
        tested = " of the split test" if self.keys["val_list"] == TEST else ""
        return (
            f"labels from {_where(self.keys)}: {train} training and {len(self.listing.images) - train} validation "
            f"images{tested}{inside}, {len(classes)} classes ({shown})"
        )


def readings(root: Path, present: dict[str, Any], *, seed: int) -> tuple[list[Reading], list[str]]:
    """Every way in which the folder can be read without a problem, and why the other ways fail.

    If no way is found, the reasons are up to SHOWN problems of each way; else the first problem of each other way.
    `present`: values of `data` that stay as they are if a way does not set them.
    Raises UserError if the folder holds no image.
    """
    images = _image_folder(root)
    found, failed = list[Reading](), dict[str, Sequence[str]]()
    for keys in _ways(root, images):
        if found and keys["source"] != found[0].keys["source"]:  # VOC's layout tells the rest
            break
        if any(_is_read(keys, other.keys) for other in found) or _is_hopeless(keys, failed):
            continue
        try:
            settings = DataConfig.model_validate(present | keys)
            listing = list_images(settings, seed=seed)
        except (ValidationError, UserError) as error:
            failed[_where(keys)] = [_reason(error)]
            continue
        if listing.problems:
            failed[_where(keys)] = listing.problems
        elif keys["labels"] == "folders" and len(listing.classes) == 1 and all(i.names for i in listing.images):
            failed[_where(keys)] = [f"{listing.classes[0]} would be the only class, of every image"]
        elif listing.images and not any(_same(listing, other.listing) for other in found):
            found.append(Reading(keys, listing))
            failed.pop(_where(keys), None)
    shown = 1 if found else SHOWN
    return found, [f"labels from {where}: {why}" for where, reasons in failed.items() for why in reasons[:shown]]


def _same(first: Listing, second: Listing) -> bool:
    """Whether two ways of reading give the same labels: a COCO file is also a table."""
    labels = ({(image.image_id, image.names, image.mask) for image in listing.images} for listing in (first, second))
    return len(set(map(frozenset, labels))) == 1


def _is_read(keys: dict[str, Any], read: dict[str, Any]) -> bool:
    """Whether these labels were read already: with other splits, or as one of several tables."""
    if _where(keys) == _where(read):
        return True
    name, pattern = keys.get("labels_file"), read.get("labels_file")
    return bool(name and pattern and "*" in pattern) and PurePosixPath(str(name)).match(str(pattern))


def _is_hopeless(keys: dict[str, Any], failed: dict[str, Sequence[str]]) -> bool:
    """Whether these labels failed before for another reason than a split that is not there."""
    return keys["val_list"] == TEST and not any("in the split" in why for why in failed.get(_where(keys), ()))


def _where(keys: dict[str, Any]) -> str:
    """The origin of the labels, for a message."""
    if keys["labels"] == "masks":
        return f"the masks in {keys['masks']}"
    if keys["labels"] == "yolo":
        return f"YOLO's files and {keys['labels_file']}"
    return {"folders": "the names of folders", "xml": "Annotations"}.get(keys["labels"]) or str(keys["labels_file"])


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return error.errors()[0]["msg"].removeprefix("Value error, ")
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
    """Folders in root with a usual name of masks, most of whose pictures share the name of a picture elsewhere."""
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
        others = "".join(f"; {line}" for line in passed_over_lines(files_passed_over(root)))
        raise UserError(f"{root}: holds no image ({' '.join(ENDINGS)}){others}; name the folder of your photographs")
    return next(iter(tops)) or "." if len(tops) == 1 else "."


def _inner_folder(root: Path, images: str) -> str:
    """The folder that holds several folders of pictures: `archive/Dataset` of archive/Dataset/train/cat/1.jpg.

    `images` if a folder on the way holds pictures itself, or if there is a single folder of pictures.
    """
    inner = PurePosixPath(images)
    while len(tops := list(_pictures(root / inner))) == 1 and tops[0]:
        inner /= tops[0]
    return images if "" in tops else inner.as_posix()


def _ways(root: Path, images: str) -> Iterator[dict[str, Any]]:
    """Keys of `data` to try, the most reliable first."""
    free: dict[str, Any] = {"root": str(root), "classes": None, "val_share": 0.2}
    free |= dict.fromkeys(("masks", "mask_classes", "mask_suffix", "mask_colors"))
    free |= dict.fromkeys(LABEL_KEYS["csv"])  # all there are
    lists = _list_files(root)
    if (root / "JPEGImages").is_dir():
        yield from _voc_ways(root, free | {"source": "voc", "images": "JPEGImages"}, lists)
    free |= {"source": "folder", "images": images}
    named, tested = free | _split_keys("train", "val"), free | _split_keys("train", TEST)
    listed = [free | _split_keys(*lists)] if lists else []
    own = [*listed, named, tested]
    for names in _yolo_names(root):
        yolo = {"labels": "yolo", "labels_file": names.as_posix()}
        yield from (keys | yolo for keys in ([named] if names.suffix in YAML_ENDINGS else own))
    for table in _tables(root, lists):
        yield from (keys | {"labels": "csv", "labels_file": table.as_posix()} for keys in own)
    if any(path.suffix == ".xml" for path in _files(root)):
        yield from (keys | {"labels": "xml", "labels_file": None} for keys in own)
    inner = _inner_folder(root, images)
    if not any((root / inner / name).is_dir() for name in LAYOUT):
        yield from (keys | {"labels": "folders", "images": inner} for keys in own)


def _split_keys(train: str, val: str) -> dict[str, Any]:
    return {"train_list": train, "score_list": train, "val_list": val}


def _voc_ways(root: Path, free: dict[str, Any], lists: tuple[str, str] | None) -> Iterator[dict[str, Any]]:
    """VOC's layout with VOC's own lists, or with list files, which may also name the folder of masks."""
    own = all((root / "ImageSets" / "Segmentation" / f"{name}.txt").is_file() for name in ("train", "val"))
    if own:
        splits, told = _split_keys("train", "val"), None
    elif lists:
        splits, told = _split_keys(*lists), _told_mask_folder(root / lists[0])
    else:
        return
    present = sorted(path.name for path in root.glob("SegmentationClass*") if path.is_dir())
    for masks in [told] if told in present else present:
        yield free | splits | {"labels": "masks", "masks": masks}
    if (root / "Annotations").is_dir():
        yield free | splits | {"labels": "xml"}


def _told_mask_folder(path: Path) -> str | None:
    """The folder of the masks that a list file names first."""
    try:
        line = next(iter(read_list(path, never, missing="no such list")))
    except UserError:
        return None
    return None if line.mask is None else str(PurePosixPath(cleaned(line.mask)).parent)


def _list_files(root: Path) -> tuple[str, str] | None:
    """Paths of the list files of training and validation, such as voc12/train_aug.txt and voc12/val.txt."""
    folders: dict[Path, list[Path]] = {}
    for path in _files(root):
        if path.suffix == ".txt":
            folders.setdefault(path.parent, []).append(path)
    for folder in sorted(folders, key=lambda folder: (len(folder.parts), folder.as_posix())):
        by_stem = {path.stem.casefold(): path for path in folders[folder]}
        train = next((by_stem[stem] for stem in TRAIN_LISTS if stem in by_stem), None)
        val = next((by_stem[stem] for stem in VAL_LISTS if stem in by_stem), None)
        if train and val and folder.parts[:1] != ("ImageSets",):
            return train.as_posix(), val.as_posix()
    return None


def _yolo_names(root: Path) -> list[Path]:
    """Files that may name the classes of YOLO's label files; none if no text has the name of a picture."""
    found = _files(root)
    pictures = {path.stem for path in found if path.suffix.lower() in ENDINGS}
    if not any(path.suffix == ".txt" and path.stem in pictures for path in found):
        return []
    return [
        path
        for path in found
        if path.suffix in YAML_ENDINGS or path.suffix == ".names" or path.name in ("classes.txt", "_darknet.labels")
    ]


def _files(root: Path) -> list[Path]:
    """Files of at most `DEEPEST` folders below root, relative to it, the nearest to the root first."""
    found = []
    for parent, folders, names in os.walk(root):
        below = Path(parent).relative_to(root)
        folders[:] = [name for name in folders if not name.startswith(".") and len(below.parts) < DEEPEST]
        found += [below / name for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: (len(path.parts), path.as_posix()))


def _tables(root: Path, lists: tuple[str, str] | None) -> list[Path]:
    """Files that may be a table of labels, the nearest to the root first.

    A file that lies in several folders under one name, such as train/_classes.csv and valid/_classes.csv, is one table.
    train.csv and val.csv are the table *.csv. A text or an XML file with the name of a picture is no table: it belongs
    to this picture alone. Of such JSON files, the first is kept, so that a message names the tool.
    """
    found = _files(root)
    pictures = {path.stem for path in found if path.suffix.lower() in ENDINGS}
    plain = [name for name in lists or () if not _is_labeled_list(root / name)]
    passed = {*plain, *(path.as_posix() for path in found if path.name.lower().startswith(NO_TABLES))}
    single = [path for path in found if path.stem.split(".")[0] in pictures or path.stem in pictures]
    texts = {path for path in single if path.suffix in (".txt", ".xml")}
    texts |= {*[path for path in single if path.suffix == ".json"][1:]}
    endings = (*TABLES, *NO_TEXT)
    found = [p for p in found if p.suffix.lower() in endings and p not in texts and p.as_posix() not in passed]
    found += [p for p in _files(root) if p.suffix == ".npy" and "label" in p.stem]
    counts = Counter(path.name for path in found if path.parent.name.casefold() in PARTS)
    tables = [
        Path(path.name) if counts[path.name] > 1 and path.parent.name.casefold() in PARTS else path for path in found
    ]
    return list(dict.fromkeys([*_patterns(tables), *tables]))[:MOST_TABLES]


def _patterns(tables: Sequence[Path]) -> list[Path]:
    """`annotations/instances_*2017.json` of instances_train2017.json and instances_val2017.json."""
    parts: dict[Path, set[str]] = {}
    for path in tables:
        if (part := part_of(path.stem)) is not None:
            word = max((word for word in SPLITS[part] if word in path.stem.casefold()), key=len)
            start = path.stem.casefold().rindex(word)
            name = f"{path.stem[:start]}*{path.stem[start + len(word) :]}{path.suffix}"
            parts.setdefault(path.with_name(name), set()).add(part)
    return [path for path, found in parts.items() if "train" in found and len(found) > 1]


def _is_labeled_list(path: Path) -> bool:
    """Whether the lines of a list hold a picture and a label, as `images/a.jpg 3`."""
    try:
        line = path.read_text(encoding="utf-8").strip().partition("\n")[0].split()
    except (OSError, UnicodeDecodeError):
        return False
    return len(line) == 2 and ENDING.search(line[0]) is not None and ENDING.search(line[1]) is None
