"""Host networks that CPAL plugs into. Each returns features, a CAM and logits, and has the losses that train it."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class HostOutput(NamedTuple):
    """features: maps (B, D, h, w) of four stages; cam (B, N, h, w) before the ReLU; logits (B, N)."""

    features: list[Tensor]
    cam: Tensor
    logits: Tensor


class Host(nn.Module, ABC):
    """The interface of a network for the learner, the CAM stage and the checkpoints.

    `channels`: D of each of the four stages. `padding`: color (R, G, B in 0..255) of the area outside an image.
    `unknown_label`: value for each class of the image label, if the labels are unknown and only the logits are needed.
    """

    channels: list[int]
    padding: tuple[float, float, float]
    unknown_label = 1.0

    @abstractmethod
    def forward(self, images: Tensor, image_label: Tensor) -> HostOutput:
        """images (B, 3, H, W) RGB in 0..255, image_label (B, N) of 0/1. The cam of an absent class has no meaning."""

    @abstractmethod
    def training_step(self, images: Tensor, image_label: Tensor, mask: Tensor) -> tuple[HostOutput, dict[str, Tensor]]:
        """The output and the host's own named losses; mask (B, H, W) int64 holds first-round labels, or is unused."""

    @abstractmethod
    def new_layers(self) -> list[nn.Module]:
        """The layers that are not pretrained; they learn at head_learning_rate."""
