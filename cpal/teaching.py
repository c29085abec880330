"""What the taught CAM learns from: cells that PACAM is sure of, then those that a CRF of its own maps is sure of."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpal import cam as cams
from cpal import prototypes as P
from cpal.classifier import select
from cpal.config import CrfConfig, TaughtCamConfig
from cpal.crf import sure_labels
from cpal.dataset import Dataset, Record
from cpal.hosts import HostOutput
from cpal.hosts.views import image_label, view_output
from cpal.learner import ContextPrototypeLearner
from cpal.masks import VOID
from cpal.pyramid import View
from cpal.taught_cam import TaughtCam


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


@torch.no_grad()
def fit_taught_cam(
    host: nn.Module,
    learner: ContextPrototypeLearner,
    dataset: Dataset,
    records: list[Record],
    loaders: Iterable[Iterable[View]],
    *,
    scales: Sequence[float],
    settings: TaughtCamConfig,
    crf: CrfConfig,
    seed: int,
) -> TaughtCam:
    """The taught CAM of the fitted learner. Each loader is a pass over the views of the records at these scales.

    In the first one PACAM teaches, in each further one the taught CAM of the pass before, through a CRF; but PACAM
    again in an image where the CRF loses a class, lest that class's pixels be learned as background. Of the cells whose
    label is sure at most about settings.cells take part, an even share of each view of each image, drawn at random. A
    class's decay is settings.decay over the number of images with such cells: the fewer they are, the less is believed
    of them.
    """
    device = learner.shift.device
    nearest = min(range(len(scales)), key=lambda index: abs(math.log(scales[index])))  # the view that the CRF looks at
    taught = None
    for loader in loaders:
        generator = torch.Generator().manual_seed(seed)
        cells, labels = [], []
        images = torch.zeros(dataset.num_classes, device=device)
        for index, _, views in loader:
            label = image_label(records[index], dataset.num_foreground, device)
            outputs = [view_output(host, view, label) for view in views]
            maps = [learner.embed(select(seen.features, learner.settings), seen.cam.shape[2:]) for seen in outputs]
            aim = None
            if taught is not None:
                image = views[nearest][0].permute(1, 2, 0).cpu().numpy()
                aim = crf_labels(taught, maps, label, image, settings, crf).to(device)
            if aim is None or not set(records[index].labels) <= set(aim.unique().tolist()):
                aim = pacam_labels(learner, outputs, label, settings)
            found = torch.zeros_like(images)
            share = -(-settings.cells // (len(records) * len(views)))
            for z in maps:
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


def pacam_labels(
    learner: ContextPrototypeLearner, outputs: list[HostOutput], label: Tensor, settings: TaughtCamConfig
) -> Tensor:
    """What the mean PACAM of an image's views is sure of: int64 (h, w) of 0..N or VOID, at the largest one's size.

    label is (1, N). PACAM is taken as relu(s - b) over its maximum, and a cell counts for its strongest class only.
    """
    steps = [learner.instances(select(output.features, learner.settings), output.cam, label) for output in outputs]
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


def crf_labels(
    taught: TaughtCam, maps: list[Tensor], label: Tensor, image: np.ndarray, settings: TaughtCamConfig, crf: CrfConfig
) -> Tensor:
    """What two CRFs of the taught CAM agree on (`crf.sure_labels`): int64 (H, W) of 0..N or VOID.

    maps are z (1, D, h, w) of an image's views, whose taught CAMs are averaged; label (1, N); image uint8 (H, W, 3).
    """
    classes = label[0].nonzero()[:, 0]
    found = [taught(z, label)[:, classes] for z in maps] if len(classes) else []
    size = image.shape[:2]
    found = [F.interpolate(map_, size=size, mode="bilinear", align_corners=False)[0] for map_ in found]
    mean = torch.stack(found).mean(dim=0).cpu().numpy() if found else np.zeros((0, *size), np.float32)
    high, low = (
        np.concatenate([np.full((1, *size), threshold, np.float32), mean])
        for threshold in (settings.crf_foreground, settings.crf_background)
    )
    return torch.from_numpy(sure_labels(image, high, low, 1 + classes.cpu().numpy(), crf)).long()
