"""What the taught CAM learns from: cells that PACAM is sure of, then those that a CRF of its own maps is sure of."""

import math
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
from cpal.data.masks import VOID
from cpal.data.views import Views
from cpal.hosts.outputs import present_classes
from cpal.maps.crf import sure_labels
from cpal.method import cam as cams
from cpal.method import prototypes as P
from cpal.method.classifier import Classifier
from cpal.method.learner import ContextPrototypeLearner
from cpal.method.taught_cam import TaughtCam
from cpal.parallel import processes
from cpal.settings.config import CrfConfig, TaughtCamConfig


def some_of_each_class(records: list[Record], images: int, *, seed: int) -> list[Record]:
    """At least `images` records of each class, or all that there are, and of those without any class, drawn at random.

    They keep their order. A record counts for each of its classes, so that a common class can have more.
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
    """What the network sees of an image: by view the maps that make z and the CAM (1, N, h, w); its label is (1, N).

    image is the view for the CRF, uint8 (H, W, 3).
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
    """What all lessons of a taught CAM share.

    `share`: cells that each view of an image teaches at most. `nearest`: index of the view that the CRF sees.
    `workers`: images whose CRFs run at once.
    """

    settings: TaughtCamConfig
    crf: CrfConfig
    share: int
    nearest: int
    seed: int
    workers: int = 1


def plan_lessons(
    settings: TaughtCamConfig, crf: CrfConfig, scales: Sequence[float], *, images: int, seed: int, workers: int
) -> Lesson:
    """Lessons from this many images at these scales: settings.cells are shared evenly, the CRF sees scale one."""
    nearest = min(range(len(scales)), key=lambda index: abs(math.log(scales[index])))
    return Lesson(settings, crf, -(-settings.cells // (images * len(scales))), nearest, seed, workers)


@torch.no_grad()
def teach_cam(classifier: Classifier, loader: Iterable[Views], lesson: Lesson) -> TaughtCam:
    """A taught CAM of the fitted learner, from one pass over the views of the images.

    PACAM is the teacher. Where the classifier has a taught CAM already, that one is the teacher, through a CRF; but
    PACAM again in an image where the CRF loses a class, or that class's pixels would be learned as background. Of the
    cells whose label is sure each view of each image teaches at most lesson.share, drawn at random. A class's decay is
    settings.decay over the number of images with such cells: the fewer they are, the less is believed of them.
    """
    learner = classifier.learner
    assert learner is not None
    device = learner.shift.device
    generator = torch.Generator().manual_seed(lesson.seed)
    cells, labels = [], []
    images = torch.zeros(classifier.num_foreground + 1, device=device)
    for view, aim in _aims(classifier, loader, lesson):
        found = torch.zeros_like(images)
        for z in view.embed(learner):
            of_view, own = sample_cells(z, aim.to(device), lesson.share, generator)
            cells.append(of_view)
            labels.append(own)
            found[own] = 1
        images += found
    taught = TaughtCam(len(images), learner.shift.shape[1]).to(device)
    taught.learn(torch.cat(cells), torch.cat(labels), decay=lesson.settings.decay / images.clamp(min=1))
    return taught


def sample_cells(z: Tensor, aim: Tensor, share: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cells (P, D) of z (1, D, h, w) and their labels (P,), at most `share` of those that `aim` is sure of.

    aim int64 (H, W) of 0..N or VOID is brought to the size of z.
    """
    own = F.interpolate(aim[None, None].float(), size=z.shape[2:], mode="nearest-exact").flatten().long()
    sure = own != VOID
    chosen = torch.randperm(int(sure.sum()), generator=generator)[:share].to(z.device)
    return z[0].flatten(1).T[sure][chosen], own[sure][chosen]


def _aims(classifier: Classifier, loader: Iterable[Views], lesson: Lesson) -> Iterator[tuple[HostView, Tensor]]:
    """Each image with what its teacher is sure of: int64 (H, W) of 0..N or VOID, of any size."""
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
        with torch.no_grad():  # of the thread that asks, which joblib chooses
            looks = [classifier.look(view, label) for view in views]
        image = views[nearest][0].permute(1, 2, 0).cpu().numpy()
        yield HostView(record, label, [features for features, _, _ in looks], [cam for _, cam, _ in looks], image)


def pacam_labels(learner: ContextPrototypeLearner, view: HostView, settings: TaughtCamConfig) -> Tensor:
    """What the mean PACAM of an image's views is sure of: int64 (h, w) of 0..N or VOID, at the largest one's size.

    PACAM is taken as relu(s - b) over its maximum, and a cell counts for its strongest class only.
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
