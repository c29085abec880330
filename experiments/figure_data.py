"""The numbers behind each figure, as rows of a table; without matplotlib."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import LabelMaps
from cpal.evaluation.scoring import count_maps, count_masks, otsu, sum_over_images, sweep_curve, threshold_grid
from cpal.maps.cams import MAP_NAMES, read_maps
from cpal.method.groups import Origins
from cpal.method.learner import ContextPrototypeLearner, Instances
from cpal.method.prototypes import Context

Rows = list[dict[str, Any]]
PER_CLASS = 100  # instances of a class in the t-SNE, drawn at random
FEWEST = 4  # points that a t-SNE needs
ALIGNED = {False: "without alignment", True: "with alignment"}


def panels(learner: ContextPrototypeLearner) -> dict[bool, str]:
    """Whether the instances are aligned, and the panel's title; with cpal.align: none there is one panel."""
    return {aligned: title for aligned, title in ALIGNED.items() if not aligned or learner.settings.align != "none"}


@torch.no_grad()
def bank_instances(learner: ContextPrototypeLearner, *, aligned: bool) -> list[Tensor]:
    """The instances (C, D) of each class in the bank, background first, the oldest first; `aligned`: after Eq. 12."""
    filled = learner.bank.valid()
    if not aligned:
        return [learner.bank.latest(k) for k in range(len(filled))]
    nothing = torch.empty(0)
    entries = learner.bank.entries.transpose(0, 1)  # as a batch of L images, each with one instance of every class
    context = Context.of(learner.context, learner.valid)
    step = Instances(nothing, nothing, context, nothing, nothing, nothing, entries, filled.T)
    anchors = learner.anchor(step).transpose(0, 1)
    length = filled.shape[1]
    return [
        anchors[k, torch.arange(max(0, seen - length), seen) % length]
        for k, seen in enumerate(learner.bank.seen.tolist())
    ]


def embed_bank(learner: ContextPrototypeLearner, origins: Origins, classes: Sequence[str], *, seed: int) -> Rows:
    """Fig. 3: t-SNE of the foreground classes' instances and context prototypes, once unaligned and once aligned.

    Each row is a point: panel, kind (instance | prototype), label, class, image, x, y. At most PER_CLASS instances
    of a class, drawn by `seed`, the same in both panels. Distances are cosine. Nothing with fewer than FEWEST points.
    """
    from sklearn.manifold import TSNE

    drawn = np.random.default_rng(seed)
    kept = [np.sort(drawn.permutation(len(ids))[:PER_CLASS]) for ids in origins]
    rows: Rows = []
    for aligned, panel in panels(learner).items():
        instances = bank_instances(learner, aligned=aligned)
        points, named = [], []
        for k, name in enumerate(classes, 1):
            points += [instances[k][kept[k]], learner.context[k][learner.valid[k]]]
            named += [("instance", k, name, origins[k][entry]) for entry in kept[k]]
            named += [("prototype", k, name, "")] * int(learner.valid[k].sum())
        x = F.normalize(torch.cat(points), dim=-1).cpu().double().numpy()
        if len(x) < FEWEST:
            return []
        perplexity = min(30.0, (len(x) - 1) / 3)
        flat = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=seed).fit_transform(x)
        places = [{"x": round(float(left), 4), "y": round(float(up), 4)} for left, up in flat]
        keys = ("kind", "label", "class", "image")
        rows += [
            {"panel": panel, **dict(zip(keys, what, strict=True)), **place}
            for what, place in zip(named, places, strict=True)
        ]
    return rows


def spread_of_bank(learner: ContextPrototypeLearner, classes: Sequence[str]) -> Rows:
    """How compact and how separate each class's instances are, before and after the alignment; cosine distances.

    compactness: mean distance to the mean of the own class, the smaller the better. separation: distance from that mean
    to the nearest mean of another class, the larger the better. silhouette: -1 to 1, from all pairs of instances, the
    larger the better (Rousseeuw, 1987). Classes with fewer than two instances are left out.
    """
    from sklearn.metrics import silhouette_samples

    rows: Rows = []
    for aligned, panel in panels(learner).items():
        found = {k: x for k, x in enumerate(bank_instances(learner, aligned=aligned)) if k and len(x) > 1}
        if len(found) < 2:
            return []
        unit = {k: F.normalize(x, dim=-1).cpu().double() for k, x in found.items()}
        means = {k: F.normalize(x.mean(dim=0), dim=0) for k, x in unit.items()}
        owner = np.concatenate([np.full(len(x), k) for k, x in unit.items()])
        silhouette = silhouette_samples(torch.cat([*unit.values()]).numpy(), owner, metric="cosine")
        for k, x in unit.items():
            apart = min(1 - float(means[k] @ mean) for other, mean in means.items() if other != k)
            rows.append(
                {
                    "panel": panel,
                    "class": classes[k - 1],
                    "instances": len(x),
                    "compactness": round(float((1 - x @ means[k]).mean()), 4),
                    "separation": round(apart, 4),
                    "silhouette": round(float(silhouette[owner == k].mean()), 4),
                }
            )
    return rows


def confusion_rows(dataset: Dataset, records: list[Record], maps: LabelMaps, *, workers: int) -> Rows:
    """Pixels of each true class by predicted class; the last column is void, which no class predicts."""
    confusion = count_masks(dataset, records, maps.read, workers=workers)["confusion"]
    names = ["background", *dataset.classes]
    return [
        {"truth": name, **dict(zip([*names, "void"], row.tolist(), strict=True))}
        for name, row in zip(names, confusion, strict=True)
    ]


def iou_rows(by_step: dict[str, dict[str, float]], classes: Iterable[str]) -> Rows:
    """IoU in percent of each class by step; empty where a class occurs in neither truth nor result."""
    return [
        {"class": name, **{step: iou.get(name, "") for step, iou in by_step.items()}}
        for name in ["background", *classes]
    ]


def threshold_rows(
    dataset: Dataset, records: list[Record], folder: Path, fixed: dict[str, float], *, step: float, workers: int
) -> Rows:
    """mIoU in percent of each map of the files at each threshold of a grid, against the ground truth of the records.

    `mark` names the fixed threshold of the settings, Otsu's, and the best one.
    """
    stored = read_maps(folder, records[0]).maps
    grid = {name: threshold_grid(step, fixed[name]) for name in MAP_NAMES if name in stored}
    classes = dataset.num_classes

    def count(record: Record, truth: np.ndarray) -> dict[str, np.ndarray]:
        return count_maps(truth, read_maps(folder, record), grid, classes)

    total = sum_over_images(count, dataset, records, workers=workers)
    rows: Rows = []
    for name, thresholds in grid.items():
        curve = sweep_curve(total[name])
        marks: dict[int, list[str]] = {}
        for mark, index in (
            ("fixed", int(np.flatnonzero(thresholds == fixed[name])[0])),
            ("Otsu", otsu(total[f"{name}_pixels"], thresholds)),
            ("best", int(np.argmax(curve))),
        ):
            marks.setdefault(index, []).append(mark)
        rows += [
            {
                "map": MAP_NAMES[name],
                "threshold": round(float(x), 4),
                "miou": round(y, 3),
                "mark": " ".join(marks.get(i, [])),
            }
            for i, (x, y) in enumerate(zip(thresholds, curve, strict=True))
        ]
    return rows
