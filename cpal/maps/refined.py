"""What refines a seed gives: label and confidence of each pixel, their file, and the pseudo-mask made from them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpal.data.masks import VOID
from cpal.errors import reading


@dataclass(frozen=True)
class Refined:
    """label uint8 (H, W) are mask values 0..N; confidence uint8 (H, W) is the label's probability times 255."""

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


def read_crf(path: Path, *, stage: str = "refine_crf") -> Refined:
    """Read what `write_crf` wrote.

    Raises UserError when it is missing or damaged; `stage` makes it anew.
    """
    with reading(path, stage=stage), np.load(path, allow_pickle=False) as stored:
        return Refined(stored["label"], stored["confidence"])


def pseudo_mask(refined: Refined, *, min_confidence: float) -> np.ndarray:
    """Label map uint8 (H, W); void where the label's probability is below min_confidence."""
    certain = refined.confidence >= np.floor(255 * min_confidence)
    return np.where(certain, refined.label, np.uint8(VOID)).astype(np.uint8)
