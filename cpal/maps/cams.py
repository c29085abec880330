"""The file of an image's maps (CAM, PACAM, taught CAM), checked against its record when it is read."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cpal.data.dataset import Record
from cpal.errors import UserError, reading

MAP_STRIDE = 4  # image pixels per stored map cell
MAP_NAMES = {"cam": "CAM", "pacam": "PACAM", "taught": "Taught CAM"}


def map_size(size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the stored maps of an image of (H, W)."""
    return (size[0] - 1) // MAP_STRIDE + 1, (size[1] - 1) // MAP_STRIDE + 1


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


def resize_maps(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear (K, h, w) -> float32 (K, H, W)."""
    if len(maps) == 0:
        return np.zeros((0, *size), np.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[None]
    return F.interpolate(tensor, size=size, mode="bilinear", align_corners=False)[0].numpy()


def read_maps(folder: Path, record: Record, needed: Iterable[str] = ()) -> CamFile:
    """Read folder/ID.npz, which must hold the maps that `needed` names, see SeedRule.maps.

    Raises UserError when it is missing or damaged or lacks a map, or was made for an image of another size or with
    other labels, as imported maps are when the data set has changed since.
    """
    path = folder / f"{record.image_id}.npz"
    cure = "make them again: python -m stages.import_cams for imported ones, else dvc repro make_cams"
    with reading(path, cure=cure):
        content = read_cam(path)
    size = (record.height, record.width)
    if content.size != size or not set(content.classes.tolist()) <= set(record.labels):
        raise UserError(
            f"{path}: maps of classes {content.classes.tolist()} of an image of {content.size}, but the data set says "
            f"{list(record.labels)} and {size}; {cure}"
        )
    if lacking := [name for name in needed if name not in content.maps]:
        raise UserError(f"{path}: holds no {' and '.join(lacking)} map, which cam.source needs; {cure}")
    return content
