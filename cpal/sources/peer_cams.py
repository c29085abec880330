"""Other methods' CAMs, as their make_cam scripts save them (ID.npy, a pickled dictionary), turned into CAM files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cpal.data.dataset import Record
from cpal.errors import UserError
from cpal.maps.cams import MAP_STRIDE, CamFile, map_size, resize_maps
from cpal.sources.pickled import read_pickled

ABOVE_ONE = 1e-3  # what rounding may add to a maximum of 1
METHOD_CURE = "name the method whose files these are with --from"
AGAIN = "export the maps again, of the data set's own images"
CLASSES_CURE = "name the method's own classes, in their order, with --classes"


@dataclass(frozen=True)
class Peer:
    """Content of a method's dictionary. `threshold`: background score of its own evaluation; None: not fixed.

    `maps`: key of the (K, H, W) array that its evaluation reads, beside `keys`, the 0-based class ids. None: the
    dictionary itself is class id -> map. `background`:
      none   neither a map nor a key,
      extra  a first map without a key, which the evaluation drops,
      own    a first map with key 0, with which the evaluation compares; the other keys count from 1,
      key    a first key 0 without a map; the other keys count from 1.
    """

    maps: str | None
    background: Literal["none", "extra", "own", "key"]
    threshold: float | None


PEERS = {
    "irn": Peer("high_res", "none", 0.15),
    "recam": Peer("high_res", "none", 0.21),  # its cam_eval_thres
    "lpcam": Peer("high_res", "none", 0.3),  # its cam_eval_thres
    "puzzle-cam": Peer("hr_cam", "key", None),  # its evaluation searches a threshold with the ground truth
    "psa": Peer(None, "none", 0.2),  # of its out_cam_pred
    "seam": Peer(None, "none", 0.26),  # its out_cam_pred_alpha
    "sipe": Peer("IS_CAM", "own", 0.5),
    "amn": Peer("high_res", "extra", 0.25),
    "mctformer": Peer(None, "none", None),  # its evaluation searches a threshold with the ground truth
    "clip-es": Peer("attn_highres", "none", 0.382),  # (3 - sqrt 5) / 2, where m = (1 - m) ** 2
}


@dataclass(frozen=True)
class Imported:
    """`unlabeled`: number of maps left out, whose class is no label of the image. `absent`: labels without a map."""

    content: CamFile
    unlabeled: int
    absent: int


def import_cam(path: Path, peer: Peer, record: Record, columns: Sequence[int | None]) -> Imported:
    """One image's maps, at a quarter of its size, of the classes that it is labeled with.

    `columns`: mask value of each of the method's class ids, None for a class that the data set does not have. Negative
    values become 0. Raises UserError for a file that is damaged, hostile or of another method, for maps that do not
    fit the image, that are not finite or exceed 1, and if no map has a class of the image.
    """
    content = read_pickled(path, what="CAMs")
    try:
        ids, maps = _foreground(content, peer, record, limit=len(columns))
        values = [columns[i] for i in ids]
        order = [values.index(label) for label in record.labels if label in values]
        if record.labels and not order:
            raise UserError(
                f"no map of a class of the image: class ids {ids.tolist()} are mask values {values}, and the image is "
                f"labeled {list(record.labels)}; {CLASSES_CURE}"
            )
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    classes = np.array([values[i] for i in order], np.int64)
    cam_file = CamFile(classes, {"cam": resize_maps(maps[order], map_size(record.size))}, record.size)
    return Imported(cam_file, len(values) - len(order), len(record.labels) - len(order))


def _foreground(content: dict[Any, Any], peer: Peer, record: Record, *, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Class ids int64 (K,), 0-based and below `limit`, and their maps float32 (K, h, w) in [0, 1]."""
    ids = _ids(content, peer)
    maps = _maps(content, peer, record, limit=limit + 1)
    if peer.background in ("own", "key"):
        if len(ids) == 0 or ids[0] != 0:
            raise UserError(f"the first of its `keys` is not 0, the background; {METHOD_CURE}")
    if peer.background == "key":
        ids = ids[1:] - 1
    elif peer.background == "own":
        # Above 0.5 exactly where the class exceeds the background, as in the method's own argmax.
        total = maps[1:] + maps[:1]
        ids, maps = ids[1:] - 1, np.divide(maps[1:], total, out=np.zeros_like(total), where=total > 0)
    elif peer.background == "extra":
        maps = maps[1:]
    if len(ids) != len(maps):
        raise UserError(f"{len(maps)} maps of {len(ids)} classes; {METHOD_CURE}")
    if len(set(ids.tolist())) < len(ids) or (ids < 0).any() or (ids >= limit).any():
        raise UserError(f"class ids {ids.tolist()[:10]}, not different ones in 0..{limit - 1}; {CLASSES_CURE}")
    return ids, maps


def _ids(content: dict[Any, Any], peer: Peer) -> np.ndarray:
    """The class ids in the file."""
    if peer.maps is None:
        whole = all(isinstance(key, int | np.integer) for key in content)
        ids: Any = np.array(list(content)) if whole and content else None
    else:
        ids = content.get("keys")
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iu":
        where = "the dictionary's keys" if peer.maps is None else "an array `keys`"
        raise UserError(
            f"no class ids, which this method saves as {where}; the file has {_named(content)}; {_cure(content)}"
        )
    return ids.astype(np.int64)


def _maps(content: dict[Any, Any], peer: Peer, record: Record, *, limit: int) -> np.ndarray:
    """All maps of the file, float32 (K, h, w) in [0, 1]; at most `limit` maps, which can share the same bytes."""
    parts: list[Any] = list(content.values()) if peer.maps is None else [content.get(peer.maps)]
    dimensions = 2 if peer.maps is None else 3
    if len(parts) > limit:
        raise UserError(f"{len(parts)} maps; {CLASSES_CURE}")
    for part in parts:
        if not isinstance(part, np.ndarray) or part.ndim != dimensions or part.dtype.kind != "f":
            where = "the dictionary's values (H, W)" if peer.maps is None else f"an array `{peer.maps}` (K, H, W)"
            raise UserError(
                f"no maps, which this method saves as {where}; the file has {_named(content)}; {_cure(content)}"
            )
        _check_size(part.shape[-2:], record)
        if not np.isfinite(part).all():
            raise UserError(f"a map has values that are no finite numbers; {AGAIN}")
        if part.size and part.max() > 1 + ABOVE_ONE:
            raise UserError(f"a map reaches {part.max():.4g}: no threshold fits; divide each map by its maximum")
    if len({part.shape for part in parts}) > 1:
        raise UserError(f"its maps differ in size; {AGAIN}")
    maps: np.ndarray = np.stack(parts) if peer.maps is None else parts[0]
    return maps.clip(0, 1).astype(np.float32)


def _check_size(shape: tuple[int, ...], record: Record) -> None:
    """Raise UserError unless the map has the image's size, or a quarter of it, within a pixel."""
    size = (record.height, record.width)
    fits = [all(abs(a - b / part) <= 1 for a, b in zip(shape, size, strict=True)) for part in (1, MAP_STRIDE)]
    if not any(fits) or 0 in shape:
        raise UserError(
            f"maps of {shape[0]} x {shape[1]}, neither the image's size, {size[0]} x {size[1]}, nor a quarter of it; "
            f"{AGAIN}"
        )


def _named(content: dict[Any, Any]) -> str:
    return ", ".join(f"`{str(key)[:30]}`" for key in list(content)[:10]) or "nothing"


def _cure(content: dict[Any, Any]) -> str:
    """The cure, with the methods whose files have this form."""
    numbers = all(isinstance(key, int | np.integer) for key in content)
    alike = [name for name, peer in PEERS.items() if (numbers if peer.maps is None else peer.maps in content)]
    return f"{METHOD_CURE} ({', '.join(alike)})" if content and alike else METHOD_CURE
