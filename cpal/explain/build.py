"""Explains an image: asks the fitted classifier, collects images behind its prototypes, writes page and picture."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cpal.data.dataset import Dataset, Record
from cpal.data.images import read_record_image
from cpal.data.views import image_views
from cpal.errors import UserError, again
from cpal.explain.neighbors import ClassView, Fitted, class_views, instance_pixels
from cpal.explain.page import Explanation, render_explanation
from cpal.explain.pictures import Source, Sources, sheet
from cpal.explain.steps import Published, steps
from cpal.files import whole_file
from cpal.method.make_cams import localize
from cpal.settings.config import CamConfig, Config

NEAREST = 4  # training images of each prototype
ALLOWED = 0.002  # mean difference of a map from the file's: float16 (0.0001), and another device


def explain(
    dataset: Dataset, record: Record, labels: Sequence[int], fitted: Fitted, found: Published, settings: CamConfig
) -> Explanation:
    """All that is shown of a training image and these classes of it.

    Raises UserError if the published PACAM is not what the classifier gives: then settings have changed since.
    """
    photo = read_record_image(dataset.image_path(record), record)
    views = views_of(photo, settings.scales, settings)
    label = fitted.classifier.label(record)
    _check_maps(found, localize(fitted.classifier, label, record.size, views).maps["pacam"], record)
    nearest = min(range(len(views)), key=lambda index: abs(math.log(settings.scales[index])))
    shown = class_views(fitted, views[nearest], label, labels, nearest=NEAREST)
    return Explanation(
        record,
        dataset.classes,
        photo,
        found,
        shown,
        steps(found, labels),
        find_sources(dataset, fitted, shown, settings),
        settings.scales[nearest],
    )


def find_sources(dataset: Dataset, fitted: Fitted, views: Sequence[ClassView], settings: CamConfig) -> Sources:
    """The training images behind the neighbours, each with the cells that made its instance."""
    wanted = dict.fromkeys((like.image_id, v.label) for v in views for n in v.neighbors for like in n.nearest)
    records = {record.image_id: record for record in dataset.split("train")}
    sources = {}
    for image_id, k in wanted:
        record = records[image_id]
        photo = read_record_image(dataset.image_path(record), record)
        (view,) = views_of(photo, (1.0,), settings)
        sources[image_id, k] = Source(photo, instance_pixels(fitted, view, fitted.filling.label(record), k))
    return sources


def write_explanation(folder: Path, shown: Explanation, settings: Config) -> tuple[Path, Path]:
    """Write folder/ID.html and folder/ID.png; returns both paths."""
    page, picture = (folder / f"{shown.record.image_id}.{ending}" for ending in ("html", "png"))
    with whole_file(page) as temporary:
        temporary.write_text(render_explanation(shown, settings), encoding="utf-8")
    with whole_file(picture) as temporary:
        drawn = sheet(shown.photo, shown.found, shown.views, shown.steps, shown.sources, shown.classes)
        Image.fromarray(drawn).save(temporary, format="PNG", optimize=True)
    return page, picture


def views_of(photo: np.ndarray, scales: Sequence[float], settings: CamConfig) -> list[Tensor]:
    """The views of an image uint8 (H, W, 3) by scale, as the pipeline's stages see it."""
    image = torch.from_numpy(photo).permute(2, 0, 1)
    return image_views(image, scales, flip=settings.flip, long_side=settings.long_side)


def _check_maps(found: Published, pacam: np.ndarray, record: Record) -> None:
    stored = found.maps.maps.get("pacam")
    if stored is None or np.abs(stored - pacam).mean() > ALLOWED:
        raise UserError(
            f"image {record.image_id}: its published PACAM is not what the present settings and prototypes give; "
            f"{again('make_cams')}"
        )
