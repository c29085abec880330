"""What is seen of each image: how its results agree with each other and with the truth; which images are shown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import LabelMaps, read_truth
from cpal.evaluation.doubt import JudgedImage, Values, class_signals, doubt_image
from cpal.evaluation.metrics import confusion_matrix, image_iou
from cpal.maps.cams import read_maps
from cpal.maps.refined import read_crf
from cpal.maps.seeds import SeedRule, seed_map
from cpal.settings.cpal import CpalSettings

# The results of a function for the items of each sequence, by several processes, with a title to show.
Each = Callable[..., list[Any]]


@dataclass(frozen=True)
class Results:
    """Where each step's results lie, one file an image, and the rule that makes seeds of the maps.

    `predicted` are the ids of images that have a prediction; validation images all have one. `instances` says which
    pixels made an instance.
    """

    cams: Path
    crf: Path
    pseudo_masks: LabelMaps
    predictions: LabelMaps
    rule: SeedRule
    predicted: frozenset[str]
    instances: CpalSettings


@dataclass(frozen=True)
class ImageResult:
    """What was seen of an image. `miou`: of its own result, in percent over the classes in the truth.

    It is None without ground truth, for images without any class (most of them are background throughout, and right)
    and where the truth is void throughout. `signals` are those of each label; `predicted` (K,) are the model's pixels
    by mask value, None without a prediction. `doubt` is 0 to 100, for the `reasons`.
    """

    record: Record
    miou: float | None
    signals: Mapping[int, Values]
    predicted: np.ndarray | None
    doubt: float
    reasons: Sequence[str]

    @property
    def for_classes(self) -> JudgedImage:
        """What `judge_classes` takes: signals of training images only, whose masks it judges."""
        signals = self.signals if self.record.split == "train" else {}
        return JudgedImage(self.record.labels, signals, self.predicted)


def compare_results(dataset: Dataset, record: Record, results: Results) -> ImageResult:
    """Read all results of an image and compare them with each other, and with the ground truth where it counts."""
    ways, confidence = _read(record, results)
    miou = None
    if record.mask is not None and record.scored and record.labels:
        confusion = confusion_matrix(read_truth(dataset, record), ways["result"], dataset.num_classes)
        miou = image_iou(confusion) if confusion.any() else None
    signals = {label: class_signals(label, ways, confidence) for label in record.labels}
    predicted = ways.get("prediction")
    pixels = None if predicted is None else np.bincount(predicted.ravel(), minlength=256)[: dataset.num_classes]
    doubt, reasons = doubt_image(signals, pixels, dataset.classes)
    return ImageResult(record, miou, signals, pixels, doubt, reasons)


def _read(record: Record, results: Results) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Label maps of an image as `class_signals` takes them, and the CRF's confidence, if there is any."""
    ways: dict[str, np.ndarray] = {}
    if record.image_id in results.predicted:
        ways["prediction"] = results.predictions.read(record)
    if record.split == "val":
        return ways | {"result": ways["prediction"]}, None
    maps, refined = read_maps(results.cams, record), read_crf(results.crf, record)
    ways |= {name: seed_map(maps, SeedRule(name, results.rule.thresholds)) for name in maps.maps}
    ways |= {"seeds": seed_map(maps, results.rule), "crf": refined.label}
    return ways | {"result": results.pseudo_masks.read(record)}, refined.confidence


def truth_tells_the_worst(compared: Iterable[ImageResult]) -> bool:
    """Whether most training images with a label have an mIoU. The worst of a few scored ones say little of the rest."""
    known = [seen.miou is not None for seen in compared if seen.record.split == "train" and seen.record.labels]
    return 2 * sum(known) > len(known)


def worst_first(compared: Iterable[ImageResult], *, by_truth: bool) -> list[ImageResult]:
    """Images to look at first in front: those of the lowest mIoU, or else the most doubtful ones."""

    def place(result: ImageResult) -> tuple[float, float, str]:
        miou = result.miou if by_truth and result.miou is not None else 1000.0
        return (miou, -result.doubt, result.record.image_id)

    return sorted(compared, key=place)


def found_by_model(compared: Iterable[ImageResult]) -> dict[int, tuple[int, int]]:
    """For each label, two numbers of validation images: with a predicted pixel of it, and with the label."""
    found: dict[int, tuple[int, int]] = {}
    for seen in compared:
        if seen.record.split == "val" and seen.predicted is not None:
            for label in seen.record.labels:
                shown, images = found.get(label, (0, 0))
                found[label] = shown + int(seen.predicted[label] > 0), images + 1
    return found


def choose(compared: Sequence[ImageResult], count: int, *, seed: int) -> tuple[list[ImageResult], str]:
    """At most `count` of the images, in their order, and a sentence that says which: the first half of them as they
    come, the rest drawn at random."""
    if len(compared) <= count:
        return list(compared), f"All {len(compared)} training and validation images."
    front = count - count // 2
    drawn = np.random.default_rng(seed).choice(len(compared) - front, count - front, replace=False)
    chosen = [*compared[:front], *(compared[front + place] for place in sorted(drawn.tolist()))]
    return chosen, (
        f"{count} of {len(compared)} images: the {front} to look at first, and {count - front} of the others drawn at "
        "random. The setting report.images says how many."
    )
