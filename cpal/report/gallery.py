"""Which images a report shows, and each one's way through the pipeline as layers of one size."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cpal.data.dataset import Dataset, Record
from cpal.data.images import read_record_image
from cpal.data.masks import BACKGROUND, VOID, read_truth
from cpal.files import remove
from cpal.maps.cams import MAP_NAMES, read_maps, resize_maps
from cpal.maps.drawing import class_palette, contact_sheet, fit, heat, legend, overlay, stack, strip
from cpal.maps.fonts import drawable
from cpal.maps.refined import read_crf
from cpal.report.image_results import ImageResult, Results
from cpal.report.page import Card, Layer, data_uri

LAYER_SIDE, ROW_WIDTH, SAMPLE_SIDE = 360, 176, 128  # of a picture, in pixels
SAMPLES, SAMPLE_COLUMNS = 24, 6


@dataclass(frozen=True)
class Panels:
    """pictures uint8 (H, W, 3) by title, all of one size; `classes` are the mask values that occur in them."""

    pictures: dict[str, np.ndarray]
    classes: tuple[int, ...]


def spread_over_ranks(ranked: Sequence[ImageResult], count: int) -> list[Record]:
    """Records evenly spread from best to worst; each the nearest in rank that brings a class not shown yet, if any."""
    left = list(enumerate(result.record for result in ranked))
    chosen: list[Record] = []
    for i in range(min(count, len(ranked))):
        place = (i + 0.5) / min(count, len(ranked)) * len(ranked) - 0.5
        left.sort(key=lambda entry: abs(entry[0] - place))
        shown = {label for record in chosen for label in record.labels}
        pick = next((entry for entry in left if not shown.issuperset(entry[1].labels)), left[0])
        left.remove(pick)
        chosen.append(pick[1])
    return chosen


def draw_panels(dataset: Dataset, record: Record, results: Results, *, width: int, height: int | None = None) -> Panels:
    """Image, maps, CRF, pseudo-mask, prediction and ground truth, as far as they exist for this record.

    Validation images have no maps, CRF or pseudo-mask; of the training images some may have no prediction. Imported
    maps are a CAM alone.
    """
    image = fit(read_record_image(dataset.image_path(record), record), width=width, height=height)
    pictures, masks = {"Image": image}, {}
    if record.split == "train":
        maps = read_maps(results.cams, record)
        for name, map_ in maps.maps.items():
            resized = resize_maps(map_, image.shape[:2])
            pictures[MAP_NAMES[name]] = heat(image, resized, results.rule.thresholds[name])
        masks["CRF"] = read_crf(results.crf, record).label
        masks["Pseudo-mask"] = results.pseudo_masks.read(record)
    if record.image_id in results.predicted:
        masks["Prediction"] = results.predictions.read(record)
    if record.mask is not None:
        masks["Ground truth"] = read_truth(dataset, record)
    palette = class_palette()
    for title, mask in masks.items():
        pictures[title] = overlay(image, fit(mask, width=width, height=height), palette)
    values = {int(value) for mask in masks.values() for value in np.unique(mask)} | set(record.labels)
    return Panels(pictures, tuple(sorted(values - {BACKGROUND, VOID})))


def save_layers(
    dataset: Dataset, record: Record, results: Results, path: Path
) -> tuple[tuple[int, ...], dict[str, Layer]]:
    """Mask values that occur in an image's layers, and the layers by title, written as WebP.

    Their names begin with `path`; their addresses are relative to the folder above.
    """
    panels = draw_panels(dataset, record, results, width=LAYER_SIDE, height=LAYER_SIDE)
    layers = {}
    for title, picture in panels.pictures.items():
        file = path.with_name(f"{path.name}_{title.lower().replace(' ', '_')}.webp")
        layers[title] = save_picture(picture, file)
    return panels.classes, layers


def save_picture(picture: np.ndarray, path: Path) -> Layer:
    """Write a picture uint8 (H, W, 3) as WebP; its address is relative to the folder above."""
    Image.fromarray(picture).save(path, quality=75, method=2)
    return Layer(f"{path.parent.name}/{path.name}", picture.shape[1], picture.shape[0])


def make_card(index: int, result: ImageResult, classes: tuple[int, ...], layers: Mapping[str, Layer]) -> Card:
    """An image as the page shows it; first its pseudo-mask, or the prediction of a validation image."""
    record = result.record
    shown = "Pseudo-mask" if record.split == "train" else "Prediction"
    return Card(index, record.image_id, record.split, classes, result.miou, result.doubt, result.reasons, layers, shown)


def embed(pictures: Sequence[Layer], folder: Path, *, largest: int) -> dict[Layer, Layer]:
    """Each picture as the page shows it: in the page itself where all together have at most `largest` bytes.

    `pictures` has a picture as often as the page. The files of embedded pictures are removed.
    """
    if sum((folder / picture.url).stat().st_size for picture in pictures) > largest:
        return {picture: picture for picture in pictures}
    inside = {picture: replace(picture, url=data_uri((folder / picture.url).read_bytes())) for picture in pictures}
    remove(folder / "images")
    return inside


def strip_rows(dataset: Dataset, records: Iterable[Record], results: Results) -> np.ndarray:
    """One picture: a row an image, titles above the first, the classes' colors below the last.

    The columns are those that every image has.
    """
    ways = [draw_panels(dataset, record, results, width=ROW_WIDTH) for record in records]
    titles = [title for title in ways[0].pictures if all(title in way.pictures for way in ways)]
    rows = [strip([way.pictures[t] for t in titles], titles if i == 0 else ()) for i, way in enumerate(ways)]
    values = sorted({value for way in ways for value in way.classes})
    names = [drawable(dataset.classes[value - 1], value) for value in values]
    return stack([*rows, legend(names, class_palette()[values], width=rows[0].shape[1])])


def samples(dataset: Dataset) -> np.ndarray:
    """One picture: training images evenly spread over the list, each beside its mask, above its classes' names."""
    records = dataset.split("train")
    count = min(SAMPLES, len(records))
    cells, captions = [], []
    for record in (records[i * len(records) // count] for i in range(count)):
        image = fit(read_record_image(dataset.image_path(record), record), width=SAMPLE_SIDE, height=SAMPLE_SIDE)
        pictures = [image]
        if record.mask is not None:
            mask = fit(read_truth(dataset, record), width=SAMPLE_SIDE, height=SAMPLE_SIDE)
            pictures.append(overlay(image, mask, class_palette()))
        cells.append(strip(pictures))
        captions.append(
            ", ".join(drawable(dataset.classes[label - 1], label) for label in record.labels) or "no object"
        )
    return contact_sheet(cells, captions, columns=SAMPLE_COLUMNS)
