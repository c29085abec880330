"""AMN, the activation manipulation network (Lee et al., CVPR 2022): a pixel classifier that knows the image labels.

It learns from the sure pixels of a first round's CAMs. Its loss keeps the frequent background and the most
discriminative object part from dominating.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpal.hosts import Host, HostOutput
from cpal.networks.backbones import Backbone, host_backbone
from cpal.networks.losses import balanced_mean
from cpal.settings.hosts import AmnConfig


class AmnHost(Host):
    """Backbone, label conditioning, and dilated 3x3 convolutions; their class logits are summed."""

    def __init__(self, backbone: Backbone, num_foreground: int, settings: AmnConfig) -> None:
        super().__init__()
        self.backbone, self.settings = backbone, settings
        self.channels, self.padding = backbone.channels, backbone.color
        width = backbone.channels[-1]
        self.condition = nn.Linear(num_foreground, width)
        self.dropout = nn.Dropout2d(settings.dropout)
        self.branches = nn.ModuleList(
            nn.Conv2d(width, num_foreground + 1, 3, padding=dilation, dilation=dilation)
            for dilation in settings.dilations
        )

    def pixel_logits(self, last: Tensor, image_label: Tensor) -> Tensor:
        """Last stage (B, D, h, w) -> logits (B, K, h, w); the labels scale the channels (label conditioning)."""
        conditioned = self.dropout(last * self.condition(image_label)[:, :, None, None])
        return torch.stack([branch(conditioned) for branch in self.branches]).sum(dim=0)

    def forward(self, images: Tensor, image_label: Tensor) -> HostOutput:
        """The CAM is the probability of each class among background and the image's labels, in [0, 1]."""
        features = self.backbone(images)
        return self._output(features, self.pixel_logits(features[-1], image_label), image_label)

    def training_step(self, images: Tensor, image_label: Tensor, mask: Tensor) -> tuple[HostOutput, dict[str, Tensor]]:
        """The output and the balanced cross entropy (`balanced_loss`) at the resolution of the maps."""
        features = self.backbone(images)
        logits = self.pixel_logits(features[-1], image_label)
        label = F.interpolate(mask[:, None].float(), size=logits.shape[2:], mode="nearest-exact")[:, 0].long()
        loss = balanced_loss(logits, label, self.settings.label_smoothing)
        return self._output(features, logits, image_label), {"loss_pixels": loss}

    def new_layers(self) -> list[nn.Module]:
        return [self.condition, self.branches]

    def _output(self, features: list[Tensor], logits: Tensor, image_label: Tensor) -> HostOutput:
        absent = F.pad(image_label, (1, 0), value=1.0)[:, :, None, None] == 0
        cam = logits.masked_fill(absent, -torch.inf).softmax(dim=1)[:, 1:]
        return HostOutput(features, cam, (logits[:, 1:] - logits[:, :1]).mean(dim=(2, 3)))


def balanced_loss(logits: Tensor, label: Tensor, smoothing: float) -> Tensor:
    """Average of the mean cross entropy of background pixels and of foreground pixels (AMN); void pixels are left out.

    logits (B, K, h, w), label (B, h, w). The target of the label is 1 - smoothing; the other classes share the rest
    evenly.
    """
    log_probability = logits.log_softmax(dim=1)
    of_label = log_probability.gather(1, label.clamp(max=logits.shape[1] - 1)[:, None])[:, 0]
    of_others = (log_probability.sum(dim=1) - of_label) / (logits.shape[1] - 1)
    return balanced_mean(-(1 - smoothing) * of_label - smoothing * of_others, label)


def build_amn_host(settings: AmnConfig, num_foreground: int, *, weights: str | None = None) -> AmnHost:
    """The network that `hosts.amn` describes; `weights` as in `host_backbone`."""
    return AmnHost(host_backbone(settings, weights), num_foreground, settings)
