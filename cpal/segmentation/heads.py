"""The heads of the segmentation model: DeepLabV2's, DeepLabV3+'s, and one that tells which classes a view shows."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

GROUPS = 16  # of channels that a group norm takes together
LOW_CHANNELS = 48  # DeepLabV3+, Table 1
DROPOUT = 0.1  # share of the channels that a training step leaves out before the last convolution; MMSegmentation's


class Head(BaseDecodeHead):
    """MMSegmentation's head without its accuracy, which takes a twentieth of a training step and is never read."""

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        label = self._stack_batch_gt(batch_data_samples).squeeze(1)
        logits = F.interpolate(seg_logits, size=label.shape[1:], mode="bilinear", align_corners=self.align_corners)
        return {self.loss_decode.loss_name: self.loss_decode(logits, label, ignore_index=self.ignore_index)}


@MODELS.register_module()
class DeepLabV2Head(Head):
    """Atrous spatial pyramid pooling of DeepLabV2: dilated 3x3 convolutions; their class logits are summed."""

    def __init__(self, in_channels: int, *, num_classes: int, dilations: Sequence[int], **settings: Any) -> None:
        super().__init__(
            in_channels,
            channels=1,
            num_classes=num_classes,
            out_channels=num_classes,
            dropout_ratio=0,
            init_cfg=None,
            **settings,
        )
        del self.conv_seg  # the base class's classifier, which this head does not use
        branches = [nn.Conv2d(in_channels, num_classes, 3, padding=d, dilation=d) for d in dilations]
        for branch in branches:
            nn.init.normal_(branch.weight, std=0.01)
            assert branch.bias is not None
            nn.init.zeros_(branch.bias)
        self.branches = nn.ModuleList(branches)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Feature maps of the backbone's stages -> logits (B, K, h, w)."""
        features = self._transform_inputs(inputs)
        return torch.stack([branch(features) for branch in self.branches]).sum(dim=0)


@MODELS.register_module()
class DeepLabV3PlusHead(Head):
    """The head of DeepLabV3+, made for few images: a pyramid on the last map, refined with the map of the second stage.

    Differences from Chen et al. 2018: group norm, because batches are small; no norm between a depthwise convolution
    and its 1x1 convolution; the second stage, at an eighth of the image, instead of the first. With group norm at both
    places and the first stage, MMSegmentation's head confused more classes (docs/results/notebook.md).

    in_channels: of the second and of the last stage.
    """

    def __init__(
        self, in_channels: Sequence[int], *, channels: int, num_classes: int, dilations: Sequence[int], **settings: Any
    ) -> None:
        super().__init__(
            in_channels,
            channels=channels,
            num_classes=num_classes,
            out_channels=num_classes,
            dropout_ratio=DROPOUT,
            in_index=(1, -1),
            input_transform="multiple_select",
            init_cfg=None,
            **settings,
        )
        low, last = in_channels
        self.pyramid = nn.ModuleList(
            [_convolution(last, channels), *(_separable(last, channels, dilation) for dilation in dilations)]
        )
        self.whole_image = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(last, channels, 1), nn.ReLU())
        self.join = _convolution(channels * (len(self.pyramid) + 1), channels)
        self.low = _convolution(low, LOW_CHANNELS)
        self.refine = nn.Sequential(_separable(channels + LOW_CHANNELS, channels), _separable(channels, channels))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Feature maps of the backbone's stages -> logits (B, K, H/8, W/8)."""
        low, last = self._transform_inputs(inputs)
        parts = [branch(last) for branch in self.pyramid]
        joined = self.join(torch.cat([*parts, self.whole_image(last).expand_as(parts[0])], dim=1))
        joined = F.interpolate(joined, size=low.shape[2:], mode="bilinear", align_corners=False)
        return self.cls_seg(self.refine(torch.cat([joined, self.low(low)], dim=1)))


def _convolution(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1, bias=False), nn.GroupNorm(GROUPS, out_channels), nn.ReLU()
    )


def _separable(channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """A depthwise 3x3 convolution, then a 1x1 convolution with norm."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False)
    return nn.Sequential(depthwise, *_convolution(channels, out_channels))


class ImageHead(nn.Module):
    """Tells which classes a crop shows, by a linear layer on the mean of the last map.

    MMSegmentation trains it as an auxiliary head, on the classes in the crop's mask. `weight`: of its loss.
    """

    def __init__(self, in_channels: int, num_foreground: int, weight: float) -> None:
        super().__init__()
        self.classify, self.weight = nn.Linear(in_channels, num_foreground), weight

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps of the backbone's stages -> logits (B, N)."""
        return self.classify(maps[-1].mean(dim=(2, 3)))

    def loss(self, maps: Sequence[Tensor], samples: Sequence[SegDataSample], _: Any) -> dict[str, Tensor]:
        logits = self(maps)
        masks = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
        present = torch.stack([(masks == n + 1).any(dim=(1, 2)) for n in range(logits.shape[1])], dim=1)
        return {"loss_image": self.weight * F.binary_cross_entropy_with_logits(logits, present.to(logits))}
