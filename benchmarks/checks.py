"""Processor time that the checks of files take: the checksum of weights, and the comparison of maps with their record.

python -m benchmarks.checks
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save
from torch import nn

from cpal.data.dataset import Record
from cpal.data.masks import read_mask, read_record_mask, write_mask
from cpal.files import whole_file
from cpal.maps.cams import CamFile, map_size, read_maps, write_cam
from cpal.maps.refined import Refined, read_crf, write_crf
from cpal.networks.weights import load_weights, save_weights

SIZE = (375, 500)  # (H, W)
CLASSES = (3, 15)
RECORD = Record("a", "train", True, "a.jpg", SIZE[1], SIZE[0], CLASSES, None, "")
REPEATS = 7


def milliseconds(work: Callable[[], Any], times: int = 1) -> float:
    """The least processor time of a few repetitions, each of this many calls, for one call."""
    found = []
    for _ in range(REPEATS):
        began = time.process_time()
        for _ in range(times):
            work()
        found.append(time.process_time() - began)
    return 1000 * min(found) / times


def weights(folder: Path, megabytes: int) -> list[tuple[str, float, float]]:
    """Saving and loading, with the library's checks and with safetensors alone."""
    module = nn.ParameterList([nn.Parameter(torch.randn(250_000)) for _ in range(megabytes)])
    tensors = {f"m.{key}": value.detach() for key, value in module.state_dict().items()}
    ours, plain = folder / "ours.safetensors", folder / "plain.safetensors"

    def save_plain() -> None:
        with whole_file(plain) as temporary:
            temporary.write_bytes(save(tensors))

    def load_plain() -> None:
        module.load_state_dict({key.removeprefix("m."): value for key, value in load_file(plain).items()})

    def save_checked() -> None:
        save_weights(ours, {"m": module}, {})

    def load_checked() -> None:
        load_weights(ours, {"m": module}, {}, stage="train_cam")

    rows = []
    pairs = (("save", save_plain, save_checked), ("load", load_plain, load_checked))
    for verb, bare, checked in pairs:
        rows.append((f"{verb} {megabytes} MB of weights", milliseconds(bare), milliseconds(checked)))
    return rows


def hash_speed(megabytes: int) -> float:
    """Megabytes that SHA-256 takes in a second."""
    data = torch.randn(250_000 * megabytes).numpy().data
    return megabytes / milliseconds(lambda: hashlib.sha256(data)) * 1000


def images(folder: Path) -> list[tuple[str, float, float]]:
    """Reading an image's files, with the checks against its record and without."""
    light = np.random.default_rng(0).random((2, 6, 8))
    smooth = np.stack([np.array(Image.fromarray(part).resize(map_size(SIZE)[::-1])) for part in light])
    maps = {name: smooth for name in ("cam", "pacam", "taught")}
    large = np.stack([np.array(Image.fromarray(part).resize(SIZE[::-1])) for part in light])
    label, confidence = np.where(large[0] > 0.5, CLASSES[0], 0).astype(np.uint8), (255 * large[1]).astype(np.uint8)
    paths = {name: folder / name / "a.npz" for name in ("cams", "crf")} | {"mask": folder / "a.png"}
    for name in ("cams", "crf"):
        paths[name].parent.mkdir()
    write_cam(paths["cams"], CamFile(np.array(CLASSES), maps, SIZE))
    write_crf(paths["crf"], Refined(label, confidence))
    write_mask(paths["mask"], label)

    def plain(path: Path) -> dict[str, np.ndarray]:
        with np.load(path) as stored:
            arrays = dict(stored)
        return {key: value.astype(np.float32) if key in maps else value for key, value in arrays.items()}

    rows: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
        ("read an image's maps", lambda: plain(paths["cams"]), lambda: read_maps(paths["cams"].parent, RECORD)),
        ("read an image's CRF file", lambda: plain(paths["crf"]), lambda: read_crf(paths["crf"].parent, RECORD)),
        (
            "read an image's mask",
            lambda: read_mask(paths["mask"]),
            lambda: read_record_mask(paths["mask"], RECORD, CLASSES, stage="write_pseudo_masks"),
        ),
    ]
    return [(name, milliseconds(bare, 50), milliseconds(checked, 50)) for name, bare, checked in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = [*weights(Path(name), arguments.megabytes), *images(Path(name))]
    print("| work | without checks, ms | with checks, ms | the checks, ms |\n|---|---|---|---|")
    for what, bare, checked in rows:
        print(f"| {what} | {bare:.1f} | {checked:.1f} | {checked - bare:.1f} |")
    print(f"\nSHA-256 alone: {hash_speed(arguments.megabytes):.0f} MB/s")


if __name__ == "__main__":
    main()
