"""Which images have other results in another run, and the results beside each other, the worst changes first."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cpal.compare.runs import Places, Run
from cpal.data.dataset import Dataset, Record, Split, read_dataset
from cpal.data.images import read_record_image
from cpal.data.masks import LabelMaps, read_truth
from cpal.errors import UserError
from cpal.evaluation.metrics import confusion_matrix, image_iou
from cpal.maps.drawing import class_palette, fit, overlay
from cpal.report.image_results import Each
from cpal.report.page import Layer, embedded

SIDE = 240  # of a picture, in pixels
MEANS = 1.0  # a change of an image's mIoU that counts as better or worse, in percent
RESULTS: dict[str, tuple[Split, str, str]] = {  # by title: split, the field of Places, stage
    "Pseudo-masks of training images": ("train", "pseudo_masks", "write_pseudo_masks"),
    "Predictions of validation images": ("val", "predictions", "predict_segmentation"),
}


@dataclass(frozen=True)
class Change:
    """An image whose result is not the same in all runs. `dataset`, without records, is where its ground truth lies.

    `mious`: of each run's result, in percent over the classes in the truth; None where there is no ground truth.
    `differing`: pixels that differ from the first run's, in percent.
    """

    dataset: Dataset
    record: Record
    mious: tuple[float | None, ...]
    differing: tuple[float, ...]

    @property
    def gains(self) -> list[float]:
        """mIoU of the other runs less the first run's; empty without ground truth."""
        first, *others = [miou for miou in self.mious if miou is not None] or [0.0]
        return [miou - first for miou in others]

    @property
    def order(self) -> tuple[bool, float, str]:
        """The worst change first: the largest loss of mIoU, or else the most pixels."""
        gains = self.gains
        return not gains, min(gains) if gains else -max(self.differing), self.record.image_id


@dataclass(frozen=True)
class Pictures:
    """An image of the page: its photograph, its ground truth, and each run's result, by title."""

    name: str
    layers: Mapping[str, Layer]
    notes: Mapping[str, str]


@dataclass(frozen=True)
class Group:
    """One kind of result. `counts` is a sentence for each other run; `images` are the worst changes."""

    title: str
    counts: Sequence[str]
    images: Sequence[Pictures]


@dataclass(frozen=True)
class Gallery:
    """What the page says about images. `classes` are those of the results; `why` says why a run or all are missing."""

    classes: Sequence[str]
    groups: Sequence[Group]
    why: Sequence[str]


def compare_images(runs: Sequence[Run], places: Places, each: Each, *, images: int) -> Gallery:
    """The images whose results differ, at most `images` of each kind. `each` calls a function with each record.

    Runs whose results are not there are left out, and the gallery says so. Images that are not the same in all runs are
    left out too.
    """
    why = [f"{run.name}: {run.missing}; {run.cure}." for run in runs if run.absent]
    there, datasets = [], []
    for run in runs:
        try:
            if not run.absent:
                datasets.append(read_dataset(run.folder / places.dataset))
                there.append(run)
        except UserError as error:  # as of a revision that wrote another format
            why.append(f"{run.name}: {str(error).partition(';')[0].replace(f'{run.folder}/', '')}.")
    if len(there) < 2:
        return Gallery([], [], [*why, "Images need the outputs of two runs."])
    if len({dataset.classes for dataset in datasets}) > 1:
        return Gallery([], [], [*why, "The runs have different classes, so their masks cannot be compared."])
    shared = shared_images(datasets)
    if missing := len(datasets[0].records) - len(shared):
        total = len(datasets[0].records)
        why.append(f"{missing} of the {total} images of {there[0].name} are not in all runs with the same split.")
    groups = []
    for title, (split, place, stage) in RESULTS.items():
        folders = [run.folder / getattr(places, place) for run in there]
        maps = [LabelMaps(folder, stage, datasets[0].num_foreground) for folder in folders]
        of_split = [image for image in shared if image[1].split == split]
        groups.append(_group(title, [run.name for run in there], of_split, maps, each, images=images))
    return Gallery(datasets[0].classes, groups, why)


def shared_images(datasets: Sequence[Dataset]) -> list[tuple[Dataset, Record]]:
    """The images that all data sets have with the same content, size and split, in the first one's order.

    Each has the record, and the data set without records, that judge it: those of the first data set that scores it.
    """
    found: dict[tuple[Any, ...], list[tuple[Dataset, Record]]] = {}
    for dataset in datasets:
        bare = replace(dataset, records=())  # what a process needs of the data set: it is sent with each image
        for record in dataset.records:
            key = record.image_id, record.sha256, record.size, record.split
            found.setdefault(key, []).append((bare, record))
    shared = [images for images in found.values() if len(images) == len(datasets)]
    return [next((image for image in images if image[1].scored), images[0]) for images in shared]


def _group(
    title: str,
    names: Sequence[str],
    shared: Sequence[tuple[Dataset, Record]],
    maps: Sequence[LabelMaps],
    each: Each,
    *,
    images: int,
) -> Group:
    found = each(title.lower(), lambda image: find_change(image[0], image[1], maps), shared)
    changes = sorted((change for change in found if change is not None), key=lambda change: change.order)
    counts = [_count(name, place, changes, len(shared)) for place, name in enumerate(names) if place]
    worst = changes[:images]
    pictures = each("draw images", lambda change: draw(change.dataset, change.record, maps, names), worst)
    shown = [
        Pictures(change.record.image_id, layers, _notes(change, names))
        for change, layers in zip(worst, pictures, strict=True)
    ]
    return Group(title, counts, shown)


def _count(name: str, place: int, changes: Sequence[Change], total: int) -> str:
    """How many images differ between a run and the first, and in which direction."""
    differ = [change for change in changes if change.differing[place] > 0]
    text = f"{name}: {len(differ)} of {total} images differ"
    gains = [change.gains[place - 1] for change in differ if change.gains]
    if not gains:
        return f"{text}."
    better, worse = sum(gain >= MEANS for gain in gains), sum(gain <= -MEANS for gain in gains)
    return f"{text}; the mIoU of {worse} fell by {MEANS:g} or more, that of {better} rose by as much."


def find_change(dataset: Dataset, record: Record, maps: Sequence[LabelMaps]) -> Change | None:
    """How an image's results differ between the runs; None if they are equal.

    Equal files of DVC's cache are not read. Raises UserError if a result is missing or damaged.
    """
    files = [labels.folder / f"{record.image_id}.png" for labels in maps]
    if all(file.exists() for file in files) and all(os.path.samefile(file, files[0]) for file in files):
        return None
    results = [labels.read(record) for labels in maps]
    differing = tuple(100 * float(np.mean(result != results[0])) for result in results)
    if not any(differing):
        return None
    mious: list[float | None] = [None] * len(results)
    if record.mask is not None and record.scored:
        truth = read_truth(dataset, record)
        confusions = [confusion_matrix(truth, result, dataset.num_classes) for result in results]
        mious = [image_iou(confusion) if confusion.any() else None for confusion in confusions]
    return Change(dataset, record, tuple(mious), differing)


def draw(dataset: Dataset, record: Record, maps: Sequence[LabelMaps], names: Sequence[str]) -> dict[str, Layer]:
    """The photograph, the ground truth if there is one, and each run's result over the photograph."""
    image = fit(read_record_image(dataset.image_path(record), record), width=SIDE, height=SIDE)
    masks = {} if record.mask is None else {"Ground truth": read_truth(dataset, record)}
    masks |= {name: labels.read(record) for name, labels in zip(names, maps, strict=True)}
    palette = class_palette()
    pictures = {"Image": image} | {
        title: overlay(image, fit(mask, width=SIDE, height=SIDE), palette) for title, mask in masks.items()
    }
    return {title: embedded(picture) for title, picture in pictures.items()}


def _notes(change: Change, names: Sequence[str]) -> dict[str, str]:
    """A line below each run's picture."""
    first, notes = change.mious[0], {}
    for name, miou, differing in zip(names, change.mious, change.differing, strict=True):
        parts = [] if miou is None else [f"mIoU {miou:.1f}"]
        if name != names[0]:
            parts += [] if miou is None or first is None else [f"{miou - first:+z.1f}"]
            parts += [f"{differing:.1f}% of the pixels differ"]
        notes[name] = ", ".join(parts)
    return notes
