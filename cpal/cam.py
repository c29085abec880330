"""CAM arithmetic (Eq. 3) and the CAM file. Foreground maps are (B, N, h, w), with background (B, K, h, w)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-5
MAP_STRIDE = 4  # image pixels per stored map cell
MAP_NAMES = {"cam": "CAM", "pacam": "PACAM", "taught": "Taught CAM"}


def map_size(size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the stored maps of an image of (H, W)."""
    return (size[0] - 1) // MAP_STRIDE + 1, (size[1] - 1) // MAP_STRIDE + 1


def normalize(cam: Tensor, image_label: Tensor) -> Tensor:
    """Max-normalised CAM of the present classes, Eq. 3.

    cam (B, N, h, w) of any sign, image_label (B, N) of 0/1 -> (B, N, h, w) in [0, 1], zero for absent classes.
    """
    positive = F.relu(cam)
    return positive / (positive.amax(dim=(2, 3), keepdim=True) + EPSILON) * image_label[:, :, None, None]


def with_background(cam: Tensor, background_from: Tensor | None = None) -> Tensor:
    """M = Mb and Mf, with Mb = 1 - max over classes in front: (B, N, h, w) -> (B, K, h, w).

    cam is normalised and label-masked, so the maximum runs over present classes (ours). SIPE takes it over all
    classes: hand their normalised maps in as `background_from`.
    """
    source = cam if background_from is None else background_from
    return torch.cat([1 - source.amax(dim=1, keepdim=True), cam], dim=1)


@dataclass(frozen=True)
class CamFile:
    """Maps of one image's present classes at a quarter of its size.

    classes int64 (K,) are mask values 1..N; cam, pacam and taught (the taught CAM) float16 (K, h, w) in [0, 1]; size is
    the image's (H, W). Maps imported from another method are `cam`, and there are no others; with `taught_cam.decay: 0`
    there is no taught.
    """

    classes: np.ndarray
    cam: np.ndarray
    pacam: np.ndarray | None
    size: tuple[int, int]
    taught: np.ndarray | None = None

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """Those that there are, by name."""
        return {name: map_ for name in MAP_NAMES if (map_ := getattr(self, name)) is not None}


def write_cam(path: Path, content: CamFile) -> None:
    """Write one .npz without pickles; the caller hands in a temporary path where the file must be whole."""
    stored: dict[str, Any] = {name: map_.astype(np.float16) for name, map_ in content.maps.items()}
    with path.open("wb") as stream:
        np.savez_compressed(
            stream,
            format=np.int64(1),
            classes=content.classes.astype(np.int64),
            size=np.array(content.size, np.int64),
            **stored,
        )


def read_cam(path: Path) -> CamFile:
    """Read what `write_cam` wrote; maps come back as float32."""
    with np.load(path, allow_pickle=False) as stored:
        size = stored["size"]
        maps = {name: stored[name].astype(np.float32) for name in MAP_NAMES if name in stored}
        return CamFile(
            stored["classes"],
            maps["cam"],
            maps.get("pacam"),
            (int(size[0]), int(size[1])),
            maps.get("taught"),
        )


def calibrate(cam: np.ndarray, threshold: float) -> np.ndarray:
    """Stretch a map in [0, 1] so that its background threshold becomes 0.5; order is kept, 0 and 1 stay.

    Makes CAM and PACAM comparable, each with its own threshold, so that they can be averaged and share a CRF setting.
    """
    below = 0.5 * cam / threshold
    above = 0.5 + 0.5 * (cam - threshold) / (1 - threshold)
    return np.where(cam < threshold, below, above)


@dataclass(frozen=True)
class SeedRule:
    """What seeds are made from, and each map's background score.

    source: cam | pacam | taught | both (mean of the calibrated cam and pacam) | imported, whose maps are in `cam`.
    """

    source: str
    cam_threshold: float
    pacam_threshold: float
    taught_threshold: float

    @property
    def maps(self) -> tuple[str, ...]:
        """The fields of a CamFile that the seeds are made from."""
        return {"both": ("cam", "pacam"), "imported": ("cam",)}.get(self.source, (self.source,))


def seed_scores(content: CamFile, rule: SeedRule) -> np.ndarray:
    """Calibrated maps at the image's size, float32 (K + 1, H, W): background 0.5 in front, then the present classes.

    The argmax over axis 0 is the seed.
    """
    maps = np.zeros((len(content.classes), *content.size), np.float32)
    for name in rule.maps:
        stored, threshold = getattr(content, name), getattr(rule, f"{name}_threshold")
        maps += calibrate(resize_maps(stored, content.size), threshold) / len(rule.maps)
    return np.concatenate([np.full((1, *content.size), 0.5, np.float32), maps])


def resize_maps(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear (K, h, w) -> float32 (K, H, W)."""
    if len(maps) == 0:
        return np.zeros((0, *size), np.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[None]
    return F.interpolate(tensor, size=size, mode="bilinear", align_corners=False)[0].numpy()
