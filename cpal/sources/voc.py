"""A folder laid out like PASCAL VOC -> records: JPEGImages/, ImageSets/Segmentation/, masks, Annotations/.

First every list and file is read and checked, then the masks are written in our own ids. Functions that take `problems`
append a line for each thing that the user has to put right, so that one message can tell all of them.
"""

import csv
import hashlib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
SHOWN = 20  # problems of a data set that one message lists


@dataclass(frozen=True)
class Listed:
    """An image that a list names. `names`: its classes by the labels csv, None without one."""

    image_id: str
    split: Split
    scored: bool
    names: frozenset[str] | None


@dataclass(frozen=True)
class Found:
    """What reading a listed image gave. `labels` None: unknown; `record` None: there are problems."""

    split: Split
    labels: tuple[int, ...] | None
    record: Record | None
    problems: tuple[str, ...]


def _silent(items: Iterable[Any], *, total: int, what: str) -> Iterable[Any]:
    return items


def import_voc(
    folder: Path,
    settings: DataConfig,
    *,
    workers: int,
    limit: int | None = None,
    progress: Callable[..., Iterable[Any]] = _silent,
) -> None:
    """Write dataset.json and the remapped masks into `folder`; the images stay where they are.

    `limit` keeps the first images of the lists. `progress(items, total=, what=)` hands its items on, to show a bar.
    Nothing is written before everything is read and checked. Raises UserError that lists what is wrong: missing root,
    list, image or mask, unreadable files, a mask of another size than its image, labels outside the class list, an
    image in both splits, a class without any training image.
    """
    root, classes = Path(settings.root), settings.classes or CLASSES
    problems: list[str] = []
    listed = read_lists(root, settings, limit, problems)
    parallel = Parallel(n_jobs=max(1, workers), return_as="generator")
    found: list[Found] = []
    if listed:  # joblib warns of a generator that nobody reads
        results = parallel(delayed(read_one)(root, settings, classes, item) for item in listed)
        found = list(progress(results, total=len(listed), what="read images"))
    problems += [problem for one in found for problem in one.problems]
    if limit is None:
        problems += _unlearnable(found, classes, settings.train_list)
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        title = f"data set {root}: {len(problems)} problem(s) to put right:"
        raise UserError("\n  - ".join([title, *problems[:SHOWN], *more]))

    records = [one.record for one in found if one.record is not None]
    masks = [(root / settings.masks / f"{r.image_id}.png", folder / r.mask) for r in records if r.mask is not None]
    table = label_table(classes, settings.other_classes)
    written = parallel(delayed(_write_remapped)(source, target, table) for source, target in masks)
    for _ in progress(written, total=len(masks), what="write masks"):
        pass
    splits = {"train": settings.train_list, "score": settings.score_list, "val": settings.val_list}
    write_dataset(folder, records, classes=classes, splits=splits, image_root=settings.root)


def label_table(classes: Sequence[str], other_classes: str) -> np.ndarray:
    """Our id of each VOC id, uint8 (256,): kept classes 1..N in their order, others background or void."""
    table = np.full(256, VOID if other_classes == "void" else BACKGROUND, np.uint8)
    table[BACKGROUND], table[VOID] = BACKGROUND, VOID
    for n, name in enumerate(classes, 1):
        table[CLASSES.index(name) + 1] = n
    return table


def _write_remapped(source: Path, target: Path, table: np.ndarray) -> None:
    write_mask(target, table[read_mask(source)])


def read_lists(root: Path, settings: DataConfig, limit: int | None, problems: list[str]) -> list[Listed]:
    """The images to read, training images first; none when there is nowhere to read them from."""
    if unknown := [name for name in settings.classes or () if name not in CLASSES]:
        problems.append(f"data.classes: {', '.join(unknown)} not among VOC's classes {', '.join(CLASSES)}")
    if not root.is_dir():
        start = "" if root.is_absolute() else f" (a relative path starts at {Path.cwd()})"
        problems.append(f"data.root: no folder {root}{start}; set it to the folder that holds JPEGImages")
        return []
    needed = {"JPEGImages": "images", settings.masks: "ground-truth masks (data.masks)"}
    if settings.labels == "xml":
        needed["Annotations"] = "image-level labels (data.labels: xml)"
    absent = [name for name in needed if not (root / name).is_dir()]
    problems += [f"{root / name}: no such folder; it holds the {needed[name]}" for name in absent]
    once = dict.fromkeys((settings.train_list, settings.score_list, settings.val_list))
    lists = {name: _read_list(root, name, problems) for name in once}
    train, val, scored = lists[settings.train_list], lists[settings.val_list], set(lists[settings.score_list])
    if both := sorted(set(train) & set(val)):
        problems.append(f"{len(both)} image(s) are in both data.train_list and data.val_list: {_some(both)}")
    if train and (strange := sorted(scored - set(train))):
        problems.append(
            f"{len(strange)} image(s) of data.score_list {settings.score_list} are not in data.train_list "
            f"{settings.train_list}, and seeds exist for training images only: {_some(strange)}"
        )
    names: dict[str, frozenset[str]] = {}
    if settings.labels == "csv":
        assert settings.labels_csv is not None, "the settings demand labels_csv with labels: csv"
        names = _read_labels_csv(Path(settings.labels_csv), [*train, *val], problems)
    training = [Listed(i, "train", i in scored, names.get(i)) for i in train[:limit]]
    return [] if absent or unknown else training + [Listed(i, "val", True, names.get(i)) for i in val[:limit]]


def _read_list(root: Path, name: str, problems: list[str]) -> list[str]:
    """Image ids of a list file, each once; blank lines and a second column are passed over."""
    path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        problems.append(f"{path}: no such list; lists there: {known}")
        return []
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: unreadable list ({error})")
        return []
    ids = [row[0] for row in rows if row]
    if not ids:
        problems.append(f"{path}: names no image")
    if paths := {image_id: None for image_id in ids if image_id.startswith(".") or set("/\\") & set(image_id)}:
        problems.append(
            f"{path}: {len(paths)} line(s) hold no image id; JPEGImages/a.jpg is listed as a: {_some(list(paths))}"
        )
    counts = Counter(ids)
    if twice := [image_id for image_id, count in counts.items() if count > 1]:
        problems.append(f"{path}: {len(twice)} image(s) named more than once: {_some(twice)}")
    return [image_id for image_id in counts if image_id not in paths]


def _read_labels_csv(path: Path, image_ids: Sequence[str], problems: list[str]) -> dict[str, frozenset[str]]:
    """Lines `image,labels` with `;` between names of VOC's classes; every image of `image_ids` needs one."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
    except FileNotFoundError:
        problems.append(f"data.labels_csv: no file {path}")
        return {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(f"{path}: not a csv file in UTF-8 ({error})")
        return {}
    if not rows or [cell.strip() for cell in rows[0]] != ["image", "labels"]:
        problems.append(f"{path}: the first line must be image,labels")
        return {}
    names: dict[str, frozenset[str]] = {}
    for line, row in enumerate(rows[1:], 2):
        image_id = row[0].strip() if row else ""
        if row and len(row) != 2:
            problems.append(f"{path}, line {line}: {len(row)} columns; write image,labels with ; between class names")
        elif row:
            if image_id in names:
                problems.append(f"{path}, line {line}: image {image_id} for the second time")
            names[image_id] = frozenset(name.strip() for name in row[1].split(";") if name.strip())
            if strange := sorted(names[image_id] - set(CLASSES)):
                problems.append(f"{path}, line {line}: {', '.join(strange)} not among VOC's classes")
    if lacking := [image_id for image_id in image_ids if image_id not in names]:
        problems.append(f"{path}: no line for {len(lacking)} listed image(s): {_some(lacking)}")
    return names


def read_one(root: Path, settings: DataConfig, classes: Sequence[str], listed: Listed) -> Found:
    """Decode and check a listed image, its mask and its labels."""
    problems: list[str] = []
    image, mask = _image_file(root, listed.image_id), root / settings.masks / f"{listed.image_id}.png"
    size: tuple[int, int] | None = None
    names = listed.names
    with _noted(problems):
        height, width = read_image(image).shape[:2]
        size = (height, width)
    if mask.exists():
        with _noted(problems):
            seen = _names_in_mask(mask, size, problems)
            names = seen if settings.labels == "masks" else names
    elif listed.scored or settings.labels == "masks":
        why = "scores are taken on this image" if listed.scored else "its labels come from it (data.labels: masks)"
        problems.append(f"{mask}: no such mask; {why}")
    if settings.labels == "xml":
        with _noted(problems):
            names = _names_in_xml(root / "Annotations" / f"{listed.image_id}.xml")
    labels = None if names is None else tuple(n for n, name in enumerate(classes, 1) if name in names)
    if problems or size is None or labels is None:
        return Found(listed.split, labels, None, tuple(problems))
    record = Record(
        image_id=listed.image_id,
        split=listed.split,
        scored=listed.scored,
        image=image.relative_to(root).as_posix(),
        width=size[1],
        height=size[0],
        labels=labels,
        mask=f"masks/{listed.image_id}.png" if mask.exists() else None,
        sha256=hashlib.sha256(image.read_bytes()).hexdigest(),
    )
    return Found(listed.split, labels, record, ())


def _image_file(root: Path, image_id: str) -> Path:
    candidates = [root / "JPEGImages" / f"{image_id}{suffix}" for suffix in SUFFIXES]
    return next((path for path in candidates if path.exists()), candidates[0])


def _names_in_mask(path: Path, size: tuple[int, int] | None, problems: list[str]) -> frozenset[str]:
    """VOC's classes that have a pixel; size (H, W) is the image's, None when it is unknown."""
    mask = read_mask(path)
    if size is not None and mask.shape != size:
        problems.append(
            f"{path}: {mask.shape[1]}x{mask.shape[0]} pixels, but its image has {size[1]}x{size[0]}; "
            "one of the two was resized or turned"
        )
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
    if strange := [value for value in values if len(CLASSES) < value < VOID]:
        problems.append(
            f"{path}: label {', '.join(map(str, strange))} is outside VOC's 0 to {len(CLASSES)} and void {VOID}"
        )
    return frozenset(CLASSES[value - 1] for value in values if 0 < value <= len(CLASSES))


def _names_in_xml(path: Path) -> frozenset[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "<!DOCTYPE" in text:  # where entities that grow without bound are declared
            raise UserError(f"{path}: has a document type (DOCTYPE), which VOC's annotations never have; refused")
        objects = ElementTree.fromstring(text).findall("object")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; data.labels: xml needs one for each image") from None
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise UserError(f"{path}: not a readable XML file ({error})") from None
    names = frozenset(node.findtext("name", "").strip() for node in objects)
    if strange := sorted(names - set(CLASSES)):
        raise UserError(f"{path}: object {', '.join(map(repr, strange))} is not among VOC's classes")
    return names


def _unlearnable(found: Sequence[Found], classes: Sequence[str], train_list: str) -> list[str]:
    """Problems of classes that no training image shows; none while an image's labels are unknown."""
    labels = [one.labels for one in found if one.split == "train"]
    if not labels or None in labels:
        return []
    shown = {label for one in labels for label in one or ()}
    absent = [name for n, name in enumerate(classes, 1) if n not in shown]
    return [f"class {name}: no image of {train_list} shows it; take it off data.classes" for name in absent]


@contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    """A UserError in the block becomes one of the problems."""
    try:
        yield
    except UserError as error:
        problems.append(str(error))


def _some(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
