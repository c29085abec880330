"""Corrected masks of training images, read from the export of an annotation tool."""

import difflib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from unicodedata import normalize

import numpy as np

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import BACKGROUND, VOID
from cpal.errors import UserError
from cpal.exports.shapes import DrawnImage, paint
from cpal.sources.tables.file_names import FileNames, original, storable

SHOWN = 10  # problems that a message lists


@dataclass
class Corrections:
    """Accepts the images of an export, and collects all problems so that they are reported at once.

    With `void_unlabeled`, classes that are no label of their image become void; otherwise they are a problem.
    `left_out` counts images that are not training images or are not selected.
    """

    dataset: Dataset
    void_unlabeled: bool = False
    left_out: int = 0
    done: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._values = {"background": BACKGROUND, "void": VOID, "ignored": VOID} | {
            name: n for n, name in enumerate(self.dataset.classes, start=1)
        }
        self._records = {name: record for name, record in _names(self.dataset.records)}
        self._stored = defaultdict[str, dict[str, Record]](dict)  # by the name that an export gives an image's file
        for name, record in self._records.items():
            self._stored[storable(name)][record.image_id] = record
        self._by_file = {record.image: record for record in self.dataset.records}
        self._files = FileNames(self._by_file)

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """(H, W) of each image, by every name that it may have."""
        return {name: record.size for name, record in self._records.items()}

    def accept(self, image: DrawnImage, only: frozenset[str] | None = None) -> tuple[Record, np.ndarray] | None:
        """Record and label map uint8 (H, W) of an image; None if the image is left out or has a problem.

        `only`: ids of the selected images; None selects all.
        """
        record = self.find(image.file_name)
        if record is None:
            near = difflib.get_close_matches(PurePosixPath(image.file_name).stem, list(self._records), n=1)
            hint = f" (is it {near[0]}?)" if near else ""
            name = image.file_name
            self.problems.append(f"{image.where}: the data set has no image {name}{hint}; rename or remove it")
            return None
        if record.split != "train" or (only is not None and record.image_id not in only):
            self.left_out += 1
            return None
        if problem := self._problem(image, record):
            self.problems.append(f"{image.where}: {problem}")
            return None
        self.done.add(record.image_id)
        labels = paint(DrawnImage(image.file_name, record.size, image.shapes, image.where), self._values)
        return self._labeled(labels, record, image.where)

    def find(self, name: str) -> Record | None:
        """The record that a tool or a list means by this id, file name or path; None if there are none or several."""
        path = PurePosixPath(normalize("NFC", name.replace("\\", "/")))
        in_folders = [str(each).replace("/", "__") for each in (path, path.with_suffix("")) if len(path.parts) > 1]
        names = (*in_folders, path.name, path.stem, *map(original, (path.name, path.stem)))
        if found := next((self._records[name] for name in names if name in self._records), None):
            return found
        stored = {i: record for name in names if name in self._stored for i, record in self._stored[name].items()}
        if stored:
            return next(iter(stored.values())) if len(stored) == 1 else None
        file = self._files.find(name, loose=False).file
        return None if file is None else self._by_file[file]

    def _problem(self, image: DrawnImage, record: Record) -> str | None:
        height, width = image.size
        if record.image_id in self.done:
            return "is there twice; export each image once"
        if image.size != record.size and (image.shapes or image.size != (0, 0)):
            turned = " (turned by its EXIF entry?)" if (width, height) == record.size else ""
            return (
                f"is of {width} x {height} pixels, but the image is of {record.width} x {record.height}{turned}; "
                "annotate the picture that stages.export_masks wrote"
            )
        unknown = sorted({shape.name for shape in image.shapes} - self._values.keys())
        if unknown:
            near = difflib.get_close_matches(unknown[0], list(self._values), n=1)
            hint = f" (is it {near[0]}?)" if near else ""
            return (
                f"has the class {unknown[0]!r}{hint}, but the data set's are {', '.join(self.dataset.classes)}; rename "
                "it in the tool"
            )
        return None

    def _labeled(self, labels: np.ndarray, record: Record, where: str) -> tuple[Record, np.ndarray] | None:
        """Compare the classes of a label map with the image-level labels, which every later stage relies on."""
        found = np.flatnonzero(np.bincount(labels.ravel())).tolist()
        other = sorted(set(found) - {BACKGROUND, VOID, *record.labels})
        if not other:
            return record, labels
        if self.void_unlabeled:
            return record, np.where(np.isin(labels, other), np.uint8(VOID), labels)
        names = ", ".join(self.dataset.classes[n - 1] for n in other)
        self.problems.append(
            f"{where}: shows {names}, which the image is not labeled with; add it to the image's labels and run dvc "
            "repro prepare, or make such pixels void with --void-unlabeled"
        )
        return None

    def refuse(self, path: object, only: Iterable[str] = ()) -> None:
        """Raise UserError that lists all problems, if there are any.

        An image of `only` that was not accepted is a problem. UserError is also raised if no image was accepted.
        """
        missing = sorted(set(only) - self.done)
        validation = {record.image_id for record in self.dataset.split("val")}
        problems = self.problems + [
            f"--only names {name}: a validation image, which has no pseudo-mask to correct; take it off the list"
            if name in validation
            else f"{path}: has no image {name}, which --only names"
            for name in missing
        ]
        if problems:
            shown = problems[:SHOWN] + ["..."] * (len(problems) > SHOWN)
            raise UserError("\n  - ".join([f"{path}: {len(problems)} problem(s), nothing is imported:", *shown]))
        if not self.done:
            raise UserError(f"{path}: holds no annotated training image; export the annotated images")


def _names(records: Iterable[Record]) -> Iterable[tuple[str, Record]]:
    """Every name that identifies a record: its id, and the name of its image file if no other record has this name."""
    stems: dict[str, list[Record]] = {}
    for record in records:
        for name in {PurePosixPath(record.image).name, PurePosixPath(record.image).stem}:
            stems.setdefault(normalize("NFC", name), []).append(record)
    yield from ((name, found[0]) for name, found in stems.items() if len(found) == 1)
    yield from ((normalize("NFC", record.image_id), record) for record in records)
