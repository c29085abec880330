"""Reading and resizing the views of images: its own time, and how long the network waits for it."""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.inputs import LITE0, SCALES, VOC_SIZE, irn_host, no_grad, photographs
from benchmarks.measure import Comparison, Figure, Pair, Target

if TYPE_CHECKING:
    from cpal.data.dataset import Dataset


def written(folder: Path, images: list[np.ndarray]) -> "Dataset":
    """A data set of one class, with these images uint8 (H, W, 3) as JPEG files."""
    from PIL import Image

    from cpal.data.dataset import Dataset, Record

    records = []
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
        height, width = pixels.shape[:2]
        records.append(Record(f"{number}", "train", True, f"{number}.jpg", width, height, (1,), None, ""))
    return Dataset(("a",), {"train": "train", "score": "train", "val": "val"}, folder, folder, tuple(records))


def reading(count: int, size: tuple[int, int], long_side: int, scales: tuple[float, ...], backbone: str) -> Pair:
    """Reading and resizing the pyramids of images in this process, against the network's passes over them."""
    from cpal.data.views import ImagePyramid

    folder = tempfile.TemporaryDirectory()
    dataset = written(Path(folder.name), photographs(count, size))
    pyramids = ImagePyramid(dataset, list(dataset.records), scales=scales, flip=True, long_side=long_side)
    seen = [pyramids[number].views for number in range(count)]
    host = irn_host(backbone, 20).eval()

    def read() -> int:
        return sum(len(pyramids[number].views) for number in range(count))

    def passes() -> int:
        return len([host(view, None) for views in seen for view in views])

    def agree(found: int, expected: int) -> str:
        assert found == expected, f"{found} views, not {expected}"
        return "same views"

    return Pair(read, no_grad(passes), agree, folder.cleanup)


def waiting(
    count: int, size: tuple[int, int], long_side: int, scales: tuple[float, ...], backbone: str
) -> tuple[float, str]:
    """Share of time, in percent, that a network waits for a loader of one process, from the second image on."""
    import torch

    from cpal.data.views import pyramid_loader

    host = irn_host(backbone, 20).eval()
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        dataset = written(Path(name), photographs(count, size))
        records = list(dataset.records)
        loader = pyramid_loader(dataset, records, scales=scales, flip=True, long_side=long_side, workers=1)
        waited, started, asked = 0.0, 0.0, time.perf_counter()
        for number, (_, _, views) in enumerate(loader):
            if number == 0:
                started = time.perf_counter()  # the process has started
            else:
                waited += time.perf_counter() - asked
            for view in views:
                host(view, None)
            asked = time.perf_counter()
        total = asked - started
    return 100 * waited / total, f"{waited:.3f} s of {total:.2f} s"


def rows() -> list[Comparison | Figure]:
    sizes = (VOC_SIZE, 320, SCALES, LITE0)
    what = "reading and resizing 4 images of 375 x 500 to 4 scales of 320"
    other = "Lite0's passes over these views"
    alone = "time that the network waits for a loader of one process, from the second of 12 images on"
    return [
        Comparison("reading", what, other, Target("at most", 1), partial(reading, 4, *sizes)),
        Figure("waiting", alone, "whole time", Target("at most", 5), "%", partial(waiting, 12, *sizes), "wall"),
    ]
