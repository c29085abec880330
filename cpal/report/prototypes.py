"""The context prototypes on the page: their order, and pictures of the training images behind the largest ones."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cpal.data.dataset import Dataset, Record
from cpal.data.images import read_record_image
from cpal.data.masks import BACKGROUND
from cpal.maps.cams import CamFile, read_maps
from cpal.maps.drawing import cells, fit
from cpal.method.groups import Group
from cpal.report.gallery import save_picture
from cpal.report.image_results import Each, Results
from cpal.report.page import Layer, Prototypes

NEAREST, SIDE = 3, 112  # images of each prototype; of a picture, in pixels


def arrange(groups: Sequence[Sequence[Group]]) -> list[Prototypes]:
    """The groups of background and of each class as the page shows them: background last, the largest first."""
    of_class = [
        Prototypes(label, sorted(of_label, key=lambda group: (-group.members, group.prototype)))
        for label, of_label in enumerate(groups)
    ]
    return [*of_class[1:], of_class[0]]


def draw_sources(
    folder: Path, dataset: Dataset, results: Results, prototypes: Iterable[Prototypes], each: Each
) -> dict[tuple[str, int], Layer]:
    """The pictures behind all prototypes that are shown, by image and class, written into folder/images."""
    wanted = dict.fromkeys(key for row in prototypes for key in row.sources)
    labels: dict[str, list[int]] = {}
    for image_id, label in wanted:
        labels.setdefault(image_id, []).append(label)
    records = [record for record in dataset.split("train") if record.image_id in labels]
    paths = [folder / "images" / f"instance_{place:05}" for place in range(len(records))]
    bare = replace(dataset, records=())

    def draw(record: Record, of_image: Sequence[int], path: Path) -> list[Layer]:
        return save_sources(bare, record, results, of_image, path)

    drawn = each("draw prototypes", draw, records, [labels[record.image_id] for record in records], paths)
    return {
        (record.image_id, label): layer
        for record, layers in zip(records, drawn, strict=True)
        for label, layer in zip(labels[record.image_id], layers, strict=True)
    }


def save_sources(dataset: Dataset, record: Record, results: Results, labels: Sequence[int], path: Path) -> list[Layer]:
    """A picture of an image for each of these classes, with about the cells of its instance.

    The files' names begin with `path`.
    """
    image = fit(read_record_image(dataset.image_path(record), record), width=SIDE, height=SIDE)
    maps = read_maps(results.cams, record)
    return [
        save_picture(
            cells(image, instance_cells(maps, label, results), label), path.with_name(f"{path.name}_{label}.webp")
        )
        for label in labels
    ]


def instance_cells(maps: CamFile, label: int, results: Results) -> np.ndarray:
    """About the cells of an image's instance, bool (h, w): as Eq. 4 takes them, but from the published maps.

    No file keeps the cells themselves, which fit_prototypes takes from one scale. On the toy the two have a mean IoU of
    0.63, for background 0.89. With cpal.refinements the instance follows the PACAM, so its map is taken.
    """
    settings = results.instances
    if settings.refinements and "pacam" in maps.maps:
        found, least = maps.maps["pacam"], results.rule.thresholds["pacam"]
        least_background = 1 - least
    else:
        found, least, least_background = maps.maps["cam"], settings.mask_threshold, settings.background_threshold
    strongest = found.max(axis=0, initial=0)
    if label == BACKGROUND:
        return np.asarray(1 - strongest > least_background)
    own = found[maps.classes.tolist().index(label)]
    return np.asarray((own > least) & (own == strongest if settings.mask_exclusive else True))
