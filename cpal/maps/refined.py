"""The refinement of a seed: label and confidence of each pixel, the file with both, and the resulting pseudo-mask."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpal.data.dataset import Record
from cpal.data.masks import BACKGROUND, VOID
from cpal.files import read_arrays

TRAINING = "training"  # folder below the pseudo-masks: those that the segmentation model learns from, if they differ


@dataclass(frozen=True)
class Refined:
    """label uint8 (H, W): mask values 0..N. confidence uint8 (H, W): the probability of the label times 255."""

    label: np.ndarray
    confidence: np.ndarray


def write_crf(path: Path, content: Refined) -> None:
    """Write one .npz without pickles."""
    with path.open("wb") as stream:
        np.savez_compressed(
            stream,
            format=np.int64(1),
            label=content.label,
            confidence=content.confidence,
        )


def read_crf(folder: Path, record: Record, *, stage: str = "refine_crf") -> Refined:
    """Read folder/ID.npz, which `write_crf` wrote.

    Raises UserError if the file is missing or damaged, or does not match the size and labels of the record; the message
    says to run `stage` again.
    """
    stored = read_arrays(folder / f"{record.image_id}.npz", stage=stage)
    label, confidence = (stored.take(name, np.uint8, record.size) for name in ("label", "confidence"))
    classes = np.flatnonzero(np.bincount(label.ravel())).tolist()
    if not set(classes) <= {BACKGROUND, *record.labels}:
        raise stored.wrong(f"shows {classes} where the data set has {list(record.labels)}")
    return Refined(label, confidence)


def pseudo_mask(refined: Refined, *, min_confidence: float) -> np.ndarray:
    """Label map uint8 (H, W); void where the label's probability is below min_confidence."""
    certain = refined.confidence >= np.floor(255 * min_confidence)
    return np.where(certain, refined.label, np.uint8(VOID)).astype(np.uint8)


def void_unsure(mask: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Label map uint8 (H, W) with void for the background where a class scores more than the threshold.

    scores (classes, H, W) are those of `seed_scores` without the background. A score above 0.5 makes a seed. Refinement
    often cuts off parts of an object; there the mask says background, but the score is still high. Ours.
    """
    unsure = (mask == BACKGROUND) & (scores.max(axis=0, initial=0) > threshold)
    return np.where(unsure, np.uint8(VOID), mask)
