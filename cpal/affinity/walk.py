"""Makes the maps from which the random walk starts, out of seeds or CRF labels, and walks them."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cpal.affinity.random_walk import spread
from cpal.maps.cams import CamFile, map_size
from cpal.maps.refined import Refined
from cpal.maps.seeds import SeedRule, calibrate
from cpal.maps.walked import WalkFile
from cpal.settings.config import WalkConfig


def start_maps(source: CamFile | Refined, classes: np.ndarray, rule: SeedRule, background: str) -> Tensor:
    """Maps from which the walk starts, float32 (K, h, w), or (K + 1, h, w) with background: walk.

    They have a quarter of the image size. Seeds with a constant background start unchanged (IRN). If the background
    walks, the maps of the seeds are calibrated, and the background starts as 1 - the strongest map. For CRF labels, the
    label starts with its confidence, and the other labels share the rest evenly.
    """
    if isinstance(source, Refined):
        scores = label_scores(source, classes)
        scores = F.interpolate(scores[None], size=map_size(source.label.shape), mode="area")[0]
        return scores if background == "walk" else scores[1:]
    maps = [(source.maps[name], rule.thresholds[name]) for name in rule.maps]
    if background == "walk":
        maps = [(calibrate(map_, threshold), threshold) for map_, threshold in maps]
    mean = torch.from_numpy(np.mean([map_ for map_, _ in maps], axis=0)).float()
    strongest = F.pad(mean, (0, 0, 0, 0, 1, 0)).amax(dim=0, keepdim=True)  # 0 for an image without a class
    return mean if background != "walk" else torch.cat([1 - strongest, mean])


def label_scores(refined: Refined, classes: np.ndarray) -> Tensor:
    """Probability of background and of each class, float32 (K + 1, H, W), estimated from label and confidence."""
    sure = refined.confidence.astype(np.float32) / 255
    rest = (1 - sure) / max(1, len(classes))
    return torch.from_numpy(np.stack([np.where(refined.label == k, sure, rest) for k in (0, *classes)]))


def walk_maps(
    start: Tensor, edge: Tensor, classes: np.ndarray, size: tuple[int, int], settings: WalkConfig
) -> WalkFile:
    """Walk the maps (C, h, w), raised to each of walk.powers, on an edge map (h, w)."""
    powers = torch.stack([start**power for power in settings.powers])
    walked = spread(
        powers.flatten(0, 1), edge, radius=settings.radius, beta=settings.beta, steps=settings.steps
    ).view_as(powers)
    if len(start) > len(classes):
        walked = walked / walked.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    elif len(classes):
        walked = walked / walked.amax(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return WalkFile(classes, walked.cpu().numpy(), size, settings.powers)
