"""Why a run is good or bad: what the prototypes are made of, and which of them are used.

The ground truth serves to look, never to train or to choose.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import VOID, read_truth
from cpal.data.views import Views, pyramid_loader
from cpal.method import prototypes as P
from cpal.method.classifier import Classifier, Diagnose, Diagnosis
from cpal.method.learner import ContextPrototypeLearner, Instances
from cpal.settings.hosts import HostSection

LEVEL = 0.5  # a map counts as foreground above it; PACAM as a ratio, where the class is as near as the background
FIGURES = (
    *("cam_precision", "cam_coverage", "pacam_precision", "pacam_coverage"),
    *("cam_purity", "instance_purity", "context_purity", "context_usage", "effective_neighbors"),
    *("ocsem", "ocsem_aligned", "shift"),
)


def diagnoser(dataset: Dataset, settings: HostSection, limit: int | None = None) -> Diagnose:
    """`diagnose` of some scored training images, evenly spread over the list, at the middle of the training's sizes."""
    scored = dataset.scored("train", limit)
    places = np.linspace(0, len(scored) - 1, min(len(scored), settings.diagnosed_images)).round().astype(int)
    records = [scored[place] for place in places]
    loader = pyramid_loader(
        dataset, records, scales=(1.0,), flip=True, long_side=sum(settings.resize_long) // 2, workers=0
    )
    return lambda host, learner: diagnose(Classifier(host, dataset.num_foreground, learner), dataset, loader)


@torch.no_grad()
def diagnose(classifier: Classifier, dataset: Dataset, loader: Iterable[Views]) -> Diagnosis:
    """Means over the foreground classes of scored records, by name; None for what cannot be counted.

    cam_precision, pacam_precision: share of a map's pixels above LEVEL that are its class's; cam_coverage,
    pacam_coverage: share of the class's pixels above LEVEL. Of classes with contexts: cam_purity, instance_purity:
    share of the class's pixels in the masks of its instance prototypes, from the CAM and after refinement, by ground
    truth. context_purity: that of the instances nearest to a context prototype, averaged over the context prototypes.
    context_usage: share of the context prototypes that are some instance's neighbour. effective_neighbors: exp of the
    entropy of the neighbours' weights. ocsem, ocsem_aligned: cosine of instance and nearest context (Eq. 8), before
    and after the shift. shift: its length by the instances'. Shares are percent.
    """
    host, learner = classifier.host, classifier.learner
    assert learner is not None
    training = host.training, learner.training
    host.eval(), learner.eval()
    values: dict[str, list[float]] = defaultdict(list)
    nearest: dict[tuple[int, int], list[float]] = defaultdict(list)
    used = torch.zeros_like(learner.valid)
    for record, _, views in loader:
        label = classifier.label(record)
        features, cam, _ = classifier.look(views[0], label)
        first = learner.instances(features, cam, label, refinements=0)
        step = learner.instances(features, cam, label)
        pacam = P.contrast(learner.similarity(step, label), "ratio")
        truth = _truth(dataset, record, step.mask)
        counted = truth != VOID
        for k in record.labels:
            of_class = truth == k
            known = bool(learner.valid[k].any())
            for name, maps in (("cam", step.maps), ("pacam", pacam)) if known else (("cam", step.maps),):
                above = maps[0, k] > LEVEL
                values[f"{name}_precision"] += _share(of_class, among=above & counted)
                values[f"{name}_coverage"] += _share(above, among=of_class)
            if known:
                values["cam_purity"] += _share(of_class, among=(first.mask[0, k] > 0) & counted)
                purity = _share(of_class, among=(step.mask[0, k] > 0) & counted)
                values["instance_purity"] += purity
                nearest[k, _nearest(learner, step, k)] += purity
        _add_neighbors(values, used, learner, step)
    for module, mode in zip((host, learner), training, strict=True):
        module.train(mode)
    values["context_purity"] = [float(np.mean(shares)) for shares in nearest.values() if shares]
    values["context_usage"] = _share(used[1:], among=learner.valid[1:])
    return {name: round(float(np.mean(values[name])), 3) if values[name] else None for name in FIGURES}


def _add_neighbors(
    values: dict[str, list[float]], used: Tensor, learner: ContextPrototypeLearner, step: Instances
) -> None:
    """One image's OCSEM, shift and neighbours; marks the context prototypes that are some instance's neighbour."""
    anchor = learner.anchor(step)
    counted = step.present & learner.valid.any(dim=1)
    counted[:, 0] = False
    if not counted.any():
        return
    for name, prototypes in (("ocsem", step.prototypes), ("ocsem_aligned", anchor)):
        values[name].append(float(P.ocsem(prototypes, counted, learner.context, learner.valid)))
    length = learner.scaled_shift(step)[0].norm(dim=-1)
    values["shift"] += (length / step.prototypes[0].norm(dim=-1))[counted[0]].tolist()
    if learner.settings.topk == 0:
        return
    index, weight = learner.neighbors(step, anchor)
    share = weight / weight.sum(dim=-1, keepdim=True).clamp(min=P.EPSILON)
    values["effective_neighbors"] += torch.special.entr(share).sum(dim=-1).exp()[counted].tolist()
    for k in counted[0].nonzero()[:, 0].tolist():
        used[k, index[0, k]] = True  # also some that are not valid, where a class has fewer than T


def _truth(dataset: Dataset, record: Record, maps: Tensor) -> Tensor:
    """The image's mask at the maps' size (h, w)."""
    mask = torch.from_numpy(read_truth(dataset, record))[None, None].float()
    return F.interpolate(mask, size=maps.shape[2:], mode="nearest-exact")[0, 0].to(maps.device)


def _share(part: Tensor, *, among: Tensor) -> list[float]:
    """Percent of `among` that is in `part`, or nothing where `among` is empty."""
    return [100 * float(part[among].float().mean())] if among.any() else []


def _nearest(learner: ContextPrototypeLearner, step: Instances, k: int) -> int:
    cosine = F.normalize(learner.context[k], dim=-1) @ F.normalize(step.prototypes[0, k], dim=-1)
    return int(cosine.masked_fill(~learner.valid[k], -torch.inf).argmax())
