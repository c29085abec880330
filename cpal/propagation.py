"""From seeds or CRF to the maps that the random walk starts from, and from its end to labels; the file in between."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cpal.cam import CamFile, SeedRule, calibrate, map_size, resize_maps
from cpal.config import AffinityConfig
from cpal.crf import CrfFile
from cpal.errors import reading
from cpal.random_walk import propagate


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


def start_maps(source: CamFile | CrfFile, classes: np.ndarray, rule: SeedRule, background: str) -> Tensor:
    """What walks, float32 (K + 1, h, w) with background: walk, else (K, h, w), at a quarter of the image's size.

    Seeds walk as they are with a constant background (IRN), and calibrated where their background, what they leave
    over, walks too. The CRF's label walks with its confidence, and what that leaves is the others', evenly.
    """
    if isinstance(source, CrfFile):
        scores = crf_scores(source, classes)
        scores = F.interpolate(scores[None], size=map_size(source.label.shape), mode="area")[0]
        return scores if background == "walk" else scores[1:]
    maps = [(getattr(source, name), getattr(rule, f"{name}_threshold")) for name in rule.maps]
    if background == "walk":
        maps = [(calibrate(map_, threshold), threshold) for map_, threshold in maps]
    mean = torch.from_numpy(np.mean([map_ for map_, _ in maps], axis=0)).float()
    strongest = F.pad(mean, (0, 0, 0, 0, 1, 0)).amax(dim=0, keepdim=True)  # 0 where an image has no class
    return mean if background != "walk" else torch.cat([1 - strongest, mean])


def crf_scores(refined: CrfFile, classes: np.ndarray) -> Tensor:
    """Probability of background and of each class, float32 (K + 1, H, W), as far as label and confidence tell."""
    sure = refined.confidence.astype(np.float32) / 255
    rest = (1 - sure) / max(1, len(classes))
    return torch.from_numpy(np.stack([np.where(refined.label == k, sure, rest) for k in (0, *classes)]))


def walk(start: Tensor, edge: Tensor, classes: np.ndarray, size: tuple[int, int], settings: AffinityConfig) -> WalkFile:
    """Walk the maps (C, h, w), each to each of affinity.powers, on an edge map (h, w)."""
    powers = torch.stack([start**power for power in settings.powers])
    walked = propagate(
        powers.flatten(0, 1), edge, radius=settings.walk_radius, beta=settings.beta, steps=settings.walk_steps
    ).view_as(powers)
    if len(start) > len(classes):
        walked = walked / walked.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    elif len(classes):
        walked = walked / walked.amax(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return WalkFile(classes, walked.cpu().numpy(), size)


def walked_labels(content: WalkFile, index: int, background_threshold: float) -> CrfFile:
    """Label and confidence of every pixel at the power of this index.

    The threshold is the background's score where it did not walk (IRN's sem_seg_bg_thres).
    """
    if len(content.classes) == 0:
        return CrfFile(np.zeros(content.size, np.uint8), np.full(content.size, 255, np.uint8))
    scores = resize_maps(content.scores[index], content.size)
    if not content.background_walked:
        scores = np.concatenate([np.full((1, *content.size), background_threshold, np.float32), scores])
    share = scores.max(axis=0) / scores.sum(axis=0).clip(min=np.finfo(np.float32).tiny)
    label = np.append(0, content.classes).astype(np.uint8)[scores.argmax(axis=0)]
    return CrfFile(label, np.round(255 * share).astype(np.uint8))


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
