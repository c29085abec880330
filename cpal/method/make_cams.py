"""From a trained network to maps: the pass that fits the prototypes, and multi-scale CAM, PACAM and taught CAM."""

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpal.data.dataset import Dataset, Record
from cpal.data.views import Views
from cpal.files import whole_file
from cpal.hosts.outputs import image_label, present_classes, view_output
from cpal.maps.cams import MAP_NAMES, CamFile, map_size, write_cam
from cpal.method import cam as cams
from cpal.method.learner import ContextPrototypeLearner, select
from cpal.method.taught_cam import TaughtCam


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
    loader: Iterable[Views],
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


def _resize(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[None], size=shape, mode="bilinear", align_corners=False)[0].cpu()


def _over_maximum(maps: Tensor) -> Tensor:
    return maps / (maps.amax(dim=(1, 2), keepdim=True) + cams.EPSILON)
