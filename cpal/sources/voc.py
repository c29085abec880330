"""A folder laid out like PASCAL VOC -> records: JPEGImages/, ImageSets/Segmentation/, masks, Annotations/."""

import csv
import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from cpal.config import DataConfig
from cpal.dataset import Record, Split, read_image, write_dataset
from cpal.errors import UserError
from cpal.masks import BACKGROUND, VOID, read_mask, write_mask

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
SUFFIXES = (".jpg", ".jpeg", ".png")
SHOWN = 20  # problems of a data set listed in one message


@dataclass(frozen=True)
class Read:
    """What came of one listed image: its record and remapped mask, or what is wrong with it."""

    record: Record | None = None
    mask: np.ndarray | None = None
    problem: str | None = None


def import_voc(folder: Path, settings: DataConfig, *, workers: int, limit: int | None = None) -> None:
    """Write dataset.json and remapped masks into `folder`; the images stay where they are.

    Nothing is written before everything is read and checked. Raises UserError that lists all problems: missing root,
    list, image or mask, unreadable files, a mask of another size than its image, labels outside the class list, an
    image in both splits, a class without any image.
    """
    root = Path(settings.root)
    if not root.is_dir():
        raise UserError(f"data.root: no folder {root}; set data.root to the folder that holds JPEGImages")
    classes = settings.classes or CLASSES
    unknown = [name for name in classes if name not in CLASSES]
    if unknown:
        raise UserError(f"data.classes: {', '.join(unknown)} not among VOC's classes: {', '.join(CLASSES)}")
    lists = {name: read_list(root, name) for name in (settings.train_list, settings.score_list, settings.val_list)}
    train, score, val = (lists[name][:limit] for name in (settings.train_list, settings.score_list, settings.val_list))
    _check_lists(lists, settings)
    labels_of = label_reader(root, settings, classes)
    scored = set(lists[settings.score_list])
    jobs: list[tuple[str, Split, bool]] = [(i, "train", i in scored) for i in train] + [(i, "val", True) for i in val]
    results = Parallel(n_jobs=max(1, workers))(
        delayed(read_one)(root, settings, classes, labels_of, *job) for job in jobs
    )
    problems = [result.problem for result in results if result.problem]
    records = [result.record for result in results if result.record]
    if limit is None and not problems:
        learned = {label for record in records if record.split == "train" for label in record.labels}
        missing = [name for n, name in enumerate(classes, 1) if n not in learned]
        problems += [f"class {name}: no training image shows it; take it off data.classes" for name in missing]
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError("\n  - ".join([f"{root}: {len(problems)} problem(s):", *problems[:SHOWN], *more]))
    for result in results:
        if result.record is not None and result.mask is not None:
            write_mask(folder / f"masks/{result.record.image_id}.png", result.mask)
    splits = {"train": settings.train_list, "score": settings.score_list, "val": settings.val_list}
    write_dataset(folder, records, classes=classes, splits=splits, image_root=settings.root)


def read_list(root: Path, name: str) -> list[str]:
    """Image ids of a list file; a second column and blank lines are passed over.

    Raises UserError when the list is missing, empty, or names an image twice.
    """
    path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        raise UserError(f"{path}: no such list; lists there: {known}") from None
    ids = [line.split()[0] for line in lines if line.strip()]
    if not ids:
        raise UserError(f"{path}: names no image")
    twice = sorted({image_id for image_id in ids if ids.count(image_id) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise UserError(f"{path}: {len(twice)} image(s) named twice, such as {twice[0]}")
    return ids


def _check_lists(lists: dict[str, list[str]], settings: DataConfig) -> None:
    train, val = set(lists[settings.train_list]), set(lists[settings.val_list])
    if both := sorted(train & val):
        raise UserError(
            f"{len(both)} image(s) are in both {settings.train_list} and {settings.val_list}, such as {both[0]}"
        )
    if strange := sorted(set(lists[settings.score_list]) - train):
        raise UserError(
            f"{len(strange)} image(s) of data.score_list {settings.score_list} are not in data.train_list "
            f"{settings.train_list}, such as {strange[0]}; seeds exist for training images only"
        )


def label_reader(
    root: Path, settings: DataConfig, classes: Sequence[str]
) -> Callable[[str, np.ndarray | None], tuple[int, ...]]:
    """How an image's class ids are found: from its remapped mask, its XML, or the csv file."""
    if settings.labels == "masks":
        return _labels_from_mask
    if settings.labels == "xml":
        return XmlLabels(root / "Annotations", tuple(classes))
    assert settings.labels_csv is not None, "the settings demand labels_csv with labels: csv"
    return CsvLabels(read_labels_csv(Path(settings.labels_csv), classes), settings.labels_csv)


def _labels_from_mask(image_id: str, mask: np.ndarray | None) -> tuple[int, ...]:
    if mask is None:
        raise UserError(f"{image_id}: no mask to take its labels from; give it one, or set data.labels to xml or csv")
    return tuple(int(value) for value in np.unique(mask) if value not in (BACKGROUND, VOID))


@dataclass(frozen=True)
class XmlLabels:
    """Class ids of the objects in Annotations/ID.xml."""

    folder: Path
    classes: tuple[str, ...]

    def __call__(self, image_id: str, mask: np.ndarray | None) -> tuple[int, ...]:
        path = self.folder / f"{image_id}.xml"
        try:
            text = path.read_text(encoding="utf-8")
            if "<!DOCTYPE" in text or "<!ENTITY" in text:
                raise UserError(f"{path}: has a document type, which VOC's annotations never have; refused")
            names = {(node.text or "").strip() for node in ElementTree.fromstring(text).iterfind("object/name")}
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; data.labels: xml needs one for each image") from None
        except (ElementTree.ParseError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not valid XML ({error})") from None
        if strange := sorted(names - set(CLASSES)):
            raise UserError(f"{path}: object {strange[0]!r} is not among VOC's classes")
        return tuple(n for n, name in enumerate(self.classes, 1) if name in names)


@dataclass(frozen=True)
class CsvLabels:
    """Class ids by image id, as `read_labels_csv` gives them."""

    labels: dict[str, tuple[int, ...]]
    source: str

    def __call__(self, image_id: str, mask: np.ndarray | None) -> tuple[int, ...]:
        if image_id not in self.labels:
            raise UserError(f"{self.source}: has no line for image {image_id}")
        return self.labels[image_id]


def read_labels_csv(path: Path, classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Lines `image,labels` with `;` between class names -> class ids by image id; VOC classes not kept are passed over.

    Raises UserError for a missing file, another header, a class that VOC does not know, or an image named twice.
    """
    labels: dict[str, tuple[int, ...]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
    except FileNotFoundError:
        raise UserError(f"data.labels_csv: no file {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a csv file in UTF-8 ({error})") from None
    if not rows or [cell.strip() for cell in rows[0]] != ["image", "labels"]:
        raise UserError(f"{path}: the first line must be image,labels")
    for line, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != 2:
            raise UserError(f"{path}, line {line}: {len(row)} columns instead of image,labels")
        names = {name.strip() for name in row[1].split(";") if name.strip()}
        if strange := sorted(names - set(CLASSES) - set(classes)):
            raise UserError(f"{path}, line {line}: unknown class {strange[0]!r}")
        if row[0] in labels:
            raise UserError(f"{path}, line {line}: image {row[0]} for the second time")
        labels[row[0]] = tuple(n for n, name in enumerate(classes, 1) if name in names)
    return labels


def read_one(
    root: Path,
    settings: DataConfig,
    classes: Sequence[str],
    labels_of: Callable[[str, np.ndarray | None], tuple[int, ...]],
    image_id: str,
    split: Split,
    scored: bool,
) -> Read:
    """Decode and check one image and its mask."""
    try:
        image_path = _image_file(root, image_id)
        height, width = read_image(image_path).shape[:2]
        mask_path = root / settings.masks / f"{image_id}.png"
        mask = None
        if mask_path.exists():
            mask = remap(read_mask(mask_path), classes, settings.other_classes, mask_path)
            if mask.shape != (height, width):
                raise UserError(
                    f"{mask_path}: {mask.shape[1]}x{mask.shape[0]} pixels, its image has {width}x{height}; "
                    "one of the two was resized or turned"
                )
        elif scored:
            raise UserError(f"{mask_path}: no such mask; {image_id} is on a list that is scored")
        record = Record(
            image_id=image_id,
            split=split,
            scored=scored,
            image=image_path.relative_to(root).as_posix(),
            width=width,
            height=height,
            labels=labels_of(image_id, mask),
            mask=None if mask is None else f"masks/{image_id}.png",
            sha256=hashlib.sha256(image_path.read_bytes()).hexdigest(),
        )
        return Read(record, mask)
    except UserError as error:
        return Read(problem=str(error))


def _image_file(root: Path, image_id: str) -> Path:
    candidates = [root / "JPEGImages" / f"{image_id}{suffix}" for suffix in SUFFIXES]
    for path in candidates:
        if path.exists():
            return path
    raise UserError(f"{candidates[0]}: no such image, but a list names {image_id}")


def remap(mask: np.ndarray, classes: Sequence[str], other_classes: str, path: Path) -> np.ndarray:
    """VOC's ids -> ours: kept classes 1..N in their order, others background or void.

    Raises UserError for a value that is neither a VOC class nor void.
    """
    if strange := [int(value) for value in np.unique(mask) if len(CLASSES) < value < VOID]:
        raise UserError(f"{path}: label {strange[0]} is outside VOC's 0 to {len(CLASSES)} and void {VOID}")
    table = np.full(256, VOID if other_classes == "void" else BACKGROUND, np.uint8)
    table[BACKGROUND], table[VOID] = BACKGROUND, VOID
    for n, name in enumerate(classes, 1):
        table[CLASSES.index(name) + 1] = n
    return table[mask]
