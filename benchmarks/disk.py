"""Bytes on disk of an image's files at VOC's size, and the time that writing adds to the making of maps."""

import tempfile
from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks.crf import VALUES
from benchmarks.inputs import LITE0, SCALES, VOC_SIZE, classifier, image_labels, image_pyramid, photographs
from benchmarks.measure import Comparison, Figure, Pair, Target

CLASSES = 20


@cache
def sizes(scales: tuple[float, ...], long_side: int, size: tuple[int, int]) -> dict[str, int]:
    """Bytes of the three files of one image with two classes: cams, crf, affinity."""
    import torch
    from scipy.ndimage import sobel

    from cpal.affinity.walk import start_maps, walk_maps
    from cpal.maps.cams import MAP_NAMES, map_size, write_cam
    from cpal.maps.crf import refine
    from cpal.maps.refined import write_crf
    from cpal.maps.seeds import SeedRule, seed_scores
    from cpal.maps.walked import write_walk
    from cpal.method.make_cams import localize
    from cpal.settings.config import CrfConfig, WalkConfig

    label, image = image_labels(2, CLASSES)[1:], photographs(1, size)[0]
    content = localize(classifier(LITE0, CLASSES), label, size, image_pyramid(long_side, scales))
    rule = SeedRule("taught", dict.fromkeys(MAP_NAMES, 0.5))
    refined = refine(image, seed_scores(content, rule), content.classes, CrfConfig(**VALUES))
    height, width = map_size(size)
    gray = image.mean(axis=2)[:: -(-size[0] // height), :: -(-size[1] // width)]
    edge = np.hypot(sobel(gray, 0), sobel(gray, 1))
    walk = WalkConfig(start="crf", background="walk", powers=(1.0,), radius=5, steps=64, beta=20.0)
    start = start_maps(refined, content.classes, rule, "walk")
    walked = walk_maps(start, torch.from_numpy(edge / edge.max()).float(), content.classes, size, walk)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "file.npz")
        for what, write in (
            ("cams", partial(write_cam, content=content)),
            ("crf", partial(write_crf, content=refined)),
            ("affinity", partial(write_walk, content=walked)),
        ):
            write(path)
            found[what] = path.stat().st_size
    return found


def megabytes(name: str) -> tuple[float, str]:
    bytes_ = sizes(SCALES, 320, VOC_SIZE)[name]
    return bytes_ / 1e6, f"{bytes_} bytes"


def writing(count: int, long_side: int, scales: tuple[float, ...]) -> Pair:
    """Making and writing the maps of images against making them; the files must hold as many maps."""
    from cpal.data.dataset import Record
    from cpal.data.views import Views
    from cpal.method.make_cams import localize, write_cams

    trained, folder = classifier(LITE0, CLASSES), tempfile.TemporaryDirectory()
    views, target = image_pyramid(long_side, scales), Path(folder.name, "cams")
    target.mkdir()
    height, width = VOC_SIZE
    records = [Record(f"{n}", "train", True, "", width, height, (2, 3), None, "") for n in range(count)]

    def work() -> int:
        write_cams(trained, [Views(record, record.size, views) for record in records], target)
        return len(list(target.glob("*.npz")))

    def reference() -> int:
        return len([localize(trained, trained.label(record), record.size, views) for record in records])

    def agree(found: int, expected: int) -> str:
        assert found == expected, f"{found} files, not {expected}"
        return "all files there"

    return Pair(work, reference, agree, folder.cleanup)


def rows() -> list[Comparison | Figure]:
    what = "file of {} of an image of 375 x 500 with two classes"
    limits = {"cams": 0.10, "crf": 0.08, "affinity": 0.10}
    found: list[Comparison | Figure] = [
        Figure(
            f"disk-{n}", what.format(n), "", Target("at most", limit), "MB", partial(megabytes, n), "bytes", rounds=1
        )
        for n, limit in limits.items()
    ]
    text = "making and writing the maps of 4 images, Lite0 at 320, 4 scales"
    target = Target("at most", 1.02)
    return [*found, Comparison("writing", text, "making them", target, partial(writing, 4, 320, SCALES), "wall")]
