"""Where the random walk ended: its file, and the labels that it gives."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpal.errors import reading
from cpal.maps.cams import resize_maps
from cpal.maps.refined import Refined


@dataclass(frozen=True)
class WalkFile:
    """Where the walk ended, at a quarter of the image's size (H, W), for each of affinity.powers.

    classes int64 (K,) are mask values 1..N. scores float16 (powers, K, h, w); with background: walk there is one more
    in front, (powers, K + 1, h, w), and they are probabilities. Else each power's maximum is 1.
    """

    classes: np.ndarray
    scores: np.ndarray
    size: tuple[int, int]

    @property
    def background_walked(self) -> bool:
        return self.scores.shape[1] > len(self.classes)


def walked_labels(content: WalkFile, index: int, background_threshold: float) -> Refined:
    """Label and confidence of every pixel at the power of this index.

    The threshold is the background's score where it did not walk (IRN's sem_seg_bg_thres).
    """
    if len(content.classes) == 0:
        return Refined(np.zeros(content.size, np.uint8), np.full(content.size, 255, np.uint8))
    scores = resize_maps(content.scores[index], content.size)
    if not content.background_walked:
        scores = np.concatenate([np.full((1, *content.size), background_threshold, np.float32), scores])
    share = scores.max(axis=0) / scores.sum(axis=0).clip(min=np.finfo(np.float32).tiny)
    label = np.append(0, content.classes).astype(np.uint8)[scores.argmax(axis=0)]
    return Refined(label, np.round(255 * share).astype(np.uint8))


def write_walk(path: Path, content: WalkFile) -> None:
    """Write one .npz without pickles."""
    with path.open("wb") as stream:
        np.savez_compressed(
            stream,
            format=np.int64(1),
            classes=content.classes.astype(np.int64),
            size=np.array(content.size, np.int64),
            scores=content.scores.astype(np.float16),
        )


def read_walk(path: Path) -> WalkFile:
    """Read what `write_walk` wrote; scores come back as float32.

    Raises UserError when it is missing or damaged.
    """
    with reading(path, stage="propagate_affinity"), np.load(path, allow_pickle=False) as stored:
        height, width = stored["size"].tolist()
        return WalkFile(stored["classes"], stored["scores"].astype(np.float32), (height, width))
