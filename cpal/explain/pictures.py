"""Draws the maps and label maps of one image over its photograph, at any size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cpal.data.masks import BACKGROUND, VOID
from cpal.explain.neighbors import ClassView
from cpal.explain.steps import GAINED, LOST, SWAPPED, Published, Step, void_percent
from cpal.maps.cams import MAP_NAMES, resize_maps
from cpal.maps.drawing import cells, class_palette, fit, glow, heat, legend, overlay, stack, strip
from cpal.maps.fonts import drawable

PANEL, SHOWN, LONGEST = 150, 5, 17  # of the PNG: width of a panel in pixels, neighbours, characters of a name
CHANGES = {"became a class": GAINED, "became background": LOST, "changed its class": SWAPPED}
CHANGE_PALETTE = np.zeros((256, 3), np.uint8)
CHANGE_PALETTE[[GAINED, LOST, SWAPPED]] = [(46, 130, 226), (232, 92, 40), (160, 92, 214)]


@dataclass(frozen=True)
class Source:
    """A training image behind a prototype: uint8 (H, W, 3), and the cells bool (h, w) that made its instance."""

    image: np.ndarray
    mask: np.ndarray


Sources = Mapping[tuple[str, int], Source]  # by image id and class


def class_pictures(image: np.ndarray, found: Published, view: ClassView) -> dict[str, np.ndarray]:
    """The class's maps and its instance on an image (H, W, 3), by title."""
    place = found.maps.classes.tolist().index(view.label)
    maps = {
        MAP_NAMES[name]: heat(image, resize_maps(map_[[place]], image.shape[:2]), found.rule.thresholds[name])
        for name, map_ in found.maps.maps.items()
    }
    return {"CAM": maps.pop("CAM"), "Instance": cells(image, view.mask, view.label), **maps}


@dataclass(frozen=True)
class Similarities:
    """Cosine maps (Eq. 13) as pictures: of each soft neighbour alone, of all together, and of the background's.

    A color means the same cosine in all pictures. `low` and `high` are the cosines at the ends of the color scale: the
    smallest and the largest of all pixels and all soft neighbours of the class. Negative cosines are drawn as 0.
    """

    alone: list[np.ndarray]
    together: np.ndarray
    background: np.ndarray
    low: float
    high: float


def similarity_pictures(image: np.ndarray, view: ClassView) -> Similarities:
    """Draw the similarities on an image (H, W, 3)."""
    maps = np.stack([*(neighbor.activation for neighbor in view.neighbors), view.similarity, view.background]).clip(0)
    low, high = float(maps[:-1].min()), float(maps[:-1].max())
    scaled = np.clip((resize_maps(maps, image.shape[:2]) - low) / max(high - low, 1e-6), 0, 1)
    *alone, together, background = (glow(image, score) for score in scaled)
    return Similarities(alone, together, background, low, high)


def step_pictures(image: np.ndarray, steps: Sequence[Step]) -> dict[str, np.ndarray]:
    """Each step's label map on an image (H, W, 3), and beside it what the step changed, by title."""
    pictures = {}
    for step in steps:
        if step.title == "Pseudo-mask" and void_percent(step.label):
            unsure = np.where(step.label == VOID, step.label, np.uint8(BACKGROUND))
            pictures["Void"] = overlay(image, _sized(unsure, image), class_palette())
        pictures[step.title] = overlay(image, _sized(step.label, image), class_palette())
        if step.change is not None:
            pictures[f"{step.title}: changed"] = overlay(image, _sized(step.change, image), CHANGE_PALETTE)
    return pictures


def _sized(label: np.ndarray, image: np.ndarray) -> np.ndarray:
    size = (image.shape[1], image.shape[0])
    return np.array(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))


def sheet(
    photo: np.ndarray,
    found: Published,
    views: Sequence[ClassView],
    steps: Sequence[Step],
    sources: Sources,
    classes: Sequence[str],
) -> np.ndarray:
    """The whole explanation as one picture. For each class: its maps and strongest neighbours; below each neighbour,
    the nearest training image with the pixels that made its instance. Then the steps from the seeds to the mask."""
    image = fit(photo, width=PANEL)
    rows = []
    for view in views:
        rows += _class_rows(image, found, view, sources, classes[view.label - 1])
    pictures = step_pictures(image, steps)
    rows.append(strip([*pictures.values()], [title.replace(": changed", " changed") for title in pictures]))
    values = sorted({int(value) for step in steps for value in np.unique(step.label)} - {BACKGROUND, VOID})
    colors = [class_palette()[values], CHANGE_PALETTE[[*CHANGES.values()]]]
    names = [*(drawable(classes[value - 1], value) for value in values), *CHANGES]
    rows.append(legend(names, np.concatenate(colors), width=max(row.shape[1] for row in rows)))
    return stack(rows)


def _class_rows(image: np.ndarray, found: Published, view: ClassView, sources: Sources, name: str) -> list[np.ndarray]:
    pictures = class_pictures(image, found, view)
    own = {drawable(name, view.label): image, "CAM": pictures.pop("CAM"), "Instance": pictures.pop("Instance")}
    shown = view.neighbors[:SHOWN]
    middle = similarity_pictures(image, view).alone[:SHOWN]
    titles = [f"w = {neighbor.positiveness:.2g}" for neighbor in shown]
    rows = [strip([*own.values(), *middle, *pictures.values()], [*own, *titles, *pictures])]
    if shown:
        blank = np.full((image.shape[0], PANEL, 3), 255, np.uint8)
        nearest = [neighbor.nearest[0].image_id for neighbor in shown]
        drawn = [_framed(sources[image_id, view.label], view.label, image) for image_id in nearest]
        names = [_short(image_id) for image_id in nearest]
        rows.append(strip([*[blank] * len(own), *drawn], [*[""] * (len(own) - 1), "nearest image:", *names]))
    return rows


def _short(name: str) -> str:
    """A name that fits above a panel."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def _framed(source: Source, label: int, image: np.ndarray) -> np.ndarray:
    """A source on white, in the size of an image (H, W, 3)."""
    height, width = image.shape[:2]
    drawn = cells(fit(source.image, width=width, height=height), source.mask, label)
    frame = np.full((height, width, 3), 255, np.uint8)
    top, left = (height - drawn.shape[0]) // 2, (width - drawn.shape[1]) // 2
    frame[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return frame
