"""DeepLab with MMSegmentation: build, train on pseudo-masks, and apply. Only this module and heads.py import mmseg."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch import Tensor, nn

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import VOID, LabelMaps
from cpal.errors import UserError, again
from cpal.networks.backbones import build_backbone, fold_norms
from cpal.networks.losses import balanced_mean
from cpal.networks.weights import load_weights, read_meta
from cpal.segmentation.averaging import Averaging
from cpal.settings.config import SegmentationConfig
from cpal.training.loop import Run, train
from cpal.training.samples import Augmentation, TrainingSamples
from cpal.training.step import LossModel

with warnings.catch_warnings():
    # mmcv is installed without its compiled operators; none of them is used here.
    warnings.filterwarnings("ignore", message="Fail to import")
    from mmseg.models import EncoderDecoder, SegDataPreProcessor
    from mmseg.models.losses import CrossEntropyLoss
    from mmseg.structures import SegDataSample

    from cpal.segmentation.heads import DeepLabV2Head, DeepLabV3PlusHead, ImageHead

ABSENT = -1e4  # logit of a class that the view does not show; finite also in half precision


class Segmentor(EncoderDecoder):
    """MMSegmentation's network, with one addition: an image head can exclude classes from a whole view.

    No pixel of a view gets a class whose probability by the image head is below image_cut.
    """

    def __init__(self, *, image_cut: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.image_cut = image_cut

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        maps = self.extract_feat(inputs)
        logits = self.decode_head(maps)
        if not self.with_auxiliary_head:
            return logits
        absent = self.auxiliary_head(maps).sigmoid() < self.image_cut
        absent = torch.cat([torch.zeros_like(absent[:, :1]), absent], dim=1)  # the background is in every image
        return logits.masked_fill(absent[:, :, None, None], ABSENT)


class BalancedCrossEntropy(nn.Module):
    """Cross entropy in which background and foreground pixels weigh the same (AdvCAM's segmentation)."""

    loss_name = "loss_balanced"

    def forward(self, logits: Tensor, label: Tensor, weight: Tensor | None = None, ignore_index: int = VOID) -> Tensor:
        """logits (B, K, H, W), label (B, H, W) -> scalar, see `balanced_mean`."""
        return balanced_mean(F.cross_entropy(logits, label, ignore_index=ignore_index, reduction="none"), label)


class SegmentationLoss(LossModel):
    """The model that mmengine trains: it takes our samples and returns the losses of the segmentor."""

    def __init__(self, segmentor: Segmentor) -> None:
        super().__init__()
        self.segmentor = segmentor

    def new_layers(self) -> list[nn.Module]:
        heads = [self.segmentor.decode_head]
        return [*heads, self.segmentor.auxiliary_head] if self.segmentor.with_auxiliary_head else heads

    def forward(
        self, image: Tensor, image_label: Tensor, mask: Tensor, padding: Tensor, mode: str = "loss"
    ) -> dict[str, Tensor]:
        """image uint8 (B, 3, S, S), mask int64 (B, S, S) with 255 for pixels without a label -> named losses."""
        assert mode == "loss"
        samples = [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in mask]
        losses = self.segmentor.loss(image, samples)
        return {name.rpartition(".")[2]: value for name, value in losses.items() if "loss" in name}


def build_segmentor(settings: SegmentationConfig, num_classes: int, *, weights: str | None = None) -> Segmentor:
    """MMSegmentation's EncoderDecoder with our backbone and head; `weights` replaces the setting of the backbone."""
    backbone = build_backbone(
        settings.backbone,
        weights=settings.weights if weights is None else weights,
        output_stride=settings.output_stride,
        freeze_norm=settings.freeze_norm,
        freeze_stage=settings.freeze_stage,
    )
    plain = {"type": CrossEntropyLoss, "avg_non_ignore": True}
    image_head = {
        "type": ImageHead,
        "in_channels": backbone.channels[-1],
        "num_foreground": num_classes - 1,
        "weight": settings.image_head,
    }
    return Segmentor(
        image_cut=settings.image_cut,
        backbone={"type": lambda: backbone},
        decode_head=_head(settings, backbone.channels)
        | {
            "num_classes": num_classes,
            "ignore_index": VOID,
            "loss_decode": {"type": BalancedCrossEntropy} if settings.balanced_loss else plain,
        },
        auxiliary_head=image_head if settings.image_head else None,
        data_preprocessor={"type": SegDataPreProcessor},  # the backbone normalizes its input itself
    )


def _head(settings: SegmentationConfig, channels: Sequence[int]) -> dict[str, Any]:
    """What settings.head names, for MMSegmentation, on a backbone whose stages have these channels."""
    if settings.head == "deeplabv2":
        return {"type": DeepLabV2Head, "in_channels": channels[-1], "dilations": settings.dilations}
    return {
        "type": DeepLabV3PlusHead,
        "in_channels": [channels[1], channels[-1]],
        "channels": settings.head_channels,
        "dilations": settings.dilations,
    }


def train_segmentation(
    dataset: Dataset, records: list[Record], masks: LabelMaps, settings: SegmentationConfig, run: Run
) -> Segmentor:
    """Train on the records' pseudo-masks; a killed training continues, see `loop.train`."""
    torch.manual_seed(run.seed)
    segmentor = build_segmentor(settings, dataset.num_classes)
    augmentation = Augmentation(
        run.seed,
        settings.crop_size,
        segmentor.backbone.color,
        scales=settings.scale_range,
        color_jitter=settings.color_jitter,
    )
    samples = TrainingSamples(dataset, records, augmentation, masks)
    train(
        SegmentationLoss(segmentor),
        samples,
        settings,
        run,
        iterations=settings.iterations,
        interval=settings.checkpoint_interval,
        hooks=[Averaging(settings.average)] if settings.average else [],
    )
    return segmentor


@torch.no_grad()
def probabilities(segmentor: Segmentor, size: tuple[int, int], views: list[Tensor]) -> Tensor:
    """Mean probability (K, H, W) over the views of an image (`data.views`), at `size`; on the network's device."""
    segmentor.eval()
    device = segmentor.backbone.mean.device
    total = torch.zeros(segmentor.num_classes, *size, device=device)
    for view in views:
        logits = segmentor(view.to(device), mode="tensor")
        straight, *mirrored = F.interpolate(logits, size=size, mode="bilinear", align_corners=False).softmax(dim=1)
        total += straight + sum(map_.flip(-1) for map_ in mirrored)
    return total / sum(len(view) for view in views)


def typical_side(dataset: Dataset) -> int:
    """Median of the training images' long sides in pixels; the network has learned objects at this image size."""
    return int(np.median([max(record.width, record.height) for record in dataset.split("train")]))


def weights_meta(settings: SegmentationConfig, classes: Sequence[str]) -> dict[str, Any]:
    """The description that must match when a file of weights is loaded."""
    meta: dict[str, Any] = {
        "backbone": settings.backbone,
        "output_stride": settings.output_stride,
        "dilations": list(settings.dilations),
        "classes": list(classes),
    }
    if settings.head != "deeplabv2":
        meta |= {"head": settings.head, "head_channels": settings.head_channels}
    if settings.image_head:
        meta |= {"image_head": True}
    return meta  # without these, as files have it that are older than these heads


def load_segmentor(
    weights: Path, settings: SegmentationConfig, classes: Sequence[str] | None = None
) -> tuple[Segmentor, dict[str, Any]]:
    """The trained network on the CPU, ready for inference, and the description in its file (`weights_meta`).

    Without `classes` the network is that of the classes in the file, so that no data set is needed.
    Raises UserError if the file is missing or damaged, or holds another network or a network with other settings.
    """
    meta = _read_model(weights)
    classes = meta["classes"] if classes is None else classes
    segmentor = build_segmentor(settings, len(classes) + 1, weights="none")
    load_weights(weights, {"segmentor": segmentor}, weights_meta(settings, classes), stage="train_segmentation")
    fold_norms(segmentor)
    return segmentor, meta


def _read_model(weights: Path) -> dict[str, Any]:
    meta = read_meta(weights, stage="train_segmentation")
    names = meta.get("classes") if isinstance(meta, dict) and "dilations" in meta else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) >= VOID:
        raise UserError(f"{weights}: no segmentation model; make one with: dvc repro train_segmentation")
    side = meta.get("long_side", 1)
    if not isinstance(side, int) or side < 1:
        raise UserError(f"{weights}: damaged, its long_side is {side!r}; {again('train_segmentation')}")
    return meta
