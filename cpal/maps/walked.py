"""The result of the random walk: its file, and the labels that follow from it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpal.data.dataset import Record
from cpal.errors import UserError, again
from cpal.files import Arrays, read_arrays
from cpal.maps.cams import map_size, read_classes, resize_maps
from cpal.maps.refined import Refined, read_crf


@dataclass(frozen=True)
class WalkFile:
    """Maps after the walk, at a quarter of the image size (H, W), for each of walk.powers.

    classes int64 (K,): mask values 1..N of the K present classes. scores (powers, K, h, w), float16 on disk, with
    maximum 1 for each power. With background: walk, the scores are probabilities (powers, K + 1, h, w), background
    first.
    """

    classes: np.ndarray
    scores: np.ndarray
    size: tuple[int, int]
    powers: tuple[float, ...]

    @property
    def background_walked(self) -> bool:
        return self.scores.shape[1] > len(self.classes)

    def at(self, power: float) -> np.ndarray:
        """Scores (K, h, w) or (K + 1, h, w) of one power. Raises UserError if the walk was made without it."""
        if power not in self.powers:
            powers = ", ".join(map(str, self.powers))
            raise UserError(f"the walk has the powers {powers}, not {power}; {again('propagate_affinity')}")
        return self.scores[self.powers.index(power)]


def walked_labels(content: WalkFile, power: float, background_threshold: float) -> Refined:
    """Label and confidence of every pixel for one power of the walk.

    If the background did not walk, background_threshold is its score everywhere (IRN's sem_seg_bg_thres).
    """
    if len(content.classes) == 0:
        return Refined(np.zeros(content.size, np.uint8), np.full(content.size, 255, np.uint8))
    scores = resize_maps(content.at(power), content.size)
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
            format=np.int64(2),
            classes=content.classes.astype(np.int64),
            size=np.array(content.size, np.int64),
            scores=content.scores.astype(np.float16),
            powers=np.array(content.powers, np.float64),
        )


def read_walk(folder: Path, record: Record) -> WalkFile:
    """Read folder/ID.npz, which `write_walk` wrote; scores are returned as float32.

    Raises UserError if the file is missing or damaged, or does not match the size and labels of the record.
    """
    return _take_walk(_stored(folder, record), record)


def _stored(folder: Path, record: Record) -> Arrays:
    return read_arrays(folder / f"{record.image_id}.npz", stage="propagate_affinity")


def _take_walk(stored: Arrays, record: Record) -> WalkFile:
    classes = read_classes(stored, record)
    scores = stored.take("scores", np.float16, (None, None, *map_size(record.size)))
    if scores.shape[1] not in (len(classes), len(classes) + 1):
        raise stored.wrong(f"`scores` has {scores.shape[1]} maps of {len(classes)} classes")
    powers = stored.take("powers", np.float64, (len(scores),))
    return WalkFile(classes, scores.astype(np.float32), record.size, tuple(powers.tolist()))


def is_walk(folder: Path, record: Record) -> bool:
    """Whether a file of the stage propagate_affinity holds maps after a walk; with method none it holds labels.

    Raises UserError if the file is missing or damaged.
    """
    return "scores" in _stored(folder, record).content


def read_walk_or_crf(folder: Path, record: Record, *, power: float, background_threshold: float) -> Refined:
    """Label and confidence from a file of the stage propagate_affinity, which holds maps after a walk or labels.

    Raises UserError as `read_walk` and `read_crf`.
    """
    if "scores" in (stored := _stored(folder, record)).content:
        return walked_labels(_take_walk(stored, record), power, background_threshold)
    return read_crf(folder, record, stage="propagate_affinity")
