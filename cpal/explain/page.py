"""One image's way through the pipeline as an HTML page that holds its pictures, needs no network and no script."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpal.data.dataset import Record
from cpal.explain.neighbors import ClassView
from cpal.explain.pictures import (
    CHANGE_PALETTE,
    CHANGES,
    Sources,
    class_pictures,
    similarity_pictures,
    step_pictures,
)
from cpal.explain.steps import Published, Step, void_percent
from cpal.maps.drawing import cells, fit
from cpal.report.page import Layer, embedded, fill, policy
from cpal.report.words import LAYERS, SEED_SOURCE
from cpal.settings.config import Config

TEMPLATES = Path(__file__).with_name("templates")
SIDE, SOURCE_SIDE = 360, 160  # of a picture, in pixels
OPEN = 6  # neighbours of a class that are shown at once
CONTRASTS = {  # how PACAM follows from the similarity to the class and to the background, by cpal.contrast
    "ratio": "class / (class + background), 0.5 where the two are equal",
    "normalized": "class / (class + background), after each map is divided by its maximum",
    "difference": "class minus background where that is positive, divided by its maximum",
    "none": "the map of the class divided by its maximum; the background is not used",
}


@dataclass(frozen=True)
class Explanation:
    """All that is shown of a training image. photo uint8 (H, W, 3); `sources` are the training images behind the
    prototypes; scale: of the view in which the prototypes are explained."""

    record: Record
    classes: Sequence[str]
    photo: np.ndarray
    found: Published
    views: Sequence[ClassView]
    steps: Sequence[Step]
    sources: Sources
    scale: float


@dataclass(frozen=True)
class Figure(Layer):
    """A picture with its title, and words about it."""

    title: str
    words: str = ""


def render_explanation(shown: Explanation, settings: Config) -> str:
    """The whole page. Equal input gives equal bytes."""
    image = fit(shown.photo, width=SIDE, height=SIDE)
    return fill(
        "explain.html",
        [TEMPLATES],
        shown=shown,
        settings=settings,
        open=OPEN,
        contrasts=CONTRASTS,
        image=_figure(image, "Image", LAYERS["Image"]),
        maps={view.label: _map_figures(image, shown.found, view) for view in shown.views},
        neighbors={view.label: _neighbor_figures(image, shown, view, settings) for view in shown.views},
        masks=[
            _figure(picture, title, _step_words(title, shown, settings))
            for title, picture in step_pictures(image, shown.steps).items()
        ],
        changes={name: CHANGE_PALETTE[kind].tolist() for name, kind in CHANGES.items()},
        policy=policy(),
        own_style=(TEMPLATES / "explain.css").read_text(encoding="utf-8"),
    )


def _figure(picture: np.ndarray, title: str, words: str = "") -> Figure:
    layer = embedded(picture, quality=80, method=4)
    return Figure(layer.url, layer.width, layer.height, title, words)


def _map_figures(image: np.ndarray, found: Published, view: ClassView) -> list[Figure]:
    share = 100 * float(view.mask.mean())
    words = LAYERS | {
        "Instance": f"The cells whose mean feature stands for the class (Eq. 4): {share:.0f}% of the image."
        if share
        else "No cell is sure of the class: the mean of its prototypes stands for it.",
    }
    return [_figure(picture, title, words[title]) for title, picture in class_pictures(image, found, view).items()]


def _neighbor_figures(image: np.ndarray, shown: Explanation, view: ClassView, settings: Config) -> dict[str, object]:
    """Each neighbour with its activation and its nearest training images, and what all together give."""
    drawn = similarity_pictures(image, view)
    rows = []
    for neighbor, picture in zip(view.neighbors, drawn.alone, strict=True):
        sources = []
        for like in neighbor.nearest:
            source = shown.sources[like.image_id, view.label]
            small = fit(source.image, width=SOURCE_SIDE, height=SOURCE_SIDE)
            sources.append(_figure(cells(small, source.mask, view.label), like.image_id, f"cosine {like.cosine:.2f}"))
        rows.append({"of": neighbor, "map": _figure(picture, f"Prototype {neighbor.prototype}"), "sources": sources})
    mean = {"mean": "weighted by the positiveness", "none": "unweighted", "fuse": "from the weighted sum of prototypes"}
    pacam = class_pictures(image, shown.found, view)["PACAM"]
    return {
        "rows": rows,
        "together": _figure(drawn.together, "All neighbours", f"Mean, {mean[settings.cpal.weighting]} (Eq. 13)."),
        "background": _figure(drawn.background, "Background", "The same with the background's soft neighbours."),
        "pacam": _figure(pacam, "PACAM", "White lines at its threshold."),
        "low": drawn.low,
        "high": drawn.high,
    }


def _step_words(title: str, shown: Explanation, settings: Config) -> str:
    by_title = {step.title: step for step in shown.steps}
    step = by_title.get(title.removesuffix(": changed"))
    if title == "Seeds":
        return f"Made from {SEED_SOURCE[settings.seeds.source]} at its threshold."
    if title.endswith(": changed"):
        assert step is not None
        return ", ".join(f"{step.share(kind):.1f}% {name}" for name, kind in CHANGES.items()) + "."
    if title == "CRF" and shown.found.walk is None:
        return f"{LAYERS['CRF']} There is no random walk (affinity.method: none)."
    if title == "Random walk":
        return "The labels after the walk along edges that IRN's network learned."
    if title == "Void":
        void = void_percent(by_title["Pseudo-mask"].label)
        if shown.found.corrected:
            return f"{void:.1f}% of the pixels: the corrected mask has no label there."
        least = f"pseudo_mask: min_confidence ({settings.pseudo_mask.min_confidence:g})"
        return f"{void:.1f}% of the pixels: their confidence is below {least}."
    if title == "Mask to learn from":
        void, limit = void_percent(by_title[title].label), settings.pseudo_mask.unsure_background
        return (
            f"{void:.1f}% are void, also background whose seed scores exceed {limit:g} (pseudo_mask.unsure_background)."
        )
    if title == "Pseudo-mask" and shown.found.corrected:
        return "Corrected by an annotator: data/corrected_masks."
    return LAYERS[title]
