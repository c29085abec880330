"""Teaches the taught CAM: first with cells where PACAM is sure, then with cells where CRFs of its own maps agree."""

import math
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from joblib import delayed
from torch import Tensor

from cpal.data.dataset import Record
from cpal.data.masks import BACKGROUND, VOID
from cpal.data.views import Views
from cpal.hosts.outputs import present_classes
from cpal.maps.crf import sure_labels
from cpal.method import cam as cams
from cpal.method import prototypes as P
from cpal.method.classifier import Classifier
from cpal.method.learner import ContextPrototypeLearner
from cpal.method.taught_cam import TaughtCam
from cpal.running.parallel import processes
from cpal.settings.config import CrfConfig, TaughtCamConfig


def some_of_each_class(records: list[Record], images: int, *, seed: int) -> list[Record]:
    """A random choice of at least `images` records of each class, or of all if a class has fewer.

    Records without a class count as one more class. The order stays. A record counts for each of its classes, so that a
    common class can have more records.
    """
    count: Counter[int] = Counter()
    chosen = []
    for index in torch.randperm(len(records), generator=torch.Generator().manual_seed(seed)).tolist():
        classes = records[index].labels or (0,)
        if any(count[class_id] < images for class_id in classes):
            count.update(classes)
            chosen.append(index)
    return [records[index] for index in sorted(chosen)]


class HostView(NamedTuple):
    """The network's outputs for an image: for each view the feature maps that make z, and the CAM (1, N, h, w).

    label is (1, N). image is the view that the CRF sees, uint8 (H, W, 3).
    """

    record: Record
    label: Tensor
    features: list[list[Tensor]]
    cams: list[Tensor]
    image: np.ndarray

    def embed(self, learner: ContextPrototypeLearner) -> list[Tensor]:
        """z (1, D, h, w) by view."""
        return [learner.embed(maps, cam.shape[2:]) for maps, cam in zip(self.features, self.cams, strict=True)]


@dataclass(frozen=True)
class Lesson:
    """Settings that all lessons of a taught CAM share.

    `share`: largest number of cells from one view of an image. `cells`: largest number from all views of all images.
    `nearest`: index of the view that the CRF sees. `workers`: number of images whose CRFs run at the same time.
    """

    settings: TaughtCamConfig
    crf: CrfConfig
    share: int
    cells: int
    nearest: int
    seed: int
    workers: int = 1


def plan_lessons(
    settings: TaughtCamConfig,
    crf: CrfConfig,
    scales: Sequence[float],
    *,
    images: int,
    own: int,
    seed: int,
    workers: int,
) -> Lesson:
    """Lessons from this many images at these scales: settings.cells are shared evenly, the CRF sees scale one.

    `own` of the images are those of this process.
    """
    nearest = min(range(len(scales)), key=lambda index: abs(math.log(scales[index])))
    share = -(-settings.cells // (images * len(scales)))
    return Lesson(settings, crf, share, share * own * len(scales), nearest, seed, workers)


class Cells(NamedTuple):
    """What a taught CAM learns from: z (P, D), labels int64 (P,) of 0..N, and of how many images (K,) by class."""

    z: Tensor
    labels: Tensor
    images: Tensor


@torch.no_grad()
def collect_cells(classifier: Classifier, loader: Iterable[Views], lesson: Lesson) -> Cells:
    """Cells whose label is sure, from one pass over the views of the images.

    The labels come from PACAM or, if the classifier has a taught CAM already, from CRFs of that CAM. In an image where
    the CRFs lose a class, PACAM labels the cells again: else the class's pixels would be learned as background. At most
    lesson.share cells of each view are drawn at random; the draw of an image does not depend on the other images.
    """
    learner = classifier.learner
    assert learner is not None
    device = learner.shift.device
    # A list of parts and their joint copy would take twice the memory of one block.
    block, end = torch.empty(lesson.cells, learner.shift.shape[1], device=device), 0
    labels = torch.empty(lesson.cells, dtype=torch.long, device=device)
    images = torch.zeros(classifier.num_foreground + 1, device=device)
    for view, aim in _with_targets(classifier, loader, lesson):
        found = torch.zeros_like(images)
        # A CPU's generator reads 32 bits of its seed, so that both must be in them.
        generator = torch.Generator().manual_seed(zlib.crc32(view.record.image_id.encode(), lesson.seed))
        for z in view.embed(learner):
            of_view, own = sample_cells(z, aim.to(device), lesson.share, generator)
            start, end = end, end + len(own)
            block[start:end], labels[start:end] = of_view, own
            found[own] = 1
        images += found
    return Cells(block[:end], labels[:end], images)


def learn_cells(cells: Cells, settings: TaughtCamConfig) -> TaughtCam:
    """Train a taught CAM on these cells. A class's decay is settings.decay divided by the number of its images: a class
    with few images is regularized most."""
    taught = TaughtCam(len(cells.images), cells.z.shape[1]).to(cells.z.device)
    taught.learn(cells.z, cells.labels, decay=settings.decay / cells.images.clamp(min=1))
    return taught


def teach_cam(classifier: Classifier, loader: Iterable[Views], lesson: Lesson) -> TaughtCam:
    """`collect_cells` and `learn_cells`: one lesson in one process."""
    return learn_cells(collect_cells(classifier, loader, lesson), lesson.settings)


def sample_cells(z: Tensor, aim: Tensor, share: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cells (P, D) of z (1, D, h, w) and their labels (P,), at most `share` of those that `aim` is sure of.

    aim int64 (H, W) of 0..N or VOID is brought to the size of z.
    """
    own = F.interpolate(aim[None, None].float(), size=z.shape[2:], mode="nearest-exact").flatten().long()
    sure = own != VOID
    chosen = torch.randperm(int(sure.sum()), generator=generator)[:share].to(z.device)
    return z[0].flatten(1).T[sure][chosen], own[sure][chosen]


def _with_targets(classifier: Classifier, loader: Iterable[Views], lesson: Lesson) -> Iterator[tuple[HostView, Tensor]]:
    """Each image and the labels to learn from it: int64 (H, W) of 0..N, VOID where the teacher is unsure; any size.

    The teacher is PACAM in the first lesson, and the CRF of the taught CAM in later ones.
    """
    learner = classifier.learner
    assert learner is not None
    views = _host_views(classifier, loader, lesson.nearest)
    if classifier.taught is None:
        for view in views:
            yield view, pacam_labels(learner, view, lesson.settings)
        return
    for view, aim in _crf_labels(views, learner, classifier.taught, lesson):
        lost = not set(view.record.labels) <= set(aim.unique().tolist())
        yield view, pacam_labels(learner, view, lesson.settings) if lost else aim


def _host_views(classifier: Classifier, loader: Iterable[Views], nearest: int) -> Iterator[HostView]:
    for record, _, views in loader:
        label = classifier.label(record)
        with torch.no_grad():  # joblib chooses the thread, and this setting holds for one thread only
            looks = [classifier.look(view, label) for view in views]
        image = views[nearest][0].permute(1, 2, 0).cpu().numpy()
        yield HostView(record, label, [features for features, _, _ in looks], [cam for _, cam, _ in looks], image)


def pacam_labels(learner: ContextPrototypeLearner, view: HostView, settings: TaughtCamConfig) -> Tensor:
    """What the mean PACAM of an image's views is sure of: int64 (h, w) of 0..N or VOID, at the largest one's size.

    PACAM is taken as relu(s - b) over its maximum, and a cell counts for its strongest class only. No cell is
    background in an image with a class that PACAM cannot see, as one without context prototypes.
    """
    label = view.label
    steps = [learner.instances(maps, cam, label) for maps, cam in zip(view.features, view.cams, strict=True)]
    shape = max((tuple(step.maps.shape[2:]) for step in steps), key=math.prod)
    maps = [learner.difference(step, label)[:, 1:] for step in steps]
    maps = [F.interpolate(map_, size=shape, mode="bilinear", align_corners=False) for map_ in maps]
    mean = cams.normalize(torch.stack(maps).mean(dim=0), label)
    mask = P.prototype_masks(
        cams.with_background(mean),
        threshold=settings.sure_foreground,
        background_threshold=1 - settings.sure_background,
        exclusive=True,
    )[0]
    if (mean[0].amax(dim=(1, 2)) == 0)[label[0] > 0].any():
        mask[BACKGROUND] = 0
    return torch.where(mask.amax(dim=0) > 0, mask.argmax(dim=0), VOID)


def _crf_labels(
    views: Iterator[HostView], learner: ContextPrototypeLearner, taught: TaughtCam, lesson: Lesson
) -> Iterator[tuple[HostView, Tensor]]:
    """Each image with what two CRFs of the taught CAM agree on (`crf.sure_labels`): int64 (H, W) of 0..N or VOID."""
    waiting: deque[HostView] = deque()

    def tasks() -> Iterator[Any]:
        for view in views:
            waiting.append(view)
            size = view.image.shape[:2]
            scores = crf_scores(taught, view.embed(learner), view.label, size, lesson.settings)
            yield delayed(sure_labels)(view.image, *scores, present_classes(view.label), lesson.crf)

    # The network runs beside the CRFs, a few images ahead of them. max_nbytes: joblib would keep every image's scores
    # as files in shared memory until the last one is done.
    for labels in processes(lesson.workers, pre_dispatch="2*n_jobs", max_nbytes=None)(tasks()):
        yield waiting.popleft(), torch.from_numpy(labels).long()


@torch.no_grad()
def crf_scores(
    taught: TaughtCam, maps: list[Tensor], label: Tensor, size: Sequence[int], settings: TaughtCamConfig
) -> tuple[np.ndarray, np.ndarray]:
    """What the two CRFs start from: scores (1 + classes, H, W) with a high background and with a low one.

    maps are z (1, D, h, w) of an image's views, whose taught CAMs are averaged at the size (H, W); label (1, N).
    """
    classes, size = present_classes(label), tuple(size)
    found = [taught(z, label)[:, classes - 1] for z in maps] if len(classes) else []
    found = [F.interpolate(map_, size=size, mode="bilinear", align_corners=False)[0] for map_ in found]
    mean = torch.stack(found).mean(dim=0).cpu().numpy() if found else np.zeros((0, *size), np.float32)
    high, low = (
        np.concatenate([np.full((1, *size), threshold, np.float32), mean])
        for threshold in (settings.crf_foreground, settings.crf_background)
    )
    return high, low
