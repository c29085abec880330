"""Seeds: label maps made from the stored maps of an image with the background threshold of each map."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cpal.data.masks import BACKGROUND
from cpal.maps.cams import CamFile, resize_maps
from cpal.settings.config import SeedsConfig


def calibrate(cam: np.ndarray, threshold: float) -> np.ndarray:
    """Rescale a map in [0, 1] so that its background threshold becomes 0.5; 0, 1 and the order of scores stay.

    Calibrated CAM and PACAM are comparable, each with its own threshold: they can be averaged and share a CRF setting.
    """
    below = 0.5 * cam / threshold
    above = 0.5 + 0.5 * (cam - threshold) / (1 - threshold)
    return np.where(cam < threshold, below, above)


@dataclass(frozen=True)
class SeedRule:
    """The source of the seeds, and the background threshold of each map of a CamFile, by name.

    source: cam | pacam | taught | both (mean of the calibrated cam and pacam) | imported (the map `cam` of the file).
    """

    source: str
    thresholds: Mapping[str, float]

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps from which the seeds are made."""
        return {"both": ("cam", "pacam"), "imported": ("cam",)}.get(self.source, (self.source,))


def seed_scores(content: CamFile, rule: SeedRule) -> np.ndarray:
    """Calibrated maps at image size, float32 (K + 1, H, W): the background score 0.5, then the K present classes.

    The argmax over axis 0 is the seed.
    """
    maps = np.zeros((len(content.classes), *content.size), np.float32)
    for name in rule.maps:
        maps += calibrate(resize_maps(content.maps[name], content.size), rule.thresholds[name]) / len(rule.maps)
    return np.concatenate([np.full((1, *content.size), 0.5, np.float32), maps])


def seed_map(content: CamFile, rule: SeedRule) -> np.ndarray:
    """Label map uint8 (H, W) at the rule's thresholds."""
    return np.append(BACKGROUND, content.classes).astype(np.uint8)[seed_scores(content, rule).argmax(axis=0)]


def seed_rule(settings: SeedsConfig) -> SeedRule:
    """The rule that the section `seeds` describes."""
    thresholds = {"cam": settings.cam_threshold, "pacam": settings.pacam_threshold, "taught": settings.taught_threshold}
    return SeedRule(settings.source, thresholds)
