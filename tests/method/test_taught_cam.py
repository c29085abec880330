"""The taught CAM: its optimum against scikit-learn's, its map against plain loops, and which cells teach it."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import BACKGROUND, VOID, read_mask
from cpal.data.views import ImagePyramid, Views
from cpal.hosts import HostOutput
from cpal.maps.cams import resize_maps
from cpal.maps.crf import sure_labels
from cpal.method import prototypes as P
from cpal.method.classifier import Classifier
from cpal.method.fit_prototypes import fit_prototypes
from cpal.method.learner import ContextPrototypeLearner
from cpal.method.make_cams import localize
from cpal.method.taught_cam import TaughtCam
from cpal.method.teach_cam import (
    HostView,
    collect_cells,
    crf_scores,
    pacam_labels,
    plan_lessons,
    sample_cells,
    some_of_each_class,
    teach_cam,
)
from cpal.networks.weights import load_weights, save_weights
from cpal.settings.config import Config

Settings = Callable[..., Config]
N, D = 3, 4
DECAY = torch.full((N + 1,), 0.1)


def heaps(sizes: tuple[int, ...] = (400, 60, 9, 30)) -> tuple[Tensor, Tensor]:
    """Overlapping heaps of very different sizes in channels of different scales: z (P, D), label (P,)."""
    label = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    z = torch.randn(len(label), D) + 1.2 * F.one_hot(label, D)
    return z * torch.tensor([1.0, 3.0, 0.5, 2.0]) + 5, label


@pytest.mark.parametrize("decay", [0.01, 0.1])
def test_the_optimum_is_scikit_learns(decay: float) -> None:
    z, label = heaps()
    taught = TaughtCam(N + 1, D)
    taught.learn(z, label, decay=torch.full((N + 1,), decay))
    scaled = ((z - z.mean(0)) / z.std(0).mean()).double().numpy()
    # scikit-learn minimizes C times the weighted sum of errors and half the squared weights.
    reference = LogisticRegression(C=1 / (2 * decay * (N + 1)), tol=1e-10, max_iter=5000)
    reference.fit(scaled, label, sample_weight=1 / np.bincount(label)[label])
    ours = torch.einsum("pd,kd->pk", z, taught.weight) + taught.bias
    np.testing.assert_allclose(ours.softmax(1), reference.predict_proba(scaled), atol=2e-3)


def test_each_class_has_its_own_decay() -> None:
    """Against SciPy on the loss written out in float64."""
    z, label = heaps()
    decay = torch.tensor([0.001, 0.3, 0.02, 1.0])
    taught = TaughtCam(N + 1, D)
    taught.learn(z, label, decay=decay)
    scaled = ((z - z.mean(0)) / z.std(0).mean()).double().numpy()
    number = np.bincount(label)

    def loss(flat: np.ndarray) -> float:
        weight, bias = flat[: -N - 1].reshape(N + 1, D), flat[-N - 1 :]
        errors = [
            np.log(np.exp(weight @ x + bias - weight[k] @ x - bias[k]).sum()) / number[k]
            for x, k in zip(scaled, label.tolist(), strict=True)
        ]
        return float(sum(errors) / (N + 1) + np.array(decay.tolist()) @ (weight**2).sum(axis=1))

    expected = minimize(loss, np.zeros((N + 1) * (D + 1)), tol=1e-8).x[: -N - 1].reshape(N + 1, D)
    np.testing.assert_allclose(taught.weight * z.std(0).mean(), expected, atol=2e-3)


def test_the_unit_of_the_features_does_not_matter() -> None:
    z, label = heaps()
    one, other = TaughtCam(N + 1, D), TaughtCam(N + 1, D)
    one.learn(z, label, decay=DECAY)
    other.learn(100 * z - 7, label, decay=DECAY)
    maps = [taught(cells.T[None, :, None], torch.ones(1, N)) for taught, cells in ((one, z), (other, 100 * z - 7))]
    torch.testing.assert_close(*maps, atol=1e-3, rtol=0)


def test_a_class_without_cells_stays_behind_the_background() -> None:
    z, label = heaps((50, 40, 0, 30))
    taught = TaughtCam(N + 1, D)
    taught.learn(z, label, decay=DECAY)
    maps = taught(z.T[None, :, None], torch.ones(1, N))
    assert torch.isfinite(maps).all() and maps[:, 1].max() < 0.5 < maps[:, 0].max()


def test_the_map_is_the_class_against_the_background() -> None:
    taught = TaughtCam(N + 1, D)
    taught.weight.normal_(), taught.bias.normal_()
    z, present = torch.randn(2, D, 3, 5), torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    maps = taught(z, present)
    assert maps.shape == (2, N, 3, 5)
    for b, n, y, x in np.ndindex(*maps.shape):
        logit = [float(taught.weight[k] @ z[b, :, y, x] + taught.bias[k]) for k in (0, n + 1)]
        p = [math.exp(value) for value in logit]
        expected = p[1] / (p[0] + p[1]) if present[b, n] else 0.0
        assert float(maps[b, n, y, x]) == pytest.approx(expected, abs=1e-6)


class Colors(nn.Module):
    """A host whose features are the picture's colors at a quarter of its size; its CAM is a color's excess."""

    channels = [3, 3, 3, 3]

    def __init__(self) -> None:
        super().__init__()
        self.where = nn.Parameter(torch.zeros(()))  # tells its device

    def forward(self, images: Tensor, image_label: Tensor) -> HostOutput:
        small = F.avg_pool2d(images.float() / 255, 4)
        cam = small - small.mean(dim=1, keepdim=True)
        return HostOutput([small] * 4, cam, cam.mean(dim=(2, 3)))


@pytest.fixture
def learner(settings: Settings) -> ContextPrototypeLearner:
    return ContextPrototypeLearner(N, [3], settings().cpal, seed=0).eval()


def pictures(dataset: Dataset) -> list[Views]:
    """The training images as a loader gives them, at two scales."""
    pyramid = ImagePyramid(dataset, dataset.split("train"), scales=(1.0, 2.0), flip=True, long_side=None)
    return [pyramid[index] for index in range(len(pyramid))]


@pytest.mark.parametrize("sizes", [[(4, 5)], [(4, 5), (7, 9)], [(7, 9), (4, 5)]])
def test_cells_are_those_that_the_mean_pacam_is_sure_of(
    learner: ContextPrototypeLearner, settings: Settings, sizes: list[tuple[int, int]]
) -> None:
    """Against loops over the cells of the largest view."""
    config = settings(**{"taught_cam.sure_background": 0.3, "taught_cam.sure_foreground": 0.6}).taught_cam
    label = torch.tensor([[1.0, 0, 1]])
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):  # until there is a context
        features, cam = torch.rand(1, 3, 4, 5, generator=generator), torch.randn(1, N, 4, 5, generator=generator)
        learner.enqueue(learner.instances([features], cam, label))
        learner.cluster()
    record = Record("", "train", True, "", 4, 5, (1, 3), None, "")
    views = [(features, cam)]
    if len(sizes) > 1:
        views = [(torch.rand(1, 3, *size), torch.randn(1, N, *size)) for size in sizes]
    view = HostView(record, label, [[features] for features, _ in views], [cam for _, cam in views], np.empty(0))
    labels, mean = pacam_labels(learner, view, config), np.zeros((2, *max(sizes)), np.float32)
    for features, cam in views:
        similarity = learner.similarity(learner.instances([features], cam, label), label)[0]
        maps = (similarity[[1, 3]] - similarity[0]).clamp(min=0)
        mean += resize_maps((maps / maps.amax((1, 2), keepdim=True)).numpy(), max(sizes))
    maps = torch.from_numpy(mean / mean.max(axis=(1, 2), keepdims=True))
    expected = torch.full(max(sizes), VOID)
    for y, x in np.ndindex(max(sizes)):
        values = [float(map_[y, x]) for map_ in maps]
        if max(values) > 0.6:
            expected[y, x] = (1, 3)[int(np.argmax(values))]
        elif max(values) < 0.3:
            expected[y, x] = 0
    assert {0, VOID} < set(expected.flatten().tolist())
    assert torch.equal(labels, expected)


def test_pixels_of_a_class_without_prototypes_are_not_learned_as_background(
    learner: ContextPrototypeLearner, settings: Settings
) -> None:
    config = settings().taught_cam
    label, generator = torch.tensor([[1.0, 0, 1]]), torch.Generator().manual_seed(0)
    for _ in range(3):
        features, cam = torch.rand(1, 3, 4, 5, generator=generator), torch.randn(1, N, 4, 5, generator=generator)
        learner.enqueue(learner.instances([features], cam, label))
        learner.cluster()
    record = Record("", "train", True, "", 4, 5, (1, 3), None, "")
    view = HostView(record, label, [[features]], [cam], np.empty(0))
    assert BACKGROUND in pacam_labels(learner, view, config)
    learner.valid[3] = False
    found = pacam_labels(learner, view, config).unique().tolist()
    assert BACKGROUND not in found and 3 not in found and 1 in found


def teach(
    classifier: Classifier,
    loader: list[Views],
    config: Config,
    *,
    lessons: int,
    scales: tuple[float, ...] = (1.0, 2.0),
    workers: int = 1,
) -> TaughtCam:
    """The taught CAM after so many lessons."""
    lesson = plan_lessons(
        config.taught_cam, config.crf, scales, images=len(loader), own=len(loader), seed=0, workers=workers
    )
    for _ in range(lessons):
        classifier = replace(classifier, taught=teach_cam(classifier, loader, lesson))
    assert classifier.taught is not None
    return classifier.taught


@pytest.mark.parametrize("lessons", [1, 2])
def test_finds_the_boxes_and_repeats_to_the_bit(
    learner: ContextPrototypeLearner, settings: Settings, tiny_dataset: Dataset, lessons: int
) -> None:
    classifier, loader = Classifier(Colors(), N, learner), pictures(tiny_dataset)
    for _ in range(2):
        fit_prototypes(classifier, loader)
    config = settings(**{"taught_cam.decay": 0.001, "taught_cam.cells": 400})
    first, second = (teach(classifier, loader, config, lessons=lessons) for _ in range(2))
    assert torch.equal(first.weight, second.weight) and torch.equal(first.bias, second.bias)
    for record, size, views in loader:
        label = torch.from_numpy(record.multi_hot(N))[None]
        content = localize(replace(classifier, taught=first), label, size, views)
        assert content.maps["taught"].shape == content.maps["cam"].shape
        truth = read_mask(tiny_dataset.mask_path(record))[2::4, 2::4]
        for class_id, map_ in zip(content.classes, content.maps["taught"], strict=True):
            inside = map_[: truth.shape[0], : truth.shape[1]][truth == class_id]
            outside = map_[: truth.shape[0], : truth.shape[1]][truth != class_id]
            assert inside.mean() > 0.5 > outside.mean()


def test_the_second_lesson_is_what_the_crf_makes_of_the_mean_map(settings: Settings) -> None:
    """Without a step of inference its labels are the thresholds'; with some, the image's edge is found to the pixel."""
    thresholds = {"taught_cam.crf_background": 0.3, "taught_cam.crf_foreground": 0.7}
    image = np.full((32, 48, 3), 40, np.uint8)
    image[:, 20:] = (220, 40, 40)
    ramp = torch.linspace(-4, 4, 48).expand(1, 1, 32, 48)  # equal to the background at column 24, not at the edge
    taught = TaughtCam(N + 1, 1)
    taught.weight[2] = 1.0
    label = torch.tensor([[0.0, 1, 0]])
    maps = [ramp + 1, ramp - 1]
    mean = (maps[0].sigmoid() + maps[1].sigmoid())[0, 0, 0] / 2
    by_threshold = [2 if p > 0.7 else 0 if p < 0.3 else VOID for p in mean.tolist()]
    assert by_threshold.count(VOID) > 5 and by_threshold != [
        2 if p > 0.7 else 0 if p < 0.3 else VOID for p in maps[0].sigmoid()[0, 0, 0].tolist()
    ]
    for iterations in (0, 5):
        config = settings(**thresholds, **{"crf.iterations": iterations})
        scores = crf_scores(taught, maps, label, image.shape[:2], config.taught_cam)
        found = sure_labels(image, *scores, np.array([2]), config.crf)
        row = [2 if column >= 20 else 0 for column in range(48)] if iterations else by_threshold
        assert np.array_equal(found, np.broadcast_to(row, (32, 48))), iterations
    empty = crf_scores(taught, maps, torch.zeros(1, N), image.shape[:2], config.taught_cam)
    assert [scores.shape for scores in empty] == [(1, 32, 48)] * 2


def test_several_processes_teach_what_one_does(
    learner: ContextPrototypeLearner, settings: Settings, tiny_dataset: Dataset
) -> None:
    classifier, loader = Classifier(Colors(), N, learner), pictures(tiny_dataset)
    fit_prototypes(classifier, loader)
    config = settings(**{"taught_cam.decay": 0.001, "taught_cam.cells": 400})
    alone, shared = (teach(classifier, loader, config, lessons=2, workers=n) for n in (1, 3))
    assert len(loader) > 3 and alone.weight.any()
    assert torch.equal(alone.weight, shared.weight) and torch.equal(alone.bias, shared.bias)


@pytest.mark.parametrize("lost", [False, True])
def test_the_second_lesson_learns_from_the_map_of_the_first(
    learner: ContextPrototypeLearner,
    settings: Settings,
    tiny_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    lost: bool,
) -> None:
    """The CRF is asked about the map that one lesson alone teaches and the view nearest to scale one.

    What it says is learned, unless it loses a class: then PACAM teaches as it did.
    """
    classifier, loader = Classifier(Colors(), N, learner), pictures(tiny_dataset)
    fit_prototypes(classifier, loader)
    config = settings(**{"taught_cam.decay": 0.001, "taught_cam.cells": 10**6})
    mirrored = [Views(record, size, views[::-1]) for record, size, views in loader]
    first = teach(classifier, mirrored, config, lessons=1, scales=(2.0, 1.0))
    looks, images, taken = [], [], []
    expected: list[int] = []

    def asked(taught: TaughtCam, maps: list[Tensor], *rest: Any) -> tuple[np.ndarray, np.ndarray]:
        assert torch.equal(taught.weight, first.weight) and len(maps) == 2
        looks.append(maps)
        return crf_scores(taught, maps, *rest)

    def says(image: np.ndarray, high: np.ndarray, low: np.ndarray, classes: np.ndarray, *_: object) -> np.ndarray:
        images.append(image)
        assert len(high) == len(low) == 1 + len(classes) and (high[0] > low[0]).all()
        if lost:
            return np.zeros(image.shape[:2], np.uint8)
        answer = np.full(image.shape[:2], VOID, np.uint8)
        for class_id in classes.tolist():  # a band for each class, the rest is void
            answer[8 * class_id - 8 : 8 * class_id] = class_id
        for z in looks[len(images) - 1]:
            rows = np.floor((np.arange(z.shape[2]) + 0.5) * image.shape[0] / z.shape[2]).astype(int)
            expected.extend(int(value) for y in rows for value in [answer[y, 0]] * z.shape[3] if value != VOID)
        return answer

    def learn(self: TaughtCam, z: Tensor, label: Tensor, *, decay: Tensor) -> None:
        taken.append((z, label, decay))
        self.weight.copy_(first.weight)

    monkeypatch.setattr("cpal.method.teach_cam.crf_scores", asked)
    monkeypatch.setattr("cpal.method.teach_cam.sure_labels", says)
    monkeypatch.setattr(TaughtCam, "learn", learn)
    teach(classifier, mirrored, config, lessons=2, scales=(2.0, 1.0))
    for image, (_, _, views) in zip(images, loader, strict=True):
        assert np.array_equal(image, views[0][0].permute(1, 2, 0).numpy())
    if lost:
        assert all(torch.equal(one, other) for one, other in zip(*taken, strict=True))
        return
    assert sorted(taken[1][1].tolist()) == sorted(expected)
    with_class = [sum(k in record.labels for record, _, _ in loader) for k in range(1, N + 1)]
    torch.testing.assert_close(taken[1][2][1:], 0.001 / torch.tensor(with_class))


def test_a_taught_cam_from_a_file_goes_on_as_if_it_had_just_learned(
    learner: ContextPrototypeLearner, settings: Settings, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """Nothing but the classifier goes from one lesson to the next."""
    classifier, loader = Classifier(Colors(), N, learner), pictures(tiny_dataset)
    fit_prototypes(classifier, loader)
    config = settings(**{"taught_cam.decay": 0.001, "taught_cam.cells": 400})
    whole = [teach(classifier, loader, config, lessons=lessons) for lessons in (1, 2)]
    assert not torch.equal(whole[0].weight, whole[1].weight)
    save_weights(tmp_path / "taught", {"taught": whole[0]}, {})
    taught = TaughtCam(N + 1, 3)
    load_weights(tmp_path / "taught", {"taught": taught}, {}, stage="teach_cam")
    second = teach(replace(classifier, taught=taught), loader, config, lessons=1)
    assert torch.equal(second.weight, whole[1].weight) and torch.equal(second.bias, whole[1].bias)
    assert torch.equal(taught.weight, whole[0].weight), "a lesson leaves its teacher as it is"


@pytest.mark.parametrize(
    ("scales", "nearest"), [((1.0,), 0), ((0.5, 1.0, 2.0), 1), ((2.0, 0.9), 1), ((0.4, 2.0), 1), ((0.6, 2.0), 0)]
)
def test_lessons_share_the_cells_evenly_and_the_crf_sees_scale_one(
    settings: Settings, scales: tuple[float, ...], nearest: int
) -> None:
    config = settings(**{"taught_cam.cells": 100})
    lesson = plan_lessons(config.taught_cam, config.crf, scales, images=7, own=7, seed=5, workers=2)
    assert lesson.nearest == nearest and (lesson.seed, lesson.workers) == (5, 2)
    assert (lesson.share - 1) * 7 * len(scales) < 100 <= lesson.share * 7 * len(scales)


@pytest.mark.parametrize("share", [1, 3, 100])
def test_cells_are_drawn_of_the_sure_ones(share: int) -> None:
    """A cell's value tells its place, whose label it must have."""
    z = torch.arange(20.0).view(1, 1, 4, 5).repeat(1, 2, 1, 1)
    aim = torch.tensor([[0, 2], [VOID, 3]]).repeat_interleave(2, 0).repeat_interleave(5, 1)  # (4, 10): two to a cell
    cells, labels = sample_cells(z, aim, share, torch.Generator().manual_seed(0))
    assert cells.shape == (min(share, 16), 2) and len(labels) == len(cells)
    places = cells[:, 0].long().tolist()
    assert len(set(places)) == len(places)
    for place, label in zip(places, labels.tolist(), strict=True):
        assert label == int(aim[place // 5, 2 * (place % 5) + 1]) != VOID


def test_the_draw_of_an_image_depends_on_its_name_and_the_seed(
    learner: ContextPrototypeLearner, settings: Settings, tiny_dataset: Dataset
) -> None:
    class Places(Colors):
        """Each cell has features of its own."""

        def forward(self, images: Tensor, image_label: Tensor) -> HostOutput:
            output = super().forward(images, image_label)
            generator = torch.Generator().manual_seed(0)
            place = 0.05 * torch.rand(output.features[0].shape[1:], generator=generator)
            return output._replace(features=[output.features[0] + place] * 4)

    classifier, loader = Classifier(Places(), N, learner), pictures(tiny_dataset)
    fit_prototypes(classifier, loader)
    config = settings(**{"taught_cam.cells": 100})
    lesson = plan_lessons(config.taught_cam, config.crf, (1.0, 2.0), images=5, own=5, seed=0, workers=1)
    renamed = [views._replace(record=replace(views.record, image_id="z")) for views in loader]
    whole, other, named = (
        collect_cells(classifier, views, lesson_).z
        for views, lesson_ in ((loader, lesson), (loader, replace(lesson, seed=1)), (renamed, lesson))
    )
    alone = torch.cat([collect_cells(classifier, [views], lesson).z for views in loader])
    assert torch.equal(whole, alone) and whole.shape == other.shape == named.shape
    assert not torch.equal(whole, other) and not torch.equal(whole, named)


def test_no_more_cells_than_asked_for_and_decay_by_images(
    learner: ContextPrototypeLearner, settings: Settings, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, loader = Classifier(Colors(), N, learner), pictures(tiny_dataset)
    fit_prototypes(classifier, loader)
    seen = SimpleNamespace(count=0)

    def learn(self: TaughtCam, z: Tensor, label: Tensor, *, decay: Tensor) -> None:
        seen.count, seen.decay = len(z), decay
        assert len(label) == len(z)

    monkeypatch.setattr(TaughtCam, "learn", learn)
    for cells in (60, 4000):
        config = settings(**{"taught_cam.decay": 0.5, "taught_cam.cells": cells})
        teach(classifier, loader, config, lessons=1)
        assert 0 < seen.count <= cells
    with_class = [
        sum(k in (0, *record.labels) for record, _, _ in loader) for k in range(N + 1)
    ]  # all of them have cells
    torch.testing.assert_close(seen.decay, 0.5 / torch.tensor(with_class))


@pytest.mark.parametrize("images", [1, 3, 7, 50])
def test_some_of_each_class(images: int) -> None:
    """No class has fewer than asked for, or than there are; only as many as that takes; and in the same order."""
    labels = [tuple(k + 1 for k in range(3) if number % (k + 2) == 0) for number in range(60)]
    records = [Record(f"{n:02}", "train", True, "", 1, 1, label, None, "") for n, label in enumerate(labels)]
    chosen = some_of_each_class(records, images, seed=0)
    for class_id in range(4):
        found, there = (sum(class_id in (r.labels or (0,)) for r in some) for some in (chosen, records))
        assert found >= min(images, there) > 0
    assert len(chosen) <= 4 * images and [r.image_id for r in chosen] == sorted({r.image_id for r in chosen})
    assert chosen == some_of_each_class(records, images, seed=0)
    assert images in (50,) or chosen != some_of_each_class(records, images, seed=1)


def test_pacam_ratio_and_taught_map_share_their_middle() -> None:
    """0.5 is where class and background are equal in both, so that one kind of threshold serves them."""
    similarity = torch.full((1, 2, 1, 1), 0.7)
    assert float(P.contrast(similarity, "ratio")[0, 1, 0, 0]) == pytest.approx(0.5, abs=1e-4)
    assert float(TaughtCam(2, 1)(torch.ones(1, 1, 1, 1), torch.ones(1, 1))[0, 0, 0, 0]) == 0.5
