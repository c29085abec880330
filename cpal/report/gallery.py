"""Which images a report shows, and each one's way through the pipeline as panels of one size."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpal.data.dataset import Dataset, Record, Split
from cpal.data.images import read_record_image
from cpal.data.masks import BACKGROUND, VOID, LabelMaps, read_truth
from cpal.evaluation.metrics import confusion_matrix, mean_iou
from cpal.maps.cams import MAP_NAMES, read_maps, resize_maps
from cpal.maps.drawing import class_palette, contact_sheet, fit, heat, legend, overlay, stack, strip
from cpal.maps.fonts import drawable
from cpal.maps.refined import read_crf
from cpal.report.page import Gallery, Strip

Ranked = tuple[float, Record]
PAGE_WIDTH, ROW_WIDTH, SAMPLE_SIDE = 280, 176, 128  # of a panel, in pixels
SAMPLES, SAMPLE_COLUMNS = 24, 6


@dataclass(frozen=True)
class Results:
    """Where each step's results lie, one file an image."""

    cams: Path
    crf: Path
    pseudo_masks: LabelMaps
    predictions: LabelMaps


@dataclass(frozen=True)
class Panels:
    """pictures uint8 (H, W, 3) by title, all of one size; `classes` are the mask values that occur in them."""

    pictures: dict[str, np.ndarray]
    classes: tuple[int, ...]


def rank(dataset: Dataset, records: Iterable[Record], found: LabelMaps) -> list[Ranked]:
    """Records with a class and a mask, each with its own mIoU of its label map in percent, best first.

    An image's mIoU runs over the classes in its truth or its result. Images without any class (most of them are
    background throughout, and right) and images whose truth is void throughout are left out.
    """
    ranked = []
    for record in records:
        if record.mask is not None and record.labels:
            confusion = confusion_matrix(read_truth(dataset, record), found.read(record), dataset.num_classes)
            if confusion.any():
                ranked.append((mean_iou(confusion), record))
    return sorted(ranked, key=lambda entry: (-entry[0], entry[1].image_id))


def extremes(ranked: list[Ranked], count: int) -> tuple[list[Ranked], list[Ranked]]:
    """The best, and the worst from the worst on, `count` together and none in both; the odd one is a best."""
    count = min(count, len(ranked))
    worst = count // 2
    return ranked[: count - worst], ranked[::-1][:worst]


def spread_over_ranks(ranked: list[Ranked], count: int) -> list[Record]:
    """Records evenly spread from best to worst; each the nearest in rank that brings a class not shown yet, if any."""
    left = list(enumerate(record for _, record in ranked))
    chosen: list[Record] = []
    for i in range(min(count, len(ranked))):
        place = (i + 0.5) / min(count, len(ranked)) * len(ranked) - 0.5
        left.sort(key=lambda entry: abs(entry[0] - place))
        shown = {label for record in chosen for label in record.labels}
        pick = next((entry for entry in left if not shown.issuperset(entry[1].labels)), left[0])
        left.remove(pick)
        chosen.append(pick[1])
    return chosen


def draw_panels(
    dataset: Dataset, record: Record, results: Results, thresholds: Mapping[str, float], *, width: int
) -> Panels:
    """Image, maps, CRF, pseudo-mask, prediction and ground truth, as far as they exist for this record.

    Validation images have no maps, CRF or pseudo-mask; of the training images some may have no prediction. Imported
    maps are a CAM alone. `thresholds` are the maps' background scores, by name.
    """
    image = fit(read_record_image(dataset.image_path(record), record), width=width)
    pictures, masks = {"Image": image}, {}
    if record.split == "train":
        maps = read_maps(results.cams, record)
        for name, map_ in maps.maps.items():
            pictures[MAP_NAMES[name]] = heat(image, resize_maps(map_, image.shape[:2]), thresholds[name])
        masks["CRF"] = read_crf(results.crf, record).label
        masks["Pseudo-mask"] = results.pseudo_masks.read(record)
    if record.split == "val" or record in dataset.predicted():
        masks["Prediction"] = results.predictions.read(record)
    if record.mask is not None:
        masks["Ground truth"] = read_truth(dataset, record)
    palette = class_palette()
    for title, mask in masks.items():
        pictures[title] = overlay(image, fit(mask, width=width), palette)
    values = {int(value) for mask in masks.values() for value in np.unique(mask)} | set(record.labels)
    return Panels(pictures, tuple(sorted(values - {BACKGROUND, VOID})))


def best_and_worst(
    dataset: Dataset, split: Split, ranked: list[Ranked], count: int, results: Results, thresholds: Mapping[str, float]
) -> list[Gallery]:
    """The strips that the page shows of a split; its first images where none can be ranked."""
    images, result = ("Training images", "pseudo-mask") if split == "train" else ("Validation images", "prediction")
    best, worst = extremes(ranked, count)
    groups = {
        f"{images}: the best {result}s": [(f"mIoU {miou:.1f}", record) for miou, record in best],
        f"{images}: the worst {result}s": [(f"mIoU {miou:.1f}", record) for miou, record in worst],
    }
    if not ranked:
        groups = {f"{images}: the first of the list": [("", record) for record in dataset.split(split, count)]}
    galleries = []
    for title, entries in groups.items():
        strips = []
        for score, record in entries:
            panels = draw_panels(dataset, record, results, thresholds, width=PAGE_WIDTH)
            strips.append(Strip(record.image_id, score, panels.classes, panels.pictures))
        galleries.append(Gallery(title, strips))
    return [gallery for gallery in galleries if gallery.strips]


def strip_rows(
    dataset: Dataset, records: Iterable[Record], results: Results, thresholds: Mapping[str, float]
) -> np.ndarray:
    """One picture: a row an image, titles above the first, the classes' colors below the last.

    The columns are those that every image has.
    """
    ways = [draw_panels(dataset, record, results, thresholds, width=ROW_WIDTH) for record in records]
    titles = [title for title in ways[0].pictures if all(title in way.pictures for way in ways)]
    rows = [strip([way.pictures[t] for t in titles], titles if i == 0 else ()) for i, way in enumerate(ways)]
    values = sorted({value for way in ways for value in way.classes})
    names = [drawable(dataset.classes[value - 1], value) for value in values]
    return stack([*rows, legend(names, class_palette()[values], width=rows[0].shape[1])])


def samples(dataset: Dataset) -> np.ndarray:
    """One picture: training images evenly spread over the list, each beside its mask, above its classes' names."""
    records = dataset.split("train")
    count = min(SAMPLES, len(records))
    cells, captions = [], []
    for record in (records[i * len(records) // count] for i in range(count)):
        image = fit(read_record_image(dataset.image_path(record), record), width=SAMPLE_SIDE, height=SAMPLE_SIDE)
        pictures = [image]
        if record.mask is not None:
            mask = fit(read_truth(dataset, record), width=SAMPLE_SIDE, height=SAMPLE_SIDE)
            pictures.append(overlay(image, mask, class_palette()))
        cells.append(strip(pictures))
        captions.append(
            ", ".join(drawable(dataset.classes[label - 1], label) for label in record.labels) or "no object"
        )
    return contact_sheet(cells, captions, columns=SAMPLE_COLUMNS)
