"""From a trained network to maps: the clean pass that fits the prototypes, and multi-scale CAM and PACAM."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpal import cam as cams
from cpal import prototypes as P
from cpal.cam import MAP_NAMES, CamFile, map_size, write_cam
from cpal.classifier import select
from cpal.config import TaughtCamConfig
from cpal.dataset import Dataset, Record
from cpal.files import whole_file
from cpal.hosts import Host, HostOutput
from cpal.hosts.views import image_label, view_output
from cpal.learner import ContextPrototypeLearner
from cpal.pyramid import View
from cpal.taught_cam import TaughtCam


@torch.no_grad()
def fit_prototypes(
    host: nn.Module,
    learner: ContextPrototypeLearner,
    dataset: Dataset,
    records: list[Record],
    loaders: Iterable[Iterable[View]],
) -> None:
    """Fill the learner's bank with one instance per image and present class, cluster, and measure the shift (Eq. 12).

    Training keeps an online bank of augmented crops under a changing network; this pass sees whole images with the
    final one (ours). `host` gives a HostOutput. Each loader is a pass that starts with an empty bank; refinements need
    one more pass than there are of them, since only the contexts of one pass can refine the instances of the next.
    """
    host.eval()
    learner.eval()
    for loader in loaders:
        learner.bank.clear()
        for index, _, views in loader:
            label = image_label(records[index], dataset.num_foreground, learner.shift.device)
            output = view_output(host, views[0], label)
            features = select(output.features, learner.settings)
            learner.enqueue(learner.instances(features, output.cam, label), output.cam, label)
        learner.cluster()
        learner.measure_shift()


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
    loader: Iterable[View],
    *,
    settings: TaughtCamConfig,
    seed: int,
) -> TaughtCam:
    """The taught CAM of the fitted learner: what it learns from are the cells that PACAM is sure of.

    Of them at most about settings.cells take part, an even share of each view of each image, drawn at random. A class's
    decay is settings.decay over the number of images with such cells: the fewer they are, the less is believed of them.
    """
    device = learner.shift.device
    generator = torch.Generator().manual_seed(seed)
    cells, labels = [], []
    images = torch.zeros(dataset.num_classes, device=device)
    for index, _, views in loader:
        label = image_label(records[index], dataset.num_foreground, device)
        found = torch.zeros_like(images)
        share = -(-settings.cells // (len(records) * len(views)))
        for z, target in sure_cells(learner, [view_output(host, view, label) for view in views], label, settings):
            chosen = torch.randperm(len(target), generator=generator)[:share].to(device)
            cells.append(z[chosen])
            labels.append(target[chosen])
            found[labels[-1]] = 1
        images += found
    taught = TaughtCam(dataset.num_classes, learner.shift.shape[1]).to(device)
    taught.learn(torch.cat(cells), torch.cat(labels), decay=settings.decay / images.clamp(min=1))
    return taught


def sure_cells(
    learner: ContextPrototypeLearner, outputs: list[HostOutput], label: Tensor, settings: TaughtCamConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """z (P, D) and class (P,) of the cells, in each of an image's views, that the views' mean PACAM is sure of.

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
    )
    for step in steps:
        own = F.interpolate(mask, size=step.maps.shape[2:], mode="nearest-exact")[0].flatten(1)
        sure = own.amax(dim=0) > 0
        yield step.features[0].flatten(1).T[sure], own.argmax(dim=0)[sure]


@torch.no_grad()
def localize(
    host: nn.Module,
    learner: ContextPrototypeLearner | None,
    label: Tensor,
    size: tuple[int, int],
    views: list[Tensor],
    *,
    taught: TaughtCam | None = None,
) -> CamFile:
    """CAM, PACAM and taught CAM of an image's present classes, averaged over scales, at a quarter of its size.

    label (1, N) of 0/1, on the network's device. Without a learner there is neither of the latter.
    """
    classes = 1 + label[0].nonzero()[:, 0].cpu().numpy()
    shape = map_size(size)
    cam, pacam, taught_cam = (torch.zeros(len(classes), *shape) for _ in MAP_NAMES)
    for view in views if len(classes) else []:
        output = view_output(host, view, label)
        cam += _resize(F.relu(output.cam[0, classes - 1]), shape) / len(views)
        if learner is None:
            continue
        features = select(output.features, learner.settings)
        map_, _ = learner(features, output.cam, label)
        pacam += _resize(map_[0, classes], shape) / len(views)
        if taught is not None:
            map_ = taught(learner.embed(features, output.cam.shape[2:]), label)
            taught_cam += _resize(map_[0, classes - 1], shape) / len(views)
    cam = _over_maximum(cam)
    if learner is None:
        return CamFile(classes, cam.numpy(), None, size)
    if learner.settings.contrast in ("none", "difference"):  # a ratio's scale carries meaning: 0.5 is background's
        pacam = _over_maximum(pacam)
    return CamFile(classes, cam.numpy(), pacam.numpy(), size, None if taught is None else taught_cam.numpy())


def write_cams(
    host: nn.Module,
    learner: ContextPrototypeLearner | None,
    dataset: Dataset,
    records: list[Record],
    loader: Iterable[View],
    folder: Path,
    device: torch.device,
    *,
    taught: TaughtCam | None = None,
) -> None:
    """Write folder/ID.npz of each record, see `localize`; the loader gives the records' views."""
    for index, size, views in loader:
        label = image_label(records[index], dataset.num_foreground, device)
        with whole_file(folder / f"{records[index].image_id}.npz") as temporary:
            write_cam(temporary, localize(host, learner, label, size, views, taught=taught))


@torch.no_grad()
def classify(host: Host, num_foreground: int, loader: Iterable[View]) -> np.ndarray:
    """Probability of each class in each image, in the loader's order: float (I, N). No label is told to the host."""
    host.eval()
    unknown = torch.full((1, num_foreground), host.unknown_label, device=next(host.parameters()).device)
    found = [view_output(host, views[0], unknown).logits[0].sigmoid().cpu().numpy() for _, _, views in loader]
    return np.array(found, np.float64).reshape(-1, num_foreground)


def _resize(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[None], size=shape, mode="bilinear", align_corners=False)[0].cpu()


def _over_maximum(maps: Tensor) -> Tensor:
    return maps / (maps.amax(dim=(1, 2), keepdim=True) + cams.EPSILON)
