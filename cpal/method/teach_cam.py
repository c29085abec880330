"""What the taught CAM learns from: cells that PACAM is sure of, then those that a CRF of its own maps is sure of."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from torch import Tensor, nn

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import VOID
from cpal.data.views import Views
from cpal.hosts.outputs import image_label, present_classes, view_output
from cpal.maps.crf import sure_labels
from cpal.method import cam as cams
from cpal.method import prototypes as P
from cpal.method.learner import ContextPrototypeLearner, select
from cpal.method.taught_cam import TaughtCam
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


@torch.no_grad()
def fit_taught_cam(
    host: nn.Module,
    learner: ContextPrototypeLearner,
    dataset: Dataset,
    records: list[Record],
    loaders: Iterable[Iterable[Views]],
    *,
    scales: Sequence[float],
    settings: TaughtCamConfig,
    crf: CrfConfig,
    seed: int,
    workers: int = 1,
) -> TaughtCam:
    """The taught CAM of the fitted learner. Each loader is a pass over the views of the records at these scales.

    In the first one PACAM teaches, in each further one the taught CAM of the pass before, through a CRF (`workers`
    images at once); but PACAM again in an image where the CRF loses a class, lest that class's pixels be learned as
    background. Of the cells whose label is sure at most about settings.cells take part, an even share of each view of
    each image, drawn at random. A class's decay is settings.decay over the number of images with such cells: the fewer
    they are, the less is believed of them.
    """
    device = learner.shift.device
    nearest = min(range(len(scales)), key=lambda index: abs(math.log(scales[index])))  # the view that the CRF looks at
    share = -(-settings.cells // (len(records) * len(scales)))
    taught = None
    for loader in loaders:
        generator = torch.Generator().manual_seed(seed)
        cells, labels = [], []
        images = torch.zeros(dataset.num_classes, device=device)
        looks = _looks(host, learner, dataset, records, loader, nearest)
        lesson: Iterator[tuple[HostView, Tensor | None]] = ((look, None) for look in looks)
        if taught is not None:
            lesson = _crf_lesson(looks, learner, taught, settings, crf, workers)
        for look, aim in lesson:
            if aim is None or not set(look.record.labels) <= set(aim.unique().tolist()):
                aim = pacam_labels(learner, look, settings)
            aim = aim.to(device)
            found = torch.zeros_like(images)
            for z in look.embed(learner):
                own = F.interpolate(aim[None, None].float(), size=z.shape[2:], mode="nearest-exact").flatten().long()
                sure = own != VOID
                chosen = torch.randperm(int(sure.sum()), generator=generator)[:share].to(device)
                cells.append(z[0].flatten(1).T[sure][chosen])
                labels.append(own[sure][chosen])
                found[labels[-1]] = 1
            images += found
        taught = TaughtCam(dataset.num_classes, learner.shift.shape[1]).to(device)
        taught.learn(torch.cat(cells), torch.cat(labels), decay=settings.decay / images.clamp(min=1))
    assert taught is not None, "no pass to learn in"
    return taught


def _looks(
    host: nn.Module,
    learner: ContextPrototypeLearner,
    dataset: Dataset,
    records: list[Record],
    loader: Iterable[Views],
    nearest: int,
) -> Iterator[HostView]:
    for index, _, views in loader:
        label = image_label(records[index], dataset.num_foreground, learner.shift.device)
        outputs = [view_output(host, view, label) for view in views]
        features = [select(output.features, learner.settings) for output in outputs]
        image = views[nearest][0].permute(1, 2, 0).cpu().numpy()
        yield HostView(records[index], label, features, [output.cam for output in outputs], image)


def pacam_labels(learner: ContextPrototypeLearner, look: HostView, settings: TaughtCamConfig) -> Tensor:
    """What the mean PACAM of an image's views is sure of: int64 (h, w) of 0..N or VOID, at the largest one's size.

    PACAM is taken as relu(s - b) over its maximum, and a cell counts for its strongest class only.
    """
    label = look.label
    steps = [learner.instances(maps, cam, label) for maps, cam in zip(look.features, look.cams, strict=True)]
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


def _crf_lesson(
    looks: Iterator[HostView],
    learner: ContextPrototypeLearner,
    taught: TaughtCam,
    settings: TaughtCamConfig,
    crf: CrfConfig,
    workers: int,
) -> Iterator[tuple[HostView, Tensor]]:
    """Each look with what two CRFs of the taught CAM agree on (`crf.sure_labels`): int64 (H, W) of 0..N or VOID."""
    # max_nbytes: joblib would keep every image's scores as files in shared memory until the last one is done.
    with Parallel(n_jobs=workers, max_nbytes=None) as parallel:
        while group := list(islice(looks, workers)):
            found = parallel(
                delayed(sure_labels)(
                    look.image,
                    *crf_scores(taught, look.embed(learner), look.label, look.image.shape[:2], settings),
                    present_classes(look.label),
                    crf,
                )
                for look in group
            )
            for labels in found:
                yield group.pop(0), torch.from_numpy(labels).long()  # gone before the next group is looked at


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
