"""Seeds: label maps from an image's stored maps, by each map's background threshold."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cpal.data.masks import BACKGROUND
from cpal.maps.cams import CamFile, resize_maps
from cpal.settings.config import SeedsConfig


def calibrate(cam: np.ndarray, threshold: float) -> np.ndarray:
    """Stretch a map in [0, 1] so that its background threshold becomes 0.5; order is kept, 0 and 1 stay.

    Makes CAM and PACAM comparable, each with its own threshold, so that they can be averaged and share a CRF setting.
    """
    below = 0.5 * cam / threshold
    above = 0.5 + 0.5 * (cam - threshold) / (1 - threshold)
    return np.where(cam < threshold, below, above)


@dataclass(frozen=True)
class SeedRule:
    """What seeds are made from, and the background score of each map of a CamFile, by name.

    source: cam | pacam | taught | both (mean of the calibrated cam and pacam) | imported, whose maps are in `cam`.
    """

    source: str
    thresholds: Mapping[str, float]

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps that the seeds are made from."""
        return {"both": ("cam", "pacam"), "imported": ("cam",)}.get(self.source, (self.source,))


def seed_scores(content: CamFile, rule: SeedRule) -> np.ndarray:
    """Calibrated maps at the image's size, float32 (K + 1, H, W): background 0.5 in front, then the present classes.

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
