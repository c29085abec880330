"""Fig. 5 as pictures, with their numbers as rows: the prototypes behind PACAM, and PACAM without them."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cpal.explain.build import views_of
from cpal.explain.neighbors import Fitted
from cpal.explain.page import Explanation
from cpal.explain.pictures import similarity_pictures
from cpal.explain.steps import image_iou
from cpal.maps.cams import CamFile, resize_maps
from cpal.maps.drawing import class_palette, fit, heat, overlay, stack, strip
from cpal.maps.fonts import drawable
from cpal.maps.seeds import SeedRule, seed_map
from cpal.method.make_cams import localize
from cpal.settings.config import CamConfig
from experiments.figure_data import Rows

PANEL, SHOWN = 150, 5  # width of a panel in pixels; prototypes in a row
Made = tuple[np.ndarray, Rows]  # a picture uint8 (H, W, 3), and its numbers
VANILLA = "PACAM, all alike"


def neighbors(shown: Sequence[Explanation]) -> Made:
    """Fig. 5a: for each image and its first class the map of each of the strongest soft neighbours, and PACAM."""
    strips, rows = [], []
    for of_image in shown:
        (view,), found = of_image.views, of_image.found
        name, image = of_image.classes[view.label - 1], fit(of_image.photo, width=PANEL)
        pacam = _heat(image, found.maps, "pacam", view.label, found.rule)
        panels = [image, *similarity_pictures(image, view).alone[:SHOWN], pacam]
        numbers = [f"w = {neighbor.positiveness:.2g}" for neighbor in view.neighbors[:SHOWN]]
        strips.append(strip(panels, [drawable(name, view.label), *numbers, "PACAM"]))
        rows += [
            {
                "image": of_image.record.image_id,
                "class": name,
                "prototype": neighbor.prototype,
                "positiveness": round(neighbor.positiveness, 6),
                "share": round(neighbor.share, 6),
                "cosine": round(neighbor.cosine, 6),
                "nearest_image": neighbor.nearest[0].image_id,
            }
            for neighbor in view.neighbors
        ]
    return stack(strips), rows


def ablation(shown: Sequence[Explanation], loaded: Fitted, settings: CamConfig, rule: SeedRule) -> Made:
    """Fig. 5b: each image's CAM, PACAM from all prototypes alike (no top-K, no positiveness), PACAM and taught CAM.

    All come from the same trained network. The paper's other ablation, without L_Self, is another training, which
    `make table1` runs. The numbers are the IoU of the class in this image, at the map's threshold.
    """
    learner = copy.deepcopy(loaded.learner)
    learner.settings = learner.settings.model_copy(
        update={"topk": learner.settings.num_prototypes, "weighting": "none"}
    )
    vanilla = replace(loaded.classifier, learner=learner)
    strips, rows = [], []
    for of_image in shown:
        (view,), record, found = of_image.views, of_image.record, of_image.found
        image = fit(of_image.photo, width=PANEL)
        alike = localize(
            vanilla, vanilla.label(record), record.size, views_of(of_image.photo, settings.scales, settings)
        )
        contents = {"CAM": (found.maps, "cam"), VANILLA: (alike, "pacam"), "PACAM": (found.maps, "pacam")}
        if "taught" in found.maps.maps:
            contents["Taught CAM"] = (found.maps, "taught")
        panels = {drawable(of_image.classes[view.label - 1], view.label): image}
        for title, (content, name) in contents.items():
            panels[title] = _heat(image, content, name, view.label, rule)
            rows.append(
                {
                    "image": record.image_id,
                    "class": of_image.classes[view.label - 1],
                    "map": title,
                    "iou": _iou(found.truth, content, name, view.label, rule),
                }
            )
        if found.truth is not None:
            panels["Ground truth"] = overlay(image, fit(found.truth, width=PANEL), class_palette())
        strips.append(strip([*panels.values()], [*panels]))
    return stack(strips), rows


def _heat(image: np.ndarray, content: CamFile, name: str, label: int, rule: SeedRule) -> np.ndarray:
    place = content.classes.tolist().index(label)
    return heat(image, resize_maps(content.maps[name][[place]], image.shape[:2]), rule.thresholds[name])


def _iou(truth: np.ndarray | None, content: CamFile, name: str, label: int, rule: SeedRule) -> float | str:
    """IoU of the class in percent, rounded; empty without ground truth."""
    iou = image_iou(truth, seed_map(content, SeedRule(name, rule.thresholds)), [label])
    return "" if iou is None else round(iou[0], 2)
