"""Diagnostics of a network whose features are the truth and whose CAM is known, so that every figure can be counted."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import COLORS
from torch import Tensor, nn

from cpal.data.dataset import Dataset
from cpal.data.masks import VOID, read_mask, write_mask
from cpal.data.views import Views, pyramid_loader
from cpal.hosts import Host, HostOutput
from cpal.method.classifier import Classifier, Diagnosis
from cpal.method.diagnose import diagnose, diagnoser
from cpal.method.fit_prototypes import fit_prototypes
from cpal.method.learner import ContextPrototypeLearner
from cpal.method.train_cam import train_classifier
from cpal.settings.config import Config
from cpal.training.loop import Run

Settings = Callable[..., Config]
PALETTE = torch.tensor([COLORS[k] for k in sorted(COLORS)], dtype=torch.float32)


class Oracle(Host):
    """Features: which color a pixel has. CAM: 1 on the class's pixels, and `spill` on all others."""

    def __init__(self, spill: float) -> None:
        super().__init__()
        self.spill = spill
        self.where = nn.Parameter(torch.zeros(()))  # tells its device

    def forward(self, images: Tensor, image_label: Tensor) -> HostOutput:
        truth = (images.float()[:, :, None] - PALETTE.T[None, :, :, None, None]).abs().sum(1).argmin(1)
        features = F.one_hot(truth, len(PALETTE)).permute(0, 3, 1, 2).float()
        cam = features[:, 1:].clamp(min=self.spill)
        return HostOutput([features], cam, cam.mean((2, 3)))

    def training_step(self, images: Tensor, image_label: Tensor, mask: Tensor) -> tuple[HostOutput, dict[str, Tensor]]:
        return self(images, image_label), {}

    def new_layers(self) -> list[nn.Module]:
        return []


class Waves(Oracle):
    """An oracle with waves over the picture, so that a map has every value, and features that each picture shifts."""

    def forward(self, images: Tensor, image_label: Tensor) -> HostOutput:
        output, speed = super().forward(images, image_label), torch.tensor([0.7, 1.1, 1.7, 2.3])[:, None, None]
        wave = torch.sin(torch.arange(images[0, 0].numel()).view(images.shape[2:]) * speed + speed)
        shift = 0.5 * torch.sin(images.float().mean() * speed)
        return output._replace(features=[output.features[0] + 0.6 * wave + shift], cam=output.cam + wave[1:].flip(0))


def look(settings: Settings, dataset: Dataset, spill: float, **keys: Any) -> Diagnosis:
    config = settings(**{"cpal.features": [1]} | {f"cpal.{key}": value for key, value in keys.items()})
    host = Oracle(spill)
    learner = ContextPrototypeLearner(len(COLORS) - 1, [len(COLORS)], config.cpal, seed=0)
    classifier = Classifier(host, dataset.num_foreground, learner)
    records = dataset.split("train")
    loader = pyramid_loader(dataset, records, scales=(1.0,), flip=True, long_side=None, workers=0)
    for _ in range(1 + config.cpal.refinements):
        fit_prototypes(classifier, loader)
    host.train(), learner.train()
    figures = diagnose(classifier, dataset, loader)
    assert host.training and learner.training, "left as found"
    return figures


def test_a_perfect_cam(settings: Settings, tiny_dataset: Dataset) -> None:
    figures = look(settings, tiny_dataset, spill=0.0)
    for name in ("cam", "pacam"):
        assert figures[f"{name}_precision"] == figures[f"{name}_coverage"] == 100
    assert figures["cam_purity"] == figures["instance_purity"] == figures["context_purity"] == 100
    assert figures["ocsem"] == pytest.approx(1, abs=1e-3)
    assert figures["shift"] == pytest.approx(0, abs=1e-3)


def test_a_cam_that_lights_everything(settings: Settings, tiny_dataset: Dataset) -> None:
    """The masks are the whole image, so that purity and precision are the class's share of it."""
    figures = look(
        settings, tiny_dataset, spill=0.9, refinements=0, mask_exclusive=False, background_threshold=0.0, topk=2
    )
    shares = []
    for record in tiny_dataset.split("train"):
        mask = read_mask(tiny_dataset.mask_path(record))
        shares += [100 * float((mask == k).mean()) for k in record.labels]
    assert figures["cam_purity"] == pytest.approx(np.mean(shares), abs=0.01)
    assert figures["instance_purity"] == figures["cam_purity"]
    assert figures["cam_precision"] == pytest.approx(np.mean(shares), abs=0.01)
    assert figures["cam_coverage"] == 100
    assert figures["effective_neighbors"] is not None and 1 <= figures["effective_neighbors"] <= 2


@pytest.mark.parametrize("strength", [None, 0.2])
def test_the_shift_is_told_by_the_instances_length(
    settings: Settings, tiny_dataset: Dataset, strength: float | None
) -> None:
    """With one context a class it is the mean of the bank; the shift leads a part of the way to it."""
    config = settings(**{"cpal.features": [1]}).cpal
    keys = {
        "num_prototypes": 1,
        "topk": 1,
        "refinements": 0,
        "normalize_prototypes": False,
        "normalize_features": False,
    }
    figures = look(settings, tiny_dataset, spill=0.9, align_strength=strength, **keys)
    learner = ContextPrototypeLearner(
        len(COLORS) - 1, [len(COLORS)], config.model_copy(update={**keys, "align": "none"}), seed=0
    ).eval()
    classifier = Classifier(Oracle(0.9), len(COLORS) - 1, learner)
    records = tiny_dataset.split("train")
    loader = pyramid_loader(tiny_dataset, records, scales=(1.0,), flip=True, long_side=None, workers=0)
    of_class: dict[int, list[Tensor]] = {}
    for record, _, (view,) in loader:
        label = torch.from_numpy(record.multi_hot(len(COLORS) - 1))[None]
        features, cam, _ = classifier.look(view, label)
        step = learner.instances(features, cam, label)
        for k in record.labels:
            of_class.setdefault(k, []).append(step.prototypes[0, k])
    shares = []
    for found in of_class.values():
        mean = torch.stack(found).mean(0)
        shares += [float((strength or 0.5) * (mean - own).norm() / own.norm()) for own in found]
    assert len(shares) > 3 and np.mean(shares) > 0.01
    assert figures["shift"] == pytest.approx(np.mean(shares), abs=1e-3)


def test_refinement_shows_as_purity(settings: Settings, tiny_dataset: Dataset) -> None:
    """On the larger boxes, whose share tells them from the background."""
    figures = look(settings, tiny_dataset, spill=0.55, mask_threshold=0.5, background_threshold=0.3)
    assert figures["instance_purity"] is not None and figures["cam_purity"] is not None
    assert figures["instance_purity"] > figures["cam_purity"] + 10


def test_usage_counts_the_contexts_that_are_neighbors(settings: Settings, tiny_dataset: Dataset) -> None:
    assert look(settings, tiny_dataset, spill=0.0, num_prototypes=4, topk=4)["context_usage"] == 100
    assert look(settings, tiny_dataset, spill=0.0, topk=0)["effective_neighbors"] is None


def test_without_contexts_only_the_cam_is_judged(settings: Settings, tiny_dataset: Dataset) -> None:
    """The rest would depend on settings of `cpal` that a training without L_Self does not read."""
    config = settings(**{"cpal.features": [1]})
    learner = ContextPrototypeLearner(len(COLORS) - 1, [len(COLORS)], config.cpal, seed=0)
    figures = diagnoser(tiny_dataset, config.chosen_host)(Oracle(0.0), learner)
    assert {name for name, value in figures.items() if value is not None} == {"cam_precision", "cam_coverage"}
    none = settings(**{"hosts.irn.diagnosed_images": 0}).chosen_host
    assert set(diagnoser(tiny_dataset, none)(Oracle(0.0), learner).values()) == {None}


@pytest.mark.parametrize("contrast", ["none", "difference", "ratio", "normalized"])
def test_says_the_same_whatever_a_map_cell_holds(settings: Settings, tiny_dataset: Dataset, contrast: str) -> None:
    """`cpal.contrast` does not train anew, so that it must not change what is said of a training."""
    figures = [look(settings, tiny_dataset, spill=0.55, contrast=mode) for mode in ("ratio", contrast)]
    assert figures[0] == figures[1]


def test_training_is_diagnosed_each_epoch_and_after_a_restart(
    settings: Settings, tiny_dataset: Dataset, tmp_path: Any
) -> None:
    config = settings(**{"hosts.irn.backbone": "mobilenetv3_small_050", "hosts.irn.weights": "none"})

    def run() -> tuple[Host, list[Diagnosis]]:
        host, _, rows = train_classifier(
            tiny_dataset,
            tiny_dataset.split("train"),
            config.chosen_host,
            config.cpal,
            Run(0, tmp_path, torch.device("cpu"), workers=0),
            diagnose=diagnoser(tiny_dataset, config.chosen_host),
        )
        return host, rows

    host, rows = run()
    assert [row["epoch"] for row in rows] == list(range(1, config.hosts.irn.epochs + 1))
    assert rows[0]["pacam_precision"] is None and rows[1]["pacam_precision"] is not None, "from the second epoch on"
    assert all(row.keys() == rows[0].keys() for row in rows), "else DVC draws no plot"
    assert all(value is None or math.isfinite(value) for row in rows for value in row.values())
    assert run()[1] == rows, "from the checkpoint"


@pytest.mark.parametrize(("images", "wanted"), [(47, 24), (71, 24), (5, 24), (10, 1), (10, 0)])
def test_diagnosed_images_are_spread_over_the_whole_list(
    settings: Settings, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, images: int, wanted: int
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr("cpal.method.diagnose.pyramid_loader", lambda _, records, **__: chosen.extend(records))
    monkeypatch.setattr(Dataset, "scored", lambda *_: list(range(images)))
    diagnoser(tiny_dataset, settings(**{"hosts.irn.diagnosed_images": wanted}).chosen_host)
    count = min(images, wanted)
    assert len(set(chosen)) == count
    if count > 1:
        assert (chosen[0], chosen[-1]) == (0, images - 1)
        assert max(np.diff(chosen)) - min(np.diff(chosen)) <= 1


def test_figures_against_plain_loops(settings: Settings, tiny_dataset: Dataset, tmp_path: Path) -> None:
    """Maps are smaller than the masks, which have void; contexts are drawn, and class 3 has none."""
    dataset = replace(tiny_dataset, mask_root=tmp_path)
    for record in dataset.records:
        mask = read_mask(tiny_dataset.mask_path(record))
        mask[:, 10:14] = VOID
        write_mask(dataset.mask_path(record), mask)
    keys = {"topk": 2, "metric": "cosine", "normalize_prototypes": False, "background_threshold": 0.3}
    config = settings(**{"cpal.features": [1]} | {f"cpal.{key}": value for key, value in keys.items()})
    learner = ContextPrototypeLearner(3, [4], config.cpal, seed=0).eval()
    classifier = Classifier(Waves(0.0), 3, learner)
    loader = list(pyramid_loader(dataset, list(dataset.records), scales=(1.0,), flip=True, long_side=29, workers=0))
    learner.context.copy_(torch.eye(4)[:, None] + 0.15 * torch.randn(4, 4, 4)).mul_(torch.rand(4, 4, 1) + 0.1)
    learner.valid[:3] = True
    learner.valid[1:, 0] = False
    values: dict[str, list[float]] = defaultdict(list)
    purities: dict[tuple[int, int], list[float]] = defaultdict(list)
    used = set()

    def add(name: str, part: np.ndarray, among: np.ndarray) -> list[float]:
        found = [100 * float(part[among].mean())] if among.any() else []
        values[name] += found
        return found

    for record, (height, width), (view,) in loader:
        label = classifier.label(record)
        features, cam, _ = classifier.look(view, label)
        first, step = (learner.instances(features, cam, label, refinements=rounds) for rounds in (0, 1))
        rows, columns = (
            ((np.arange(small) + 0.5) * large / small).astype(int)
            for small, large in zip(cam.shape[2:], (height, width), strict=True)
        )
        truth = read_mask(dataset.mask_path(record))[np.ix_(rows, columns)]
        similar, anchor = learner.similarity(step, label)[0].numpy(), learner.anchor(step)
        index, weight = learner.neighbors(step, anchor)
        for k in record.labels:
            maps = {"cam": step.maps[0, k].numpy(), "pacam": similar[k] / (similar[k] + similar[0] + 1e-5)}
            for name in ("cam", "pacam") if k != 3 else ("cam",):
                add(f"{name}_precision", truth == k, (maps[name] > 0.5) & (truth != VOID))
                add(f"{name}_coverage", maps[name] > 0.5, truth == k)
        cosines: dict[str, list[float]] = defaultdict(list)
        for k in {1, 2} & set(record.labels):
            add("cam_purity", truth == k, (first.mask[0, k].numpy() > 0) & (truth != VOID))
            purity = add("instance_purity", truth == k, (step.mask[0, k].numpy() > 0) & (truth != VOID))
            contexts = {p: learner.context[k, p] for p in range(4) if learner.valid[k, p]}
            for name, prototype in (("ocsem", step.prototypes[0, k]), ("ocsem_aligned", anchor[0, k])):
                near = {p: float(F.cosine_similarity(context, prototype, dim=0)) for p, context in contexts.items()}
                cosines[name].append(max(near.values()))
                if name == "ocsem":
                    purities[k, max(near, key=lambda p: near[p])] += purity
            used |= {(k, p) for p, w in zip(index[0, k].tolist(), weight[0, k].tolist(), strict=True) if w > 0}
            shares = [w / float(weight[0, k].sum()) for w in weight[0, k].tolist() if w > 0]
            values["effective_neighbors"].append(math.exp(-sum(share * math.log(share) for share in shares)))
            values["shift"].append(float(learner.scaled_shift(step)[0, k].norm() / step.prototypes[0, k].norm()))
        for name, of_image in cosines.items():
            values[name].append(float(np.mean(of_image)))
    values["context_purity"] = [float(np.mean(shares)) for shares in purities.values()]
    values["context_usage"] = [100 * len(used) / int(learner.valid[1:].sum())]
    found = diagnose(classifier, dataset, loader)
    assert found == {name: pytest.approx(np.mean(values[name]), abs=6e-4) for name in found}
    assert len(purities) > 2 and found["instance_purity"] != found["context_purity"] and found["context_usage"] != 100


def test_looks_at_scored_images_evenly_and_at_the_middle_of_the_sizes(
    settings: Settings, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a, c, d, empty: b is not scored."""
    records = tuple(replace(record, scored=record.image_id != "b") for record in tiny_dataset.records)
    dataset, seen = replace(tiny_dataset, records=records), list[list[Views]]()
    monkeypatch.setattr("cpal.method.diagnose.diagnose", lambda _classifier, _dataset, loader: seen.append([*loader]))
    learner = ContextPrototypeLearner(3, [4], settings(**{"cpal.features": [1]}).cpal, seed=0)
    for images, limit in ((3, None), (9, None), (2, 3)):
        config = settings(**{"hosts.irn.diagnosed_images": images, "hosts.irn.resize_long": [32, 50]})
        diagnoser(dataset, config.chosen_host, limit)(Oracle(0.0), learner)
    assert [[views.record.image_id for views in found] for found in seen] == [
        ["a", "d", "empty"],
        ["a", "c", "d", "empty"],
        ["a", "d"],
    ]
    for _, _, (view,) in seen[0]:
        assert len(view) == 2 and max(view.shape[2:]) == 41 and torch.equal(view[0], view[1].flip(-1))
