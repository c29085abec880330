"""IRN's CAM network, the base of the paper's Table 1: a classifier as a 1x1 convolution on the last stage."""

import torch.nn.functional as F
from torch import Tensor, nn

from cpal.hosts import Host, HostOutput
from cpal.networks.backbones import Backbone, build_backbone
from cpal.settings.config import ClassifierConfig


class IrnHost(Host):
    """Backbone and classifier; the logits are the mean of the CAM, since pooling and a 1x1 convolution commute."""

    def __init__(self, backbone: Backbone, num_foreground: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels, self.padding = backbone.channels, backbone.color
        self.classifier = nn.Conv2d(backbone.channels[-1], num_foreground, 1, bias=False)

    def forward(self, images: Tensor, image_label: Tensor) -> HostOutput:
        """The labels are not needed."""
        features = self.backbone(images)
        cam = self.classifier(features[-1])
        return HostOutput(features, cam, cam.mean(dim=(2, 3)))

    def training_step(self, images: Tensor, image_label: Tensor, mask: Tensor) -> tuple[HostOutput, dict[str, Tensor]]:
        """L_BCE, Eq. 2."""
        output = self(images, image_label)
        return output, {"loss_classification": F.multilabel_soft_margin_loss(output.logits, image_label)}

    def new_layers(self) -> list[nn.Module]:
        return [self.classifier]


def classifier_backbone(settings: ClassifierConfig, weights: str | None = None) -> Backbone:
    """The backbone that `classifier` describes; `weights` overrules its source, as when a checkpoint follows."""
    return build_backbone(
        settings.backbone,
        weights=settings.weights if weights is None else weights,
        output_stride=settings.output_stride,
        freeze_norm=settings.freeze_norm,
        freeze_stage=settings.freeze_stage,
        dilated=False,
    )


def build_irn_host(settings: ClassifierConfig, num_foreground: int, *, weights: str | None = None) -> IrnHost:
    """The network that `classifier` describes; `weights` as in `classifier_backbone`."""
    return IrnHost(classifier_backbone(settings, weights), num_foreground)
