"""IRN's CAM network, the base of the paper's Table 1: a 1x1 convolution on the last stage is the classifier."""

import torch.nn.functional as F
from torch import Tensor, nn

from cpal.hosts import Host, HostOutput
from cpal.networks.backbones import Backbone, host_backbone
from cpal.settings.hosts import IrnConfig


class IrnHost(Host):
    """Backbone and classifier. The logits are the mean of the CAM: average pooling and a 1x1 convolution commute."""

    def __init__(self, backbone: Backbone, num_foreground: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels, self.padding = backbone.channels, backbone.color
        self.classifier = nn.Conv2d(backbone.channels[-1], num_foreground, 1, bias=False)

    def forward(self, images: Tensor, image_label: Tensor) -> HostOutput:
        """`image_label` is not used."""
        features = self.backbone(images)
        cam = self.classifier(features[-1])
        return HostOutput(features, cam, cam.mean(dim=(2, 3)))

    def training_step(self, images: Tensor, image_label: Tensor, mask: Tensor) -> tuple[HostOutput, dict[str, Tensor]]:
        """The output and L_BCE (Eq. 2)."""
        output = self(images, image_label)
        return output, {"loss_classification": F.multilabel_soft_margin_loss(output.logits, image_label)}

    def new_layers(self) -> list[nn.Module]:
        return [self.classifier]


def build_irn_host(settings: IrnConfig, num_foreground: int, *, weights: str | None = None) -> IrnHost:
    """The network that `hosts.irn` describes; `weights` as in `host_backbone`."""
    return IrnHost(host_backbone(settings, weights), num_foreground)
