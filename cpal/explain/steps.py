"""What the pipeline published about one training image, and what each step changed on the way to its pseudo-mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cpal.data.masks import BACKGROUND, VOID
from cpal.evaluation.metrics import class_iou, confusion_matrix
from cpal.maps.cams import CamFile
from cpal.maps.refined import Refined
from cpal.maps.seeds import SeedRule, seed_map

GAINED, LOST, SWAPPED = 1, 2, 3  # values of `changes`


@dataclass(frozen=True)
class Published:
    """Results of one training image.

    walk is None where affinity.method is none: the CRF's labels are passed on. corrected: the pseudo-mask is one that
    an annotator corrected. to_learn is the mask that the segmentation model learns from, None where it is the
    pseudo-mask. truth is None without ground truth.
    """

    maps: CamFile
    rule: SeedRule
    crf: Refined
    walk: Refined | None
    pseudo_mask: np.ndarray
    corrected: bool
    to_learn: np.ndarray | None
    truth: np.ndarray | None


@dataclass(frozen=True)
class Step:
    """A label map uint8 (H, W), and its figures in percent.

    change: of `changes` against the step before, uint8 (H, W); None for the first one. area: pixels by class. iou: by
    class where there is ground truth, NaN for a class in neither; None without ground truth.
    """

    title: str
    label: np.ndarray
    change: np.ndarray | None
    area: Sequence[float]
    iou: Sequence[float] | None

    def share(self, kind: int) -> float:
        """Percent of the pixels that changed in this way: GAINED, LOST or SWAPPED."""
        return 0.0 if self.change is None else 100 * float((self.change == kind).mean())


def changes(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How each pixel's label changed, uint8 of the maps' shape: 0 not at all, GAINED from background to a class, LOST
    to background, SWAPPED to another class. Pixels that become void count as unchanged."""
    change = np.zeros(before.shape, np.uint8)
    change[(before == BACKGROUND) & (after != BACKGROUND)] = GAINED
    change[(before != BACKGROUND) & (after == BACKGROUND)] = LOST
    change[(before != BACKGROUND) & (after != BACKGROUND) & (before != after)] = SWAPPED
    change[(after == VOID) | (before == VOID)] = 0
    return change


def steps(found: Published, classes: Sequence[int]) -> list[Step]:
    """Seeds, CRF, random walk, pseudo-mask, mask to learn from and ground truth, as far as they exist, with figures of
    the classes."""
    labels = {"Seeds": seed_map(found.maps, found.rule), "CRF": found.crf.label}
    if found.walk is not None:
        labels["Random walk"] = found.walk.label
    labels["Pseudo-mask"] = found.pseudo_mask
    if found.to_learn is not None:
        labels["Mask to learn from"] = found.to_learn
    if found.truth is not None:
        labels["Ground truth"] = found.truth
    # No change is shown where only void was added: the mask to learn from, and a pseudo-mask that is not corrected.
    alone = {"Ground truth", "Mask to learn from", *([] if found.corrected else ["Pseudo-mask"])}
    made: list[Step] = []
    for title, label in labels.items():
        change = changes(made[-1].label, label) if made and title not in alone else None
        area = [100 * float((label == k).mean()) for k in classes]
        made.append(Step(title, label, change, area, image_iou(found.truth, label, classes)))
    return made


def void_percent(label: np.ndarray) -> float:
    """Share of the pixels that are void."""
    return 100 * float((label == VOID).mean())


def image_iou(truth: np.ndarray | None, label: np.ndarray, classes: Sequence[int]) -> list[float] | None:
    """IoU of each class in one image, in percent; None without ground truth."""
    if truth is None:
        return None
    iou = class_iou(confusion_matrix(truth, label, 1 + max([*classes, *_values(truth), *_values(label)], default=0)))
    return [float(iou[k]) for k in classes]


def _values(label: np.ndarray) -> list[int]:
    return [int(value) for value in np.unique(label) if value != VOID]
