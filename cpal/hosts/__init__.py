"""Networks that CPAL plugs into: each yields features, a CAM and logits, and the losses that train it."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class HostOutput(NamedTuple):
    """features: maps (B, D, h, w) of four stages; cam (B, N, h, w) before the ReLU; logits (B, N)."""

    features: list[Tensor]
    cam: Tensor
    logits: Tensor


class Host(nn.Module, ABC):
    """What the learner, the CAM stage and the checkpoints know of a network.

    `channels` are D of the four stages' maps, `padding` the color (R, G, B in 0..255) of what lies outside a picture.
    `unknown_label` stands for each class of an image whose labels are not told, when only the logits are wanted.
    """

    channels: list[int]
    padding: tuple[float, float, float]
    unknown_label = 1.0

    @abstractmethod
    def forward(self, images: Tensor, image_label: Tensor) -> HostOutput:
        """images (B, 3, H, W) RGB in 0..255, image_label (B, N) of 0/1. A cam's absent classes mean nothing."""

    @abstractmethod
    def training_step(self, images: Tensor, image_label: Tensor, mask: Tensor) -> tuple[HostOutput, dict[str, Tensor]]:
        """The output and the host's own named losses; mask (B, H, W) int64 is the first round's labels, or unused."""

    @abstractmethod
    def new_layers(self) -> list[nn.Module]:
        """What is not pretrained, and learns at head_learning_rate."""
