"""Damaged files between two stages, which are not what was written; then the stage that reads them."""

import io
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from faults.project import Tiny, copy, own, scratch, stage_run
from faults.records import ONLY, Fault, judged

FLIPS = 20
WHOLE = ("half", "empty", "zeros", "missing")
FOREIGN = ("other_image", "other_settings", "other_size", "nan")
# A file of each kind, and the stages that are run on it.
READERS: dict[str, tuple[str, ...]] = {
    "data/dataset/dataset.json": ("refine_crf", "train_segmentation", "evaluate_seed"),
    "data/dataset/images/train_0000": ("refine_crf", "fit_prototypes", "train_segmentation"),
    "data/dataset/images/val_0000": ("predict_segmentation",),
    "data/dataset/masks/train_0000.png": ("evaluate_seed",),
    "data/dataset/masks/val_0000.png": ("evaluate_segmentation",),
    "data/first_round/train_0000.png": ("train_cam",),
    "data/classifier.safetensors": ("fit_prototypes", "make_cams"),
    "data/prototypes.safetensors": ("teach_cam", "make_cams"),
    "data/taught_cam.safetensors": ("make_cams",),
    "data/cams/train_0000.npz": ("refine_crf", "evaluate_seed"),
    "data/crf/train_0000.npz": ("propagate_affinity", "evaluate_crf"),
    "data/affinity.safetensors": ("propagate_affinity",),
    "data/affinity/train_0000.npz": ("write_pseudo_masks", "evaluate_pseudo_mask"),
    "data/pseudo_masks/train_0000.png": ("evaluate_pseudo_mask",),
    "data/pseudo_masks/training/train_0000.png": ("train_segmentation",),
    "data/segmentation.safetensors": ("predict_segmentation",),
    "data/predictions/val_0000.png": ("evaluate_segmentation",),
    "data/predictions/confidence/val_0000.png": ("evaluate_segmentation",),
    "data/metrics/seed.json": ("report",),
    "data/metrics/segmentation_details.json": ("report",),
    "data/metrics/classifier.json": ("report",),
    "dvc.lock": ("report",),
    "params.yaml": ("prepare", "refine_crf"),
    "dvc.yaml": ("refine_crf",),
}
SLOW = ("report",)  # fewer flips
NO_FLIPS = ("params.yaml", "dvc.yaml")  # where another value is the user's right


@dataclass(frozen=True)
class Damage:
    """`path` of the tiny project is damaged, then `stage` runs. `other` ran with other settings on the same images."""

    tiny: Tiny
    other: Tiny
    path: str
    stage: str
    damage: str

    @property
    def id(self) -> str:
        return f"damaged/{self.stage}/{self.path} {self.damage}"


def damages(tiny: Tiny, other: Tiny) -> list[Damage]:
    found = []
    for start, stages in READERS.items():
        path = next(p for p in sorted(tiny.folder.glob(f"{start}*")) if p.exists()).relative_to(tiny.folder).as_posix()
        for stage in stages:
            flips = 0 if path in NO_FLIPS else FLIPS // 4 if stage in SLOW else FLIPS
            names = [*WHOLE, *FOREIGN, *(f"flip_{n:02d}" for n in range(flips))]
            found += [Damage(tiny, other, path, stage, name) for name in names]
    return found


def damage_and_run(item: Damage) -> Fault | None:
    """None where the damage does not apply to this kind of file, or leaves it as it was."""
    source = item.tiny.folder / item.path
    data = source.read_bytes()
    new = damaged(source, item.damage, other=item.other.folder / item.path)
    if new == data:
        return None
    folder = Path(tempfile.mkdtemp(prefix="damaged_", dir=scratch()))
    project = copy(item.tiny, item.stage, folder / "p")
    path = own(project, item.path)
    if new is None:
        path.unlink()
    else:
        path.write_bytes(new)
    ending = stage_run(project, item.stage)
    outcome, detail = judged(item.tiny, project, item.stage, ending, [path.name])
    if outcome == "lost" and new is None:
        outcome, detail = "same", ""  # what is gone is what was taken away
    return told(item.id, outcome, detail, ending.output, folder)


def told(fault_id: str, outcome: Any, detail: str, output: str, folder: Path) -> Fault:
    if ONLY:
        print(f"{fault_id}: {outcome}; {detail}\n{output}\nThe project: {folder}")
    else:
        shutil.rmtree(folder)
    return Fault(fault_id, outcome, detail)


def damaged(path: Path, damage: str, *, other: Path | None = None) -> bytes | None:
    """The file's new bytes, None for no file; its own where the damage does not apply to it."""
    data = path.read_bytes()
    if not data:  # as a lock
        return data
    kind, _, number = damage.partition("_")
    if damage == "half":
        return data[: len(data) // 2]
    if damage in ("empty", "zeros"):
        return b"" if damage == "empty" else bytes(len(data))
    if damage == "missing":
        return None
    if kind == "flip":
        place = int(number) * len(data) // FLIPS
        place = int(np.random.default_rng((len(data), int(number))).integers(place, place + max(1, len(data) // FLIPS)))
        flipped = bytearray(data)
        flipped[min(place, len(data) - 1)] ^= 1 << int(number) % 8
        return bytes(flipped)
    if damage == "other_image":
        sibling = path.with_name(path.name.replace("_0000", "_0001"))
        return sibling.read_bytes() if sibling.exists() else data
    if damage == "other_settings":
        return other.read_bytes() if other is not None and "yaml" not in path.name else data
    return _rewritten(path, data, damage)


def _rewritten(path: Path, data: bytes, damage: str) -> bytes:
    """With values of another size, or one that is no number; as its writer would have written it."""
    buffer = io.BytesIO()
    if path.suffix in (".png", ".jpg") and damage == "other_size":
        image = Image.open(io.BytesIO(data))
        smaller = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
        smaller.save(buffer, format=image.format)
        return buffer.getvalue()
    if path.suffix == ".npz":
        with np.load(io.BytesIO(data)) as stored:
            arrays = {name: stored[name] for name in stored.files}
        changed: dict[str, Any] = {name: _array(array, damage) for name, array in arrays.items()}
        np.savez_compressed(buffer, **changed)
        same = all(np.array_equal(changed[name], array) for name, array in arrays.items())
        return data if same else buffer.getvalue()
    if path.suffix == ".safetensors":
        from safetensors import safe_open
        from safetensors.numpy import load, save

        with safe_open(path, framework="np") as stored:
            metadata = stored.metadata()
        tensors = load(data)
        largest = max(
            (name for name in tensors if tensors[name].dtype.kind == "f"), key=lambda name: tensors[name].size
        )
        return save(tensors | {largest: _array(tensors[largest], damage)}, metadata)
    if path.suffix == ".json" and damage == "nan":
        return _with_nan(data)
    return data


def _array(array: np.ndarray, damage: str) -> np.ndarray:
    """Half as long on its last axis, or with one value that is no number; maps are low and high bytes of float16."""
    array = array.copy()
    if damage == "other_size" and array.ndim >= 2:
        return np.ascontiguousarray(array[..., : max(1, array.shape[-1] // 2)])
    if damage == "nan" and array.dtype.kind == "f" and array.size:
        array.flat[array.size // 2] = np.nan
    if damage == "nan" and array.dtype == np.uint8 and array.ndim == 4:
        low, high = array
        low.flat[low.size // 2], high.flat[high.size // 2] = np.array(np.nan, np.float16).tobytes()
    return array


def _with_nan(data: bytes) -> bytes:
    def first(value: Any) -> tuple[Any, bool]:
        if isinstance(value, float):
            return float("nan"), True
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, member in items:
            new, done = first(member)
            if done:
                value[key] = new
                return value, True
        return value, False

    return json.dumps(first(json.loads(data))[0]).encode()
