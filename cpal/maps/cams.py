"""The file with the maps of an image (CAM, PACAM, taught CAM); reading checks it against the image's record."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cpal.data.dataset import Record
from cpal.files import Arrays, read_arrays

MAP_STRIDE = 4  # image pixels per stored map cell
MAP_NAMES = {"cam": "CAM", "pacam": "PACAM", "taught": "Taught CAM"}


def map_size(size: tuple[int, int]) -> tuple[int, int]:
    """Size (h, w) of the stored maps for an image of size (H, W)."""
    return (size[0] - 1) // MAP_STRIDE + 1, (size[1] - 1) // MAP_STRIDE + 1


@dataclass(frozen=True)
class CamFile:
    """Maps of one image's present classes at a quarter of its size.

    classes int64 (K,): mask values 1..N of the K present classes. maps: arrays (K, h, w) in [0, 1] by the names in
    MAP_NAMES, rounded to float16 on disk. size: (H, W) of the image. `cam` always exists. Maps imported from another
    method have only `cam`, and with `taught_cam.decay: 0` there is no `taught`.
    """

    classes: np.ndarray
    maps: dict[str, np.ndarray]
    size: tuple[int, int]


def write_cam(path: Path, content: CamFile) -> None:
    """Write one .npz without pickles. The write is not atomic: pass a temporary path, as from `whole_file`.

    A map is stored as uint8 (2, K, h, w), the low bytes of its float16 values and the high bytes: high bytes hardly
    change from cell to cell, and deflate takes a quarter less space for them.
    """
    stored: dict[str, Any] = {name: _split(map_.astype(np.float16)) for name, map_ in content.maps.items()}
    with path.open("wb") as stream:
        np.savez_compressed(
            stream,
            format=np.int64(2),
            classes=content.classes.astype(np.int64),
            size=np.array(content.size, np.int64),
            **stored,
        )


def _split(maps: np.ndarray) -> np.ndarray:
    """float16 (...) -> its low bytes and its high bytes, uint8 (2, ...)."""
    bits = maps.view(np.uint16)
    return np.stack([bits & 255, bits >> 8]).astype(np.uint8)


def _joined(stored: Arrays) -> Arrays:
    """The file with float16 maps; those of format 1 were stored so."""
    content = dict(stored.content)
    for name in MAP_NAMES:
        if name in content and content[name].dtype == np.uint8 and content[name].shape[:1] == (2,):
            low, high = content[name]
            content[name] = (high.astype(np.uint16) << 8 | low).view(np.float16)
    return replace(stored, content=content)


def resize_maps(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize maps (K, h, w) to float32 (K, H, W), bilinear, as torch's interpolate with align_corners=False.

    The result differs from torch's only by rounding, below 2e-7 for maps in [0, 1].
    """
    resized = np.asarray(maps, np.float32)
    for axis, length in ((2, size[1]), (1, size[0])):
        low, high, share = _neighbors(maps.shape[axis], length)
        share = share if axis == 2 else share[:, None]
        first, second = resized.take(low, axis), resized.take(high, axis)
        first *= 1 - share
        second *= share
        resized = np.add(first, second, out=first)
    return resized


def _neighbors(small: int, large: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `large` cells: its two neighbors among `small` cells, and the second's weight, float32 (large,)."""
    # In double precision and then rounded once, as in torch's fused multiply-add.
    scale = np.float64(np.float32(small) / np.float32(large))
    place = np.maximum(scale * (np.arange(large) + 0.5) - 0.5, 0).astype(np.float32)
    low = np.minimum(place.astype(np.int64), small - 1)
    return low, np.minimum(low + 1, small - 1), np.clip(place - low.astype(np.float32), 0, 1)


def read_maps(folder: Path, record: Record, needed: Iterable[str] = ()) -> CamFile:
    """Read folder/ID.npz, which `write_cam` wrote; maps are returned as float32.

    Raises UserError if the file is missing or damaged, lacks a map that `needed` names (see SeedRule.maps), or does not
    match the size and labels of the record. Imported maps stop matching when the data set changes.
    """
    imported = "make them again: python -m stages.import_cams for imported ones, else "
    stored = _joined(read_arrays(folder / f"{record.image_id}.npz", stage="make_cams", before=imported))
    classes = read_classes(stored, record)
    shape = (len(classes), *map_size(record.size))
    if lacking := [name for name in needed if name not in stored.content]:
        raise stored.wrong(f"holds no {' and '.join(lacking)} map, which seeds.source needs")
    names = [name for name in MAP_NAMES if name == "cam" or name in stored.content]
    return CamFile(
        classes, {name: stored.take(name, np.float16, shape).astype(np.float32) for name in names}, record.size
    )


def read_classes(stored: Arrays, record: Record) -> np.ndarray:
    """The classes, int64 (K,), in a file of maps for this record.

    Raises UserError if the file is for an image of another size, or has a class twice or a class that is no label of
    the record.
    """
    size, found = tuple(stored.take("size", np.int64, (2,)).tolist()), stored.take("classes", np.int64, (None,))
    classes = found.tolist()
    if size != record.size or not set(classes) <= set(record.labels) or len(set(classes)) < len(classes):
        raise stored.wrong(
            f"maps of classes {classes} of an image of {size}, but the data set says {list(record.labels)} "
            f"and {record.size}"
        )
    return found
