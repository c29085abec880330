"""From a trained network to maps: the pass that fits the prototypes, and multi-scale CAM, PACAM and taught CAM."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpal import cam as cams
from cpal.cam import MAP_NAMES, CamFile, map_size, write_cam
from cpal.classifier import select
from cpal.dataset import Dataset, Record
from cpal.files import whole_file
from cpal.hosts import Host
from cpal.hosts.views import image_label, present_classes, view_output
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
    """Fill the learner's bank with one instance per image and present class, and cluster.

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
        if learner.settings.align == "ema":  # there is no batch to follow: the shift is that of the whole bank
            learner.measure_shift()


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
    classes = present_classes(label)
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
