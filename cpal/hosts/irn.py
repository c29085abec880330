"""IRN's CAM network, the base of the paper's Table 1: a classifier as a 1x1 convolution on the last stage."""

from torch import Tensor, nn

from cpal.backbones import Backbone, build_backbone
from cpal.config import ClassifierConfig
from cpal.hosts import HostOutput


class IrnHost(nn.Module):
    """Backbone and classifier; the logits are the mean of the CAM, since pooling and a 1x1 convolution commute."""

    def __init__(self, backbone: Backbone, num_foreground: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.channels[-1], num_foreground, 1, bias=False)

    def forward(self, images: Tensor) -> HostOutput:
        """images (B, 3, H, W) RGB in 0..255."""
        features = self.backbone(images)
        cam = self.classifier(features[-1])
        return HostOutput(features, cam, cam.mean(dim=(2, 3)))

    @property
    def channels(self) -> list[int]:
        """D of each stage's map."""
        return self.backbone.channels


def build_irn_host(settings: ClassifierConfig, num_foreground: int, *, weights: str | None = None) -> IrnHost:
    """The network that `classifier` describes; `weights` overrules its source, as when a checkpoint follows."""
    backbone = build_backbone(
        settings.backbone,
        weights=settings.weights if weights is None else weights,
        output_stride=settings.output_stride,
        freeze_norm=settings.freeze_norm,
        freeze_stage=settings.freeze_stage,
        dilated=False,
    )
    return IrnHost(backbone, num_foreground)
